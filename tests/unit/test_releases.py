"""What differs between releases: how it is said, and that plans and files of each release hold what it has."""

from __future__ import annotations

import copy
import importlib.metadata
import itertools
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.brume.cloud.plugins.action import unit_rollout
from ansible_collections.brume.cloud.plugins.module_utils import certificates, plan_text, sources
from ansible_collections.brume.cloud.plugins.module_utils.description import GROUPS, Service, read_service
from ansible_collections.brume.cloud.plugins.module_utils.option_schema import Schema, check
from ansible_collections.brume.cloud.plugins.module_utils.plan import Plan, PlanError, plan
from ansible_collections.brume.cloud.plugins.module_utils.plan_action import Slice
from ansible_collections.brume.cloud.plugins.module_utils.releases import (
    DEFAULT_RELEASE,
    bound_mistakes,
    can_cross,
    of_release,
    release_number,
    service_of_release,
)
from ansible_collections.brume.cloud.plugins.module_utils.rendering import Renderer
from ansible_collections.brume.cloud.plugins.module_utils.secrets import Vault

from tools import release_changes, service_options

from .goldens import golden
from .inventories import AIO, committed, inventory

ROOT = Path(__file__).resolve().parents[2]
SERVICES = ("glance", "keystone", "neutron", "nova", "placement")
RELEASES = sorted({path.stem for path in ROOT.glob("roles/*/files/locks/*.txt")})
LATER: Any = {"since": "2026.1", "value": "new"}
EARLIER: Any = {"until": "2025.2", "value": "old"}


@pytest.mark.parametrize(
    ("data", "old", "new"),
    [
        ({"a": 1, "b": [1, {"c": None}]}, {"a": 1, "b": [1, {"c": None}]}, {"a": 1, "b": [1, {"c": None}]}),
        ({"a": LATER, "b": EARLIER, "c": 1}, {"b": "old", "c": 1}, {"a": "new", "c": 1}),
        ({"a": {"since": "2026.1", "b": 1}}, {}, {"a": {"b": 1}}),
        ({"a": {"since": "2025.1", "until": "2025.1", "b": 1}}, {"a": {"b": 1}}, {}),
        ({"a": {"until": "2026.1", "value": {"b": LATER}}}, {"a": {}}, {"a": {"b": "new"}}),
        ({"a": [EARLIER, LATER]}, {"a": "old"}, {"a": "new"}),
        ({"a": [{"until": "2025.2", "value": ["x", "y"]}, LATER]}, {"a": ["x", "y"]}, {"a": "new"}),
        ({"a": [LATER]}, {"a": []}, {"a": ["new"]}),
        ({"a": ["x", LATER]}, {"a": ["x"]}, {"a": ["x", "new"]}),
        ({"a": [{"item": "x", "when": 1, "since": "2026.1"}]}, {"a": []}, {"a": [{"item": "x", "when": 1}]}),
        ({"a": [{"since": "2025.1", "value": 1}, {"since": "2025.1", "value": 2}]}, {"a": [1, 2]}, {"a": [1, 2]}),
        ({"until": "2025.2", "a": 1}, {"a": 1}, None),
        ({"a": {"value": 1, "other": 2}}, {"a": {"value": 1, "other": 2}}, {"a": {"value": 1, "other": 2}}),
    ],
)  # fmt: skip
def test_data_is_what_a_release_has_of_it(data: Any, old: Any, new: Any) -> None:
    before = copy.deepcopy(data)
    assert of_release(data, "2025.1") == old
    assert of_release(data, "2026.1") == new
    assert data == before


def test_a_development_branch_comes_after_all_releases() -> None:
    assert of_release({"a": LATER, "b": EARLIER}, "master") == {"a": "new"}


