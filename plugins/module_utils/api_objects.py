"""What modules have in common that keep an API's objects as declared: which are to be, whose they are, how they go."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils.api_session import NOT_FOUND, ApiError, Record, Request
from ansible_collections.brume.cloud.plugins.module_utils.convergence import ConvergenceError, duplicates


def present(item: Mapping[str, Any]) -> bool:
    """Return whether an object is to be there."""
    return bool(item.get("state", "present") != "absent")


def texts(mapping: Mapping[str, Any] | None) -> dict[str, str] | None:
    """Return extra specs or metadata as APIs keep them: strings. YAML's booleans become what services read as one."""
    if mapping is None:
        return None
    return {str(key): str(value).lower() if isinstance(value, bool) else str(value) for key, value in mapping.items()}


def readable(value: Any) -> str:
    """Return an attribute's value as a message shows it."""
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


def named_twice(kind: str, items: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return a line for each name that several objects have."""
    names = duplicates(item["name"] for item in items)
    return [f"{kind} {name}: named more than once; one entry may stay" for name in names]


def project_ids(kind: str, item: Mapping[str, Any], known: Sequence[Record] | None) -> dict[str, str] | None:
    """Return the projects of an object, id -> name as it was written; None where nothing is said.

    Where there is no Keystone yet (`known` is None), a project is as good as its name. Raises ConvergenceError.
    """
    if item.get("projects") is None:
        return None
    found, problems = {}, []
    for text in item["projects"]:
        if known is None:
            found[text] = text
            continue
        fits = [one["id"] for one in known if text in (one["id"], one["name"])]
        label = f"{kind} {item['name']}"
        if len(fits) == 1:
            found[fits[0]] = text
        elif not fits:
            problems.append(f"{label}: there is no project {text}; create it, or take it out of the list")
        else:
            problems.append(f"{label}: {text} is a project of {len(fits)} domains; write the id of the right one")
    if problems:
        raise ConvergenceError("\n".join(problems))
    return found


def delete(send: Request, path: str) -> None:
    """Delete what is at a path; that it is gone already, by an attempt before, is no error."""
    try:
        send("DELETE", path)
    except ApiError as error:
        if error.status != NOT_FOUND:
            raise
