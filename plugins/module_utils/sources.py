"""What the project brings into a plan: descriptions, settings, templates, locks, hooks. Read once per process."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.brume.cloud.plugins.module_utils.description import Problem, Service, conditions, read_service
from ansible_collections.brume.cloud.plugins.module_utils.locks import LockError, parse_lock
from ansible_collections.brume.cloud.plugins.module_utils.option_schema import Schema
from ansible_collections.brume.cloud.plugins.module_utils.option_schema import load as load_schema
from ansible_collections.brume.cloud.plugins.module_utils.releases import (
    DEFAULT_RELEASE,
    bound_mistakes,
    of_release,
    service_of_release,
)

SERVICES = "brume_services"
"""The plan's variable that conditions may name beside those of roles."""

COLLECTION = Path(__file__).resolve().parent.parent.parent
"""The collection's folder: the checkout, or where Galaxy put it."""


class _UniqueKeys:
    """A part of a YAML loader that refuses a key said twice, where the standard one keeps the last in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return a mapping; raises ConstructorError for a key that repeats or is none."""
        loader: Any = self
        seen: set[Any] = set()
        for key_node, _value in node.value if isinstance(node, yaml.MappingNode) else ():
            key = loader.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.constructor.ConstructorError(None, None, "a list or mapping is no key", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key `{key}` stands here a second time", key_node.start_mark
                )
            seen.add(key)
        result: dict[Any, Any] = super().construct_mapping(node, deep)  # type: ignore[misc]
        return result


class _Tolerant(_UniqueKeys):
    """Reads what Ansible would; the values behind its tags (`!vault`, `!unsafe`) do not matter to those who ask."""


class _Project(_UniqueKeys, yaml.SafeLoader):
    pass


class _Inventory(_Tolerant, yaml.SafeLoader):
    pass


