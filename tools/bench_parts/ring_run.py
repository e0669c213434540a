"""Does the work of the module `swift_ring` in a process of its own: reads a request, prints the figures."""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / ".collections"))

from ansible_collections.brume.cloud.plugins.module_utils import swift_builders

if __name__ == "__main__":
    answer = swift_builders.run(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    if answer.get("problems"):
        sys.exit("\n".join(answer["problems"]))
    for ring in answer["rings"]:
        after = ring["after"]
        print(json.dumps({
            "changed": ring["changed"], "moved": ring["moved"], "complete": ring["complete"],
            "balance": round(after["balance"], 2), "dispersion": after["dispersion"],
        }))  # fmt: skip
