"""Whatever stands in an inventory or a description: it is planned and rendered, or explained; nothing else is raised.

`BRUME_FUZZ=5000` runs so many random examples instead of the suite's fixed ones.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from ansible_collections.brume.cloud.plugins.module_utils import inventory_checks, plan_text, run, sources
from ansible_collections.brume.cloud.plugins.module_utils.description import GROUPS, read_service
from ansible_collections.brume.cloud.plugins.module_utils.inventory_data import Inventory, Layer
from ansible_collections.brume.cloud.plugins.module_utils.plan import RULES, VARIABLES, PlanError, plan
from ansible_collections.brume.cloud.plugins.module_utils.rendering import Renderer
from ansible_collections.brume.cloud.plugins.module_utils.secrets import SecretError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .inventories import AIO, IPV6

EXAMPLES = int(os.environ.get("BRUME_FUZZ", "0"))
settings.register_profile(
    "suite",
    max_examples=EXAMPLES or 200,
    derandomize=not EXAMPLES,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
PROFILE = settings.get_profile("suite")

PLAIN = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-2, 70000),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from(
        [
            *(
                "",
                " ",
                "\n",
                "eth0",
                "a" * 300,
                "é",
                "\ud800",
                "{{",
                "{{ 1 / 0 }}",
                "{% for %}",
                "{cell}",
                "{0}",
                "%(x)s",
                "$x",
            ),
            *("192.0.2.11", "192.0.2.255", "192.0.2.0/24", "192.0.2.0/33", "0.0.0.0/0", "::/0", "2001:db8::/64", "::1"),
            *(
                "keystone",
                "nova",
                "nova/api",
                "nova/database",
                "cell1",
                "api",
                "default",
                "management",
                "external",
                "all",
            ),
            *(
                "DEFAULT",
                "debug",
                "nova.conf",
                "{{ secret('x') }}",
                "{{ variables }}",
                "{{ host.x.y }}",
                "{{ 'a' * 9 }}",
            ),
        ]
    ),
)
KEYS = st.one_of(PLAIN, st.sampled_from(["cidr", "vip", "interface", "mtu", "allocation_pool", "gateway", "fqdn"]))
VALUES: st.SearchStrategy[Any] = st.recursive(
    PLAIN,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=3)),
    max_leaves=6,
)

NAMES = st.one_of(
    st.text(min_size=1, max_size=9), st.sampled_from(["DEFAULT", "debug", "enabled_apis", "cells", "libvirt"])
)
RARELY = st.integers(0, 3).map(lambda number: number == 0)
TARGETS = [
    ("options",),
    ("free",),
    ("variables",),
    ("hosts",),
    ("groups",),
    ("options", "free"),
    ("variables", "hosts"),
]

BASES: list[dict[str, Any]] = [
    {
        "variables": {
            **AIO,
            "brume_config": {"nova": {"nova.conf": {"DEFAULT": {"debug": True, "enabled_apis": ["a", "b"]}}}},
            "brume_workers": {"default": 1, "nova": 2, "nova/api": 3},
            "brume_secret_generations": {"nova": 2},
            "brume_cells": ["cell1", "cell2"],
            "brume_interfaces": {"external": "eth1"},
            "brume_region": "here",
            "host_names": {"a.example.org": "192.0.2.77"},
            "host_time_servers": ["time.example.org"],
        },
        "hosts": {"aio": {"brume_addresses": {"management": "192.0.2.11"}, "memcached_memory": 64}},
        "groups": {name: ["aio"] for name in GROUPS if not name.startswith("ceph_")},
    },
    {
        "variables": copy.deepcopy(IPV6),
        "hosts": {
            name: {
                "brume_addresses": {
                    "management": f"2001:db8:1::{number}",
                    "tunnel": f"2001:db8:2::{number}",
                    "api": f"2001:db8:3::{number}",
                }
            }
            for number, name in ((11, "one"), (12, "two"), (13, "three"))
        },
        "groups": {name: ["one", "two", "three"] for name in GROUPS},
    },
]


def places(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of everything inside of a tree."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [place for key, value in items for place in ((*path, key), *places(value, (*path, key)))]


def mutate(draw: Callable[[st.SearchStrategy[Any]], Any], tree: Any) -> Any:
    """Return a copy of a tree with some places replaced, removed, added to or renamed."""
    tree = copy.deepcopy(tree)
    for _time in range(draw(st.sampled_from([1, 1, 1, 2, 4]))):
        path = draw(st.sampled_from(places(tree)))
        parent = tree
        for key in path[:-1]:
            parent = parent[key]
        verb = draw(st.sampled_from(["replace", "remove", "add", "rename", "swap"]))
        if verb == "replace":
            parent[path[-1]] = draw(VALUES)
        elif verb == "remove":
            del parent[path[-1]]
        elif verb == "add" and isinstance(parent, dict):
            parent[draw(KEYS)] = draw(VALUES)
        elif verb == "add":
            parent.append(draw(VALUES))
        elif verb == "rename" and isinstance(parent, dict):
            parent[draw(KEYS)] = parent.pop(path[-1])
        elif verb == "swap":
            other = draw(st.sampled_from(places(tree)))
            value: Any = tree
            for key in other:
                value = value[key]
            parent[path[-1]] = copy.deepcopy(value)
        if not places(tree):
            return tree
    return tree


@st.composite
def inventories(draw: Callable[[st.SearchStrategy[Any]], Any]) -> Inventory:
    """Return an inventory as Ansible could give it: names are strings, groups hold known hosts; values are anything."""
    tree = copy.deepcopy(draw(st.sampled_from(BASES)))
    for target in draw(st.sampled_from(TARGETS)):
        if target == "options":
            tree["variables"]["brume_config"] = {"nova": {"nova.conf": {draw(NAMES): {draw(NAMES): draw(VALUES)}}}}
        elif target == "free":
            tree["variables"]["host_names"] = {draw(PLAIN): draw(VALUES)}
            tree["variables"]["loadbalancer_timeout"] = draw(st.text(max_size=9))
        else:
            tree[target] = mutate(draw, tree[target])
    variables, hosts, groups = tree["variables"], tree["hosts"], tree["groups"]
    extra = draw(st.dictionaries(st.sampled_from(sorted(VARIABLES)), VALUES, max_size=1)) if draw(RARELY) else {}

    def layer(name: str, found: Any) -> Layer:
        return Layer(name, {str(key): value for key, value in found.items()} if isinstance(found, dict) else {})

    layers = {
        str(name): (layer("all", variables), layer(f"host {name}", own), layer("extra", extra))
        for name, own in hosts.items()
    }
    members = {
        str(name): tuple(dict.fromkeys(str(host) for host in found if str(host) in layers))
        for name, found in groups.items()
        if isinstance(found, list)
    }
    return Inventory(layers, members)


def plan_and_render(inventory: Inventory, project: sources.Sources) -> None:
    """Do all that `plan.yml` can do; raises PlanError alone."""
    try:
        found = plan(inventory, project)
        renderer = Renderer(found, project, run.placeholder_vault().value)
        plan_text.summary(found)
        plan_text.explain(found, renderer)
        plan_text.render_all(found, renderer)
        plan_text.data(found, renderer)
    except PlanError as error:
        assert error.problems
        assert all(one.where and one.message and one.remedy for one in error.problems)
        str(error).encode("utf-8", "backslashreplace")


@settings(PROFILE)
@given(inventories())
def test_an_inventory_is_planned_or_explained(inventory: Inventory) -> None:
    plan_and_render(inventory, sources.load())


SERVICES = ("keystone", "nova", "neutron", "mariadb", "rabbitmq", "host")
DESCRIPTIONS = {
    name: yaml.safe_load((sources.COLLECTION / f"roles/{name}/meta/service.yml").read_text(encoding="utf-8"))
    for name in SERVICES
}


@st.composite
def descriptions(draw: Callable[[st.SearchStrategy[Any]], Any]) -> tuple[str, Any]:
    """Return a service's name and a description of it that is not what it was."""
    name = draw(st.sampled_from(SERVICES))
    return name, draw(VALUES) if draw(st.integers(0, 20)) == 0 else mutate(draw, DESCRIPTIONS[name])


