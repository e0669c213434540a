"""What holds for the collection as a whole."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
ROLES = sorted(path.parent.parent for path in (ROOT / "roles").glob("*/meta/argument_specs.yml"))
TASKS = sorted(path for folder in ("roles", "playbooks", "molecule") for path in (ROOT / folder).rglob("*.yml"))
MODULE = re.compile(r"^\s*(?:- )?((?:[a-z_]+)\.(?:[a-z_]+)\.[a-z_]+):", re.MULTILINE)


def foreign(text: str, allowed: set[str]) -> list[str]:
    """Return the modules of a file that belong to no collection that is allowed."""
    return [name for name in MODULE.findall(text) if name.rpartition(".")[0] not in allowed]


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_argument_specs_and_defaults_agree(role: Path) -> None:
    specs = yaml.safe_load((role / "meta/argument_specs.yml").read_text(encoding="utf-8"))
    options = specs["argument_specs"]["main"]["options"]
    defaults = role / "defaults/main.yml"
    values = yaml.safe_load(defaults.read_text(encoding="utf-8")) if defaults.exists() else {}
    assert {name: option.get("default") for name, option in options.items() if not option.get("required")} == values


def test_every_role_with_tasks_has_argument_specs() -> None:
    missing = [
        path.parent.parent.name
        for path in (ROOT / "roles").glob("*/tasks/main.yml")
        if not (path.parent.parent / "meta/argument_specs.yml").exists()
    ]
    assert missing == []


def test_only_listed_collections_are_used() -> None:
    listed = yaml.safe_load((ROOT / "requirements.yml").read_text(encoding="utf-8"))["collections"]
    allowed = {"ansible.builtin", "brume.cloud", *(one["name"] for one in listed)}
    found = {str(path.relative_to(ROOT)): foreign(path.read_text(encoding="utf-8"), allowed) for path in TASKS}
    assert {path: names for path, names in found.items() if names} == {}
    assert foreign("- community.general.ufw:\n", allowed) == ["community.general.ufw"]


def test_no_lock_names_an_index() -> None:
    locks = [ROOT / "requirements.lock", *(ROOT / "roles").glob("*/files/locks/*.txt")]
    assert len(locks) > 1
    assert [path.name for path in locks if "://" in path.read_text(encoding="utf-8")] == []
