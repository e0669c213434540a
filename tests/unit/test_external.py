"""A database, a broker and a load balancer of somebody else: planned, rendered, and refused where it cannot be."""

from __future__ import annotations

import configparser
import re
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.brume.cloud.plugins.module_utils import external, plan_text, run, sources
from ansible_collections.brume.cloud.plugins.module_utils.plan import Plan, PlanError, plan
from ansible_collections.brume.cloud.plugins.module_utils.rendering import Renderer

from .goldens import golden, golden_section, sections
from .inventories import AIO, inventory

DATABASE = {"host": "db.example.org", "ca_file": "/etc/ssl/db.pem", "accounts": {"nova_api": "os_nova_api"}}
MESSAGING = {
    "hosts": ["mq1.example.org", "192.0.2.92"],
    "port": 5674,
    "ca_file": "/etc/ssl/mq.pem",
    "accounts": {"nova": "os_nova"},
}
LOADBALANCER = {"internal": "2001:db8::5", "public": "cloud.example.org", "ca_file": "/etc/ssl/lb.pem"}
ALL = {"database": DATABASE, "messaging": MESSAGING, "loadbalancer": LOADBALANCER}
UNITS = {"database": {"mariadb.service"}, "messaging": {"rabbitmq-server.service", "epmd.socket"}}


def planned(parts: dict[str, Any], **groups: list[str] | None) -> Plan:
    """Return the plan of a cloud on one host with external infrastructure, whose groups are not there."""
    without: dict[str, list[str] | None] = dict.fromkeys(parts)
    return plan(inventory(AIO | {"brume_external": parts}, groups=without | groups), sources.load())


def texts(found: Plan) -> dict[str, str]:
    """Return the files of the host by path."""
    renderer = Renderer(found, sources.load(), lambda name: f"<{name}>")
    return {one.entry.path: one.text for one in renderer.files(found.hosts["aio"], list(found.cloud.services))}


def options(text: str) -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser(strict=False)
    parser.read_string(text)
    return parser


def test_all_is_external() -> None:
    golden("external.txt", "\n".join(plan_text.summary(planned(ALL))) + "\n")


@pytest.mark.parametrize("group", ALL)
def test_a_group_that_is_external_runs_nothing(group: str) -> None:
    found = planned({group: ALL[group]})
    units = {one.unit for one in found.hosts["aio"].instances}
    ports = {one.port for one in found.hosts["aio"].ports}
    for name, expected in UNITS.items():
        assert (expected & units) == (set() if name == group else expected)
    assert bool({frontend.port for frontend in found.cloud.frontends} & ports) == (group != "loadbalancer")


def test_an_empty_group_is_as_good_as_none() -> None:
    assert planned({"database": DATABASE}, database=[]).cloud.members["database"] == ()


def test_urls_lead_to_what_is_external() -> None:
    found = texts(planned(ALL))
    nova = options(found["/etc/nova/nova.conf"])
    tail = "charset=utf8mb4&ssl_ca=/etc/ssl/db.pem&ssl_check_hostname=true"
    assert nova["api_database"]["connection"] == (
        f"mysql+pymysql://os_nova_api:<nova/database/nova_api>@db.example.org:3306/nova_api?{tail}"
    )
    login = "os_nova:<nova/messaging/nova>"
    assert nova["DEFAULT"]["transport_url"] == f"rabbit://{login}@mq1.example.org:5674,{login}@192.0.2.92:5674/nova"
    assert nova["oslo_messaging_rabbit"]["ssl_ca_file"] == "/etc/ssl/mq.pem"
    assert nova["keystone_authtoken"]["auth_url"] == "https://[2001:db8::5]:5000/v3"
    assert nova["keystone_authtoken"]["www_authenticate_uri"] == "https://cloud.example.org:5000/v3"
    assert nova["glance"]["cafile"] == nova["service_user"]["cafile"] == "/etc/ssl/lb.pem"
    agent = options(found["/etc/neutron/metadata_agent.ini"])
    assert agent["DEFAULT"]["nova_metadata_host"] == "2001:db8::5"
    assert agent["DEFAULT"]["auth_ca_cert"] == "/etc/ssl/lb.pem"


def test_no_file_has_the_own_authority_or_server_of_what_is_external() -> None:
    for path, text in texts(planned(ALL)).items():
        assert "/etc/brume/ca.crt" not in text, path
        assert "192.0.2.11:3306" not in text, path
        assert ":5671" not in text, path


def test_what_an_external_load_balancer_forwards_to_is_listened_on() -> None:
    """Not on loopback, although it is one host that has everything."""
    found = planned({"loadbalancer": LOADBALANCER})
    listening = {(one.address, one.port) for one in found.hosts["aio"].ports}
    servers = {(server.host, server.port) for frontend in found.cloud.frontends for server in frontend.servers}
    assert ("192.0.2.11", 15000) in servers
    assert servers <= listening


def test_no_task_needs_a_group_that_may_be_external() -> None:
    """Where a group is not in the inventory, it is not in Ansible's `groups` either."""
    root = Path(__file__).resolve().parents[2]
    for path in (*root.glob("playbooks/*.yml"), *root.glob("roles/*/tasks/*.yml")):
        for line in path.read_text(encoding="utf-8").splitlines():
            found = re.search(r"""groups(\.|\[['"])(database|messaging|loadbalancer)\b""", line)
            assert not found or "default([])" in line, f"{path.name}: {line.strip()}"