@settings(PROFILE)
@given(descriptions())
def test_a_description_is_read_or_explained(described: tuple[str, Any]) -> None:
    name, data = described
    service, problems = read_service(data, f"roles/{name}/meta/service.yml", name)
    assert all(one.where and one.message and one.remedy for one in problems)
    project = sources.load()
    problems += sources.missing_parts(service, project.settings, project.templates)
    changed = {**vars(project), "services": {**project.services, name: service}, "problems": tuple(problems)}
    base = BASES[0]
    layers = {host: (Layer("all", AIO), Layer(f"host {host}", own)) for host, own in base["hosts"].items()}
    plan_and_render(
        Inventory(layers, {group: tuple(found) for group, found in base["groups"].items()}), sources.Sources(**changed)
    )


@settings(PROFILE)
@given(VALUES, VALUES)
def test_a_secret_is_taken_or_explained(key: Any, explicit: Any) -> None:
    found = plan(_good(), sources.load())
    problems = run.secret_problems({"brume_master_key": key, "brume_secrets": explicit}, found)
    assert all(one.where and one.message and one.remedy for one in problems)
    if not problems:
        run.vault({"brume_master_key": key, "brume_secrets": explicit}, {})
    else:
        with pytest.raises(SecretError):
            run.vault({"brume_master_key": key, "brume_secrets": explicit}, {})


