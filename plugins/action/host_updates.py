"""Reads what is newer on a host, or takes it; says what of the host's work in the cloud that is about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.brume.cloud.plugins.action.host_packages import system_units
from ansible_collections.brume.cloud.plugins.action.host_units import stop_order
from ansible_collections.brume.cloud.plugins.module_utils import operating_system
from ansible_collections.brume.cloud.plugins.module_utils.host_updates import BROKER
from ansible_collections.brume.cloud.plugins.module_utils.plan import socket_of
from ansible_collections.brume.cloud.plugins.module_utils.plan_action import PlanAction, Slice

SWITCH = "openvswitch"
"""The service whose restart takes the network from everything that is on the host."""

CLUSTERS = ("database", "messaging")
"""Groups whose members may have to go all at once."""

MOVES = frozenset({"network", "compute"})
"""Groups whose hosts hold what users have, and are emptied of it."""


class ActionModule(PlanAction):
    """Takes `state`, `packages`, `refresh`, `empties` and `unsafe_io` of the module, `in_place` and `reboot`.

    With `in_place` the host is not emptied, so the switch is not stopped, and not updated unless the host may `reboot`.
    With `system`, the host is brought to the operating system of the inventory (playbooks/operating_system.yml), where
    `together` says that all members of its clusters go at the same time.
    Returns also: `work` (there is something to take or to finish), `leaves` (units stop for it), `empties` (what users
    have moves away before), `emptied` (an earlier run has done so, and stopped units of which none runs again),
    `gives_back` (what was emptied, now or in an earlier run), `pending` (there is work, or an earlier run left the host
    under way), `broker` (the broker gets a newer version).
    """

    module = "host_updates"

    def arguments(self, piece: Slice, args: dict[str, Any]) -> dict[str, Any] | None:
        """Return the units that may be stopped, those whose starts are held back, and what stays."""
        in_place, reboot = bool(args.pop("in_place", False)), bool(args.pop("reboot", False))
        self.own = {"in_place": in_place, "reboot": reboot}
        system, together = bool(args.pop("system", False)), bool(args.pop("together", False))
        # The whole system changes, so nothing stays.
        stays = in_place and not system
        if system:
            args.pop("packages", None)
        switch = [one.unit for one in piece.host.instances if one.service == SWITCH]
        order = stop_order(piece)
        packages = piece.sources.services[SWITCH].components.values()
        user_space = piece.host.variables.get("openvswitch_datapath_type") == "netdev"
        return {
            **args,
            "units": units_of(piece),
            "hold_units": [name for name in system_units(piece) if name not in order["keep"]],
            "first": order["first"],
            "last": order["last"],
            "keep_units": switch if stays else [],
            "keep_packages": [name for one in packages for name in one.packages] if stays and not reboot else [],
            "vacant_units": switch if user_space else [],
            "database_members": len(piece.plan.cloud.members["database"]),
            **(crossing(piece, together=together) if system else {}),
        }

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Say what follows from what the module has found."""
        outcome = super().run(tmp, task_vars)
        if "updates" not in outcome:
            return outcome
        return {**outcome, **consequences(self.slice(task_vars or {}), outcome, **self.own)}


def crossing(piece: Slice, *, together: bool) -> dict[str, Any]:
    """Return what the module has to know to bring the host to the operating system of the inventory."""
    planned = piece.host.variables["brume_operating_system"]
    members = piece.plan.cloud.members
    alone = all(len(members[group]) == 1 or piece.host.name not in dict(members[group]) for group in CLUSTERS)
    brokers = [path for path, unit in piece.data().items() if unit == f"{BROKER}.service"]
    return {
        "suite": operating_system.SUITES[planned],
        "former_suite": operating_system.SUITES.get(operating_system.FORMER.get(planned, ""), ""),
        "together": together or alone,
        "planned_packages": list(piece.host.packages),
        "environments": [one.path for one in piece.host.environments],
        **({"broker_data": brokers[0]} if brokers else {}),
    }


def units_of(piece: Slice) -> dict[str, dict[str, Any]]:
    """Return the host's units but for what every host has, with their packages and what they start after."""
    found: dict[str, dict[str, Any]] = {}
    for one in piece.host.instances:
        component = piece.sources.services[one.service].components[one.component]
        if one.service == "host":
            continue
        after = [
            other.unit
            for other in piece.host.instances
            if other.service == one.service and other.component in component.after
        ]
        if component.kind == "wsgi":
            found[socket_of(one.unit)] = {"packages": [], "after": []}
        found[one.unit] = {"packages": list(component.packages), "after": after}
    return found


def consequences(piece: Slice, found: Mapping[str, Any], *, in_place: bool, reboot: bool) -> dict[str, Any]:
    """Return what newer packages mean for the host's work in the cloud."""
    touched = {
        group
        for one in piece.host.instances
        if one.unit in found["units"]
        for group in piece.sources.services[one.service].components[one.component].groups
    }
    deploys = bool(found.get("deploys"))
    # A host that has its suite already is not rebooted for that.
    reboot = reboot and (deploys or not found.get("codename"))
    work = bool(found["updates"] or found["removed"] or found["interrupted"] or (reboot and found["reboot"]))
    # What a transaction that was cut off is about is only known when it has been finished.
    leaves = deploys or (work and bool(found["units"] or found["interrupted"] or reboot))
    part = found["units"] and not (found["interrupted"] or reboot or deploys)
    whole = touched if part else set(piece.host.groups)
    empties = leaves and not in_place and bool(MOVES & whole & set(piece.host.groups))
    return {
        "work": work,
        "leaves": leaves,
        "empties": empties,
        "emptied": bool(found["out"] and found["begun"].get("emptied")),
        "gives_back": empties or bool(found["begun"].get("empties")),
        "pending": work or deploys or bool(found["begun"]),
        "broker": BROKER in found["updates"] or (found["interrupted"] and "messaging" in piece.host.groups),
    }
