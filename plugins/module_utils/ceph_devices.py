"""Devices of a Ceph host, each of which becomes one OSD: what is on them, and what has to be done to them. Pure.

A device that holds anything is never taken without a word, as for Swift (block_devices). What is Ceph's is known by the
label that BlueStore begins a device with (docs.ceph.com: BlueStore, and ceph-bluestore-tool(8)).
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils.block_devices import DeviceError, Reading

MAGIC = b"bluestore block device\n"
"""Beginning of a device that BlueStore has formatted (bluestore/BlueStore.cc)."""

ROOT = "/var/lib/ceph/osd"


@dataclass(frozen=True)
class Label:
    """What BlueStore's label says of a device; `ready` once all of its making has ended."""

    fsid: str = ""
    osd_uuid: str = ""
    whoami: int = -1
    ready: bool = False
    error: str = ""
    """Why it cannot be read, although there is one."""
    unread: bool = False
    """Whether nothing that reads it is installed yet, as in a dry run on a bare host."""


@dataclass(frozen=True)
class Known:
    """What the host has noted of a device: the OSD's UUID, and its number once the monitors have given one."""

    osd_uuid: str
    number: int = -1
    done: bool = False
    """Whether it was made to the end."""
    emptied: bool = False
    """Whether its data was taken off it because its device was not declared."""


@dataclass(frozen=True)
class Found:
    """A device: what is on it, and its label where it bears one."""

    reading: Reading
    label: Label | None = None

    @property
    def content(self) -> str:
        """Return in words what is on it, nothing where it is empty."""
        if self.label is None:
            return self.reading.content
        return f"an OSD of the cluster {self.label.fsid}" if self.label.fsid else "an unfinished OSD"


@dataclass(frozen=True)
class State:
    """An OSD as the monitors know it. Numbers are given again; its UUID is what it is known by."""

    number: int
    up: bool = False
    weight_in: bool = True
    """Whether it takes part in placing data."""
    safe_to_destroy: bool = False


@dataclass(frozen=True)
class Step:
    """One thing to do to an OSD, or to what the host has noted of it (`note`, `forget`)."""

    verb: str
    name: str
    path: str = ""
    number: int = -1

    def __str__(self) -> str:
        """Return it as a sentence for people."""
        return {
            "make": f"make an OSD of {self.path} ({self.name})",
            "replace": f"make osd.{self.number} anew on {self.path} ({self.name})",
            "start": f"start osd.{self.number} on {self.path} ({self.name})",
            "empty": f"take all data off osd.{self.number} ({self.name})",
            "fill": f"let osd.{self.number} ({self.name}) hold data again",
            "remove": f"remove osd.{self.number} ({self.name})",
            "note": f"note that osd.{self.number} is on {self.path} ({self.name})",
            "forget": f"forget that osd.{self.number} was {self.name}",
        }[self.verb]


@dataclass
class Decision:
    """Steps in order, and what the operator should know."""

    steps: list[Step] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def decide(
    found: Sequence[Found],
    known: Mapping[str, Known],
    states: Mapping[str, State] | None,
    running: Iterable[int],
    fsid: str,
    expendable: Iterable[str] = (),
    replaced: Iterable[str] = (),
) -> Decision:
    """Return the steps and warnings. Raises DeviceError with every device that cannot be used, before any is touched.

    `known` is by name of device, `states` by UUID, None where the cluster was not asked. `running` are the numbers of
    units that are active and enabled. `expendable` are devices whose content the operator has given up, `replaced` new
    ones that take over the number of the one that had their name.
    """
    result, problems = Decision(), []
    active = set(running)
    seen: dict[str, Reading] = {}
    for one in found:
        item, was = one.reading, known.get(one.reading.name)
        if not item.exists:
            if was is None:
                problems.append(f"{item.path} ({item.name}): there is no block device; correct ceph_devices")
            else:
                remedy = "replace the disk and name it in ceph_replace, or say `lost: true` of it"
                result.warnings.append(f"{item.path} ({item.name}) of osd.{was.number} cannot be read; {remedy}")
            continue
        twin = seen.setdefault(item.number or item.path, item)
        if twin is not item:
            problems.append(f"{item.path} ({item.name}): is {twin.path} ({twin.name}); name it once")
            continue
        wrong, step = _device(one, was, fsid, item.name in set(expendable), item.name in set(replaced), states)
        if wrong:
            problems.append(f"{item.path} ({item.name}): {wrong}")
        elif step is not None:
            result.steps.append(step)
        elif one.label is not None and one.label.unread:
            result.warnings.append(f"{item.path} ({item.name}) holds an OSD; which one, a run will see")
        elif one.label is not None:
            result.steps += _present(one, one.label, was, active)
    declared = {one.reading.name for one in found}
    labels = {one.label.osd_uuid for one in found if one.label is not None}
    for name, was in known.items():
        if name not in declared:
            _undeclared(name, was, labels, states, result)
    if problems:
        raise DeviceError("\n".join(problems))
    result.steps.sort(key=lambda step: ORDER.index(step.verb))
    return result


