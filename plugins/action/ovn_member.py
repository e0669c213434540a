"""Asks a member of OVN's databases what it holds; once all have been asked, lets it take its step."""

from __future__ import annotations

import dataclasses
from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils import ovn
from ansible_collections.brume.cloud.plugins.module_utils.plan_action import PlanAction, Slice


class ActionModule(PlanAction):
    """Takes `decide`: whether it is the second look, when every member has said what its `__ovn_member` holds.

    `bootstrap` names the member to begin with where its operator knows better than the members. `leaving` lets the
    cluster go on without the members that are on removed hosts; they have been stopped by then.
    """

    module = "ovn_member"

    def arguments(self, piece: Slice, args: dict[str, Any]) -> dict[str, Any] | None:
        """Return the module's arguments where the databases are, the second time only where something is to be done."""
        if ovn.GROUP not in piece.host.groups or "ovn" not in piece.plan.services:
            return None
        if args.get("leaving"):
            steps = {
                name: dataclasses.asdict(ovn.Step(kick=kick))
                for name, (host, kick) in self.left(piece).items()
                if host == piece.host.name
            }
            return {"address": str(piece.host.addresses["management"]), "steps": steps} if steps else None
        if not args.get("decide"):
            return {}
        steps = {
            name: dataclasses.asdict(decision.steps[piece.host.name])
            for name, decision in self.decisions(piece).items()
            if piece.host.name in decision.steps
        }
        return {"address": str(piece.host.addresses["management"]), "steps": steps} if steps else None

    def decisions(self, piece: Slice) -> dict[str, ovn.Decision]:
        """Return what is decided for each database, from what all members have said."""
        addresses = dict(piece.plan.cloud.members[ovn.GROUP])
        found = {}
        for name, database in ovn.DATABASES.items():
            members = {host: ovn.Member(**said[name]) for host, said in self.said.items() if host in addresses}
            found[name] = ovn.decide(database, members, addresses, str(self._task.args.get("bootstrap") or ""))
        return found

    def left(self, piece: Slice) -> dict[str, tuple[str, tuple[str, ...]]]:
        """Return by database the first member of the majority, and the identifiers of members on removed hosts."""
        cloud = piece.plan.cloud
        found = {}
        for name, database in ovn.DATABASES.items():
            members = {
                host: ovn.Member(**self.said[host][name])
                for host, _place in cloud.members[ovn.GROUP]
                if host in self.said
            }
            kick = ovn.on_hosts(database, members, cloud.removed.values())
            asked = next((host for host, one in members.items() if one.active and one.leader), "")
            if kick and asked:
                found[name] = (asked, kick)
        return found

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Decide; where that cannot be done, say why and what to do."""
        known = task_vars or {}
        answers = {name: known["hostvars"][name].get("__ovn_member") for name in known["ansible_play_hosts"]}
        self.said: dict[str, dict[str, Any]] = {
            name: answer["members"] for name, answer in answers.items() if answer and "members" in answer
        }
        piece = self.slice(known)
        decided = self.decisions(piece) if self._task.args.get("decide") and ovn.GROUP in piece.host.groups else {}
        problems = [f"{name}: {one.problem}" for name, one in decided.items() if one.problem]
        if problems and not self._task.check_mode:
            return {
                "failed": True,
                "msg": f"OVN's databases cannot be started: {'; '.join(problems)}\n"
                "  next: find out which host's data is to be kept, and run again with -e ovn_bootstrap=<that host>; "
                "the others take over its data, and their own files are set aside",
            }
        outcome = super().run(tmp, task_vars)
        strangers = [f"{name} counts {place}" for name, one in decided.items() for place in one.strangers]
        if strangers:
            remedy = "`ovs-appctl -t /run/ovn/ovn<nb or sb>_db.ctl cluster/kick <database> <address>` removes it"
            outcome["warnings"] = [
                *outcome.get("warnings", []),
                f"{', '.join(strangers)} as a member, which no host of the plan is; {remedy}",
            ]
        return outcome | {"reason": "; ".join(f"{name}: {one.problem or one.reason}" for name, one in decided.items())}