def _good() -> Inventory:
    base = BASES[0]
    layers = {host: (Layer("all", AIO), Layer(f"host {host}", own)) for host, own in base["hosts"].items()}
    return Inventory(layers, {group: tuple(found) for group, found in base["groups"].items()})


WORDS = [
    *(
        "a",
        "b: ",
        ": ",
        "? ",
        "- ",
        "\n",
        "  ",
        "\t",
        "{",
        "}",
        "[",
        "]",
        ",",
        "&x ",
        "*x",
        "<<: ",
        "'",
        '"',
        "|\n ",
        "#",
    ),
    *("!!map ", "!!int ", "!!float ", "!!binary ", "!!timestamp ", "!vault ", "!unsafe ", "!!python/object:os.system "),
    *("2026-02-30", "12:61", "0x", "0b", "1e999", ".inf", "=", "---", "...", "%YAML 9.9", "\x00", "\ufeff", "~"),
]


@settings(PROFILE)
@given(
    st.one_of(st.text(max_size=60), st.lists(st.sampled_from(WORDS), max_size=9).map("".join)), st.binary(max_size=40)
)
def test_yaml_is_read_or_explained(text: str, data: bytes) -> None:
    for one in (text, data.decode("utf-8", "replace"), f"a: 1\n{text}", f"? {text}\n: 1\na: {text}"):
        for tags in (False, True):
            try:
                sources.read_yaml(one, tags)
            except yaml.YAMLError as error:
                problem = sources.yaml_problem(error, "file.yml")
                assert problem.where.startswith("file.yml") and problem.message and problem.remedy


@settings(PROFILE)
@given(VALUES, VALUES)
def test_every_rule_takes_any_value_of_its_type(mapping: Any, listed: Any) -> None:
    services, known = sources.load().services, {**VARIABLES, **sources.load().variables}
    for name, rule in RULES.items():
        number = len(str(mapping)) - 3
        items = listed if isinstance(listed, list) else [listed]
        if known[name].elements == "dict":
            items = [one if isinstance(one, dict) else {"x": one} for one in items]
        values = {
            "dict": mapping if isinstance(mapping, dict) else {"x": mapping},
            "str": str(mapping), "int": number, "float": float(number),
        }  # fmt: skip
        value = values.get(known[name].type, items)
        if not inventory_checks.control_mistake(name, value):
            assert all(message and remedy for _place, message, remedy in rule(value, services))
