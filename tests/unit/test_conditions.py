"""Parts of a description that depend on variables: conditions on lists and mappings, and sections of a variable."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from ansible_collections.brume.cloud.plugins.module_utils import sources
from ansible_collections.brume.cloud.plugins.module_utils.description import (
    Problem,
    Service,
    holds,
    read_service,
    settled,
)
from ansible_collections.brume.cloud.plugins.module_utils.plan import Plan, plan
from ansible_collections.brume.cloud.plugins.module_utils.rendering import Renderer
from ansible_collections.brume.cloud.plugins.module_utils.sources import Sources, Variable

from .inventories import AIO, inventory

STORES = {"fast": {"type": "block", "pool": "ssd"}, "slow": {"type": "file"}}

DESCRIPTION: dict[str, Any] = {
    "name": "store",
    "wave": "infrastructure",
    "components": {
        "server": {
            "group": "control",
            "kind": "system",
            "unit": "store@{host}.service",
            "packages": ["store", {"item": "store-block", "when": {"store_ends": {"type": "block"}}}],
            "system_modules": [{"item": "block", "when": {"store_ends": {"type": "block"}}}],
        }
    },
    "files": {
        "store.conf": {
            "settings": ["store"],
            "sections": {"variable": "store_ends", "settings": "ends"},
            "components": ["server"],
        },
        "keys": {
            "settings": ["keys"],
            "components": ["server"],
            "when": {"store_ends": {"type": "block"}},
        },
    },
}
SETTINGS: dict[str, Any] = {
    "store/store": {"DEFAULT": {"enabled": "{{ variables.store_ends | join(',') }}"}},
    "store/keys": {"key": {"value": 1}},
    "store/ends": {
        "block": {"pool": "hdd", "user": "{{ name }}-of-{{ host }}", "place": "{{ item.pool | default('') }}"},
        "file": {"folder": "/srv/{{ name }}"},
    },
}


def described(**more: Any) -> tuple[Service, list[Problem]]:
    return read_service({**DESCRIPTION, **more}, "roles/store/meta/service.yml", "store")


def project() -> Sources:
    base = sources.load()
    service, problems = described()
    assert problems == []
    return dataclasses.replace(
        base,
        services={**base.services, "store": service},
        settings={**base.settings, **SETTINGS},
        variables={**base.variables, "store_ends": Variable("store_ends", "dict", {})},
    )


def planned(ends: dict[str, Any], **more: Any) -> Plan:
    return plan(inventory({**AIO, "store_ends": ends, **more}), project())


def texts(found: Plan) -> dict[str, str]:
    renderer = Renderer(found, project(), lambda name: f"secret-of-{name}")
    return {one.entry.path: one.text for one in renderer.files(found.hosts["aio"], ["store"])}


@pytest.mark.parametrize(
    ("condition", "variables", "wanted"),
    [
        ({"ends": {"type": "block"}}, {"ends": STORES}, True),
        ({"ends": {"type": "block", "pool": "ssd"}}, {"ends": STORES}, True),
        ({"ends": {"type": "file", "pool": "ssd"}}, {"ends": STORES}, False),
        ({"ends": {"type": "tape"}}, {"ends": STORES}, False),
        ({"ends": {"type": "block"}}, {"ends": {}}, False),
        ({"ends": {"type": "block"}}, {"ends": {"fast": "block"}}, False),
        ({"ends": {"type": "block"}}, {}, False),
        ({"names": "b"}, {"names": ["a", "b"]}, True),
        ({"names": "c"}, {"names": ["a", "b"]}, False),
        ({"names": ["a", "b"]}, {"names": ["a", "b"]}, True),
        ({"names": ["a"]}, {"names": ["a", "b"]}, False),
        ({"one": "a"}, {"one": "ab"}, False),
    ],
)
def test_conditions(condition: dict[str, Any], variables: dict[str, Any], wanted: bool) -> None:
    assert holds(condition, variables) is wanted


def test_what_a_cloud_does_not_have_is_left_out() -> None:
    service, _problems = described()
    some, none = settled(service, {"store_ends": STORES}), settled(service, {"store_ends": {"slow": STORES["slow"]}})
    assert some is not None
    assert none is not None
    assert (some.components["server"].packages, none.components["server"].packages) == (
        ("store", "store-block"),
        ("store",),
    )
    assert (some.components["server"].system_modules, none.components["server"].system_modules) == (("block",), ())
    assert (list(some.files), list(none.files)) == (["store.conf", "keys"], ["store.conf"])


def test_each_item_has_a_section_by_its_type() -> None:
    found = texts(planned({**STORES, "own": {"driver": "mine"}}))
    assert found["/etc/store/store.conf"].splitlines()[1:] == [
        "",
        "[DEFAULT]",
        "enabled = fast,slow,own",
        "",
        "[fast]",
        "pool = ssd",
        "user = fast-of-aio",
        "place = ssd",
        "",
        "[own]",
        "driver = mine",
        "",
        "[slow]",
        "folder = /srv/slow",
    ]
    assert set(found) == {"/etc/store/store.conf", "/etc/store/keys"}


def test_the_inventory_has_the_last_word() -> None:
    more = {"brume_config": {"store": {"store.conf": {"fast": {"user": "another", "pool": "nvme"}}}}}
    found = texts(planned(STORES, **more))["/etc/store/store.conf"]
    assert "user = another\n" in found
    assert "pool = nvme\n" in found


def test_options_know_where_they_were_said() -> None:
    found = planned(STORES)
    renderer = Renderer(found, project(), lambda name: name)
    host = found.hosts["aio"]
    entry = next(one for one in host.files if one.name == "store.conf" and one.service == "store")
    layers = renderer.file(host, entry).layers
    assert layers["fast", "pool"] == "group_vars/all.yml: store_ends"
    assert layers["fast", "user"] == "settings store/ends"


def test_a_unit_may_bear_the_name_of_its_host() -> None:
    assert "store@aio.service" in {one.unit for one in planned({}).hosts["aio"].instances}
    wrong = {"group": "control", "kind": "system", "unit": "a{host}.service"}
    _service, problems = described(components={"server": wrong})
    assert [one.where for one in problems if "right form" in one.message] == [
        "roles/store/meta/service.yml: components.server.unit"
    ]


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"settings": "ends"}, "variable: is missing"),
        ({"variable": "store_ends"}, "settings: is missing"),
        ({"variable": "store_ends", "settings": "ends", "each": "x"}, "each: is not a key"),
    ],
)
def test_mistakes_of_sections(sections: dict[str, Any], words: str) -> None:
    file = {"settings": ["store"], "components": ["server"], "sections": sections}
    _service, problems = described(files={"store.conf": file})
    assert [one for one in problems if f"files.store.conf.sections.{words}" in str(one)]


def test_sections_belong_to_settings() -> None:
    file = {"template": "x", "components": ["server"], "sections": DESCRIPTION["files"]["store.conf"]["sections"]}
    _service, problems = described(files={"store.conf": file})
    assert [one.where for one in problems] == ["roles/store/meta/service.yml: files.store.conf.sections"]


def test_a_variable_of_sections_has_to_be_a_mapping() -> None:
    service, _problems = described()
    good = {"store_ends": Variable("store_ends", "dict", {})}
    assert sources.wrong_sections(service, good) == []
    for wrong in ({}, {"store_ends": Variable("store_ends", "list", [])}):
        assert [one.message for one in sources.wrong_sections(service, wrong)] == [
            "`store_ends` is no variable with mappings"
        ]


def test_a_tree_of_types_that_is_missing_is_named() -> None:
    service, _problems = described()
    trees = {name: tree for name, tree in SETTINGS.items() if name != "store/ends"}
    assert [one.message for one in sources.missing_parts(service, trees, {})] == ["`ends` is no tree"]
