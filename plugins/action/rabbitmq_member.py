"""Finds members of a broker's cluster that came back empty or have left, and lets one that runs forget them."""

from __future__ import annotations

from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils.plan_action import PlanAction, Slice

MAJORITY_WITHOUT_ONE = 3
"""As many members still have a majority when one of them is away."""


def node(host: str) -> str:
    """Return what the other brokers call the one of a host."""
    return f"rabbit@{host}"


class ActionModule(PlanAction):
    """Takes one of five words, all of them booleans.

    `cluster` asks what the member counts as its cluster. `features` enables feature flags, of a single broker too.
    `quorum` waits until the others could do without the member; of two, one never can, and it is not asked for.
    The others are the second look, when every member has said what its `__rabbitmq_member` holds: `forget` is about
    members that came back empty, `leaving` about removed hosts.
    """

    module = "rabbitmq_member"

    def arguments(self, piece: Slice, args: dict[str, Any]) -> dict[str, Any] | None:
        """Return the module's arguments, where there are several members and something is to be done."""
        cloud = piece.plan.cloud
        names = [name for name, _address in cloud.members["messaging"]]
        least = 1 if args.get("features") or cloud.removed else 2
        least = MAJORITY_WITHOUT_ONE if args.get("quorum") else least
        if piece.host.name not in names or len(names) < least:
            return None
        data = f"/var/lib/rabbitmq/mnesia/{node(piece.host.name)}"
        for word in ("cluster", "features", "quorum"):
            if args.get(word):
                return {"data": data, word: True}
        if not args.get("forget") and not args.get("leaving"):
            return {"data": data}
        running = [name for name in names if self.said.get(name, {}).get("active")]
        empty = [name for name in names if self.said.get(name) == {"active": False, "empty": True}]
        gone = list(cloud.removed) if args.get("leaving") else empty
        if not gone or running[:1] != [piece.host.name]:
            return None
        return {"data": data, "leaving" if args.get("leaving") else "forget": [node(name) for name in gone]}

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Keep what the members have said."""
        known = task_vars or {}
        answers = {name: known["hostvars"][name].get("__rabbitmq_member") for name in known["ansible_play_hosts"]}
        self.said: dict[str, dict[str, Any]] = {
            name: answer["member"] for name, answer in answers.items() if answer and "member" in answer
        }
        return super().run(tmp, task_vars)
