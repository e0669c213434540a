"""Checks of what the inventory lists by name, flavors and volume types among them: keys, values, names. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils.convergence import duplicates
from ansible_collections.brume.cloud.plugins.module_utils.inventory_checks import Mistake, is_number, near, shown

MAXIMUM = 2**31 - 1
"""Columns of services' databases are of 32 bits."""

NAME_LENGTH = 255

Check = Callable[[Any], tuple[str, str] | None]
"""Returns what a value is not and the remedy, or nothing."""


def count(least: int, unit: str) -> Check:
    """Return what judges whole numbers of a unit."""
    remedy = f"write a whole number of {unit}, at least {least}"
    return lambda value: None if is_number(value) and least <= value <= MAXIMUM else (f"no number of {unit}", remedy)


def truth(value: Any) -> tuple[str, str] | None:
    """Judge what is true or false."""
    return None if isinstance(value, bool) else ("neither true nor false", "write true or false")


def state(value: Any) -> tuple[str, str] | None:
    """Judge whether something is to be there."""
    return None if value in ("present", "absent") else ("no state", "write present or absent")


def name(value: Any) -> tuple[str, str] | None:
    """Judge a name."""
    if isinstance(value, str) and value.strip() == value and value.isprintable() and 0 < len(value) <= NAME_LENGTH:
        return None
    return "no name", f"write a text of 1 to {NAME_LENGTH} characters without spaces around it, numbers in quotes"


def description(length: int) -> Check:
    """Return what judges texts of at most so many characters."""
    fault = "no description", f"write a text of at most {length} characters"
    return lambda value: None if isinstance(value, str) and len(value) <= length else fault


def pairs(service: str, key: re.Pattern[str]) -> Check:
    """Return what judges extra specs and the like, whose keys the pattern matches."""

    def check(value: Any) -> tuple[str, str] | None:
        if not isinstance(value, Mapping):
            return "no mapping", "write `key: value` lines below it"
        for one, item in value.items():
            if not isinstance(one, str) or not key.fullmatch(one):
                message = f"no mapping of keys that {service} takes, because of {shown(one)}"
                return message, "use letters, digits and - _ : ."
            if not isinstance(item, (str, int, float)) or len(str(item)) > NAME_LENGTH:
                return f"no mapping of short values, because of {one}", f"write at most {NAME_LENGTH} characters"
        return None

    return check


def texts(value: Any) -> tuple[str, str] | None:
    """Judge a list of names."""
    fits = isinstance(value, list) and all(isinstance(item, str) and item.strip() for item in value)
    return None if fits else ("no list of names", "write [one, other], or [] for none")


def items(value: Any, keys: Mapping[str, Check], needed: Iterable[str]) -> Iterator[Mistake]:
    """Yield the mistakes of a list of objects; `needed` are the keys that an object has unless it is to go."""
    for place, item in enumerate(value):
        label = f".{item['name']}" if name(item.get("name")) is None else f"[{place}]"
        for key, one in item.items():
            if key not in keys:
                meant = near(str(key), keys)
                hint = f"is {meant} meant?" if meant else f"use {', '.join(keys)}"
                yield f"{label}.{key}", "is not known", hint
                continue
            wrong = keys[key](one)
            if wrong:
                yield f"{label}.{key}", f"{shown(one)} is {wrong[0]}", wrong[1]
        for key in ("name", *(needed if item.get("state") != "absent" else ())):
            if key not in item:
                yield label, f"has no `{key}`", f"add `{key}: ...`"
    for repeated in duplicates(str(item["name"]) for item in value if "name" in item):
        yield f".{repeated}", "is said twice", "remove one of the two"
