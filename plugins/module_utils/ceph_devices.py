"""Devices of a Ceph host, each of which becomes one OSD: what is on them, and what has to be done to them. Pure.

A device that holds anything is never taken without a word, as for Swift (block_devices). What is Ceph's is known by the
label that BlueStore begins a device with (docs.ceph.com: BlueStore, and ceph-bluestore-tool(8)).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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


@dataclass(frozen=True)
class Known:
    """What the host has noted of a device: the OSD's UUID, and its number once the monitors have given one."""

    osd_uuid: str
    number: int = -1
    done: bool = False
    """Whether it was made to the end."""


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
    """An OSD as the monitors know it."""

    up: bool = False
    weight_in: bool = True
    """Whether it takes part in placing data."""
    safe_to_destroy: bool = False


@dataclass(frozen=True)
class Step:
    """One thing to do: `make`, `replace`, `start`, `empty` or `remove` an OSD."""

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
            "remove": f"remove osd.{self.number} ({self.name})",
        }[self.verb]


@dataclass
class Decision:
    """Steps in order, and what the operator should know."""

    steps: list[Step] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def decide(
    found: Sequence[Found],
    known: Mapping[str, Known],
    states: Mapping[int, State],
    running: Iterable[int],
    fsid: str,
    expendable: Iterable[str] = (),
    replaced: Iterable[str] = (),
    lost: Iterable[str] = (),
) -> Decision:
    """Return the steps and warnings. Raises DeviceError with every device that cannot be used, before any is touched.

    `known` is by name of device, `states` and `running` by number; `running` are units that are active and enabled.
    `expendable` are devices whose content the operator has given up, `replaced` new ones that take over the number of
    the one that had their name, `lost` those that are gone for good.
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
        wrong, step = _device(one, was, fsid, item.name in set(expendable), item.name in set(replaced))
        if wrong:
            problems.append(f"{item.path} ({item.name}): {wrong}")
        elif step is not None:
            result.steps.append(step)
        elif one.label is not None and one.label.whoami not in active:
            result.steps.append(Step("start", item.name, item.path, one.label.whoami))
    declared = {one.reading.name for one in found}
    for name, was in known.items():
        if name not in declared and was.number >= 0:
            state = states.get(was.number, State(safe_to_destroy=True))
            _undeclared(name, was.number, state, name in set(lost), result)
    if problems:
        raise DeviceError("\n".join(problems))
    return result


def _device(one: Found, was: Known | None, fsid: str, expendable: bool, replaced: bool) -> tuple[str, Step | None]:
    """Return why a device cannot be used, with the remedy, and else what has to be done to it."""
    item, label = one.reading, one.label
    wrong, step = "", None
    if item.mounted_at or item.users:
        where = ", ".join((*item.mounted_at, *item.users))
        wrong = f"is in use ({where}); remove what is on it, or take another device"
    elif label is not None and label.fsid == fsid and label.ready:
        if was is not None and was.done and was.osd_uuid != label.osd_uuid:
            wrong = f"holds osd.{label.whoami}, and osd.{was.number} was here; correct the path, or the name"
    elif was is not None and was.done:
        wrong = _not_replaced(one, was, expendable, replaced)
        step = Step("replace", item.name, item.path, was.number)
    elif was is not None and (label.osd_uuid == was.osd_uuid if label is not None else not item.content):
        step = Step("make", item.name, item.path)  # a run ended in the middle
    elif one.content and not expendable:
        wrong = f"holds {one.content}; name it in ceph_format if that may be lost"
    else:
        step = Step("make", item.name, item.path)
    return wrong, None if wrong else step


def _not_replaced(one: Found, was: Known, expendable: bool, replaced: bool) -> str:
    """Return why a device does not take over the number of the OSD that had its name, nothing where it does."""
    if not replaced:
        holds = f"holds {one.content}" if one.content else "is empty"
        return f"{holds}, and osd.{was.number} was on it; name it in ceph_replace if it is a new one"
    if one.content and not expendable:
        return f"holds {one.content}; name it in ceph_format too if that may be lost"
    return ""


def _undeclared(name: str, number: int, state: State, lost: bool, result: Decision) -> None:
    """Add what is to be done with an OSD whose device is not declared any more, or lost."""
    if state.safe_to_destroy or (lost and not state.up and not state.weight_in):
        result.steps.append(Step("remove", name, number=number))
    elif state.weight_in:
        result.steps.append(Step("empty", name, number=number))
    else:
        result.warnings.append(f"osd.{number} ({name}) is declared no more, and its data is still on the way to others")


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
