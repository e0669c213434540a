"""What tools/faults.py breaks, and where tools/upgrades.py goes."""

import sys

from tools.lab_parts.layout import know_plugins

# Later it would be too late, see there; in tests it is.
if "ansible_collections.brume" not in sys.modules:
    know_plugins()
