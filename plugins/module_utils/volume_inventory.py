"""What the inventory says about Cinder's volume types, QoS specs and default quotas: what is wrong with it. Pure.

Limits are those of the Block Storage API's schemas (cinder.api.schemas at 2026.1). RULES are the plan's rules
for values of variables, see inventory_checks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils import inventory_items
from ansible_collections.brume.cloud.plugins.module_utils.inventory_checks import Mistake, Rule, is_number, near, shown
from ansible_collections.brume.cloud.plugins.module_utils.volume_types import CONSUMERS, OF_A_TYPE, QUOTAS

DESCRIPTION_LENGTH = 255
RESERVED = ("name", "consumer")
"""What QoS specs cannot be called: in the API's documents these stand beside them."""

_pairs = inventory_items.pairs("Cinder", re.compile(r"[A-Za-z0-9_:.-]{1,255}"))


def _qos(value: Any) -> tuple[str, str] | None:
    return None if value == "" else inventory_items.name(value)


def _consumer(value: Any) -> tuple[str, str] | None:
    return None if value in CONSUMERS else ("no consumer", f"use one of {', '.join(CONSUMERS)}")


def _limits(value: Any) -> tuple[str, str] | None:
    for key in RESERVED:
        if isinstance(value, Mapping) and key in value:
            return f"no mapping of QoS specs alone, because it has `{key}`", f"write `{key}` beside `specs`"
    return _pairs(value)


VOLUME_TYPE: Mapping[str, inventory_items.Check] = {
    "name": inventory_items.name,
    "description": inventory_items.description(DESCRIPTION_LENGTH),
    "is_public": inventory_items.truth,
    "projects": inventory_items.texts,
    "extra_specs": _pairs,
    "qos": _qos,
    "state": inventory_items.state,
}
QOS_SPECS: Mapping[str, inventory_items.Check] = {
    "name": inventory_items.name,
    "consumer": _consumer,
    "specs": _limits,
    "state": inventory_items.state,
}


def _types(value: Any, services: Any) -> Iterator[Mistake]:
    yield from inventory_items.items(value, VOLUME_TYPE, ())
    for item in value:
        if item.get("is_public") is True and "projects" in item:
            label = f".{item.get('name')}.projects"
            yield label, "names the projects of a type that all may use", "remove `projects`, or `is_public`"


def _qos_specs(value: Any, services: Any) -> Iterator[Mistake]:
    yield from inventory_items.items(value, QOS_SPECS, ())


def _quotas(value: Any, services: Any) -> Iterator[Mistake]:
    for key, number in value.items():
        of_type = any(str(key).startswith(f"{part}_") and key != f"{part}_" for part in OF_A_TYPE)
        if key not in QUOTAS and not of_type:
            meant = near(str(key), QUOTAS)
            remedy = f"is {meant} meant?" if meant else f"use {', '.join(QUOTAS)}, or {OF_A_TYPE[0]}_TYPE and the like"
            yield f".{key}", "is no resource of a quota", remedy
        if not is_number(number) or not -1 <= number <= inventory_items.MAXIMUM:
            yield f".{key}", f"{shown(number)} is no quota", "write a whole number, or -1 for no limit"


RULES: Mapping[str, Rule] = {
    "cinder_volume_types": _types,
    "cinder_qos_specs": _qos_specs,
    "cinder_default_quotas": _quotas,
}