@pytest.mark.parametrize(
    ("older", "newer", "possible"),
    [
        ("2026.1", "2026.2", True),
        ("2025.1", "2025.2", True),
        ("2025.2", "2026.1", True),
        ("2025.1", "2026.1", True),
        ("2025.2", "2026.2", False),
        ("2024.1", "2026.1", False),
        ("2025.1", "2026.2", False),
        ("2026.1", "2025.1", False),
        ("2026.1", "2026.1", False),
        ("master", "2026.1", False),
        ("2026.1", "master", False),
    ],
)
def test_a_step_goes_to_the_next_release_or_the_next_slurp(older: str, newer: str, possible: bool) -> None:
    assert can_cross(older, newer) == possible


def test_releases_compare_as_numbers() -> None:
    assert release_number("2026.10") > release_number("2026.2")
    assert release_number("master") == ()


SERVICE: dict[str, Any] = {
    "name": "two",
    "components": {
        "api": {
            "group": "control",
            "kind": "wsgi",
            "app": [{"value": "two.old:app", "until": "2025.2"}, {"value": "two.new:app", "since": "2026.1"}],
            "port": 6001,
            "environment": {"TWO_THREADS": {"value": "1", "since": "2026.1"}},
            "after": "worker",
        },
        "worker": {
            "group": ["control", {"value": "compute", "since": "2026.1"}],
            "command": [
                {"value": ["two-server", "--worker"], "until": "2025.2"},
                {"value": "two-worker", "since": "2026.1"},
            ],
        },
        "agent": {"group": "compute", "command": ["two-agent"], "after": ["worker"], "until": "2025.2"},
        "late": {"group": "compute", "command": ["two-late"], "after": ["agent", "api"], "since": "2025.1"},
    },
    "directories": [
        {"path": "/a", "components": ["agent"]},
        {"path": "/b", "components": ["agent", "late"]},
        {"path": "/c"},
    ],
    "files": {
        "two.conf": {"settings": ["two", {"value": "more", "since": "2026.1"}], "components": ["api", "agent"]},
        "agent.conf": {"settings": ["agent"], "components": "agent"},
    },
    "restore": {
        "identities": {
            one: {"file": f"/{one}", "table": "hosts", "host": "host", "identity": "uuid"} for one in ("agent", "late")
        }
    },
    "python": {"packages": ["two", {"value": "threads", "since": "2026.1"}]},
}


def described(release: str) -> Service:
    service, problems = read_service(service_of_release(SERVICE, release), "service.yml", "two")
    assert problems == []
    return service


def test_a_service_is_what_a_release_has_of_it() -> None:
    assert list(bound_mistakes(SERVICE)) == []
    old, new = described("2025.1"), described("2026.1")
    assert (old.components["api"].app, new.components["api"].app) == ("two.old:app", "two.new:app")
    assert (old.components["api"].environment, new.components["api"].environment) == ({}, {"TWO_THREADS": "1"})
    assert (old.components["worker"].groups, new.components["worker"].groups) == (("control",), ("control", "compute"))
    assert old.components["worker"].command == ("two-server", "--worker")
    assert new.components["worker"].command == ("two-worker",)
    assert (old.files["two.conf"].settings, new.files["two.conf"].settings) == (("two",), ("two", "more"))
    assert (old.python_packages, new.python_packages) == (("two",), ("two", "threads"))


def test_a_component_of_other_releases_is_named_nowhere() -> None:
    old, new = described("2025.1"), described("2026.1")
    assert list(old.components) == ["api", "worker", "agent", "late"]
    assert list(new.components) == ["api", "worker", "late"]
    assert (old.components["late"].after, new.components["late"].after) == (("agent", "api"), ("api",))
    assert list(old.files) == ["two.conf", "agent.conf"]
    assert list(new.files) == ["two.conf"]
    assert new.files["two.conf"].components == ("api",)
    assert [one.component for one in old.restore.identities] == ["agent", "late"]
    assert [one.component for one in new.restore.identities] == ["late"]
    assert [one.path for one in old.directories] == ["/a", "/b", "/c"]
    assert [(one.path, one.components) for one in new.directories] == [("/b", ("late",)), ("/c", ())]


