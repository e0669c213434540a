"""Instances stop before their hosts do: which of them run, which Nova cannot stop, and the stop of the others.

Rules: nova.compute.api.API.stop at 2026.1 (active instances), and nova.compute.power_state for what a hypervisor holds
in memory. Paths are those of the Compute API (https://docs.openstack.org/api-ref/compute/).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils.api_session import NOT_FOUND, ApiError, Record, Request, pages
from ansible_collections.brume.cloud.plugins.module_utils.compute_drain import HOST, STATE, STAY, TASK
from ansible_collections.brume.cloud.plugins.module_utils.convergence import Action, ConvergenceError

POWER = "OS-EXT-STS:power_state"
IN_MEMORY = (1, 3)
"""Running and paused."""

NEXT: Mapping[str, str] = {
    "paused": "openstack server unpause {0}",
    **{state: remedy for state, (_why, remedy) in STAY.items() if state in ("rescued", "resized")},
}
"""State of an instance that Nova does not stop -> what to do."""

SECONDS = 300.0
"""Longest wait for an instance to stop: beyond Nova's `shutdown_timeout`, after which it is switched off."""
POLL = 2.0


def running(servers: Iterable[Record]) -> list[Record]:
    """Return those that would lose their memory with their host, and those that are on their way to it."""
    return [one for one in servers if one.get(HOST) and (one.get(POWER) in IN_MEMORY or one.get(TASK))]


def problems(servers: Sequence[Record]) -> list[str]:
    """Return why instances that run cannot be stopped, one line for each, with the next step."""
    found = []
    for one in servers:
        label = f"instance {one['name']} ({one['id']}) on {one[HOST]}"
        if one.get(TASK):
            found.append(f"{label}: is busy ({one[TASK]}); next: wait until it is done, then run again")
        elif one[STATE] != "active":
            remedy = NEXT.get(one[STATE], "openstack server show {0}").format(one["id"])
            found.append(f"{label}: is {one[STATE]}, and Nova stops only active ones; next: {remedy}")
    return found


def compare(compute: Request, sleep: Callable[[float], None] = time.sleep) -> list[Action]:
    """Return the stop of each instance that runs. Raises ConvergenceError with everything that cannot be stopped."""
    servers = running(pages(compute, "/servers/detail", "servers", all_tenants="true"))
    found = problems(servers)
    if found:
        raise ConvergenceError("\n".join(found))
    return [
        Action(
            "instance",
            "update",
            f"{one['name']} ({one['id']}) on {one[HOST]}",
            {"status": one["status"]},
            {"status": "SHUTOFF"},
            partial(_stop, compute, f"/servers/{one['id']}", sleep),
        )
        for one in servers
    ]


def _stop(compute: Request, path: str, sleep: Callable[[float], None]) -> None:
    """Stop an instance and wait until it is off; one that its user deletes meanwhile is. Raises ConvergenceError."""
    server: dict[str, Any] = {}
    try:
        compute("POST", f"{path}/action", {"os-stop": None})
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            server = compute("GET", path)["server"]
            if server["status"] == "SHUTOFF" and not server.get(TASK):
                return
            sleep(POLL)
    except ApiError as error:
        if error.status != NOT_FOUND:
            raise
        return
    raise ConvergenceError(
        f"is {server.get('status')} {SECONDS:.0f} s after it was told to stop; "
        "next: the journal of nova-compute on its host says why"
    )
