#!/usr/bin/python
"""Nova's records, as an older release reads them."""

from __future__ import annotations

DOCUMENTATION = r"""
module: nova_downgrade
short_description: Writes what a newer release of Nova left in its databases as the planned one reads it
description:
  - Lowers the versions that services have noted, below which none starts, and writes versioned objects in the versions
    of the planned release. The Python of the newest environment after that one does it, as long as it is there.
  - Does nothing where no newer environment is.
options:
  environment: {description: Path of the planned release's environment., type: path, required: true}
  config_file: {description: Configuration that names the API's database., type: path, required: true}
  user: {description: System user., type: str, default: nova}
  release: {description: The planned release., type: str, required: true}
attributes:
  check_mode: {support: full, description: Reads the databases and reports what a run would write.}
  diff_mode: {support: full, description: One line for each table and service.}
author: [Brume contributors]
"""

EXAMPLES = r"""
- name: Nova's records as 2025.1 reads them
  brume.cloud.nova_downgrade:
    environment: /opt/brume/nova/2025.1-0123456789ab
    config_file: /etc/nova/nova.conf
    release: "2025.1"
"""

RETURN = r"""
actions:
  description: One sentence for each change, the same in check mode and in a run.
  type: list
  elements: str
  returned: success
  sample: [lower the version of nova-compute on compute1 in cell1 from 72 to 68]
"""

import glob
import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.brume.cloud.plugins.module_utils import host_lock, schema, uv_environments
from ansible_collections.brume.cloud.plugins.module_utils.convergence import read_marker, text_diff
from ansible_collections.brume.cloud.plugins.module_utils.nova_downgrade import LEVEL, VERSIONS, newest, sentence
from ansible_collections.brume.cloud.plugins.module_utils.nova_process import NovaError, NovaProcess

SPEC: dict[str, Any] = {
    "environment": {"type": "path", "required": True},
    "config_file": {"type": "path", "required": True},
    "user": {"type": "str", "default": "nova"},
    "release": {"type": "str", "required": True},
}


def ask(environment: str, params: dict[str, Any], program: str, **order: Any) -> dict[str, Any]:
    """Return the answer of an environment's Nova to one order. Raises NovaError."""
    process = NovaProcess(environment, params["user"], params["config_file"], program)
    try:
        return process.order(**order)
    finally:
        process.close()


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=SPEC, supports_check_mode=True, no_log=True)
    host_lock.hold(module)
    params = module.params
    markers = glob.glob(f"{os.path.dirname(params['environment'])}/*/{uv_environments.MARKER}")
    newer = newest([os.path.dirname(path) for path in markers], params["environment"])
    # Until the schema is the newer release's too, none of it has run.
    served = schema.releases(read_marker(f"{schema.RECORDS}/nova.json"))
    if not newer or served == [params["release"]]:
        module.exit_json(changed=False, actions=[], diff=[], invocation={})
    try:
        known = ask(params["environment"], params, VERSIONS, do="say its versions")
        answer = ask(newer, params, LEVEL, do="write its records", write=not module.check_mode, **known)
    except NovaError as error:
        module.fail_json(msg=str(error), invocation={})
    actions = [sentence(one, known["service"], params["release"]) for one in answer["changes"]]
    module.exit_json(
        changed=bool(actions),
        actions=actions,
        diff=[text_diff("Nova's records", "", "".join(f"{one}\n" for one in actions))] if actions else [],
        invocation={},
    )


if __name__ == "__main__":
    main()
