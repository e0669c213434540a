"""System users of a host: what sysusers.d(5) is told, and which users, groups, memberships and shells are missing.

`changes` is pure; `present` reads the host's own tables.
"""

from __future__ import annotations

import grp
import pwd
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

PATH = "/etc/sysusers.d/brume.conf"


@dataclass(frozen=True)
class Present:
    """Users with their login shells, and groups with their members, that the host has."""

    users: Mapping[str, str]
    groups: Mapping[str, Collection[str]]


def present() -> Present:
    """Return what /etc/passwd and /etc/group (through NSS) hold."""
    users = pwd.getpwall()
    groups = {
        entry.gr_name: {*entry.gr_mem, *(user.pw_name for user in users if user.pw_gid == entry.gr_gid)}
        for entry in grp.getgrall()
    }
    return Present({user.pw_name: user.pw_shell for user in users}, groups)


def text(header: str, groups: Sequence[str], users: Sequence[Mapping[str, Any]]) -> str:
    """Return the file for systemd-sysusers. A user that a package makes (`create` false) gets memberships only."""
    lines = [header, *(f"g {name} -" for name in groups)]
    for user in users:
        if user["create"]:
            lines.append(f'u {user["name"]} - "{user["name"]}" {user["home"]} {user["shell"]}'.rstrip())
        lines += [f"m {user['name']} {group}" for group in user["groups"]]
    return "\n".join(lines) + "\n"


def changes(groups: Sequence[str], users: Sequence[Mapping[str, Any]], found: Present) -> list[str]:
    """Return one sentence for each group, user, membership and shell that is missing."""
    lines = [f"create group {name}" for name in groups if name not in found.groups]
    for user in users:
        if user["create"] and user["name"] not in found.users:
            lines.append(f"create user {user['name']}")
        lines += [
            f"add user {user['name']} to group {group}"
            for group in user["groups"]
            if user["name"] not in found.groups.get(group, ())
        ]
    return lines + [f"set the shell of user {name} to {shell}" for name, shell in shells(users, found).items()]


def shells(users: Sequence[Mapping[str, Any]], found: Present) -> dict[str, str]:
    """Return the shells that users lack who are there already: systemd-sysusers gives one to new users only."""
    return {
        user["name"]: user["shell"]
        for user in users
        if user["shell"] and found.users.get(user["name"], user["shell"]) != user["shell"]
    }
