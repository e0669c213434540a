"""Decides how the database server of this host starts, from what all members of its cluster have said."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils import galera
from ansible_collections.brume.cloud.plugins.module_utils.plan_action import PlanAction, Slice

UNIT = "mariadb.service"
BEGINS = {"_WSREP_NEW_CLUSTER": "--wsrep-new-cluster"}
"""What the distribution's unit passes to the server that begins a cluster, as `galera_new_cluster` does."""


class ActionModule(PlanAction):
    """Returns `starts` for M(brume.cloud.unit_rollout).

    `bootstrap` names the member to begin with where its operator knows better than the members' files. The members'
    answers are what M(brume.cloud.galera_member) registered as `__mariadb_member` on each.
    """

    module = "galera_member"

    def arguments(self, piece: Slice, args: dict[str, Any]) -> dict[str, Any] | None:
        """Return that this member is to become primary."""
        return {"state": "primary"}

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Decide; only a member that becomes primary is asked for anything."""
        known = task_vars or {}
        piece = self.slice(known)
        addresses = {name: str(address) for name, address in piece.plan.cloud.members["database"]}
        names = list(addresses)
        if len(names) == 1:
            return {"changed": False, "skipped": True, "skip_reason": "there is one member", "starts": {}}
        answers = {name: known["hostvars"][name].get("__mariadb_member") for name in known["ansible_play_hosts"]}
        members = {
            name: galera.Member(**answers[name]["member"])
            for name in names
            if answers.get(name) and "member" in answers[name]
        }
        decision = galera.decide(members, names)
        chosen = str(self._task.args.get("bootstrap") or "")
        if decision.problem and chosen in members:
            decision = galera.Decision(begins=chosen, reason="mariadb_bootstrap names it")
        if decision.problem and not self._task.check_mode:
            return {
                "failed": True,
                "msg": f"the database cluster cannot be started: {decision.problem}\n"
                "  next: find out which member has the data to keep, and run again with "
                "-e mariadb_bootstrap=<that host>; the others take over its data and lose their own",
            }
        here = piece.host.name
        outcome: dict[str, Any] = {"changed": False, "actions": []}
        if decision.promoted == here:
            outcome = super().run(tmp, task_vars)
        return {
            **outcome,
            "starts": {UNIT: _start(piece, decision.begins, addresses)} if decision.begins else {},
            "reason": decision.problem or decision.reason,
        }


def _start(piece: Slice, begins: str, addresses: Mapping[str, str]) -> dict[str, Any]:
    """Return how the server of this host starts where another member, or it, begins the cluster.

    Two that start together with the first may find each other before it, make a component without a majority, and give
    up half a minute later; so they wait until the first serves.
    """
    if begins == piece.host.name:
        return {"start_environment": BEGINS}
    port = piece.sources.services["mariadb"].components["server"].health["tcp"]
    return {"waits_for": {"host": addresses[begins], "port": port}}
