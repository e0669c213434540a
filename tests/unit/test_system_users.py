"""System users: the file for systemd-sysusers, and what of it is missing on a host."""

from __future__ import annotations

import getpass
import grp
import os
from collections.abc import Mapping
from typing import Any

import pytest
from ansible_collections.brume.cloud.plugins.module_utils import system_users
from ansible_collections.brume.cloud.plugins.module_utils.system_users import Present

NOVA: dict[str, Any] = {"name": "nova", "home": "/var/lib/nova", "groups": ["libvirt", "brume-tls"], "create": True}
HAPROXY: dict[str, Any] = {"name": "haproxy", "home": "/var/lib/haproxy", "groups": ["brume-tls"], "create": False}


def test_the_file() -> None:
    assert system_users.text("# header", ["brume-tls"], [NOVA, HAPROXY]) == (
        "# header\n"
        "g brume-tls -\n"
        'u nova - "nova" /var/lib/nova\n'
        "m nova libvirt\n"
        "m nova brume-tls\n"
        "m haproxy brume-tls\n"
    )


@pytest.mark.parametrize(
    ("users", "groups", "missing"),
    [
        (
            set(),
            {},
            [
                "create group brume-tls",
                "create user nova",
                "add user nova to group libvirt",
                "add user nova to group brume-tls",
                "add user haproxy to group brume-tls",
            ],
        ),
        (
            {"nova"},
            {"brume-tls": {"nova"}, "libvirt": set()},
            ["add user nova to group libvirt", "add user haproxy to group brume-tls"],
        ),
        ({"nova", "haproxy"}, {"brume-tls": {"nova", "haproxy"}, "libvirt": {"nova"}}, []),
    ],
)
def test_what_is_missing(users: set[str], groups: Mapping[str, set[str]], missing: list[str]) -> None:
    assert system_users.changes(["brume-tls"], [NOVA, HAPROXY], Present(users, groups)) == missing


def test_a_primary_group_counts_as_membership() -> None:
    found = system_users.present()
    assert getpass.getuser() in found.users
    assert getpass.getuser() in found.groups[grp.getgrgid(os.getgid()).gr_name]
