"""Which member begins a Galera cluster: decided from what the members' own files say, never by their order.

Pure; the module `galera_member` reads. Rules: mariadb.com, "Getting Started with MariaDB Galera Cluster" and "Galera
Cluster Recovery": the member with the newest committed write begins, and all others take over what they miss from it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

NOBODY = "00000000-0000-0000-0000-000000000000"
"""Identifier of the history of a member that never was in a cluster."""

UNKNOWN = -1
"""Position of a member that did not end in order: it is found in the data."""


@dataclass(frozen=True)
class Member:
    """A database host: whether the server runs, and what it or its files say of the cluster."""

    active: bool = False
    cluster_status: str = ""
    uuid: str = NOBODY
    seqno: int = UNKNOWN
    safe_to_bootstrap: bool = False
    has_data: bool = False
    """Whether there are databases besides the server's own."""
    size: int = 0
    """Members that its component has; 0 where there is none."""
    connections: int = 0
    """Clients that are connected."""


@dataclass(frozen=True)
class Decision:
    """What is to be done before the members start.

    `begins` is the member that starts a cluster, `promoted` one that runs without a primary component and becomes it.
    Both are empty where members simply join. `problem` says why nothing may be started.
    """

    begins: str = ""
    promoted: str = ""
    reason: str = ""
    problem: str = ""


def parse_state(text: str) -> tuple[str, int, bool]:
    """Return history, position and safe_to_bootstrap of a `grastate.dat`."""
    found = dict(re.findall(r"^(\w+):\s*(\S+)\s*$", text, re.MULTILINE))
    number = found.get("seqno", "")
    return (
        found.get("uuid", NOBODY),
        int(number) if re.fullmatch(r"-?\d+", number) else UNKNOWN,
        found.get("safe_to_bootstrap") == "1",
    )


def parse_recovered(text: str) -> tuple[str, int]:
    """Return history and position from the log of `mariadbd --wsrep-recover`."""
    found = re.findall(r"Recovered position:\s*([0-9a-f-]{36}):(-?\d+)", text)
    return (found[-1][0], int(found[-1][1])) if found else (NOBODY, UNKNOWN)


def decide(members: Mapping[str, Member], all_members: Sequence[str]) -> Decision:
    """Return who begins. `members` are those that were asked, `all_members` those that the plan has."""
    running = {name: one for name, one in members.items() if one.active}
    missing = [name for name in all_members if name not in members]
    reason = ""
    if any(one.cluster_status == "Primary" for one in running.values()):
        reason = "there is a primary component"
    elif missing:
        # They may hold newer writes, or be the primary component: who starts now can only join them.
        reason = f"{', '.join(missing)} were not asked"
    elif running and len(running) < len(members):
        # Those that run wait for those that do not: that is how a cluster comes back after a power cut.
        reason = f"{', '.join(running)} wait for the others"
    if reason:
        return Decision(reason=reason)
    if running:
        return Decision(promoted=_newest(members), reason="all run, and none is in a primary component")
    problem = _problem(members)
    if problem:
        return Decision(problem=problem)
    if any(one.uuid != NOBODY for one in members.values()):
        first = _newest(members)
        return Decision(begins=first, reason=f"its last write is {members[first].seqno}, none has a newer one")
    alone = [name for name, one in members.items() if one.has_data]
    if alone:
        return Decision(begins=alone[0], reason="it alone holds databases")
    return Decision(begins=next(iter(all_members)), reason="none of the members holds any data")


def _problem(members: Mapping[str, Member]) -> str:
    """Return why it cannot be known which of the members, none of which runs, has the newest data."""
    clustered = {name: one for name, one in members.items() if one.uuid != NOBODY}
    if len({one.uuid for one in clustered.values()}) > 1:
        held = ", ".join(f"{name} has {one.uuid}:{one.seqno}" for name, one in clustered.items())
        return f"the members belong to different clusters: {held}"
    alone = [name for name, one in members.items() if one.uuid == NOBODY and one.has_data]
    if alone and (clustered or len(alone) > 1):
        return f"{', '.join(alone)} hold databases that belong to no cluster"
    unknown = [name for name, one in clustered.items() if one.seqno == UNKNOWN]
    return f"the last write of {', '.join(unknown)} could not be found" if unknown else ""


def _newest(members: Mapping[str, Member]) -> str:
    """Return the member with the newest write; of several, one that ended last, then the first by name."""
    held = {name: one for name, one in members.items() if one.uuid != NOBODY} or members
    return min(held, key=lambda name: (-held[name].seqno, not held[name].safe_to_bootstrap, name))
