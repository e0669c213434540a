"""What the project brings into a plan: descriptions, settings, templates, locks, hooks. Read once per process."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.brume.cloud.plugins.module_utils.description import Problem, Service, read_service
from ansible_collections.brume.cloud.plugins.module_utils.locks import lock_digest
from ansible_collections.brume.cloud.plugins.module_utils.option_schema import Schema
from ansible_collections.brume.cloud.plugins.module_utils.option_schema import load as load_schema

COLLECTION = Path(__file__).resolve().parent.parent.parent
"""The collection's folder: the checkout, or where Galaxy put it."""


class _UniqueKeys(yaml.SafeLoader):
    """A YAML loader that refuses a key said twice, where the standard one keeps the last in silence."""


def _mapping(loader: _UniqueKeys, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _value in node.value:
        key = loader.construct_object(key_node, deep=True)
        if key in seen:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key `{key}` stands here a second time", key_node.start_mark
            )
        seen.add(key)
    return dict(yaml.SafeLoader.construct_mapping(loader, node, deep=True))


_UniqueKeys.add_constructor("tag:yaml.org,2002:map", _mapping)


def read_yaml(path: Path) -> Any:
    """Return the file's content; raises yaml.YAMLError, with line and column, for what is no YAML or repeats a key."""
    with path.open(encoding="utf-8") as stream:
        return yaml.load(stream, Loader=_UniqueKeys)  # noqa: S506  # a subclass of SafeLoader


@dataclass(frozen=True)
class Variable:
    """A public variable of a role, from its argument specs."""

    name: str
    type: str
    default: Any
    choices: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Sources:
    """Everything of the project that a plan depends on."""

    services: Mapping[str, Service]
    settings: Mapping[str, Mapping[str, Mapping[str, Any]]]
    locks: Mapping[str, Mapping[str, str]]
    hooks: Mapping[str, tuple[str, ...]]
    variables: Mapping[str, Variable]
    packages: Mapping[str, Mapping[str, str]]
    problems: tuple[Problem, ...] = ()
    root: Path = COLLECTION
    templates: Mapping[str, str] = field(default_factory=dict)
    schemas: Mapping[str, Mapping[str, Schema | None]] = field(default_factory=dict)


@functools.cache
def load(root: Path = COLLECTION) -> Sources:
    """Read all roles below `root`/roles; mistakes are in `problems`, none is raised.

    Keys: settings by `<service>/<tree>` (shared ones by `shared/<tree>`), locks by service and release (the digest),
    hooks by phase (`configure` -> services), templates by `<service>/<file>`, packages by operating system.
    """
    problems: list[Problem] = []
    services: dict[str, Service] = {}
    settings: dict[str, Any] = {}
    locks: dict[str, dict[str, str]] = {}
    hooks: dict[str, list[str]] = {}
    variables: dict[str, Variable] = {}
    templates: dict[str, str] = {}
    packages: dict[str, Any] = {}
    schemas: dict[str, dict[str, Schema | None]] = {}

    def parsed(path: Path) -> Any:
        try:
            return read_yaml(path)
        except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
            problems.append(Problem(str(path.relative_to(root)), " ".join(str(error).split()), "correct the file"))
            return None

    for role in sorted((root / "roles").iterdir()):
        for path in sorted(role.glob("settings/*.yml")):
            owner = "shared" if role.name == "phase_configure" else role.name
            settings[f"{owner}/{path.stem}"] = parsed(path) or {}
        for path in sorted(role.glob("files/os/*.yml")):
            packages[path.stem] = parsed(path) or {}
        if (role / "meta/argument_specs.yml").exists():
            variables.update(_variables(parsed(role / "meta/argument_specs.yml")))
        description = role / "meta/service.yml"
        if not description.exists():
            continue
        data = parsed(description)
        if data is None:
            continue
        services[role.name], found = read_service(data, str(description.relative_to(root)), role.name)
        problems += found
        locks[role.name] = {
            path.stem: lock_digest(path.read_text(encoding="utf-8")) for path in role.glob("files/locks/*.txt")
        }
        schemas[role.name] = {path.stem: load_schema(path) for path in role.glob("files/schemas/*.json")}
        for path in sorted(role.glob("tasks/*.yml")):
            if path.stem != "main":
                hooks.setdefault(path.stem, []).append(role.name)
        for path in sorted(role.glob("templates/*.j2")):
            templates[f"{role.name}/{path.name}"] = path.read_text(encoding="utf-8")
    return Sources(
        services,
        settings,
        locks,
        {phase: tuple(names) for phase, names in hooks.items()},
        variables,
        packages,
        tuple(problems),
        root,
        templates,
        schemas,
    )


def _variables(data: Any) -> dict[str, Variable]:
    options = (((data or {}).get("argument_specs") or {}).get("main") or {}).get("options") or {}
    return {
        name: Variable(name, spec.get("type", "str"), spec.get("default"), tuple(spec.get("choices", ())))
        for name, spec in options.items()
    }
