"""Filter: the picture of a ring's balance."""

from __future__ import annotations

DOCUMENTATION = r"""
name: ring_plot
author: Brume contributors
short_description: Draws what the module swift_ring reports of a ring
description: >-
  Returns SVG that needs nothing else, with the partitions of each device before and after, and what its weight stands
  for. Of a ring that was not computed, because Swift is not installed yet, it returns no text.
positional: _input
options:
  _input: {description: "An item of C(rings) in the result of M(brume.cloud.swift_ring).", type: dict, required: true}
"""

EXAMPLES = r"""
- name: Draw a ring
  ansible.builtin.copy:
    content: "{{ result.rings[0] | brume.cloud.ring_plot }}"
    dest: reports/account.svg
    mode: "0644"
  delegate_to: localhost
"""

RETURN = r"""
_value: {description: The picture., type: str}
"""

from collections.abc import Callable  # noqa: E402

from ansible_collections.brume.cloud.plugins.module_utils import ring_plot  # noqa: E402


class FilterModule:
    """What Ansible asks for."""

    def filters(self) -> dict[str, Callable[..., str]]:
        """Return the filter by its name."""
        return {"ring_plot": ring_plot.svg}
