"""Judges whether hosts can be removed or replaced, and takes them out of Nova, Neutron and Placement."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils import membership, ovn
from ansible_collections.brume.cloud.plugins.module_utils.plan_action import PlanAction, Slice

IMAGES = "/var/lib/glance/images"
"""Where Glance's file store is (roles/glance/settings/glance-api.yml)."""


def members_said(hostvars: Mapping[str, Any], names: list[str]) -> dict[str, dict[str, Any]]:
    """Return by kind and host what the role cluster_members has registered."""
    keys = {"mariadb": "member", "rabbitmq": "member", "ovn": "members"}
    found: dict[str, dict[str, Any]] = {kind: {} for kind in keys}
    for kind, key in keys.items():
        for name in names:
            answer = hostvars[name].get(f"__{kind}_member") or {}
            if key in answer:
                found[kind][name] = answer[key]
    return found


def members_of(piece: Slice, leaving: Mapping[str, str], unreachable: list[str]) -> membership.Members:
    """Return the members of the cloud's clusters but for the hosts that leave, which are name -> address."""
    members = piece.plan.cloud.members

    def staying(group: str) -> list[str]:
        return [name for name, _address in members[group] if name not in leaving]

    return membership.Members(
        database=staying("database"),
        messaging=staying("messaging"),
        ovn=staying(ovn.GROUP) if "ovn" in piece.plan.services else [],
        leaving=leaving,
        unreachable=unreachable,
    )


class ActionModule(PlanAction):
    """Takes `judge`: whether to say what is in the way, of APIs and clusters, instead of changing anything.

    The hosts are those of the group `removed`, or with `replaced`, a list of names, hosts of the plan whose machines
    are new. `accept_loss` lets go what is lost with a host. What hosts and members say of themselves was registered
    before: `__host_units` by M(brume.cloud.host_units), and what the role cluster_members asks.
    """

    module = "host_removal"

    def arguments(self, piece: Slice, args: dict[str, Any]) -> dict[str, Any] | None:
        """Return the hosts, and where the APIs are; of replaced hosts only compute hosts matter to them."""
        cloud = piece.plan.cloud
        replaced = args.get("replaced")
        hosts = list(cloud.removed)
        if replaced is not None:
            hosts = [name for name in replaced if "compute" in piece.plan.hosts[name].groups]
        if not hosts or "nova" not in cloud.services:
            return None
        glance = piece.plan.services.get("glance")
        in_files = replaced is None and glance is not None and any(one.failover for one in glance.components.values())
        return {
            "auth": piece.administrator(),
            "compute_url": piece.internal_url("nova"),
            "network_url": piece.internal_url("neutron"),
            "placement_url": piece.internal_url("placement"),
            "image_url": piece.internal_url("glance") if in_files else None,
            "image_directory": IMAGES if in_files else None,
            "hosts": hosts,
            "lost": [name for name in self.lost if name in hosts],
            "accept_loss": bool(args.get("accept_loss")),
            "replaced": replaced is not None,
            "judge": bool(args.get("judge")),
        }

    def task_variables(self, piece: Slice) -> dict[str, Any]:
        """Run with Nova's own Python: it has keystoneauth1."""
        return self.environment_python(piece, "nova")

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Judge, or remove and say what is left to do by hand."""
        known = task_vars or {}
        piece = self.slice(known)
        cloud, args = piece.plan.cloud, self._task.args
        replaced = args.get("replaced")
        leaving = dict(cloud.removed) if replaced is None else {
            name: str(piece.plan.hosts[name].addresses["management"]) for name in replaced
        }  # fmt: skip
        units = {name: known["hostvars"][name].get("__host_units") or {} for name in leaving}
        self.lost = [name for name, said in units.items() if "recorded" not in said]
        outcome = super().run(tmp, known)
        if outcome.get("failed") or not args.get("judge"):
            if not outcome.get("failed") and replaced is None and not self._task.check_mode:
                self._display.display("\n".join(self._next(leaving)))
            return outcome
        staying = [name for name in piece.plan.hosts if name not in leaving]
        problems = list(outcome.pop("problems", []))
        problems += membership.problems(members_of(piece, leaving, self.lost), members_said(known["hostvars"], staying))
        if replaced is not None:
            problems += self._not_replaced(piece, units)
            problems += [] if args.get("accept_loss") else _data_of_first(piece, replaced)
        if problems:
            verb = "removed" if replaced is None else "replaced"
            message = f"{', '.join(leaving)} cannot be {verb} now; nothing was changed"
            return {**outcome, "failed": True, "msg": "\n".join([message, *(f"  {one}" for one in problems)])}
        outcome.pop("skipped", None)
        return {**outcome, "changed": False, "drain": outcome.get("drain", [])}

    @staticmethod
    def _not_replaced(piece: Slice, units: Mapping[str, Mapping[str, Any]]) -> list[str]:
        """Return which hosts have run everything that is planned there, so that they are no new machines."""
        return [
            f"{name}: everything that is planned there has run well on it, so this is no new machine; next: `site.yml`"
            for name, said in units.items()
            if {one.unit for one in piece.plan.hosts[name].instances} <= set(said.get("recorded") or ())
        ]

    def _next(self, leaving: Mapping[str, str]) -> list[str]:
        here = [name for name in leaving if name not in self.lost]
        lines = [f"next: take {', '.join(leaving)} out of the inventory"]
        if here:
            lines.append(f"next: wipe the disks of {', '.join(here)}; they still hold data, passwords and keys")
        if self.lost:
            lines.append(
                f"next: wipe the disks of {', '.join(self.lost)} before it is switched on in these networks again: its "
                "services would report in, and its disks hold data, passwords and keys"
            )
        return lines


def _data_of_first(piece: Slice, replaced: list[str]) -> list[str]:
    """Return what was on the replaced hosts alone."""
    members = piece.plan.cloud.members
    return [
        f"{name}: was the one host with the data of {service.name} {component.name}, which went with that machine; "
        "next: `-e replace_accept_loss=true` goes on without; a copy can be put in place afterwards "
        "(docs/operations/replace.md)"
        for service in piece.plan.services.values()
        for component in service.components.values()
        if component.failover
        for name, _address in members[component.groups[0]][:1]
        if name in replaced
    ]