PROJECT = """name: {name}
wave: identity
components:
  api: {{group: control, kind: wsgi, app: "{name}:application", port: {port}, health: /}}
files: {{{name}.conf: {{settings: [{name}], components: [api]}}}}
python: {{packages: [{name}]}}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a project of a service of all releases and of one that came with 2026.1."""
    for name, port, more in (("one", 6000, ""), ("two", 6001, "since: '2026.1'\n")):
        role = tmp_path / "roles" / name
        for folder in ("meta", "settings", "files/locks", "tasks"):
            (role / folder).mkdir(parents=True)
        (role / "meta/service.yml").write_text(PROJECT.format(name=name, port=port) + more, "utf-8")
        (role / f"settings/{name}.yml").write_text(
            "DEFAULT: {first: {until: '2025.2', value: 1}, second: {since: '2026.1', value: 2}}\n", "utf-8"
        )
        (role / "tasks/register.yml").write_text("[]\n", "utf-8")
        for release in ("2025.1", "2026.1"):
            (role / f"files/locks/{release}.txt").write_text(f"one==1.0 --hash=sha256:{'0' * 64}\n", "utf-8")
    return tmp_path


def planned(root: Path, release: str, *services: str) -> tuple[Plan, Renderer]:
    variables = {"brume_services": list(services), "brume_networks": AIO["brume_networks"], "brume_release": release}
    data = sources.load.__wrapped__(root)
    found = plan(inventory(variables), data)
    return found, Renderer(found, data, str)


def test_the_plan_and_the_files_are_those_of_the_release(project: Path) -> None:
    for release, services, line in (("2025.1", ["one"], "first = 1"), ("2026.1", ["one", "two"], "second = 2")):
        found, renderer = planned(project, release, *services)
        assert list(found.services) == services
        texts = [one.text for one in renderer.files(found.hosts["aio"], services) if one.entry.path.endswith(".conf")]
        assert [text.splitlines()[-1] for text in texts] == [line] * len(services)


MORE = """  old: {group: [control, compute], command: [one-old], until: "2025.2"}
  web: {group: control, kind: wsgi, app: "one:web", port: 6002, until: "2025.2"}
  new: {group: control, command: [one-new], since: "2026.1"}
  moved: {group: [compute, {value: network, until: "2025.2"}], command: [one-moved]}
  far: {group: block, command: [one-far], until: "2025.2"}
files:
  old.conf: {settings: [one], components: [old]}
  both.conf: {settings: [one], components: [old, api]}
"""


def test_a_host_knows_what_only_other_releases_have_on_it(project: Path) -> None:
    path = project / "roles/one/meta/service.yml"
    text = path.read_text("utf-8").replace("files: {one.conf:", f"{MORE}  one.conf:")
    path.write_text(text.replace("components: [api]}}", "components: [api]}"))
    old, _renderer = planned(project, "2025.1", "one")
    new, _renderer = planned(project, "2026.1", "one")
    gone = {one.unit: one.files for one in new.hosts["aio"].dropped}
    assert gone == {
        "one-old.service": ("/etc/one/old.conf",),
        "one-web.socket": ("/etc/one/uwsgi-web.ini",),
        "one-web.service": ("/etc/one/uwsgi-web.ini",),
    }
    # Back again, what only the newer release has goes; a service that it alone has does too.
    assert {one.unit for one in old.hosts["aio"].dropped} == {"one-new.service", "two-api.socket", "two-api.service"}
    assert {"one-old.service", "one-web.service"} <= {one.unit for one in old.hosts["aio"].instances}
    assert {(one.service, one.wave) for one in old.hosts["aio"].dropped} == {("one", "identity"), ("two", "identity")}
    text = "\n".join(plan_text.summary(new))
    assert "  not in 2026.1, so removed  one-old.service, one-web.socket, one-web.service" in text


