"""Installs the union of the packages that the plan puts on this host, in one transaction."""

from __future__ import annotations

from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils.plan_action import PlanAction, Slice


class ActionModule(PlanAction):
    """Takes no arguments of its own but `unsafe_io`."""

    module = "host_packages"

    def arguments(self, piece: Slice, args: dict[str, Any]) -> dict[str, Any] | None:
        """Return the packages, and the units that must not start before they are configured."""
        return {
            "packages": list(piece.host.packages),
            "hold_units": system_units(piece),
            "claims": list(piece.data()),
            **args,
        }


def system_units(piece: Slice) -> list[str]:
    """Return the host's units that packages bring, and so start, those included that nothing here plans."""
    return [
        one.unit
        for one in piece.host.instances
        if piece.sources.services[one.service].components[one.component].kind == "system"
    ] + list(piece.host.idle)
