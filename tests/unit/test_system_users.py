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

NOVA: dict[str, Any] = {
    "name": "nova",
    "home": "/var/lib/nova",
    "groups": ["libvirt", "brume-tls"],
    "create": True,
    "shell": "/bin/sh",
}
GLANCE: dict[str, Any] = {"name": "glance", "home": "/var/lib/glance", "groups": [], "create": True, "shell": ""}
HAPROXY: dict[str, Any] = {
    "name": "haproxy",
    "home": "/var/lib/haproxy",
    "groups": ["brume-tls"],
    "create": False,
    "shell": "",
}


def test_the_file() -> None:
    assert system_users.text("# header", ["brume-tls"], [NOVA, GLANCE, HAPROXY]) == (
        "# header\n"
        "g brume-tls -\n"
        'u nova - "nova" /var/lib/nova /bin/sh\n'
        "m nova libvirt\n"
        "m nova brume-tls\n"
        'u glance - "glance" /var/lib/glance\n'
        "m haproxy brume-tls\n"
    )


@pytest.mark.parametrize(
    ("users", "groups", "missing"),
    [
        (
            {},
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
            {"nova": "/bin/sh"},
            {"brume-tls": {"nova"}, "libvirt": set()},
            ["add user nova to group libvirt", "add user haproxy to group brume-tls"],
        ),
        ({"nova": "/bin/sh", "haproxy": "/bin/false"}, {"brume-tls": {"nova", "haproxy"}, "libvirt": {"nova"}}, []),
        (
            {"nova": "/usr/sbin/nologin", "haproxy": ""},
            {"brume-tls": {"nova", "haproxy"}, "libvirt": {"nova"}},
            ["set the shell of user nova to /bin/sh"],
        ),
    ],
)
def test_what_is_missing(users: Mapping[str, str], groups: Mapping[str, set[str]], missing: list[str]) -> None:
    assert system_users.changes(["brume-tls"], [NOVA, HAPROXY], Present(users, groups)) == missing


def test_a_primary_group_counts_as_membership() -> None:
    found = system_users.present()
    assert getpass.getuser() in found.users
    assert getpass.getuser() in found.groups[grp.getgrgid(os.getgid()).gr_name]