@pytest.mark.parametrize(
    ("args", "dropped"),
    [
        ({"wave": "identity"}, ["one-old.service", "one-web.socket", "one-web.service"]),
        ({"service": "one"}, ["one-old.service", "one-web.socket", "one-web.service"]),
        ({"wave": "core"}, None),
        ({"service": "two"}, []),
    ],
)
def test_the_roll_out_of_its_wave_removes_it(project: Path, args: dict[str, str], dropped: list[str] | None) -> None:
    path = project / "roles/one/meta/service.yml"
    path.write_text(path.read_text("utf-8").replace("files: {one.conf:", f"{MORE}  one.conf:").replace("]}}", "]}"))
    found, renderer = planned(project, "2026.1", "one", "two")
    piece = Slice(found, found.hosts["aio"], renderer.sources, renderer, Vault(bytes(32)))
    action: Any = object.__new__(unit_rollout.ActionModule)
    said = action.arguments(piece, args)
    absent = [one for one in said["units"] if one.get("state") == "absent"] if said else None
    assert (None if absent is None else [one["name"] for one in absent]) == dropped
    if dropped:
        assert absent is not None and absent[0]["files"] == ["/etc/one/old.conf"]


def test_a_component_that_leaves_a_group_is_dropped_there_alone(project: Path) -> None:
    path = project / "roles/one/meta/service.yml"
    moved = """  moved: {group: [{value: compute, since: "2026.1"}, control], command: [one-moved]}\nfiles:"""
    path.write_text(path.read_text("utf-8").replace("files:", moved))
    hosts = {name: {"brume_addresses": {"management": f"192.0.2.{last}"}} for last, name in ((11, "a"), (12, "b"))}
    groups = {group: ["b"] if group == "compute" else ["a"] for group in GROUPS}
    data = sources.load.__wrapped__(project)
    for release, expected in (("2025.1", ["one-moved.service"]), ("2026.1", [])):
        variables = {"brume_services": ["one"], "brume_networks": AIO["brume_networks"], "brume_release": release}
        found = plan(inventory(variables, hosts, groups), data)
        dropped = {name: [one.unit for one in host.dropped] for name, host in found.hosts.items()}
        assert dropped["b"] == expected
        assert "one-moved.service" not in dropped["a"]


def test_while_a_host_stays_with_the_former_release_controllers_keep_what_its_agents_speak_to(project: Path) -> None:
    more = """  kept: {group: [control, compute], command: [one-kept], until: "2025.2"}
  web: {group: control, kind: wsgi, app: "one:web", port: 6002, until: "2025.2"}
  local: {group: network, command: [one-local], until: "2025.2"}
  future: {group: control, command: [one-future], since: "2026.2"}
files:
  kept.conf: {settings: [one], components: [kept]}
  both.conf: {settings: [one], components: [kept, local]}
  local.conf: {settings: [one], components: [local]}
"""
    path = project / "roles/one/meta/service.yml"
    text = path.read_text("utf-8").replace("files: {one.conf:", f"{more}  one.conf:")
    path.write_text(text.replace("components: [api]}}", "components: [api]}"))
    two = project / "roles/two/meta/service.yml"
    two.write_text(two.read_text("utf-8").replace("since: '2026.1'", "until: '2025.2'"))
    for name in ("one", "two"):
        (project / f"roles/{name}/files/locks/2026.2.txt").write_text(f"one==1.0 --hash=sha256:{'0' * 64}\n", "utf-8")
    last = {"a": 11, "b": 12, "c": 13}
    data = sources.load.__wrapped__(project)
    variables = {"brume_services": ["one"], "brume_networks": AIO["brume_networks"], "brume_release": "2026.1"}
    groups = {group: ["a"] for group in GROUPS} | {"network": ["a", "b"], "compute": ["b", "c"]}
    gone: dict[str, dict[str, dict[str, tuple[str, ...]]]] = {}
    for which, behind in (("mixed", {"brume_release": "2025.1"}), ("new", {})):
        hosts: dict[str, Any] = {name: {"brume_addresses": {"management": f"192.0.2.{n}"}} for name, n in last.items()}
        hosts["c"] |= behind
        found = plan(inventory(variables, hosts, groups), data)
        assert (found.former is not None) == (which == "mixed")
        gone[which] = {name: {one.unit: one.files for one in host.dropped} for name, host in found.hosts.items()}
    local = ("/etc/one/both.conf", "/etc/one/local.conf")
    assert gone["mixed"] == {
        "a": {"one-local.service": local[1:], "one-future.service": ()},
        "b": {"one-kept.service": ("/etc/one/kept.conf", local[0]), "one-local.service": local},
        "c": {},
    }
    kept = {"one-kept.service", "one-web.socket", "one-web.service", "two-api.socket", "two-api.service"}
    assert set(gone["new"]["a"]) == {*gone["mixed"]["a"], *kept}
    assert gone["new"]["a"]["one-local.service"] == local and gone["new"]["b"] == gone["mixed"]["b"]
    assert set(gone["new"]["c"]) == {"one-kept.service"}


