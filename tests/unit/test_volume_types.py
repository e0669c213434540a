"""Volume types, QoS specs and default quotas: a fake Block Storage API in memory that keeps Cinder's rules."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.brume.cloud.plugins.action import cinder_volume_types as action
from ansible_collections.brume.cloud.plugins.module_utils import api_session, plan, sources, volume_types
from ansible_collections.brume.cloud.plugins.module_utils.api_session import ApiError
from ansible_collections.brume.cloud.plugins.module_utils.convergence import ConvergenceError, apply_actions, report
from ansible_collections.brume.cloud.plugins.module_utils.inventory_data import Inventory, Layer
from ansible_collections.brume.cloud.plugins.module_utils.plan_action import Slice
from ansible_collections.brume.cloud.plugins.module_utils.rendering import Renderer
from ansible_collections.brume.cloud.plugins.module_utils.secrets import Vault
from ansible_collections.brume.cloud.plugins.modules import cinder_volume_types as module

from . import api_server
from .api_server import keystone
from .inventories import committed

KEY = re.compile(r"[a-zA-Z0-9-_:.]{1,255}")
"""What Cinder's schema takes as an extra spec of a type that is there."""


class Cinder:
    """Types, QoS specs, quotas and volumes (names of their types); `calls` holds every change in order."""

    def __init__(self, page: int = 0) -> None:
        """Start as after `cinder-manage db sync`. `page` limits lists, as Cinder's `osapi_max_limit` does."""
        self.page = page
        self.types: dict[str, dict[str, Any]] = {}
        self.qos: dict[str, dict[str, Any]] = {}
        self.access: dict[str, set[str]] = {}
        self.quotas = {**volume_types.QUOTAS}
        self.volumes: list[str] = []
        self.default = "__DEFAULT__"
        self.project_defaults: dict[str, str] = {}
        self.calls: list[str] = []
        self.asked: list[str] = []
        self.numbers = itertools.count(1)
        self.lock = threading.Lock()
        self._make({"name": "__DEFAULT__", "extra_specs": {}, "description": "Default Volume Type"})

    def named(self, name: str) -> dict[str, Any]:
        """Return the type of that name."""
        return next(one for one in self.types.values() if one["name"] == name)

    def request(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Answer one request; raises ApiError as Cinder refuses."""
        with self.lock:
            address = urlsplit(path)
            query = {name: value[0] for name, value in parse_qs(address.query).items()}
            parts = [unquote(part) for part in address.path.strip("/").split("/")]
            changes = method != "GET" or parts[-1] in ("associate", "disassociate")
            if not changes:
                self.asked.append(path)
                return self._read(parts, query)
            self.calls.append(f"{method} {path} {json.dumps(body, sort_keys=True) if body else ''}".strip())
            change = self._change_qos if parts[0] == "qos-specs" else self._change_type
            if parts[0] == "os-quota-class-sets":
                assert (method, parts[1]) == ("PUT", "default")
                self.quotas |= (body or {})["quota_class_set"]  # Cinder looks at no name
                return {}
            return change(method, parts, query, body or {})

    def _listed(self, records: dict[str, dict[str, Any]], kind: str, links: str, query: dict[str, str]) -> Any:
        found = list(records.values())
        if self.page:
            begin = list(records).index(query["marker"]) + 1 if "marker" in query else 0
            found = found[begin : begin + self.page]
        href = f"http://public/v3/p/x?is_public=None&marker={found[-1]['id']}" if found and self.page else ""
        return {kind: json.loads(json.dumps(found)), **({links: [{"rel": "next", "href": href}]} if href else {})}

    def _read(self, parts: list[str], query: dict[str, str]) -> dict[str, Any]:
        if parts == ["types"]:
            assert query["is_public"] == "None", "private types are types too"
            return dict(self._listed(self.types, "volume_types", "volume_type_links", query))
        if parts == ["qos-specs"]:
            return dict(self._listed(self.qos, "qos_specs", "qos_specs_links", query))
        if parts[0] == "types":
            self._refuse_if(self.types[parts[1]]["is_public"], "Access list not available for public types.", 404)
            return {"volume_type_access": [{"project_id": one} for one in self.access.get(parts[1], ())]}
        if parts[0] == "default-types":
            pairs = self.project_defaults.items()
            return {"default_types": [{"project_id": one, "volume_type_id": number} for one, number in pairs]}
        if parts[0] == "volumes":
            assert query["all_tenants"] == "1"
            name = self.types[query["volume_type_id"]]["name"]
            return {"volumes": [{"id": "v"} for one in self.volumes if one == name][:1]}
        assert parts == ["os-quota-class-sets", "default"]
        quotas = {f"{part}_{one['name']}": -1 for one in self.types.values() for part in volume_types.OF_A_TYPE}
        return {"quota_class_set": {"id": "default", **quotas, **self.quotas}}

    @staticmethod
    def _refuse_if(wrong: bool, message: str, status: int = 400) -> None:
        if wrong:
            raise ApiError(f"{message} (HTTP {status})", status)

    def _in_use(self, number: str) -> bool:
        return self.types[number]["name"] in self.volumes

    def _make(self, wanted: Mapping[str, Any]) -> dict[str, Any]:
        number = f"t{next(self.numbers)}"
        rest = {"description": None, "qos_specs_id": None, "is_public": wanted.get(volume_types.PUBLIC, True)}
        self.types[number] = {**rest, **wanted, "id": number, "extra_specs": dict(wanted["extra_specs"])}
        return {"volume_type": self.types[number]}

    def _change_type(
        self, method: str, parts: list[str], query: dict[str, str], body: Mapping[str, Any]
    ) -> dict[str, Any]:
        if len(parts) == 1:
            wanted = body["volume_type"]
            self._refuse_if(wanted["name"] in [one["name"] for one in self.types.values()], "already exists", 409)
            return self._make(wanted)
        record = self.types[parts[1]]
        if parts[2:3] == ["extra_specs"]:
            self._refuse_if(self._in_use(parts[1]), "Volume Type is currently in use.")
            if method == "DELETE":
                del record["extra_specs"][parts[3]]
            else:
                for key, value in body["extra_specs"].items():
                    assert isinstance(value, str)
                    self._refuse_if(not KEY.fullmatch(key), f"Additional properties are not allowed ({key})")
                    record["extra_specs"][key] = value
        elif method == "DELETE":
            self._refuse_if(self._in_use(parts[1]), "Target volume type is still in use.")
            default = record["name"] == self.default or parts[1] in self.project_defaults.values()
            self._refuse_if(default, "The volume type is a default volume type and cannot be deleted.")
            names = [one["name"] for one in self.types.values()]
            self._refuse_if(self.default not in names, "The request cannot be fulfilled as the default is not", 500)
            del self.types[parts[1]]
        elif method == "PUT":
            assert set(body["volume_type"]) <= {"description", "is_public"}
            assert None not in body["volume_type"].values(), "Cinder takes that as not said"
            record.update(body["volume_type"])
        else:
            self._refuse_if(record["is_public"], "Type access modification is not applicable to public volume type.")
            allowed = self.access.setdefault(parts[1], set())
            for verb, one in body.items():
                self._refuse_if(verb == "addProjectAccess" and one["project"] in allowed, "already exists", 409)
                (allowed.add if verb == "addProjectAccess" else allowed.remove)(one["project"])
        return {}

    def _change_qos(
        self, method: str, parts: list[str], query: dict[str, str], body: Mapping[str, Any]
    ) -> dict[str, Any]:
        if method == "POST":
            wanted = dict(body["qos_specs"])
            number, name, consumer = f"q{next(self.numbers)}", wanted.pop("name"), wanted.pop("consumer", "back-end")
            self._refuse_if(name in [one["name"] for one in self.qos.values()], "already exists", 409)
            assert all(isinstance(value, str) for value in wanted.values())
            self.qos[number] = {"id": number, "name": name, "consumer": consumer, "specs": wanted}
            return {"qos_specs": self.qos[number]}
        record = self.qos[parts[1]]
        if method == "GET":
            holder = self.types[query["vol_type_id"]]
            if parts[2] == "disassociate":
                holder["qos_specs_id"] = None
            else:
                other = holder["qos_specs_id"] not in (None, parts[1])
                self._refuse_if(other, "is already associated with another qos specs")
                holder["qos_specs_id"] = parts[1]
        elif method == "DELETE":
            held = parts[1] in [one["qos_specs_id"] for one in self.types.values()]
            self._refuse_if(held, "Qos specs still in use.")
            del self.qos[parts[1]]
        elif parts[2:] == ["delete_keys"]:
            for key in body["keys"]:
                self._refuse_if(key not in record["specs"], "QoS spec has no spec with key", 404)
                del record["specs"][key]
        else:
            changes = dict(body["qos_specs"])
            record["consumer"] = changes.pop("consumer", record["consumer"])
            record["specs"].update(changes)
        return {}


def compared(cinder: Cinder, **desired: Any) -> list[Any]:
    return volume_types.compare(desired, volume_types.fetch(desired, cinder.request, keystone), cinder.request)


def converges(cinder: Cinder, **desired: Any) -> list[str]:
    """Return the actions after seeing that the dry run changes nothing and the next run has nothing to do."""
    before = len(cinder.calls)
    dry = report(compared(cinder, **desired))
    assert len(cinder.calls) == before, "a dry run changes nothing"
    apply_actions(compared(cinder, **desired), 4)
    assert report(compared(cinder, **desired)) == {"changed": False, "actions": [], "diff": []}
    found: list[str] = dry["actions"]
    return found


def refused(cinder: Cinder, **desired: Any) -> str:
    """Return why the wanted state cannot be, after seeing that nothing was changed."""
    before = len(cinder.calls)
    with pytest.raises(ConvergenceError) as caught:
        compared(cinder, **desired)
    assert len(cinder.calls) == before
    return str(caught.value)


def kind(name: str = "fast", **more: Any) -> dict[str, Any]:
    return {"name": name, **more}


@pytest.fixture
def cinder() -> Cinder:
    return Cinder()


# --- one for each back end --------------------------------------------------------------------------------------------

BACKENDS = {"ceph": {"type": "rbd"}, "lvm": {"type": "lvm", "volume_backend_name": "disks"}}


@pytest.mark.parametrize(
    ("backends", "declared", "expected"),
    [
        (
            BACKENDS,
            [],
            [
                {"name": "ceph", "extra_specs": {"volume_backend_name": "ceph"}},
                {"name": "lvm", "extra_specs": {"volume_backend_name": "disks"}},
            ],
        ),
        (BACKENDS, [kind(description="x")], [kind(description="x")]),
        (
            BACKENDS,
            [kind("lvm", state="absent"), kind("__DEFAULT__", state="absent")],
            [
                {"name": "lvm", "state": "absent"},
                {"name": "__DEFAULT__", "state": "absent"},
                {"name": "ceph", "extra_specs": {"volume_backend_name": "ceph"}},
            ],
        ),
        ({"plain": None}, [], [{"name": "plain", "extra_specs": {"volume_backend_name": "plain"}}]),
        ({}, [], []),
    ],
)
def test_without_declared_types_each_back_end_has_one(
    backends: dict[str, Any], declared: list[dict[str, Any]], expected: list[dict[str, Any]]
) -> None:
    assert volume_types.types_of(backends, declared) == expected


# --- types ------------------------------------------------------------------------------------------------------------


def test_a_type_is_made_with_all_that_belongs_to_it(cinder: Cinder) -> None:
    wanted = kind(description="Fast", projects=["databases", "p2"], extra_specs={"a": 1, "b": True}, qos="slow")
    specs = [{"name": "slow", "consumer": "front-end", "specs": {"total_iops_sec": 500}}]
    assert converges(cinder, volume_types=[wanted], qos_specs=specs) == [
        "create QoS specs slow",
        "create volume type fast",
    ]
    made, (qos,) = cinder.named("fast"), cinder.qos.values()
    assert (made["description"], made["extra_specs"]) == ("Fast", {"a": "1", "b": "true"})
    assert made[volume_types.PUBLIC] is made["is_public"] is False
    assert cinder.access == {made["id"]: {"p1", "p2"}}
    assert made["qos_specs_id"] == qos["id"]
    assert (qos["consumer"], qos["specs"]) == ("front-end", {"total_iops_sec": "500"})


def test_what_is_not_said_is_left_alone_and_others_stay(cinder: Cinder) -> None:
    specs = [{"name": "slow", "consumer": "both", "specs": {"a": "1"}}]
    whole = kind(extra_specs={"a": "b"}, projects=["web"], qos="slow")
    converges(cinder, volume_types=[whole, kind("two")], qos_specs=specs)
    assert converges(cinder, volume_types=[kind()], qos_specs=[{"name": "slow"}]) == []
    assert converges(cinder, volume_types=[kind("two", state="absent")]) == ["delete volume type two"]
    assert converges(cinder, volume_types=[kind("two", state="absent")]) == []
    assert [one["name"] for one in cinder.types.values()] == ["__DEFAULT__", "fast"]


def test_everything_of_a_type_is_updated(cinder: Cinder) -> None:
    specs = [{"name": "slow"}, {"name": "slower"}]
    before = kind(description="Fast", extra_specs={"a": "1", "b": "2"}, projects=["web"], qos="slow")
    converges(cinder, volume_types=[before], qos_specs=specs)
    changed = kind(description="", extra_specs={"b": 3, "c": "4"}, projects=["databases"], qos="slower")
    dry = report(compared(cinder, volume_types=[changed]))["diff"][0]
    assert 'projects: ["web"]' in dry["before"]
    assert 'projects: ["databases"]' in dry["after"]
    assert "qos: slower" in dry["after"]
    assert converges(cinder, volume_types=[changed]) == [
        "update volume type fast (description, extra_specs, projects, qos)"
    ]
    made = cinder.named("fast")
    assert (made["description"], made["extra_specs"], cinder.access[made["id"]]) == ("", {"b": "3", "c": "4"}, {"p1"})
    bare = kind(extra_specs={}, projects=[], qos="")
    assert converges(cinder, volume_types=[bare]) == ["update volume type fast (extra_specs, projects, qos)"]
    assert (made["extra_specs"], made["qos_specs_id"], cinder.access[made["id"]]) == ({}, None, set())


def test_a_type_becomes_private_and_public_again(cinder: Cinder) -> None:
    converges(cinder, volume_types=[kind()])
    private = kind(projects=["web"])
    assert converges(cinder, volume_types=[private]) == ["update volume type fast (is_public, projects)"]
    assert converges(cinder, volume_types=[kind(is_public=True)]) == ["update volume type fast (is_public)"]
    cinder.access[cinder.named("fast")["id"]] |= {"p9"}
    converges(cinder, volume_types=[private])
    assert cinder.access == {cinder.named("fast")["id"]: {"p2"}}, "whom it was given before, too"
    assert converges(cinder, volume_types=[kind("other", is_public=False)]) == ["create volume type other"]


def test_all_pages_are_read() -> None:
    cinder = Cinder(page=2)
    items = [kind(f"t{number}") for number in range(5)]
    specs = [{"name": f"q{number}"} for number in range(5)]
    assert len(converges(cinder, volume_types=items, qos_specs=specs)) == 10


def test_extra_specs_of_a_type_with_volumes_stay(cinder: Cinder) -> None:
    converges(cinder, volume_types=[kind(extra_specs={"a": "1", "b": "2"}), kind("other")])
    cinder.volumes = ["fast"]
    text = refused(cinder, volume_types=[kind(extra_specs={"b": "3"})])
    assert text.startswith("volume type fast: cannot change a, b of its extra specs, because volumes have it; ")
    assert "retype" in text
    more = kind(extra_specs={"a": "1", "b": "2"}, description="Now with words")
    assert converges(cinder, volume_types=[more]) == ["update volume type fast (description)"]
    assert converges(cinder, volume_types=[kind("other", extra_specs={"x": "y"})]) == [
        "update volume type other (extra_specs)"
    ]


def test_volumes_are_looked_for_only_where_it_matters(cinder: Cinder) -> None:
    converges(cinder, volume_types=[kind(extra_specs={"a": "1"}), kind("other")])
    cinder.asked.clear()
    compared(cinder, volume_types=[kind(extra_specs={"a": "1"}), kind("other", state="absent")])
    assert [path for path in cinder.asked if "/volumes" in path] == [
        f"/volumes?all_tenants=1&limit=1&volume_type_id={cinder.named('other')['id']}"
    ]


def in_use(cinder: Cinder) -> None:
    cinder.volumes = ["fast"]


def project_default(cinder: Cinder) -> None:
    cinder.project_defaults = {"p1": cinder.named("fast")["id"]}


@pytest.mark.parametrize(
    ("spoil", "default", "said"),
    [
        (in_use, "__DEFAULT__", "is to go and volumes have it"),
        (project_default, "__DEFAULT__", "is to go and is the default type of a project"),
        (lambda _cinder: None, "fast", "is to go and is the default type; name another default first"),
    ],
)
def test_a_type_that_cinder_would_not_delete_is_refused(
    cinder: Cinder, spoil: Callable[[Cinder], None], default: str, said: str
) -> None:
    converges(cinder, volume_types=[kind()])
    spoil(cinder)
    text = refused(cinder, volume_types=[kind(state="absent")], default_volume_type=default)
    assert text.startswith(f"volume type fast: {said}")


def test_the_default_type_has_to_be_there(cinder: Cinder) -> None:
    text = refused(cinder, volume_types=[kind()], default_volume_type="fats")
    assert text == "volume type fats: is the default type, and there is none of that name; declare it, or name another"
    cinder.default = "fast"
    gone = [kind(), kind("__DEFAULT__", state="absent")]
    assert converges(cinder, volume_types=gone, default_volume_type="fast") == [
        "create volume type fast",
        "delete volume type __DEFAULT__",
    ]


def test_mistakes_are_named_at_once(cinder: Cinder) -> None:
    wanted = [
        kind("a", projects=["nobody"]),
        kind("b", projects=["twice"]),
        kind("c", is_public=True, projects=["web"]),
        kind("d", qos="none"),
        kind("e", extra_specs={"multiattach": "<is> True", "cacheable": "<is> True"}),
        kind("f"),
        kind("f"),
    ]
    specs = [{"name": "q"}, {"name": "q"}]
    assert refused(cinder, volume_types=wanted, qos_specs=specs, default_quotas={"x": 1}).splitlines() == [
        "volume type f: named more than once; one entry may stay",
        "QoS specs q: named more than once; one entry may stay",
        "volume type a: there is no project nobody; create it, or take it out of the list",
        "volume type b: twice is a project of 2 domains; write the id of the right one",
        "volume type c: is public, thus no project's; remove `projects` or `is_public`",
        "volume type d: there are no QoS specs none; declare them",
        "volume type e: cannot be both `multiattach` and `cacheable`; leave one out",
        "default quotas: there is no x; use volumes, snapshots, gigabytes, per_volume_gigabytes, backups, "
        "backup_gigabytes, groups, or one of volumes, gigabytes, snapshots followed by _ and a type's name",
    ]


def test_what_cinder_refuses_in_a_run_names_the_object(cinder: Cinder) -> None:
    converges(cinder, volume_types=[kind()])
    with pytest.raises(ConvergenceError, match=r"update volume type fast .*: Additional properties are not allowed"):
        apply_actions(compared(cinder, volume_types=[kind(extra_specs={"a b": "c"})]))


# --- QoS specs --------------------------------------------------------------------------------------------------------


def test_qos_specs_change_and_go(cinder: Cinder) -> None:
    converges(cinder, qos_specs=[{"name": "slow", "specs": {"a": 1, "b": 2}}])
    (record,) = cinder.qos.values()
    assert record["consumer"] == "back-end"
    changed = {"name": "slow", "consumer": "both", "specs": {"b": 3, "c": 4}}
    assert converges(cinder, qos_specs=[changed]) == ["update QoS specs slow (consumer, specs)"]
    assert (record["consumer"], record["specs"]) == ("both", {"b": "3", "c": "4"})
    assert converges(cinder, qos_specs=[{"name": "slow", "specs": {}}]) == ["update QoS specs slow (specs)"]
    assert converges(cinder, qos_specs=[{"name": "slow", "state": "absent"}]) == ["delete QoS specs slow"]
    assert converges(cinder, qos_specs=[{"name": "slow", "state": "absent"}]) == []


@pytest.mark.parametrize(
    ("settled", "allowed"),
    [
        ([], False),
        ([kind()], False),
        ([kind(qos="")], True),
        ([kind(qos="other")], True),
        ([kind(state="absent")], True),
    ],
)
def test_qos_specs_go_when_no_type_keeps_them(
    cinder: Cinder, settled: list[dict[str, Any]], allowed: bool
) -> None:
    converges(cinder, volume_types=[kind(qos="slow")], qos_specs=[{"name": "slow"}, {"name": "other"}])
    gone = [{"name": "slow", "state": "absent"}]
    if allowed:
        assert "delete QoS specs slow" in converges(cinder, volume_types=settled, qos_specs=gone)
    else:
        assert refused(cinder, volume_types=settled, qos_specs=gone).startswith(
            "QoS specs slow: are those of the volume type fast; "
        )


def test_qos_specs_that_are_to_go_are_given_to_no_type(cinder: Cinder) -> None:
    converges(cinder, qos_specs=[{"name": "slow"}])
    text = refused(cinder, volume_types=[kind(qos="slow")], qos_specs=[{"name": "slow", "state": "absent"}])
    assert text == "volume type fast: there are no QoS specs slow; declare them"


# --- quotas -----------------------------------------------------------------------------------------------------------


def test_default_quotas_are_set_and_others_stay(cinder: Cinder) -> None:
    wanted = {"volumes": 20, "gigabytes": 1000, "gigabytes_fast": 500, "backups": -1}
    assert converges(cinder, volume_types=[kind()], default_quotas=wanted) == [
        "create volume type fast",
        "update quotas default (backups, gigabytes_fast, volumes)",
    ]
    assert cinder.quotas == {**volume_types.QUOTAS, "volumes": 20, "gigabytes_fast": 500, "backups": -1}
    assert converges(cinder, default_quotas={"snapshots_fast": 3}) == ["update quotas default (snapshots_fast)"]


# --- what the inventory may say ---------------------------------------------------------------------------------------

GOOD: dict[str, Any] = {
    "cinder_volume_types": [
        {"name": "a", "description": "x" * 255, "extra_specs": {"a:b": "<is> True", "c": 1}, "qos": "", "projects": []},
        {"name": "b", "state": "absent"},
    ],
    "cinder_qos_specs": [{"name": "q", "consumer": "both", "specs": {"read_iops_sec": 1}}],
    "cinder_default_quotas": {"volumes": -1, "gigabytes_a b": 0, "per_volume_gigabytes": 5},
}


@pytest.mark.parametrize("key", GOOD)
def test_good_variables_have_no_mistake(key: str) -> None:
    assert list(plan.RULES[key](GOOD[key], {})) == []


@pytest.mark.parametrize(
    ("key", "value", "place", "words"),
    [
        ("cinder_volume_types", [{"name": "a", "extra-specs": {}}], ".a.extra-specs", "extra_specs meant?"),
        ("cinder_volume_types", [{"extra_specs": {}}], "[0]", "has no `name`"),
        ("cinder_volume_types", [{"name": "a"}, {"name": "a"}], ".a", "said twice"),
        ("cinder_volume_types", [{"name": "a", "extra_specs": {"b c": 1}}], ".a.extra_specs", "keys that Cinder takes"),
        ("cinder_volume_types", [{"name": "a", "extra_specs": {"b/c": 1}}], ".a.extra_specs", "keys that Cinder takes"),
        ("cinder_volume_types", [{"name": "a", "description": "x" * 256}], ".a.description", "at most 255"),
        ("cinder_volume_types", [{"name": "a", "qos": 3}], ".a.qos", "no name"),
        ("cinder_volume_types", [{"name": "a", "is_public": True, "projects": ["b"]}], ".a.projects", "all may use"),
        ("cinder_qos_specs", [{"name": "q", "consumer": "nova"}], ".q.consumer", "front-end, back-end, both"),
        ("cinder_qos_specs", [{"name": "q", "specs": {"consumer": "both"}}], ".q.specs", "beside `specs`"),
        ("cinder_default_quotas", {"volume": 3}, ".volume", "is volumes meant?"),
        ("cinder_default_quotas", {"gigabytes_": 3}, ".gigabytes_", "no resource of a quota"),
        ("cinder_default_quotas", {"volumes": -2}, ".volumes", "-1 for no limit"),
        ("cinder_default_quotas", {"volumes": True}, ".volumes", "no quota"),
        ("cinder_default_quotas", {"volumes": 2**31}, ".volumes", "no quota"),
    ],
)
def test_mistakes_are_named_with_place_and_remedy(key: str, value: Any, place: str, words: str) -> None:
    ((where, message, remedy),) = plan.RULES[key](value, {})
    assert where == place
    assert words in f"{message}; {remedy}"


# --- the module, over HTTP --------------------------------------------------------------------------------------------


@pytest.fixture
def served(cinder: Cinder) -> Iterator[tuple[Cinder, str]]:
    """Serve Keystone and Cinder on loopback; the second is the address."""
    with api_server.served(cinder.request, "/volume/v3", f"volume {volume_types.MICROVERSION}") as url:
        yield cinder, url


def call(capsys: pytest.CaptureFixture[str], url: str, check: bool = False, **arguments: Any) -> dict[str, Any]:
    auth = {"auth_url": url, "username": "admin", "password": "hunter2", "project_name": "admin", "timeout": 5}
    taken = {"auth": auth, "volume_url": f"{url}/volume/v3", **arguments, "_ansible_check_mode": check}
    with patch_module_args(taken), pytest.raises(SystemExit):
        module.main()
    text = capsys.readouterr().out
    assert "hunter2" not in text
    result: dict[str, Any] = json.loads(text)
    return result


def said(result: dict[str, Any]) -> dict[str, Any]:
    return {key: result[key] for key in ("changed", "actions", "diff")}


NOBODY = "http://127.0.0.1:9"
WANTED: dict[str, Any] = {
    "volume_types": [kind(projects=["web"], extra_specs={"a": 1}, qos="slow"), kind("__DEFAULT__", description="Old")],
    "qos_specs": [{"name": "slow", "consumer": "both", "specs": {"a": 1}}],
    "default_quotas": {"volumes": 20, "gigabytes_fast": 5},
    "default_volume_type": "__DEFAULT__",
}


def test_the_module_over_http(served: tuple[Cinder, str], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    cinder, url = served
    record: dict[str, Any] = {"start_record": str(tmp_path / "record")}
    nowhere = call(capsys, NOBODY, check=True, **record, **WANTED)
    assert nowhere["changed"], "before there is a Cinder, all of it is predicted"
    assert said(call(capsys, url, check=True, **record, **WANTED)) == said(nowhere)
    assert cinder.calls == []
    assert said(call(capsys, url, **record, **WANTED)) == said(nowhere)
    assert call(capsys, url, **WANTED)["actions"] == []
    assert cinder.named("fast")["qos_specs_id"]


def test_a_cinder_that_was_there_has_to_answer(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "record").touch()
    monkeypatch.setattr(api_session, "log_in", partial(api_session.log_in, attempts=1))
    failed = call(capsys, NOBODY, check=True, start_record=str(tmp_path / "record"), **WANTED)
    assert failed["failed"]
    assert "refused" in failed["msg"]


# --- the action -------------------------------------------------------------------------------------------------------


def handed(in_play: list[str], name: str = "block", **variables: Any) -> dict[str, Any] | None:
    """Return what the action hands to the module in an inventory with these variables more."""
    found = plan.plan(changed(name, variables), sources.load())
    vault = Vault(bytes(range(32)), {})
    host = next(iter(found.hosts.values()))
    piece = Slice(found, host, sources.load(), Renderer(found, sources.load(), vault.value), vault)
    return action.ActionModule.__new__(action.ActionModule).arguments(piece, {"hosts": in_play})


def changed(name: str, variables: dict[str, Any]) -> Inventory:
    """Return a committed inventory in which all hosts have these variables more."""
    base = committed(name)
    more = Layer("all", variables, dict.fromkeys(variables, "group_vars/all.yml"))
    return dataclasses.replace(base, hosts={host: (*layers, more) for host, layers in base.hosts.items()})


def test_the_action_hands_out_what_the_inventory_declares() -> None:
    taken = handed(["controller1", "compute1"], cinder_default_quotas={"volumes": 3})
    assert taken is not None
    assert taken["volume_url"] == "https://10.127.10.11:8776/v3"
    assert taken["volume_types"] == [{"name": "ceph", "extra_specs": {"volume_backend_name": "ceph"}}]
    assert (taken["default_quotas"], taken["default_volume_type"]) == ({"volumes": 3}, "ceph")
    assert set(taken) == set(module.ARGUMENTS)
    assert handed(["compute1"]) is None, "the first controller is not in play"
    assert handed(["controller1"], name="three_node") is None, "there is no Cinder"
    declared = handed(["controller1"], cinder_volume_types=[kind()], cinder_default_volume_type="fast")
    assert declared is not None
    assert (declared["volume_types"], declared["default_volume_type"]) == ([kind()], "fast")


def test_the_default_type_is_the_one_of_cinders_file() -> None:
    for chosen in ("", "fast"):
        types = [kind(), kind("ceph")]
        found = plan.plan(
            changed("block", {"cinder_volume_types": types, "cinder_default_volume_type": chosen}), sources.load()
        )
        host = found.hosts["controller1"]
        files = Renderer(found, sources.load(), lambda name: name).files(host, ["cinder"])
        text = next(one.text for one in files if one.entry.path == "/etc/cinder/cinder.conf")
        assert f"default_volume_type = {volume_types.default_type(chosen, ['ceph'])}\n" in text
    assert volume_types.default_type("", []) == "__DEFAULT__"