ORDER = ("note", "forget", "remove", "empty", "fill", "start", "replace", "make")
"""Numbers that are given back come before new ones."""


def _present(one: Found, label: Label, was: Known | None, active: Container[int]) -> list[Step]:
    """Return what is to be done with an OSD that is on its device."""
    item = one.reading
    steps = []
    if label.whoami not in active:
        steps.append(Step("start", item.name, item.path, label.whoami))
    elif was is None or was.osd_uuid != label.osd_uuid:
        steps.append(Step("note", item.name, item.path, label.whoami))
    if was is not None and was.emptied:
        steps.append(Step("fill", item.name, item.path, label.whoami))
    return steps


def _device(
    one: Found, was: Known | None, fsid: str, expendable: bool, replaced: bool, states: Mapping[str, State] | None
) -> tuple[str, Step | None]:
    """Return why a device cannot be used, with the remedy, and else what has to be done to it."""
    item, label = one.reading, one.label
    wrong, step = "", None
    begun = was is not None and not was.done
    if item.mounted_at or item.users:
        where = ", ".join((*item.mounted_at, *item.users))
        wrong = f"is in use ({where}); remove what is on it, or take another device"
    elif label is not None and (label.unread or (label.fsid == fsid and label.ready)):
        wrong = _not_ours(label, was, states)
    elif label is not None and label.error and not begun:
        wrong = f"holds an OSD whose label cannot be read ({label.error}); wipe it if that may be lost"
    elif was is not None and was.done:
        wrong = _not_replaced(one, was, expendable, replaced)
        state = (states or {}).get(was.osd_uuid)
        verb, number = ("make", -1) if state is None else ("replace", state.number)
        step = Step(verb, item.name, item.path, number)
    elif was is not None and (label is None and not item.content):
        step = Step("make", item.name, item.path)  # a run ended in the middle
    elif was is not None and label is not None and (label.error or label.osd_uuid == was.osd_uuid):
        step = Step("make", item.name, item.path)
    elif one.content and not expendable:
        wrong = f"holds {one.content}; name it in ceph_format if that may be lost"
    else:
        step = Step("make", item.name, item.path)
    return wrong, None if wrong else step


def _not_ours(label: Label, was: Known | None, states: Mapping[str, State] | None) -> str:
    """Return why the OSD on a device is not the one that belongs there, nothing where it is."""
    if label.unread:
        return ""
    if was is not None and was.done and was.osd_uuid != label.osd_uuid:
        return f"holds osd.{label.whoami}, and osd.{was.number} was here; correct the path, or the name"
    if states is not None and label.osd_uuid not in states:
        return f"holds osd.{label.whoami}, which was removed from the cluster; wipe it if it is to become a new one"
    return ""


def _not_replaced(one: Found, was: Known, expendable: bool, replaced: bool) -> str:
    """Return why a device does not take over the number of the OSD that had its name, nothing where it does."""
    if not replaced:
        holds = f"holds {one.content}" if one.content else "is empty"
        return f"{holds}, and osd.{was.number} was on it; name it in ceph_replace if it is a new one"
    if one.content and not expendable:
        return f"holds {one.content}; name it in ceph_format too if that may be lost"
    return ""


def _undeclared(
    name: str, was: Known, labels: Container[str], states: Mapping[str, State] | None, result: Decision
) -> None:
    """Add what is to be done with an OSD whose device is not declared any more, or lost."""
    if states is None:
        return
    state = states.get(was.osd_uuid)
    if state is None or was.osd_uuid in labels:  # it is there under another name
        result.steps.append(Step("forget", name, number=was.number))
    elif state.safe_to_destroy:
        result.steps.append(Step("remove", name, number=state.number))
    elif state.weight_in:
        result.steps.append(Step("empty", name, number=state.number))
    else:
        result.warnings.append(
            f"osd.{state.number} ({name}) is declared no more, and the cluster cannot do without it yet"
        )


def parse_label(path: str, answer: Mapping[str, Any]) -> Label:
    """Return the label of a device from what `ceph-bluestore-tool show-label` says."""
    said = answer.get(path, {})
    number = str(said.get("whoami", ""))
    return Label(
        str(said.get("ceph_fsid", "")),
        str(said.get("osd_uuid", "")),
        int(number) if number.isdigit() else -1,
        said.get("ready") == "ready",
    )