def test_a_service_that_the_release_does_not_have_is_refused(project: Path) -> None:
    with pytest.raises(PlanError) as caught:
        planned(project, "2025.1", "one", "two")
    assert [str(one) for one in caught.value.problems] == [
        "group_vars/all.yml: brume_services: `two` is no service of 2025.1; use one of one"
    ]


def test_each_release_has_all_services() -> None:
    assert len(RELEASES) > 1
    assert DEFAULT_RELEASE in RELEASES
    for name in (*SERVICES, "tempest"):
        assert sorted(path.stem for path in ROOT.glob(f"roles/{name}/files/locks/*.txt")) == RELEASES
    for name in SERVICES:
        assert sorted(path.stem for path in ROOT.glob(f"roles/{name}/files/schemas/*.json")) == RELEASES


IDENTITY = {
    "internal": "https://10.121.10.11:5000/v3",
    "public": "https://one.example.org:5000/v3",
    "ca": certificates.authority(bytes(32)).pem,
}
INVENTORIES: dict[str, dict[str, Any]] = {
    "aio": {},
    "block": {},
    "three_node": {},
    "ha": {},
    "ha_split": {},
    "object": {},
    "production": {},
    "region_two": {"brume_external": {"identity": IDENTITY}, "brume_secrets": None},
}
"""The project's own, with what a lookup of theirs would give."""


DEPRECATED = {"/etc/cinder/cinder.conf: [DEFAULT] api_paste_config: deprecated; it will be removed"}
"""Deprecated by oslo.service, whose loader Cinder reads it with to this day (cinder.wsgi.wsgi)."""


def test_no_inventory_is_left_out() -> None:
    assert set(INVENTORIES) == {path.parent.name for path in ROOT.glob("inventories/*/hosts.yml")}


@pytest.mark.parametrize(
    ("name", "driver"), [*((name, "openvswitch") for name in INVENTORIES), ("aio", "ovn"), ("ha", "ovn")]
)
@pytest.mark.parametrize("release", RELEASES)
def test_what_a_plan_says_is_there_in_the_release(release: str, name: str, driver: str) -> None:
    """Every option is known and fits, and each program and application is one of the release's own."""
    data = sources.load()
    changes = INVENTORIES[name] | {"brume_release": release, "neutron_driver": driver}
    found = plan(committed(name, **changes), data)
    renderer = Renderer(found, data, lambda secret: f"<{secret}>")
    assert [one for one in found.warnings if "unknown" in one or "deprecated" in one] == []
    odd, missing, looked = set(), set(), 0
    for host in found.hosts.values():
        for entry in host.files:
            service, schema = found.services[entry.service], data.schemas[entry.service].get(release)
            file = service.files[entry.name]
            if schema is not None and file.settings and file.format == "ini":
                tree = renderer.tree(host, service, service.files[entry.name], entry.cell)[0]
                odd |= {f"{entry.path}: {one.text}" for one in check(schema, tree)}
        here = [name for name in found.services if data.schemas[name]]
        texts = [one.text for one in renderer.files(host, here)]
        texts += [one.content or "" for one in renderer.units(host, here)]
        for service_name, program in re.findall(rf"/opt/brume/(\w+)/{release}-\w+/bin/([\w-]+)", "\n".join(texts)):
            looked += 1
            if program not in ("uwsgi", *_schema(data, service_name, release).programs):
                missing.add(f"{service_name}: {program}")
    for one in found.services.values():
        if data.schemas[one.name]:
            known = _schema(data, one.name, release)
            missing |= {f"{one.name}: {app.app}" for app in one.components.values() if app.app} - {
                f"{one.name}: {app}" for app in known.applications
            }
            missing |= {argv[0] for argvs in one.commands.values() for argv in argvs} - set(known.programs)
    assert looked
    odd -= DEPRECATED
    assert (odd, missing) == (set(), set())


