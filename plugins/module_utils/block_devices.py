"""Block devices with a file system of Swift's each: what is on them, and what has to be done to them. Pure.

A device that holds anything is never formatted without a word: only one on which blkid finds nothing and whose
beginning is all zeros counts as empty (docs.openstack.org/swift: deployment guide, for XFS and its options).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

LABEL = "swift"
"""Label of the file systems that are made here; one that bears it already is taken as it is."""

ROOT = "/srv/node"
OPTIONS = "noatime"


class DeviceError(ValueError):
    """A device cannot be used as it is; the text has every such device with a remedy."""


@dataclass(frozen=True)
class Reading:
    """What was found of one device; `signature` are blkid's values, such as TYPE, LABEL and UUID."""

    name: str
    path: str
    exists: bool = True
    """Whether there is a block device that can be read."""
    number: str = ""
    """Its numbers (`8:16`), which tell two paths of one device."""
    signature: tuple[tuple[str, str], ...] = ()
    zeroed: bool = True
    """Whether its first MiB is all zeros."""
    users: tuple[str, ...] = ()
    """Devices on top of it, such as partitions, volume groups and arrays."""
    mounted_at: tuple[str, ...] = ()
    owned: bool = True
    """Whether what is mounted at its place belongs to Swift."""
    beneath: bool = False
    """Whether another device is mounted at its place."""

    @property
    def found(self) -> Mapping[str, str]:
        """Return blkid's values by their names."""
        return dict(self.signature)

    @property
    def is_ours(self) -> bool:
        """Say whether Swift's file system is on it."""
        return self.found.get("TYPE") == "xfs" and self.found.get("LABEL") == LABEL

    @property
    def content(self) -> str:
        """Return in words what is on it, nothing where it is empty."""
        kind = self.found.get("TYPE") or self.found.get("PTTYPE")
        if kind:
            label = self.found.get("LABEL")
            return kind + (f" labeled {label}" if label else "")
        return "" if self.zeroed else "data of an unknown kind"


@dataclass(frozen=True)
class Mounted:
    """A line of the table of devices: the file system's UUID, and the name below ROOT."""

    name: str
    uuid: str

    @property
    def line(self) -> str:
        """Return it as fstab(5) writes it."""
        return f"UUID={self.uuid} {ROOT}/{self.name} xfs {OPTIONS} 0 0"


def parse_table(text: str) -> list[Mounted]:
    """Return the entries of the table of devices."""
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0].startswith("UUID=") and words[1].startswith(f"{ROOT}/"):  # noqa: PLR2004
            found.append(Mounted(words[1].removeprefix(f"{ROOT}/"), words[0].removeprefix("UUID=")))
    return found


def table(entries: Iterable[Mounted]) -> str:
    """Return the text of the table, in the order of names."""
    head = "# Written by Brume; mounted by swift-devices.service.\n"
    return head + "".join(f"{one.line}\n" for one in sorted(entries, key=lambda entry: entry.name))


@dataclass(frozen=True)
class Step:
    """One thing to do: `format`, `mount`, `own` or `unmount` a device."""

    verb: str
    name: str
    path: str = ""

    def __str__(self) -> str:
        """Return it as a sentence for people."""
        return {
            "format": f"format {self.path} with XFS",
            "mount": f"mount {self.path} at {ROOT}/{self.name}",
            "own": f"give {ROOT}/{self.name} to Swift's user",
            "unmount": f"unmount {ROOT}/{self.name}, which is not declared any more",
        }[self.verb]


def _refusal(one: Reading, known: Iterable[Mounted], expendable: Iterable[str]) -> str:
    """Return why a device that is there cannot be used and the remedy, nothing where it can."""
    elsewhere = [place for place in one.mounted_at if place != f"{ROOT}/{one.name}"]
    if elsewhere:
        return f"is mounted at {elsewhere[0]}; unmount it, or take another device"
    if one.beneath:
        return f"another device is mounted at {ROOT}/{one.name}; unmount that first"
    if one.is_ours:
        other = [entry.name for entry in known if entry.uuid == one.found.get("UUID") and entry.name != one.name]
        return f"holds the file system of {other[0]}; correct the path, or the name" if other else ""
    if one.users:
        return f"is in use by {', '.join(one.users)}; remove what is on it, or take another device"
    if not one.content or one.name in expendable:
        return ""
    return f"holds {one.content}; name it in swift_format if that may be lost"


def _steps(one: Reading) -> list[Step]:
    """Return what makes a device that can be used one of Swift's."""
    steps = [] if one.is_ours else [Step("format", one.name, one.path)]
    if f"{ROOT}/{one.name}" not in one.mounted_at:
        steps.append(Step("mount", one.name, one.path))
    elif not one.owned:  # a run ended between the two
        steps.append(Step("own", one.name))
    return steps


def decide(
    readings: Sequence[Reading], known: Sequence[Mounted], held: Mapping[str, int], expendable: Iterable[str]
) -> tuple[list[Step], list[str]]:
    """Return the steps and warnings. Raises DeviceError with every device that cannot be used.

    `known` is the table as it is, `held` the number of partitions on each mounted device, `expendable` are names of
    devices whose content the operator has given up.
    """
    steps: list[Step] = []
    warnings: list[str] = []
    problems: list[str] = []
    seen: dict[str, Reading] = {}
    for one in readings:
        former = next((entry for entry in known if entry.name == one.name), None)
        if not one.exists:
            if former is None:
                problems.append(f"{one.path} ({one.name}): there is no block device to be read; correct swift_devices")
            else:
                warnings.append(f"{one.path} ({one.name}) cannot be read; replace the disk, or say `lost: true` of it")
            continue
        twin = seen.setdefault(one.number or one.path, one)
        refusal = _refusal(one, known, expendable) if twin is one else f"is {twin.path} ({twin.name}); name it once"
        if refusal:
            problems.append(f"{one.path} ({one.name}): {refusal}")
            continue
        steps += _steps(one)
    declared = {one.name for one in readings}
    for entry in known:
        if entry.name in declared:
            continue
        if held.get(entry.name, 0):
            warnings.append(f"{ROOT}/{entry.name} is declared no more, and holds {held[entry.name]} partitions still")
        else:
            steps.append(Step("unmount", entry.name))
    if problems:
        raise DeviceError("\n".join(problems))
    return steps, warnings
