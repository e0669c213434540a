"""What differs between releases: `since` and `until` in descriptions and settings, resolved before anybody reads them.

A mapping with `since` or `until` is there in those releases only, both ends included. With `value` beside them it
stands for that value; of a list of several such values with one left, that one is meant. So who reads a description or
a tree of settings for a release knows nothing of other releases.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

DEFAULT_RELEASE = "2026.1"
"""What a cloud gets that names no release: the newest that can be upgraded to past the one between (SLURP)."""

NEWEST = (9999,)
BOUNDS = ("since", "until")
_RELEASE = re.compile(r"\d{4}\.[12]")
_GONE = object()


def release_number(name: str) -> tuple[int, ...]:
    """Return a release as it sorts, such as (2026, 1); empty for what is none, such as a development branch."""
    return tuple(int(part) for part in name.split(".")) if re.fullmatch(r"\d+\.\d+", name) else ()


def can_cross(older: str, newer: str) -> bool:
    """Return whether a cloud goes from one release to the other in one step: to the next one, or to the next SLURP.

    Those are the first of a year (docs.openstack.org/project-team-guide: release cadence adjustment).
    """
    (year, number), (other, last) = release_number(older) or (0, 0), release_number(newer) or (0, 0)
    return year > 0 and (other - year, last - number) in ((0, 1), (1, -1), *([(1, 0)] if number == 1 else []))


def of_release(data: Any, release: str) -> Any:
    """Return YAML data as a release has it, None where all of it is of other releases; `data` stays as it is.

    What is no release, such as a development branch, comes after all of them.
    `data` must be without `bound_mistakes`.
    """
    found = _resolved(data, release_number(release) or NEWEST)
    return None if found is _GONE else found


def service_of_release(data: Any, release: str) -> Any:
    """Return a service's description as a release has it, None where it is of other releases.

    Components of other releases are gone from `after`, `files` and `directories` too, and so is what only they have.
    """
    found = of_release(data, release)
    if not isinstance(found, dict):
        return found
    gone = _components(data) - _components(found)
    if not gone:
        return found
    components = {
        name: {**one, "after": _without(one["after"], gone)} if isinstance(one, dict) and "after" in one else one
        for name, one in found["components"].items()
    }
    result = {**found, "components": components}
    if isinstance(found.get("files"), dict):
        kept = ((name, _of_components(one, gone)) for name, one in found["files"].items())
        result["files"] = {name: one for name, one in kept if one is not None}
    restore = found.get("restore")
    if isinstance(restore, dict) and isinstance(restore.get("identities"), dict):
        own = {name: one for name, one in restore["identities"].items() if name not in gone}
        result["restore"] = {**restore, "identities": own}
    if isinstance(found.get("directories"), list):
        result["directories"] = [
            one for one in (_of_components(entry, gone) for entry in found["directories"]) if one is not None
        ]
    return result


def _components(data: Mapping[str, Any]) -> set[str]:
    found = data.get("components")
    return {str(name) for name in found} if isinstance(found, Mapping) else set()


def _without(names: Any, gone: set[str]) -> list[Any]:
    return [name for name in (names if isinstance(names, list) else [names]) if name not in gone]


def _of_components(entry: Any, gone: set[str]) -> Any:
    """Return a file or directory without components that are gone, None where it was for those alone."""
    if not isinstance(entry, dict) or not entry.get("components"):
        return entry
    left = _without(entry["components"], gone)
    return {**entry, "components": left} if left else None


def _resolved(data: Any, release: tuple[int, ...]) -> Any:
    if isinstance(data, Mapping):
        bounds = {key: release_number(data[key]) for key in BOUNDS if key in data}
        if bounds.get("since", release) > release or bounds.get("until", release) < release:
            return _GONE
        if bounds and "value" in data:
            return _resolved(data["value"], release)
        pairs = ((key, _resolved(value, release)) for key, value in data.items() if key not in BOUNDS)
        return {key: value for key, value in pairs if value is not _GONE}
    if isinstance(data, list):
        items = [value for value in (_resolved(item, release) for item in data) if value is not _GONE]
        if len(data) > 1 and all(_is_choice(item) for item in data) and len(items) <= 1:
            return items[0] if items else _GONE
        return items
    return data


def _is_choice(item: Any) -> bool:
    return isinstance(item, Mapping) and "value" in item and any(key in item for key in BOUNDS)


def bound_mistakes(data: Any, path: str = "") -> Iterator[tuple[str, str, str]]:
    """Yield what is wrong with bounds anywhere in YAML data: the key's path, what is wrong, and the remedy."""
    if isinstance(data, list):
        for item in data:
            yield from bound_mistakes(item, path)
    if not isinstance(data, Mapping):
        return
    for key, value in data.items():
        if key not in BOUNDS:
            yield from bound_mistakes(value, f"{path}.{key}" if path else str(key))
    said = {key: data[key] for key in BOUNDS if key in data}
    for key, value in said.items():
        if not isinstance(value, str) or not _RELEASE.fullmatch(value):
            place = f"{path}.{key}" if path else key
            yield place, f"`{value}` is no release", f'write one in quotes, such as "{DEFAULT_RELEASE}"'
            return
    if len(said) == len(BOUNDS) and release_number(said["since"]) > release_number(said["until"]):
        yield path, f"is since {said['since']} until {said['until']}, so in no release", "exchange the two"
    if said and "value" in data and len(data) > len(said) + 1:
        others = ", ".join(sorted(str(key) for key in data if key not in (*BOUNDS, "value")))
        yield path, f"has `value` and {others} too, which would be lost", "write them into the value"