def _schema(data: sources.Sources, service: str, release: str) -> Schema:
    found = data.schemas[service][release]
    assert found is not None
    return found


OLD = Schema(
    "2025.1",
    "",
    {
        "DEFAULT": {
            "gone": {"type": "string", "deprecated": True, "use": "[new] place"},
            "kept": {"type": "integer"},
            "old": {"type": "integer"},
            "wider": {"type": "integer"},
            "way": {"type": "string", "choices": ["a", "b"]},
        }
    },
    (),
    ("two-api", "two-manage"),
    ("two.wsgi:application",),
    ("Databases",),
)
NEW = Schema(
    "2026.1",
    "",
    {
        "DEFAULT": {
            "kept": {"type": "integer", "secret": True},
            "old": {"type": "integer", "deprecated": True, "use": "[new] place"},
            "wider": {"type": "integer", "min": 1},
            "way": {"type": "string", "choices": ["b", "c"]},
        },
        "new": {"place": {"type": "string"}, "removed_soon": {"type": "string", "deprecated": True}},
    },
    (),
    ("two-manage",),
    ("two.wsgi.api:application",),
    ("Databases", "Machine types"),
)


def test_changes_are_listed_and_what_is_used_is_marked() -> None:
    assert release_changes.options(OLD, NEW, {("DEFAULT", "old"), ("new", "place")}) == [
        "  -  option [DEFAULT] gone (before: use [new] place)",
        "  ~* option [DEFAULT] old: deprecated, use [new] place",
        "  ~  option [DEFAULT] way: without a; with c",
        "  ~  option [DEFAULT] wider: was integer, is integer from 1",
        "  +* option [new] place",
        "  +  option [new] removed_soon (deprecated)",
    ]
    assert release_changes.options(NEW, OLD, set())[1] == "  ~  option [DEFAULT] old: no longer deprecated"
    used = {"two.wsgi:application", "two-manage"}
    assert release_changes.names("program", OLD.programs, NEW.programs, used) == ["  -  program two-api"]
    assert release_changes.names("application", OLD.applications, NEW.applications, used) == [
        "  -* application two.wsgi:application",
        "  +  application two.wsgi.api:application",
    ]
    assert release_changes.names("check", OLD.checks, NEW.checks, set()) == ["  +  check Machine types"]
    assert release_changes.options(OLD, OLD, set()) == []


def test_what_changed_between_the_releases_that_are_here() -> None:
    """Programs, applications and checks, and those options that the project says; all options would be hundreds."""
    lines = []
    project = sources.load()
    for old, new in itertools.pairwise(RELEASES):
        for name in SERVICES:
            found = release_changes.changes(name, project, old, new)
            lines += [f"{old} to {new}: {name}", *(one for one in found if " option " not in one or one[3] == "*")]
    golden("release-changes.txt", "\n".join(lines) + "\n")


def test_a_missing_schema_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert release_changes.main(["2025.1", "2031.1", "nova"]) == 1
    assert capsys.readouterr().err == (
        "roles/nova/files/schemas/2031.1.json: is missing; make it with tools/schemas.py\n"
    )
    assert release_changes.main(["2025.1", "2025.1", "nova"]) == 0
    assert capsys.readouterr().out == "nova\n  nothing changed\n"


