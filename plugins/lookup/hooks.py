"""Names the services whose roles have a hook for a phase."""

from __future__ import annotations

from typing import Any

from ansible.plugins.lookup import LookupBase
from ansible_collections.brume.cloud.plugins.module_utils import run, sources
from ansible_collections.brume.cloud.plugins.module_utils.description import WAVES

DOCUMENTATION = r"""
name: hooks
short_description: Services on this host with a hook for a phase
description:
  - A hook is a file C(roles/<service>/tasks/<phase>.yml). It is found, never listed.
options:
  _terms:
    description: The phase, and optionally the wave (all but infrastructure without one).
    required: true
"""


class LookupModule(LookupBase):
    """See DOCUMENTATION."""

    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[str]:
        """Return the services' names, in the order of their waves."""
        phase, wave = (*terms, "")[:2]
        waves = (wave,) if wave else WAVES[1:]
        known = variables or {}
        plan = run.current(known)
        project = sources.load()
        host = plan.hosts.get(known["inventory_hostname"])
        if host is None:
            return []
        here = list(dict.fromkeys(instance.service for instance in host.instances))
        return [
            name
            for name in here
            if name in project.hooks.get(phase, ()) and name in plan.services and plan.services[name].wave in waves
        ]
