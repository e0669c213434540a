"""The inventory as the plan takes it: layers of variables, without Ansible's objects in them.

`read()` is the only place that touches Ansible's inventory; it runs in the controller process.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils import inventory_files
from ansible_collections.brume.cloud.plugins.module_utils.description import Problem

PRIVATE = ("brume_master_key", "brume_secrets")
"""Variables that the plan never sees, because they hold values of secrets."""


@dataclass(frozen=True)
class Layer:
    """Variables that were said in one place: `all`, a group, a host, or the command line (`extra`)."""

    name: str
    variables: Mapping[str, Any]
    sources: Mapping[str, str] = field(default_factory=dict)

    def where(self, key: str) -> str:
        """Return file and line of a variable as far as they are known, and the layer otherwise."""
        return self.sources.get(key, self.name)


@dataclass(frozen=True)
class Inventory:
    """Hosts with their layers (lowest precedence first), and groups with their hosts."""

    hosts: Mapping[str, tuple[Layer, ...]]
    groups: Mapping[str, tuple[str, ...]]
    problems: tuple[Problem, ...] = ()
    """What could not be read."""
    warnings: tuple[str, ...] = ()
    """What is odd, and was read."""


class Unreadable(ValueError):
    """Files of the inventory are broken, so that nothing can be said of what it means; `problems` has every one."""

    def __init__(self, problems: list[Problem]) -> None:
        """Keep the problems."""
        self.problems = problems
        super().__init__("\n".join(map(str, problems)))


def place(value: Any, otherwise: str) -> str:
    """Return file and line in which a value was said, as far as Ansible knows them."""
    from ansible._internal._datatag._tags import Origin  # noqa: PLC0415  # only the controller has it

    origin = Origin.get_tag(value)
    if origin is None or not origin.path:
        return otherwise
    path = inventory_files.relative(origin.path)
    return f"{path}:{origin.line_num}" if origin.line_num else path


def read(inventory: Any, loader: Any, variable_manager: Any, prefixes: Iterable[str]) -> Inventory:
    """Return the typed inventory from Ansible's own objects.

    `prefixes` are the beginnings of the variable names that matter (`brume_`, `nova_`, ...); all others are left out.
    Values that are templates are resolved per host; everything else is shared between hosts, so that the cost of a
    host does not depend on what all hosts share. What is wrong with files and templates is in the result's problems.
    Raises Unreadable when files are broken.
    """
    from ansible.template import Templar  # noqa: PLC0415
    from ansible.vars.plugins import get_vars_from_inventory_sources  # noqa: PLC0415

    wanted = tuple(prefixes)

    def layer(name: str, variables: Mapping[str, Any]) -> Layer:
        chosen = {key: value for key, value in variables.items() if str(key).startswith(wanted) and key not in PRIVATE}
        return Layer(name, chosen, {key: place(value, name) for key, value in chosen.items()})

    sources = inventory._sources
    files = inventory_files.check(sources, inventory.groups, inventory.hosts)
    files.broken += _undecryptable(files.encrypted, loader)
    if files.broken:
        raise Unreadable(files.broken + files.problems)
    problems: dict[Problem, None] = dict.fromkeys(files.problems)
    group_layers: dict[str, Layer] = {}
    for group in inventory.groups.values():
        variables = dict(group.get_vars())
        variables.update(get_vars_from_inventory_sources(loader, sources, [group], "all"))
        group_layers[group.name] = layer("all" if group.name == "all" else f"group {group.name}", variables)
    extra = layer("extra", variable_manager.extra_vars)
    templated = {name for name, one in group_layers.items() if _has_template(one.variables)}

    hosts: dict[str, tuple[Layer, ...]] = {}
    for host in inventory.get_hosts("all", ignore_limits=True, ignore_restrictions=True):
        variables = dict(host.vars)
        variables.update(get_vars_from_inventory_sources(loader, sources, [host], "all"))
        own = layer(f"host {host.name}", variables)
        groups = sorted(host.get_groups(), key=lambda g: (g.depth, g.priority, g.name))
        layers = [group_layers[group.name] for group in groups]
        layers = [one for one in layers if one.variables] + ([own] if own.variables else [])
        layers += [extra] if extra.variables else []
        if (
            any(group.name in templated for group in groups)
            or _has_template(own.variables)
            or (_has_template(extra.variables))
        ):
            templar = Templar(loader=loader, variables=variable_manager.get_vars(host=host))
            layers = [_resolved(one, templar, problems) if _has_template(one.variables) else one for one in layers]
        hosts[host.name] = tuple(layers)
    groups_of = {name: tuple(host.name for host in group.get_hosts()) for name, group in inventory.groups.items()}
    return Inventory(hosts, groups_of, tuple(problems), tuple(files.warnings))


def _undecryptable(paths: Iterable[Path], loader: Any) -> list[Problem]:
    """Return the encrypted files that Ansible cannot read with the passwords it was given."""
    from ansible.errors import AnsibleError  # noqa: PLC0415  # only the controller has it

    problems = []
    for path in paths:
        try:
            loader.load_from_file(str(path))
        except AnsibleError as error:
            message = f"cannot be decrypted ({' '.join(str(error).split())})"
            remedy = "give Ansible its password, with --vault-password-file or --ask-vault-pass"
            problems.append(Problem(inventory_files.relative(path), message, remedy))
    return problems


def _resolved(layer: Layer, templar: Any, problems: dict[Problem, None]) -> Layer:
    """Return a layer with its templates resolved; variables that cannot be are left out and are problems."""
    from ansible.errors import AnsibleError  # noqa: PLC0415  # only the controller has it

    variables = {}
    for key, value in layer.variables.items():
        try:
            variables[key] = templar.template(value)
        except AnsibleError as error:
            message = f"cannot be resolved ({' '.join(str(error).split())})"
            remedy = "correct the expression, or protect it by !unsafe if it is for the plan"
            problems[Problem(f"{layer.where(key)}: {key}", message, remedy)] = None
    return Layer(layer.name, variables, layer.sources)


def _has_template(value: Any) -> bool:
    if isinstance(value, str):
        return "{{" in value or "{%" in value
    if isinstance(value, Mapping):
        return any(_has_template(item) for item in value.values())
    if isinstance(value, (list, tuple)):
        return any(_has_template(item) for item in value)
    return False