class _FastProject(_UniqueKeys, getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    pass


class _FastInventory(_Tolerant, getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    pass


def _untagged(loader: Any, _suffix: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return str(node.value)


_Inventory.add_multi_constructor("!", _untagged)
_FastInventory.add_multi_constructor("!", _untagged)


def read_yaml(text: str, tags: bool = False) -> Any:
    """Return the content of YAML text; raises yaml.YAMLError, with line and column, also for a key said twice.

    With `tags`, Ansible's are accepted and left out.
    """
    # libyaml has other words for the same mistakes; those of one reader are enough.
    with contextlib.suppress(Exception):
        return yaml.load(text, Loader=_FastInventory if tags else _FastProject)  # noqa: S506  # SafeLoaders
    try:
        return yaml.load(text, Loader=_Inventory if tags else _Project)  # noqa: S506
    except yaml.YAMLError:
        raise
    except Exception as error:  # what Python says of `2026-02-30` or `!!int ""`
        raise yaml.YAMLError(str(error)) from None


def read_text(path: Path, shown: str, problems: list[Problem]) -> str | None:
    """Return a file's text, or None after noting why it cannot be read; `shown` is its name in messages."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        problems.append(Problem(f"{shown}:{line}", "is not UTF-8", "save the file as UTF-8"))
    except OSError as error:
        problems.append(
            Problem(shown, f"cannot be read ({error.strerror})", "see that it is there and that you may read it")
        )
    return None


def yaml_problem(error: yaml.YAMLError, shown: str) -> Problem:
    """Return a YAML error as a problem with file and line; `shown` is the file's name."""
    mark = getattr(error, "problem_mark", None)
    where = f"{shown}:{mark.line + 1}" if mark is not None else shown
    message = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
    if "'\\t'" in str(message):
        return Problem(where, "holds a tab where YAML wants spaces", "replace the tab by spaces")
    if "a second time" in str(message):
        return Problem(where, str(message), "remove one of the two")
    context = getattr(error, "context", None)
    text = " ".join(f"{f'{context}: ' if context else ''}{message}".split())
    return Problem(where, f"is no YAML ({text})", "correct the line, or what stands before it: quotes, indents, colons")


@dataclass(frozen=True)
class Variable:
    """A public variable of a role, from its argument specs."""

    name: str
    type: str
    default: Any
    choices: tuple[Any, ...] = ()
    elements: str = ""


@dataclass(frozen=True)
class Sources:
    """Everything of the project that a plan depends on; services and settings are those of DEFAULT_RELEASE.

    `at` gives those of another one.
    """

    services: Mapping[str, Service]
    settings: Mapping[str, Mapping[str, Mapping[str, Any]]]
    locks: Mapping[str, Mapping[str, str]]
    hooks: Mapping[str, tuple[str, ...]]
    variables: Mapping[str, Variable]
    packages: Mapping[str, Mapping[str, Any]]
    problems: tuple[Problem, ...] = ()
    root: Path = COLLECTION
    templates: Mapping[str, str] = field(default_factory=dict)
    schemas: Mapping[str, Mapping[str, Schema | None]] = field(default_factory=dict)
    lock_mistakes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """By service and release: why a lock cannot be used."""
    unread: tuple[str, ...] = ()
    """Services whose descriptions cannot be read."""
    other_services: Mapping[str, Mapping[str, Service | None]] = field(default_factory=dict)
    """By release and name, where a release has another description than the default one; None where it has none."""
    other_settings: Mapping[str, Mapping[str, Mapping[str, Mapping[str, Any]]]] = field(default_factory=dict)
    """By release and tree, as `other_services`."""

    def at(self, release: str) -> Sources:
        """Return what a release has of it; one that nothing here says anything about has what the default one has."""
        services = {**self.services, **self.other_services.get(release, {})}
        return dataclasses.replace(
            self,
            services={name: one for name, one in sorted(services.items()) if one is not None},
            settings={**self.settings, **self.other_settings.get(release, {})},
        )


@dataclass(frozen=True)
class _Reader:
    """Reads files below `root`; what is wrong with them goes to `problems`."""

    root: Path
    problems: list[Problem]

    def shown(self, path: Path) -> str:
        """Return a file's name in messages."""
        return str(path.relative_to(self.root))

    def text(self, path: Path) -> str | None:
        """Return a file's text."""
        return read_text(path, self.shown(path), self.problems)

    def parsed(self, path: Path) -> Any:
        """Return a file's YAML: None for a file that cannot be read, an empty mapping for an empty one."""
        try:
            found = self.text(path)
            return None if found is None else read_yaml(found) or {}
        except yaml.YAMLError as error:
            self.problems.append(yaml_problem(error, self.shown(path)))
            return None

    def mapping(self, path: Path, inner: tuple[type, ...], what: str) -> dict[str, Any]:
        """Return a file's mapping whose values are of some types; others are problems and left out."""
        data = self.parsed(path)
        if data is not None and not isinstance(data, dict):
            self.problems.append(Problem(self.shown(path), "is no mapping", f"write {what}"))
        result = {}
        for key, value in data.items() if isinstance(data, dict) else ():
            if isinstance(key, str) and isinstance(value, inner):
                result[key] = value
            else:
                self.problems.append(Problem(f"{self.shown(path)}: {key}", "has not the right form", f"write {what}"))
        return result

    def bounds(self, path: Path, data: Any) -> bool:
        """Return whether a file's `since` and `until` hold mistakes, after noting them."""
        file = self.shown(path)
        found = [Problem(f"{file}: {place}" if place else file, *words) for place, *words in bound_mistakes(data)]
        self.problems.extend(found)
        return bool(found)

    def locks(self, role: Path) -> tuple[dict[str, str], dict[str, str]]:
        """Return the texts of a role's locks by release, and why those that break the rules do."""
        texts, mistakes = {}, {}
        for path in sorted(role.glob("files/locks/*.txt")):
            lock = self.text(path)
            texts[path.stem] = lock or ""
            try:
                parse_lock(lock or "", self.shown(path))
            except LockError as error:
                mistakes[path.stem] = str(error) if lock is not None else ""
        return texts, mistakes

    def schemas(self, role: Path) -> dict[str, Schema | None]:
        """Return a role's option schemas by release."""
        result = {}
        for path in sorted(role.glob("files/schemas/*.json")):
            try:
                result[path.stem] = load_schema(path)
            except (ValueError, OSError) as error:
                message = f"is no option schema ({error.__cause__ or error!r})"
                self.problems.append(Problem(self.shown(path), message, "make it again with tools/schemas.py"))
        return result


@functools.cache
def load(root: Path = COLLECTION) -> Sources:
    """Read all roles below `root`/roles; mistakes are in `problems`, none is raised.

    Keys: settings by `<service>/<tree>` (shared ones by `shared/<tree>`), locks by service and release (the text),
    hooks by phase (`configure` -> services), templates by `<service>/<file>`, packages by operating system.
    """
    problems: list[Problem] = []
    descriptions: dict[str, Any] = {}
    trees: dict[str, Any] = {}
    locks: dict[str, dict[str, str]] = {}
    hooks: dict[str, list[str]] = {}
    variables: dict[str, Variable] = {}
    templates: dict[str, str] = {}
    packages: dict[str, Any] = {}
    schemas: dict[str, dict[str, Schema | None]] = {}

    lock_mistakes: dict[str, dict[str, str]] = {}
    unread: list[str] = []
    reader = _Reader(root, problems)
    for role in sorted((root / "roles").iterdir()):
        owner = "shared" if role.name == "phase_configure" else role.name
        for path in sorted(role.glob("settings/*.yml")):
            tree = reader.mapping(path, (dict,), "sections, and `option: value` below each")
            trees[f"{owner}/{path.stem}"] = {} if reader.bounds(path, tree) else tree
        if owner == "shared" or os.path.lexists(role / "meta/service.yml"):
            templates |= {f"{owner}/{path.name}": reader.text(path) or "" for path in sorted(role.glob("templates/*"))}
        for path in sorted(role.glob("files/os/*.yml")):
            packages[path.stem] = reader.mapping(path, (str, list), "`package: its name there`, or a list")
        if (role / "meta/argument_specs.yml").exists():
            variables.update(_variables(reader.parsed(role / "meta/argument_specs.yml")))
        description = role / "meta/service.yml"
        if not os.path.lexists(description):
            continue
        data = reader.parsed(description)
        if data is None or reader.bounds(description, data):
            unread.append(role.name)
            continue
        descriptions[role.name] = data
        locks[role.name], lock_mistakes[role.name] = reader.locks(role)
        schemas[role.name] = reader.schemas(role)
        for path in sorted(role.glob("tasks/*.yml")):
            if path.stem != "main":
                hooks.setdefault(path.stem, []).append(role.name)
    found: dict[str, tuple[dict[str, Service], dict[str, Any]]] = {}
    for release in dict.fromkeys((DEFAULT_RELEASE, *(name for texts in locks.values() for name in texts))):
        services = _services(descriptions, release, problems)
        found[release] = services, {name: of_release(tree, release) or {} for name, tree in trees.items()}
        for one in services.values():
            problems += missing_parts(one, trees, templates)
            problems += wrong_conditions(one, variables)
            problems += wrong_sections(one, variables)
    default_services, default_settings = found.pop(DEFAULT_RELEASE)
    return Sources(
        default_services,
        default_settings,
        locks,
        {phase: tuple(names) for phase, names in hooks.items()},
        variables,
        packages,
        tuple(dict.fromkeys(problems)),
        root,
        templates,
        schemas,
        lock_mistakes,
        tuple(unread),
        {release: _other(default_services, services) for release, (services, _settings) in found.items()},
        {release: _other(default_settings, settings) for release, (_services, settings) in found.items()},
    )


def _services(descriptions: Mapping[str, Any], release: str, problems: list[Problem]) -> dict[str, Service]:
    """Return the services that a release has; mistakes of their descriptions go to `problems`."""
    services = {}
    for name, data in descriptions.items():
        own = service_of_release(data, release)
        if own is not None:
            services[name], wrong = read_service(own, f"roles/{name}/meta/service.yml", name)
            problems += wrong
    return services


def _other(default: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a release has otherwise than the default one, None for what it does not have."""
    return {name: own.get(name) for name in {**default, **own} if own.get(name) != default.get(name)}


def missing_parts(service: Service, settings: Mapping[str, Any], templates: Mapping[str, str]) -> list[Problem]:
    """Return the trees and templates that a description names and that are not there."""
    result = []
    for file in service.files.values():
        where = f"{service.file}: files.{file.name}"
        for name in (*file.settings, *([file.sections.settings] if file.sections else [])):
            if settings_key(service.name, name) not in settings:
                result.append(Problem(f"{where}.settings", f"`{name}` is no tree", f"write settings/{name}.yml"))
        if file.template and settings_key(service.name, file.template) not in templates:
            remedy = f"write templates/{file.template}"
            result.append(Problem(f"{where}.template", f"`{file.template}` is no template", remedy))
    return result


def wrong_conditions(service: Service, variables: Mapping[str, Variable]) -> list[Problem]:
    """Return the conditions of a description that no cloud could fulfill."""
    result = []
    for name, value in (pair for condition in conditions(service) for pair in condition.items()):
        variable = variables.get(name)
        if name == SERVICES:
            continue
        if variable is None:
            remedy = "name a variable of a role's argument specs"
            result.append(Problem(f"{service.file}: when", f"`{name}` is no variable", remedy))
        elif variable.choices and (other := set(value if isinstance(value, list) else [value]) - set(variable.choices)):
            remedy = "use one of " + ", ".join(str(one) for one in variable.choices)
            shown = ", ".join(f"`{one}`" for one in sorted(other, key=str))
            result.append(Problem(f"{service.file}: when.{name}", f"{shown} is not among its choices", remedy))
    return list(dict.fromkeys(result))


def wrong_sections(service: Service, variables: Mapping[str, Variable]) -> list[Problem]:
    """Return the `sections` of a description whose variable no role has."""
    return [
        Problem(
            f"{service.file}: files.{file.name}.sections",
            f"`{file.sections.variable}` is no variable with mappings",
            "name one of the role's argument specs, of type dict",
        )
        for file in service.files.values()
        if file.sections
        and (file.sections.variable not in variables or variables[file.sections.variable].type != "dict")
    ]


def settings_key(service: str, tree: str) -> str:
    """Return the key in Sources of a tree or template as a description names it: shared ones have their folder."""
    return tree if "/" in tree else f"{service}/{tree}"


def _variables(data: Any) -> dict[str, Variable]:
    options = (((data or {}).get("argument_specs") or {}).get("main") or {}).get("options") or {}
    return {
        name: Variable(
            name, spec.get("type", "str"), spec.get("default"), tuple(spec.get("choices", ())), spec.get("elements", "")
        )
        for name, spec in options.items()
    }
