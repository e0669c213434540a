"""Bridges, their ports and the switch's own settings in Open vSwitch: wanted and actual state to one transaction.

Pure; the module `openvswitch_bridges` reads and runs. Bridges and ports that nobody names here stay: they belong to the
network agents, or to the operator. So do keys that nobody names.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

QUERY = (
    "--", "--columns=name,datapath_type,ports", "list", "Bridge",
    "--", "--columns=_uuid,name", "list", "Port",
    "--", "--columns=other_config,external_ids", "list", "Open_vSwitch",
)  # fmt: skip
"""Arguments of `ovs-vsctl --format=json` whose output `parse` reads: one line of JSON a table (ovs-vsctl(8))."""

AT_START = frozenset({"userspace-tso-enable"})
"""Keys of other_config that the switch reads when it starts and never again (ovs-vswitchd.conf.db(5))."""


class SwitchError(ValueError):
    """What is wanted contradicts what is there; one line per mistake."""


@dataclass(frozen=True)
class Bridge:
    """A bridge; an empty `datapath_type` is the switch's own default, `system`."""

    name: str
    datapath_type: str = ""
    ports: tuple[str, ...] = ()


@dataclass(frozen=True)
class Switch:
    """The bridges by name, and other_config and external_ids of the table Open_vSwitch.

    A wanted key of external_ids without a value must not be there.
    """

    bridges: Mapping[str, Bridge] = field(default_factory=dict)
    other_config: Mapping[str, str] = field(default_factory=dict)
    external_ids: Mapping[str, str] = field(default_factory=dict)


def parse(text: str) -> Switch:
    """Return the state in the output of QUERY. Raises SwitchError when it is not that."""
    try:
        bridges, ports, switches = (json.loads(line) for line in text.splitlines() if line.strip())
        names = {uuid[1]: name for uuid, name in ports["data"]}
        found = {
            name: Bridge(name, str(datapath or ""), tuple(sorted(names[one[1]] for one in _set(members))))
            for name, datapath, members in _rows(bridges, "name", "datapath_type", "ports")
        }
        config, identifiers = (
            {key: value for (pairs,) in _rows(switches, column) for key, value in pairs[1]}
            for column in ("other_config", "external_ids")
        )
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise SwitchError(f"ovs-vsctl answered what cannot be read: {error!r}") from error
    return Switch(found, config, identifiers)


def _rows(table: Mapping[str, Any], *columns: str) -> list[list[Any]]:
    """Return the columns that are asked for, in that order."""
    places = [table["headings"].index(column) for column in columns]
    return [[row[place] for place in places] for row in table["data"]]


def _set(value: Any) -> list[Any]:
    """Return the members of a set; OVSDB writes a set of one as its only member (RFC 7047, section 5.1)."""
    return list(value[1]) if value[0] == "set" else [value]


def wanted(
    bridges: Iterable[Mapping[str, Any]],
    other_config: Mapping[str, Any],
    external_ids: Mapping[str, Any] | None = None,
) -> Switch:
    """Return the module's arguments as types. Raises SwitchError for a bridge or port that is named twice."""
    found: dict[str, Bridge] = {}
    owners: dict[str, str] = {}
    problems = []
    for item in bridges:
        one = Bridge(str(item["name"]), str(item.get("datapath_type") or ""), tuple(item.get("ports") or ()))
        if one.name in found:
            problems.append(f"{one.name}: given more than once")
        for port in one.ports:
            if port in owners:
                problems.append(f"{port}: given to {owners[port]} and to {one.name}")
            owners[port] = one.name
        found[one.name] = one
    if problems:
        raise SwitchError("\n".join(problems))
    config, identifiers = (
        {str(key): str(value) for key, value in (pairs or {}).items()} for pairs in (other_config, external_ids)
    )
    return Switch(found, config, identifiers)


@dataclass(frozen=True)
class Change:
    """One change: a sentence for people, and its part of the transaction."""

    action: str
    command: tuple[str, ...]


def changes(want: Switch, have: Switch) -> list[Change]:
    """Return what has to change, settings first. Raises SwitchError for a port that another bridge holds."""
    owners = {port: bridge.name for bridge in have.bridges.values() for port in bridge.ports}
    problems = [
        f"{port}: is a port of {owners[port]}, wanted on {bridge.name}; take it away there if nothing uses it"
        for bridge in want.bridges.values()
        for port in bridge.ports
        if owners.get(port, bridge.name) != bridge.name
    ]
    if problems:
        raise SwitchError("\n".join(problems))
    result = [
        Change(f"set other_config {key} to {value}", ("set", "Open_vSwitch", ".", f'other_config:{key}="{value}"'))
        for key, value in want.other_config.items()
        if have.other_config.get(key) != value
    ]
    for key, value in want.external_ids.items():
        if value and have.external_ids.get(key) != value:
            pair = f'external_ids:{key}="{value}"'
            result.append(Change(f"set external_ids {key} to {value}", ("set", "Open_vSwitch", ".", pair)))
        elif not value and key in have.external_ids:
            command = ("remove", "Open_vSwitch", ".", "external_ids", key)
            result.append(Change(f"remove external_ids {key}", command))
    for bridge in want.bridges.values():
        there = have.bridges.get(bridge.name)
        if there is None:
            result.append(Change(f"create bridge {bridge.name}", ("add-br", bridge.name)))
        if bridge.datapath_type != (there or Bridge("")).datapath_type:
            result.append(
                Change(
                    f"set datapath_type of {bridge.name} to {bridge.datapath_type or 'the default'}",
                    ("set", "Bridge", bridge.name, f'datapath_type="{bridge.datapath_type}"'),
                )
            )
        result += [
            Change(f"add port {port} to {bridge.name}", ("add-port", bridge.name, port))
            for port in bridge.ports
            if there is None or port not in there.ports
        ]
    return result


def transaction(found: Sequence[Change]) -> list[str]:
    """Return the arguments of ovs-vsctl that make all changes in one transaction."""
    return [word for change in found for word in ("--", *change.command)]


def after(want: Switch, have: Switch) -> Switch:
    """Return the state that the changes lead to."""
    bridges = dict(have.bridges)
    for bridge in want.bridges.values():
        ports = {*bridge.ports, *(have.bridges[bridge.name].ports if bridge.name in have.bridges else (bridge.name,))}
        bridges[bridge.name] = Bridge(bridge.name, bridge.datapath_type, tuple(sorted(ports)))
    identifiers = {key: value for key, value in {**have.external_ids, **want.external_ids}.items() if value}
    return Switch(bridges, {**have.other_config, **want.other_config}, identifiers)


def text(switch: Switch, want: Switch) -> str:
    """Return the bridges and settings that are wanted, as they are in a switch, as text for a diff."""
    lines = [
        f"{column} {key}: {pairs[key]}"
        for column, pairs, keys in (
            ("external_ids", switch.external_ids, want.external_ids),
            ("other_config", switch.other_config, want.other_config),
        )
        for key in sorted(keys)
        if key in pairs
    ]
    for name in sorted(want.bridges):
        if name in switch.bridges:
            bridge = switch.bridges[name]
            lines.append(f"bridge {name}: datapath {bridge.datapath_type or 'default'}, ports {' '.join(bridge.ports)}")
    return "".join(f"{line}\n" for line in lines)


def needs_restart(want: Switch, have: Switch) -> list[str]:
    """Return the settings that a switch which runs already takes up only when it starts anew."""
    return sorted(
        key for key, value in want.other_config.items() if key in AT_START and have.other_config.get(key) != value
    )
