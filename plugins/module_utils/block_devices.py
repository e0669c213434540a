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
    signature: tuple[tuple[str, str], ...] = ()
    zeroed: bool = True
    """Whether its first MiB is all zeros."""
    users: tuple[str, ...] = ()
    """Devices on top of it, such as partitions, volume groups and arrays."""
    mounted_at: tuple[str, ...] = ()

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
        if self.users:
            return f"parts that are in use: {', '.join(self.users)}"
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
    """One thing to do: `format`, `mount` or `unmount` a device."""

    verb: str
    name: str
    path: str = ""

    def __str__(self) -> str:
        """Return it as a sentence for people."""
        return {
            "format": f"format {self.path} with XFS",
            "mount": f"mount {self.path} at {ROOT}/{self.name}",
            "unmount": f"unmount {ROOT}/{self.name}, which is empty and not declared any more",
        }[self.verb]


def _refusal(one: Reading, expendable: Iterable[str]) -> str:
    """Return why a device that is there cannot be used and the remedy, nothing where it can."""
    elsewhere = [place for place in one.mounted_at if place != f"{ROOT}/{one.name}"]
    if elsewhere:
        return f"is mounted at {elsewhere[0]}; unmount it, or take another device"
    if one.is_ours or not one.content:
        return ""
    if one.users:
        return f"holds {one.content}; take another device"
    return "" if one.name in expendable else f"holds {one.content}; name it in swift_format if that may be lost"


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
    for one in readings:
        former = next((entry for entry in known if entry.name == one.name), None)
        if not one.exists:
            if former is None:
                problems.append(f"{one.path} ({one.name}): there is no such block device; correct swift_devices")
            else:
                warnings.append(f"{one.path} ({one.name}) is gone; replace the disk, or say `lost: true` of it")
            continue
        if refusal := _refusal(one, expendable):
            problems.append(f"{one.path} ({one.name}): {refusal}")
            continue
        steps += [] if one.is_ours else [Step("format", one.name, one.path)]
        steps += [] if f"{ROOT}/{one.name}" in one.mounted_at else [Step("mount", one.name, one.path)]
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
