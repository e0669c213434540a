"""In which waves compute hosts can be emptied and maintained, so that their instances always have a place. Pure.

A wave empties its hosts, they are maintained, and come back empty before the next wave begins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ansible_collections.brume.cloud.plugins.module_utils.scheduling import Group, Host, Instance


@dataclass(frozen=True)
class Move:
    """One instance's way to another host. The moves of a wave may be made one after the other in their order."""

    instance: str
    """Its id."""
    source: str
    destination: str


@dataclass(frozen=True)
class Wave:
    """The hosts that are empty at the same time, and the moves that empty them."""

    hosts: tuple[str, ...]
    moves: tuple[Move, ...]


@dataclass(frozen=True)
class Stuck:
    """An instance that cannot leave its host."""

    instance: str
    host: str
    reason: str
    """A sentence."""
    refused: Mapping[str, int] = field(default_factory=dict)
    """Filter -> number of hosts that it refused; the first filter that refuses a host counts."""


@dataclass(frozen=True)
class Waves:
    """The plan. Hosts with stuck instances are in no wave: they are in `left`, and none of their instances moves."""

    waves: tuple[Wave, ...] = ()
    stuck: tuple[Stuck, ...] = ()
    left: tuple[str, ...] = ()


def drain_waves(
    hosts: Sequence[Host],
    instances: Sequence[Instance],
    groups: Sequence[Group],
    drained: Sequence[str],
    at_once: int,
) -> Waves:
    """Return in which waves `drained` can be emptied, at most `at_once` hosts in a wave.

    `hosts` are all compute hosts, `instances` all instances on them. Raises ValueError for a host in `drained` that is
    not in `hosts`, for one named twice, and for `at_once` below 1.
    """
    raise NotImplementedError