def test_the_examples_of_the_page_are_true() -> None:
    text = (ROOT / "docs/add-a-release.md").read_text(encoding="utf-8")
    blocks = [part.partition("```")[0] for part in text.split("```yaml\n")[1:]]
    tree, service = (yaml.safe_load(block) for block in blocks)
    assert [list(bound_mistakes(one)) for one in (tree, service)] == [[], []]
    assert of_release(tree, "2025.2") == {"ml2": {"tenant_network_types": "vxlan"}}
    assert of_release(tree, "2026.1") == {"ml2": {"project_network_types": "vxlan"}}
    assert of_release(service, "2025.1")["components"]["agent"] == {"group": ["network"]}
    assert of_release(service, "2025.1")["components"]["api"] == {"app": "two.old:application", "environment": {}}
    assert list(of_release(service, "2026.1")["components"]) == ["api"]
    listed = re.search(r"```\nneutron\n(.*?)```", text, re.DOTALL)
    assert listed
    assert set(listed[1].splitlines()) <= set(release_changes.changes("neutron", sources.load(), "2025.1", "2026.1"))


STATUS = """from oslo_upgradecheck.upgradecheck import UpgradeCommands

class Checks(UpgradeCommands):
    _upgrade_checks = (("Databases", None), ("Machine types", None))

class Other:
    _upgrade_checks = (("not one", None),)
"""


def test_a_distribution_is_asked_for_programs_applications_and_checks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "lib/site-packages"
    texts = {
        "oslo_upgradecheck/__init__.py": "",
        "oslo_upgradecheck/upgradecheck.py": "class UpgradeCommands:\n    _upgrade_checks = ()\n",
        "two/__init__.py": "",
        "two/status.py": STATUS,
        "two/wsgi/__init__.py": "application = None\n",
        "two/wsgi/api.py": "import threading\n\napplication = None\n",
        "two/wsgi/common.py": "def application_of() -> None: ...\n",
        "two/tests/bin/helper.py": "",
        "two-1.0.dist-info/METADATA": "Name: two\nVersion: 1.0\n",
        "two-1.0.dist-info/entry_points.txt": "[console_scripts]\ntwo-status = two.status:main\ntwo-api = two:main\n",
    }
    for name, content in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content, "utf-8")
    record = "".join(f"{name},,\n" for name in (*texts, "../../bin/two-status", "../../bin/two-api"))
    (folder / "two-1.0.dist-info/RECORD").write_text(record, "utf-8")
    monkeypatch.syspath_prepend(str(folder))
    found = importlib.metadata.PathDistribution(folder / "two-1.0.dist-info")
    assert service_options.programs(found) == ["two-api", "two-status"]
    assert service_options.applications(found) == ["two.wsgi.api:application"]
    assert service_options.upgrade_checks(found) == ["Databases", "Machine types"]


@pytest.mark.parametrize("points", ["", "[oslo.config.opts]\nthree = three.opts:list_opts\n"])
def test_only_what_uses_oslo_config_itself_has_options(
    points: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Swift's libraries bring options, and it has files of another kind."""
    folder = tmp_path / "three-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Name: three\nVersion: 1.0\n", "utf-8")
    (folder / "entry_points.txt").write_text(f"[console_scripts]\nthree-server = three:main\n{points}", "utf-8")
    (folder / "RECORD").write_text("../../bin/three-server,,\n", "utf-8")
    collected = {"options": {"DEFAULT": {"debug": {}}}, "named_sections": ["x"]}
    monkeypatch.setattr(
        service_options.importlib.metadata, "distribution", lambda _name: importlib.metadata.PathDistribution(folder)
    )
    monkeypatch.setattr(service_options, "collect", lambda: dict(collected))
    monkeypatch.setattr(sys, "argv", ["service_options", "three"])
    service_options.main()
    found = json.loads(capsys.readouterr().out)
    assert found["programs"] == ["three-server"]
    nothing: dict[str, Any] = {"options": {}, "named_sections": []}
    assert {key: found[key] for key in collected} == (collected if points else nothing)
