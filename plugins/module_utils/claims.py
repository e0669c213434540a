"""Folders of data that are the project's own on a host.

A package makes its folder of data while it is installed, long before the first unit is recorded as well. So the folder
is claimed before that: what lies in a folder without a claim, and belongs to no recorded unit, was there before.
"""

from __future__ import annotations

from collections.abc import Iterable

from ansible_collections.brume.cloud.plugins.module_utils.convergence import read_marker, write_marker

CLAIMS = "/var/lib/brume/data.json"


def claimed(file: str | None = None) -> frozenset[str]:
    """Return the folders that are claimed; `file` is CLAIMS unless given."""
    paths = read_marker(file or CLAIMS).get("paths")
    return frozenset(str(path) for path in paths) if isinstance(paths, list) else frozenset()


def claim(paths: Iterable[str], file: str | None = None) -> None:
    """Claim folders in addition to those that are; raises OSError."""
    write_marker(file or CLAIMS, {"paths": sorted({*claimed(file), *paths})})