def test_what_the_load_balancer_needs_follows_from_its_internal_name() -> None:
    found = planned({"loadbalancer": {"internal": "lb.example.org"}})
    assert found.cloud.internal_host == found.cloud.public_host == "lb.example.org"
    assert options(texts(found)["/etc/nova/nova.conf"])["glance"]["cafile"] == "/etc/ssl/certs/ca-certificates.crt"


def test_generations_do_not_rename_accounts_that_others_made() -> None:
    parts = {"database": DATABASE, "messaging": MESSAGING}
    groups: dict[str, list[str] | None] = dict.fromkeys(parts)
    said = AIO | {"brume_external": parts, "brume_secret_generations": {"default": 3}}
    found = plan(inventory(said, groups=groups), sources.load())
    assert {one.account for one in found.cloud.databases} >= {"keystone", "os_nova_api"}
    assert {(one.account, one.former) for one in found.cloud.vhosts} >= {("os_nova", ())}
    assert {one.name for one in found.cloud.logins} >= {"nova_3"}


def test_passwords_of_external_accounts_are_asked_for() -> None:
    found = planned({"messaging": MESSAGING})
    given = {"nova/messaging/nova": "a-password-of-theirs"}
    variables = {"brume_master_key": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=", "brume_secrets": given}
    assert [str(one) for one in run.secret_problems(variables, found)] == [
        f"brume_secrets.{name}: is missing, and the broker is external; give the password of its account {account}"
        for name, account in (("nova/messaging/nova_cell1", "nova_cell1"), ("neutron/messaging/neutron", "neutron"))
    ]
    assert run.secret_problems({**variables, "brume_secrets": None}, planned({"loadbalancer": LOADBALANCER})) == []
    assert [one.where for one in run.secret_problems({**variables, "brume_secrets": None}, found)] == [
        "brume_secrets.nova/messaging/nova",
        "brume_secrets.nova/messaging/nova_cell1",
        "brume_secrets.neutron/messaging/neutron",
    ]


def test_the_inventory_of_a_cloud_without_anything_external_says_nothing_of_it() -> None:
    assert plan(inventory(AIO), sources.load()).cloud.external == external.External()


FILE = "bad-external.txt"
KINDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "unknown part": ({"compute": {}}, {}),
    "part that is no mapping": ({"database": "db.example.org"}, {}),
    "unknown key": ({"database": DATABASE | {"hosts": ["db"]}}, {}),
    "administrator": ({"database": DATABASE | {"administrator": "root"}}, {}),
    "no host": ({"database": {}, "messaging": {}, "loadbalancer": {}}, {}),
    "host that is none": ({"database": DATABASE | {"host": "tcp://db"}}, {}),
    "host that is a part of an address": ({"database": DATABASE | {"host": "192.0.2"}}, {}),
    "host that is loopback": ({"database": DATABASE | {"host": "127.0.0.1"}}, {}),
    "host that is localhost": ({"loadbalancer": LOADBALANCER | {"public": "localhost"}}, {}),
    "hosts that are no list": ({"messaging": MESSAGING | {"hosts": "mq1"}}, {}),
    "no hosts": ({"messaging": MESSAGING | {"hosts": []}}, {}),
    "a host twice": ({"messaging": MESSAGING | {"hosts": ["mq1", "mq1"]}}, {}),
    "port that is none": ({"messaging": MESSAGING | {"port": 0}, "database": DATABASE | {"port": "3306"}}, {}),
    "file that is no path": ({"database": DATABASE | {"ca_file": "db.pem"}}, {}),
    "file with a character of URLs": ({"database": DATABASE | {"ca_file": "/etc/db&1.pem"}}, {}),
    "accounts that are no mapping": ({"database": DATABASE | {"accounts": ["nova"]}}, {}),
    "account of an unknown database": ({"database": DATABASE | {"accounts": {"nova_ap": "a", "swift": "b"}}}, {}),
    "account of an unknown vhost": ({"messaging": MESSAGING | {"accounts": {"cinder": "b"}}}, {}),
    "account that needs quoting": ({"database": DATABASE | {"accounts": {"nova_api": "nova@api"}}}, {}),
    "group that has hosts": ({"database": DATABASE}, {"groups": {"database": ["aio"]}}),
    "vip of an external load balancer": (
        {"loadbalancer": LOADBALANCER},
        {"networks": {"management": {"cidr": "192.0.2.0/24", "interface": "eth0", "vip": "192.0.2.5"}}},
    ),
    "name of an external load balancer": (
        {"loadbalancer": LOADBALANCER},
        {"networks": {"api": {"cidr": "203.0.113.0/24", "interface": "eth2", "fqdn": "cloud.example.org"}}},
    ),
    "generation of an external account": (
        {"database": DATABASE},
        {"variables": {"brume_secret_generations": {"nova/database": 2, "nova/messaging": 2}}},
    ),
    "neither hosts nor an external one": ({"database": DATABASE}, {"groups": {"messaging": None}}),
}


def messages(kind: str) -> str:
    parts, more = KINDS[kind]
    without: dict[str, Any] = dict.fromkeys(name for name in parts if name in ALL)
    said = AIO | {"brume_external": parts} | more.get("variables", {})
    said["brume_networks"] = said["brume_networks"] | more.get("networks", {})
    with pytest.raises(PlanError) as caught:
        plan(inventory(said, groups=without | more.get("groups", {})), sources.load())
    return str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_a_mistake_is_explained(kind: str) -> None:
    golden_section(FILE, kind, messages(kind), KINDS)


def test_no_kind_is_left_over() -> None:
    assert list(sections(FILE)) == list(KINDS)
