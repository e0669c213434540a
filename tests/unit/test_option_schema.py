"""Options are checked against the release's own schema: by small ones here, and by those of the repository."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.brume.cloud.plugins.module_utils.locks import lock_digest
from ansible_collections.brume.cloud.plugins.module_utils.option_schema import (
    Finding,
    NamedSections,
    Schema,
    check,
    expected,
    is_multi,
    load,
)

ROOT = Path(__file__).resolve().parent.parent.parent
SCHEMAS = sorted(ROOT.glob("roles/*/files/schemas/*.json"))


def real(service: str) -> Schema:
    schema = load(ROOT / f"roles/{service}/files/schemas/2026.1.json")
    assert schema is not None
    return schema


def one(**option: Any) -> Schema:
    return Schema("2026.1", "", {"DEFAULT": {"key": option}})


STRING = {"type": "string"}
SMALL = Schema(
    "2026.1",
    "",
    {
        "DEFAULT": {"enabled_backends": {"type": "dict"}, "debug": {"type": "boolean"}},
        "store": {"path": STRING, "paths": {"type": "multi"}, "chunk": {"type": "integer"}},
        "database": {"connection": {"type": "uri", "secret": True}, "old": {**STRING, "deprecated": True}},
        "agent": {"was": {**STRING, "deprecated": True, "use": "[store] path"}},
    },
    (NamedSections("DEFAULT", "enabled_backends", "store", ("os_staging",)),),
)


@pytest.mark.parametrize(
    ("option", "good", "bad"),
    [
        ({"type": "boolean"}, [True, False, "True", "on", 1, "0"], ["ture", 2, "", [True, False]]),
        ({"type": "integer"}, [1, "1", -5, " 7 ", ""], [True, "1.5", 1.5, "many", [1, 2]]),
        ({"type": "integer", "min": 1, "max": 5}, [1, 5, "3"], [0, 6, "-1"]),
        ({"type": "integer", "choices": [4, 6]}, [4, "6"], [5, "x"]),
        ({"type": "float", "min": 0}, [0, 1.5, "2"], [-0.1, "x", True]),
        ({"type": "port", "min": 0, "max": 65535}, [0, 8774, "65535"], [65536, -1, "http"]),
        (STRING, ["", "x", 1, True, ["a", "b"]], [{"a": 1}]),
        ({"type": "string", "choices": ["file", "", None]}, ["file", ""], ["swift", "File", ["file", "file"]]),
        ({"type": "string", "choices": ["file", None]}, ["file"], ["", "None"]),
        ({"type": "string", "choices": ["Allow", "deny"], "ignore_case": True}, ["ALLOW", "Deny"], ["reject"]),
        ({"type": "list"}, ["", "a,b", ["a", 1], 5, {"a": 1}], []),
        (
            {"type": "list", "items": {**STRING, "regex": "^tcp:"}},
            ["tcp:a", "tcp:a,", ["tcp:a", "tcp:b"]],
            ["x:a", "a,tcp:b", "tcp:a,,x"],
        ),
        ({**STRING, "regex": "^(hour|day)$"}, ["hour"], ["week", "hourly"]),
        ({"type": "list", "items": {"type": "integer"}}, ["1,2", [1, 2], 3, "", "1,2,"], ["1,x", [1, "x"], "1,,x"]),
        ({"type": "list", "bounds": True}, ["[a,b]", "[]"], ["a,b", ["a", "b"], "[a"]),
        ({"type": "list", "items": {"type": "dict"}}, ["a:1", "a:1,b:2"], ["a", "a:1,b"]),
        ({"type": "dict"}, [{"a": 1}, "a:1,b:2", "a:1,2,b:3", "", {}], ["a", ":1", ["a", "b"]]),
        ({"type": "dict", "items": {"type": "integer"}}, [{"a": 1}, "a:1"], [{"a": "x"}, "a:1,b:x"]),
        ({"type": "dict", "separator": "="}, ["a=1"], ["a:1", {"a": 1}]),
        ({"type": "dict", "bounds": True}, ["{a:1}"], ["a:1", {"a": 1}]),
        ({"type": "multi"}, ["x", ["x", "y,z"], 1, []], [{"a": 1}, ["x", {"a": 1}]]),
        ({"type": "multi", "items": {"type": "integer"}}, [1, [1, "2"]], [[1, "x"], "1,2"]),
        ({"type": "multi", "items": {"type": "dict"}}, [{"a": 1}, [{"a": 1}, "b:2"]], ["a"]),
        ({"type": "ipaddress"}, ["192.0.2.1", "2001:db8::1"], ["192.0.2", "host", "[2001:db8::1]"]),
        (
            {"type": "hostname"},
            ["a.example.org", "h-1", "a.example.org."],
            ["a_b", "-a", "192.0.2.1", "a..b", "", "a" * 64, ".".join(["a" * 63] * 5)],
        ),
        ({"type": "hostaddress"}, ["192.0.2.1", "2001:db8::1", "a.example.org"], ["192.0.2.300", "a_b", "a b"]),
        ({"type": "hostdomain"}, ["a_b.example.org", "192.0.2.1"], ["a b"]),
        ({"type": "uri"}, ["https://a.example.org/v3", "rabbit://u:p@h:5671/v"], ["a.example.org", "https://"]),
        ({"type": "range"}, ["1-5", 7, "9-1"], ["1..5", "a-b"]),
        ({"type": "any"}, [1, "x", [1], {"a": 1}], []),
    ],
)
def test_types(option: dict[str, Any], good: list[Any], bad: list[Any]) -> None:
    for value in good:
        assert check(one(**option), {"DEFAULT": {"key": value}}) == [], value
    for value in bad:
        findings = check(one(**option), {"DEFAULT": {"key": value}})
        assert [finding.level for finding in findings] == ["error"], value
        assert findings[0].expected == f"expected {expected(option)}"


def test_a_reference_to_another_option_is_left_to_the_service() -> None:
    assert check(one(type="integer"), {"DEFAULT": {"key": "$other"}}) == []


def test_a_removed_key_is_no_finding() -> None:
    assert check(one(type="boolean"), {"DEFAULT": {"key": None}}) == []


def test_an_error_names_place_value_and_what_is_expected() -> None:
    (finding,) = check(one(type="integer", min=1), {"DEFAULT": {"key": "x"}})
    assert finding == Finding("error", "DEFAULT", "key", "expected integer from 1", "x")
    assert finding.text == "[DEFAULT] key: `x` is wrong; expected integer from 1"


def test_a_secret_is_not_shown() -> None:
    (finding,) = check(SMALL, {"database": {"connection": "hunter2"}})
    assert finding.level == "error"
    assert "hunter2" not in repr(finding) + finding.text


def test_unknown_options_and_sections_are_warnings_without_values() -> None:
    findings = check(SMALL, {"store": {"pth": "hunter2"}, "stor": {"a": "hunter2", "b": 1}, "new": {"x": 1}})
    assert [(one.level, one.section, one.key) for one in findings] == [
        ("warning", "store", "pth"),
        ("warning", "stor", ""),
        ("warning", "new", ""),
    ]
    assert findings[0].text == "[store] pth: unknown option; is `path` meant?"
    assert findings[1].text == "[stor]: unknown section; is `store` meant?"
    assert findings[2].text == "[new]: unknown section"
    assert "hunter2" not in repr(findings)


def test_a_deprecated_option_is_a_warning_with_the_new_name() -> None:
    findings = check(SMALL, {"agent": {"was": "x"}, "database": {"old": "x"}})
    assert [one.text for one in findings] == [
        "[agent] was: deprecated; use [store] path",
        "[database] old: deprecated; it will be removed",
    ]


def test_names_compare_as_oslo_config_compares_them() -> None:
    assert [one.level for one in check(SMALL, {"STORE": {"chunk": "x"}})] == ["error"]
    assert [one.key for one in check(SMALL, {"default": {"debug": True}})] == [""]
    hyphen = Schema("", "", {"a": {"x_y": {"type": "integer"}}})
    assert [one.level for one in check(hyphen, {"a": {"x-y": "z"}})] == ["error"]


@pytest.mark.parametrize("value", ["fast:file, Slow:rbd", {"fast": "file", "Slow": "rbd"}, ["fast:file", "Slow:rbd"]])
def test_sections_that_an_option_names_hold_the_options_of_their_model(value: Any) -> None:
    tree = {"DEFAULT": {"enabled_backends": value}}
    assert check(SMALL, {**tree, "fast": {"chunk": 1}, "slow": {"path": "x"}, "os_staging": {"path": "x"}}) == []
    findings = check(SMALL, {**tree, "fast": {"chunk": "x"}, "slow": {"y": 1}, "other": {"path": "x"}})
    assert [(one.level, one.section) for one in findings] == [
        ("error", "fast"),
        ("warning", "slow"),
        ("warning", "other"),
    ]


def test_multi() -> None:
    assert is_multi(SMALL, "store", "paths")
    assert is_multi(SMALL, "STORE", "paths")
    assert is_multi(SMALL, "named-by-an-option", "paths")
    assert is_multi(Schema("", "", {"a": {"x_y": {"type": "multi"}}}), "A", "x-y")
    assert not is_multi(SMALL, "store", "path")
    assert not is_multi(SMALL, "database", "paths")
    assert not is_multi(SMALL, "store", "unknown")


def test_nothing_is_known_of_the_files_of_a_service_without_options() -> None:
    tree = {"DEFAULT": {"bind_port": "many"}, "filter:cache": {"use": "egg:swift#memcache"}}
    assert check(dataclasses.replace(SMALL, options={}), tree) == []
    assert check(SMALL, tree) != []


def test_no_file_is_no_schema(tmp_path: Path) -> None:
    assert load(tmp_path / "none.json") is None


@pytest.mark.parametrize("text", ["{", "[]", '{"release": "2026.1"}'])
def test_a_broken_file_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "2026.1.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"2026\.1\.json: is no option schema .* tools/schemas\.py"):
        load(path)


def test_there_are_schemas() -> None:
    assert SCHEMAS


@pytest.mark.parametrize("path", SCHEMAS, ids=lambda path: f"{path.parts[-4]}-{path.stem}")
def test_a_schema_was_made_from_the_lock_beside_it(path: Path) -> None:
    schema = load(path)
    assert schema is not None
    assert schema.release == path.stem
    lock = path.parents[1] / f"locks/{path.stem}.txt"
    assert schema.lock == lock_digest(lock.read_text("utf-8"))


@pytest.mark.parametrize("path", SCHEMAS, ids=lambda path: f"{path.parts[-4]}-{path.stem}")
def test_every_type_of_a_schema_has_words_and_a_rule(path: Path) -> None:
    schema = load(path)
    assert schema is not None
    for section, options in schema.options.items():
        for key, option in options.items():
            assert expected(option)
            check(schema, {section: {key: "x"}})
            if "choices" in option and None not in option["choices"]:
                values = dict.fromkeys(map(str, option["choices"]))
                assert all(not _errors(schema, {section: {key: value}}) for value in values), (section, key)


def _errors(schema: Schema, tree: dict[str, dict[str, Any]]) -> list[Finding]:
    return [one for one in check(schema, tree) if one.level == "error"]


LOGIN = {
    "auth_type": "password",
    "auth_url": "https://cloud.example.org:5000/v3",
    "username": "x",
    "password": "y",
    "user_domain_name": "Default",
    "project_name": "service",
    "project_domain_name": "Default",
    "region_name": "RegionOne",
    "cafile": "/etc/brume/ca.crt",
}


@pytest.mark.parametrize(
    ("service", "tree"),
    [
        ("keystone", {"fernet_tokens": {"max_active_keys": 3}, "cache": {"enabled": True, "memcache_servers": "a:1"}}),
        ("glance", {"keystone_authtoken": LOGIN, "os_glance_tasks_store": {"filesystem_store_datadir": "/x"}}),
        (
            "glance",
            {
                "DEFAULT": {"enabled_backends": "fast:file"},
                "fast": {"filesystem_store_datadirs": ["/a:200", "/b:100"], "rbd_store_chunk_size": 8},
            },
        ),
        ("placement", {"keystone_authtoken": LOGIN, "placement_database": {"connection": "mysql+pymysql://x"}}),
        ("nova", {"placement": LOGIN, "neutron": LOGIN, "service_user": {**LOGIN, "send_service_user_token": True}}),
        ("nova", {"pci": {"device_spec": ['{"vendor_id": "8086"}', "{}"]}, "nova_sys_admin": {"user": "root"}}),
        ("neutron", {"nova": LOGIN, "ml2": {"mechanism_drivers": ["openvswitch"]}, "privsep_link": {"user": "root"}}),
        ("neutron", {"OVS": {"bridge_mappings": {"physnet1": "br-ex"}}, "oslo_messaging_rabbit": {"ssl": True}}),
    ],
)
def test_what_operators_write_is_known(service: str, tree: dict[str, dict[str, Any]]) -> None:
    findings = check(real(service), tree)
    # [service_user] takes no region; deprecated is what upstream says of a key that is known.
    assert [one.text for one in findings if one.key != "region_name" and "deprecated" not in one.expected] == []


def test_real_types() -> None:
    tree = {
        "conductor": {"workers": "many"},
        "libvirt": {"virt_type": "vmware"},
        "vnc": {"enabled": "maybe"},
    }
    assert [one.key for one in _errors(real("nova"), tree)] == ["workers", "virt_type", "enabled"]
    assert is_multi(real("nova"), "pci", "alias")
    assert is_multi(real("glance"), "any_store", "filesystem_store_datadirs")
    assert is_multi(real("neutron"), "service_providers", "service_provider")
    assert not is_multi(real("neutron"), "ml2", "mechanism_drivers")
    assert [one.level for one in check(real("glance"), {"DEFAULT": {"enabled_import_methods": ["web-download"]}})] == [
        "error"
    ]
