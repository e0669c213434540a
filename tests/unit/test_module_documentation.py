"""Every module's documentation can be read and names the options that the module takes."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import yaml

FRAGMENTS = "ansible_collections.brume.cloud.plugins.doc_fragments"
FOLDER = Path(__file__).resolve().parents[2] / "plugins/modules"
NAMES = sorted(path.stem for path in FOLDER.glob("*.py") if "AnsibleModule(" in path.read_text(encoding="utf-8"))
"""The rest only documents an action that runs on the deploy host."""


class Captured(Exception):
    """What a module hands to AnsibleModule."""


def argument_spec(name: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, dict[str, Any]]:
    """Return a module and the keyword arguments of its AnsibleModule."""
    module = importlib.import_module(f"ansible_collections.brume.cloud.plugins.modules.{name}")

    def capture(**arguments: Any) -> None:
        raise Captured(arguments)

    monkeypatch.setattr(module, "AnsibleModule", capture)
    with pytest.raises(Captured) as caught:
        module.main()
    return module, caught.value.args[0]


def shape(options: dict[str, Any], inner: str) -> dict[str, Any]:
    """Return options as documentation and code can be compared: type, default, choices and what is inside."""
    return {
        name: {
            "type": option.get("type", "str"),
            "elements": option.get("elements"),
            "default": option.get("default"),
            "required": option.get("required", False),
            "choices": sorted(option.get("choices") or []),
            "aliases": sorted(option.get("aliases") or []),
            "options": shape(option.get(inner) or {}, inner),
        }
        for name, option in options.items()
    }


@pytest.mark.parametrize("name", NAMES)
def test_documentation_says_what_the_module_takes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, arguments = argument_spec(name, monkeypatch)
    documentation = yaml.safe_load(module.DOCUMENTATION)
    for fragment in documentation.get("extends_documentation_fragment", ()):
        shared = importlib.import_module(f"{FRAGMENTS}.{fragment.rpartition('.')[2]}").ModuleDocFragment.DOCUMENTATION
        for option, said in yaml.safe_load(shared)["options"].items():
            documentation["options"][option] = {**said, **documentation["options"].get(option, {})}
    assert documentation["module"] == name
    documented = shape(documentation["options"], "suboptions")
    assert documented == shape(arguments["argument_spec"], "options")
    assert arguments["supports_check_mode"]
    assert yaml.safe_load(module.RETURN)
    for task in yaml.safe_load(module.EXAMPLES):
        taken = task[f"brume.cloud.{name}"] or {}
        assert set(taken) <= set(documented)
