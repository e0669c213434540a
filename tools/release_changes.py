#!/usr/bin/env python3
"""Lists what changed between two releases, from their schemas: programs, applications, upgrade checks and options.

It asks no network: the schemas in `roles/<service>/files/schemas` are made with the locks. What the project itself uses
is marked with `*`: programs and applications by the description, options by its trees of settings.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / ".collections")]

from ansible_collections.brume.cloud.plugins.module_utils.description import Service  # noqa: E402
from ansible_collections.brume.cloud.plugins.module_utils.option_schema import Option, Schema, expected  # noqa: E402
from ansible_collections.brume.cloud.plugins.module_utils.sources import Sources, load, settings_key  # noqa: E402


def used_programs(service: Service) -> set[str]:
    """Return the programs and applications that a description names."""
    named = {one.app for one in service.components.values()}
    named |= {one.command[0] for one in service.components.values() if one.command}
    return named | {argv[0] for argvs in service.commands.values() for argv in argvs}


def used_options(service: Service, settings: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> set[tuple[str, str]]:
    """Return section and name of the options that the trees of a service say."""
    trees = {settings_key(service.name, name) for file in service.files.values() for name in file.settings}
    return {
        (section if section == "DEFAULT" else section.lower(), key)
        for name in trees
        for section, keys in settings.get(name, {}).items()
        for key in keys
    }


def names(kind: str, old: Iterable[str], new: Iterable[str], used: set[str]) -> list[str]:
    """Return what is gone and what is new of a kind of names, one a line; those in `used` are marked."""
    before, after = list(old), list(new)
    gone = [("-", one) for one in before if one not in after]
    return [
        f"  {sign}{'*' if one in used else ' '} {kind} {one}"
        for sign, one in [*gone, *(("+", one) for one in after if one not in before)]
    ]


def options(old: Schema, new: Schema, used: set[tuple[str, str]]) -> list[str]:
    """Return the options that are gone, new, deprecated, or of another type, one a line; those in `used` are marked."""
    lines = []
    sections = dict.fromkeys((*old.options, *new.options))
    for section in sorted(sections, key=lambda name: (name != "DEFAULT", name)):
        before, after = old.options.get(section, {}), new.options.get(section, {})
        for key in sorted({*before, *after}):
            change = _change(before.get(key), after.get(key))
            if change:
                mark = "*" if (section, key) in used else " "
                lines.append(f"  {change[0]}{mark} option [{section}] {key}{change[1]}")
    return lines


def _change(before: Option | None, after: Option | None) -> tuple[str, str] | None:
    """Return sign and words for what happened to an option, None where nothing did."""
    if after is None:
        hint = f" (before: use {before['use']})" if before and "use" in before else ""
        return "-", hint
    deprecated = f"deprecated, use {after['use']}" if "use" in after else "deprecated"
    if before is None:
        return "+", f" ({deprecated})" if after.get("deprecated") else ""
    words = [deprecated] if after.get("deprecated") and not before.get("deprecated") else []
    words += ["no longer deprecated"] if before.get("deprecated") and not after.get("deprecated") else []
    if {"choices"} <= {*before} & {*after} and before["type"] == after["type"]:
        words += [f"without {one}" for one in before["choices"] if one not in after["choices"]]
        words += [f"with {one}" for one in after["choices"] if one not in before["choices"]]
    elif expected(before) != expected(after):
        words.append(f"was {expected(before)}, is {expected(after)}")
    return ("~", f": {'; '.join(words)}") if words else None


def changes(service: str, sources: Sources, old: str, new: str) -> list[str]:
    """Return the lines on one service; raises KeyError, with the missing file, where a release has no schema of it."""
    before, after = (_schema(service, sources, release) for release in (old, new))
    described = [one for release in (old, new) if (one := sources.at(release).services.get(service)) is not None]
    programs = set().union(*(used_programs(one) for one in described))
    said = set().union(
        *(used_options(one, sources.at(release).settings) for release in (old, new) for one in described)
    )
    return [
        *names("program", before.programs, after.programs, programs),
        *names("application", before.applications, after.applications, programs),
        *names("check", before.checks, after.checks, set()),
        *options(before, after, said),
    ]


def _schema(service: str, sources: Sources, release: str) -> Schema:
    found = sources.schemas.get(service, {}).get(release)
    if found is None:
        raise KeyError(f"roles/{service}/files/schemas/{release}.json: is missing; make it with tools/schemas.py")
    return found


def main(argv: list[str] | None = None) -> int:
    """Print the changes by service; return 0, or 1 after naming every schema that is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("old", help="OpenStack release, such as 2025.1")
    parser.add_argument("new", help="a later one, such as 2026.1")
    parser.add_argument("service", nargs="*", help="services; all that have schemas when none is named")
    said = parser.parse_intermixed_args(argv)
    sources = load()
    failed = False
    for service in said.service or sorted(name for name, found in sources.schemas.items() if found):
        try:
            lines = changes(service, sources, said.old, said.new)
        except KeyError as error:
            print(error.args[0], file=sys.stderr)
            failed = True
            continue
        print("\n".join([service, *(lines or ["  nothing changed"])]))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
