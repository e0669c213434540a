"""Keystone's catalog: a fake Identity API in memory, so that what is predicted can be held against what is done."""

from __future__ import annotations

import copy
import importlib
import itertools
import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from ansible_collections.brume.cloud.plugins.module_utils import api_session, catalog
from ansible_collections.brume.cloud.plugins.module_utils.api_session import ApiError
from ansible_collections.brume.cloud.plugins.module_utils.convergence import ConvergenceError, apply_actions, report
from ansible_collections.brume.cloud.plugins.module_utils.known_passwords import Lifetime, Memory, moment

OWN = (("Default", "admin"), "own-password")


class Keystone:
    """Collections of records as the API keeps them. `calls` holds every request but lists and logins."""

    def __init__(self, page: int = 0) -> None:
        """Start with what bootstrap makes. `page` limits lists, as Keystone's pagination does; 0 does not."""
        self.page = page
        self.calls: list[tuple[str, str, Any]] = []
        self.lists: list[str] = []
        self.logins: list[str] = []
        self.passwords = {"u-admin": "own-password"}
        self.records: dict[str, dict[str, dict[str, Any]]] = {
            "domains": {"default": {"id": "default", "name": "Default", "enabled": True, "description": ""}},
            "regions": {"RegionOne": {"id": "RegionOne", "description": "", "parent_region_id": None}},
            "projects": {"p-admin": {"id": "p-admin", "name": "admin", "domain_id": "default", "enabled": True}},
            "roles": {"r-service": {"id": "r-service", "name": "service", "domain_id": None}},
            "users": {"u-admin": {"id": "u-admin", "name": "admin", "domain_id": "default", "enabled": True}},
            "services": {},
            "endpoints": {},
        }
        self.assignments: set[tuple[str, str, str]] = set()
        self.events: list[dict[str, str]] = []
        self.numbers = itertools.count(1)
        self.now = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)

    def token(self) -> Lifetime:
        """Return the lifetime of a token that is got now."""
        return Lifetime(self.now, self.now + timedelta(hours=1))

    def set_password(self, name: str, password: str) -> None:
        """Change a user's password as its owner would, which makes tokens void."""
        number = next(r["id"] for r in self.records["users"].values() if r["name"] == name)
        self._set_password(number, password)

    def _set_password(self, number: str, password: str) -> None:
        if number in self.passwords:
            happened = self.now.strftime("%Y-%m-%dT%H:%M:%S.000000Z")
            self.events.append({"user_id": number, "issued_before": happened, "revoked_at": happened})
        self.passwords[number] = password

    def request(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Answer one request."""
        address = urlsplit(path)
        parts = [unquote(part) for part in address.path.strip("/").split("/")]
        if parts == ["OS-REVOKE", "events"]:
            since = moment(parse_qs(address.query)["since"][0])
            return {"events": [event for event in self.events if moment(event["revoked_at"]) > since]}
        if method == "GET":
            self.lists.append(path)
            return self._list(parts[0], {name: value[0] for name, value in parse_qs(address.query).items()})
        self.calls.append((method, address.path, copy.deepcopy(body)))
        if "roles" in parts[1:]:
            scope = "system" if parts[0] == "system" else parts[1]
            entry = (parts[-1], parts[-3], scope)
            (self.assignments.add if method == "PUT" else self.assignments.discard)(entry)
            return {}
        return self._change(method, parts, copy.deepcopy(dict(body or {})))

    def _list(self, plural: str, filters: dict[str, str]) -> dict[str, Any]:
        if plural == "role_assignments":
            scope = next(iter(filters.values())) if "scope.system" not in filters else "system"
            kind = "system" if scope == "system" else next(iter(filters)).split(".")[1]
            found = [{"role": {"id": r}, "user": {"id": u}, "scope": {kind: {"id": s}}}
                     for r, u, s in sorted(self.assignments) if s == scope]  # fmt: skip
            return {plural: found}
        domain = filters.get("domain_id")
        records = [r for r in self.records[plural].values() if domain in (None, r.get("domain_id"))]
        start = next((i + 1 for i, r in enumerate(records) if r["id"] == filters.get("marker")), 0)
        part = records[start : start + self.page] if self.page else records
        more = bool(self.page) and len(records) > start + self.page
        query = "&".join([*([f"domain_id={domain}"] if domain else []), f"marker={part[-1]['id']}"]) if more else ""
        following = f"https://public.example.com/v3/{plural}?{query}" if more else None
        return {plural: copy.deepcopy(part), "links": {"next": following}, "truncated": more}

    def _change(self, method: str, parts: list[str], body: dict[str, Any]) -> dict[str, Any]:
        plural = parts[0]
        kind = plural.removesuffix("s")
        if method == "DELETE":
            if parts[1] not in self.records[plural]:
                raise ApiError("Could not find it. (HTTP 404)", 404)
            del self.records[plural][parts[1]]
            if plural == "services":
                self.records["endpoints"] = {
                    number: r for number, r in self.records["endpoints"].items() if r["service_id"] != parts[1]
                }
            return {}
        values = body[kind]
        number = parts[1] if len(parts) > 1 else f"{kind[0]}-{next(self.numbers)}"
        if "password" in values:
            self._set_password(number, values.pop("password"))
        record = self.records[plural].setdefault(number, {"id": number})
        record.update(values)
        return {kind: copy.deepcopy(record)}

    def authenticate(self, name: str, domain_id: str, password: str) -> bool:
        """Say whether a user has a password."""
        self.logins.append(name)
        users = self.records["users"].values()
        number = next(u["id"] for u in users if (u["name"], u["domain_id"]) == (name, domain_id))
        return self.passwords.get(number) == password


def converge(keystone: Keystone, desired: dict[str, Any]) -> list[str]:
    """Run once, and hold what was predicted, twice, against each other; return the actions as sentences."""
    predicted = report(catalog.compare(desired, fetch(keystone, desired), keystone.request, OWN))
    keystone.calls.clear()
    actions = catalog.compare(desired, fetch(keystone, desired), keystone.request, OWN)
    assert report(actions) == predicted
    assert keystone.calls == []
    apply_actions(actions)
    assert report(actions) == predicted
    calls = list(keystone.calls)
    assert catalog.compare(desired, fetch(keystone, desired), keystone.request, OWN) == [], "the second run changes"
    keystone.calls = calls
    return [str(action) for action in actions]


def fetch(keystone: Keystone, desired: dict[str, Any]) -> catalog.Actual:
    return catalog.fetch(desired, keystone.request, keystone.authenticate, OWN)


def placement(**more: Any) -> dict[str, Any]:
    """Return a whole service as the module's options."""
    return {
        "projects": [{"name": "service", "domain": "default", "enabled": True}],
        "users": [{"name": "placement", "domain": "Default", "password": "secret-1", "default_project": "service"}],
        "assignments": [{"role": "service", "user": "placement", "user_domain": "Default",
                         "project": "service", "project_domain": "Default"}],
        "services": [{"name": "placement", "type": "placement", "description": "Placement"}],
        "endpoints": [{"service": "placement", "interface": name, "region": "RegionOne", "url": f"https://{name}:8778"}
                      for name in ("public", "internal")],
    } | more  # fmt: skip


def registered() -> Keystone:
    keystone = Keystone()
    converge(keystone, placement())
    keystone.lists.clear()
    keystone.logins.clear()
    return keystone


def test_a_service_is_made_with_all_that_depends_on_it() -> None:
    keystone = Keystone()
    assert converge(keystone, placement()) == [
        "create project Default/service",
        "create service placement",
        "create user Default/placement",
        "create endpoint placement public RegionOne",
        "create endpoint placement internal RegionOne",
        "create assignment service of Default/placement on project Default/service",
    ]
    service = next(iter(keystone.records["services"]))
    project = next(number for number in keystone.records["projects"] if number != "p-admin")
    user = next(number for number in keystone.records["users"] if number != "u-admin")
    assert {record["service_id"] for record in keystone.records["endpoints"].values()} == {service}
    assert keystone.records["users"][user]["default_project_id"] == project
    assert keystone.assignments == {("r-service", user, project)}


def test_each_type_is_listed_once_and_only_if_needed() -> None:
    keystone = registered()
    fetch(keystone, placement())
    assert sorted(re.sub(r"=p-\w+", "=ID", path) for path in keystone.lists) == [
        "/domains", "/endpoints", "/projects?domain_id=default", "/regions", "/role_assignments?scope.project.id=ID",
        "/roles", "/services", "/users?domain_id=default",
    ]  # fmt: skip
    keystone.lists.clear()
    fetch(keystone, {"services": [{"name": "a", "type": "a"}]})
    assert keystone.lists == ["/services"]


def test_lists_are_followed_to_their_last_page() -> None:
    keystone = Keystone(page=2)
    names = [f"s{number}" for number in range(7)]
    desired = {"services": [{"name": name, "type": name} for name in names]}
    assert len(converge(keystone, desired)) == 7
    users = {"users": [{"name": name, "domain": "Default"} for name in names]}
    assert len(converge(keystone, users)) == 7


def test_a_list_that_ends_early_is_an_error() -> None:
    def request(method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        del method, path, body
        return {"services": [{"id": "1"}], "truncated": True}

    with pytest.raises(ApiError, match="ends its list of services after 1 entries"):
        catalog.list_all(request, "services")


@pytest.mark.parametrize(
    ("change", "action", "sent"),
    [
        ({"services": [{"name": "placement", "type": "resources", "description": "Placement", "enabled": None}]},
         "update service placement (type)",
         {"service": {"type": "resources"}}),
        ({"endpoints": [{"service": "placement", "interface": "public", "region": "RegionOne", "url": "https://new"}]},
         "update endpoint placement public RegionOne (url)", {"endpoint": {"url": "https://new"}}),
        ({"projects": [{"name": "service", "domain": "default", "enabled": False}]},
         "update project Default/service (enabled)", {"project": {"enabled": False}}),
        ({"users": [{"name": "placement", "domain": "Default", "email": "a@example.com"}]},
         "update user Default/placement (email)", {"user": {"email": "a@example.com"}}),
        ({"users": [{"name": "placement", "domain": "Default", "default_project": "admin"}]},
         "update user Default/placement (default_project)", {"user": {"default_project_id": "p-admin"}}),
        ({"users": [{"name": "placement", "domain": "Default", "options": {"ignore_password_expiry": True}}]},
         "update user Default/placement (options)", {"user": {"options": {"ignore_password_expiry": True}}}),
        ({"regions": [{"id": "RegionOne", "description": "first"}]}, "update region RegionOne (description)",
         {"region": {"description": "first"}}),
    ],
)  # fmt: skip
def test_only_what_differs_is_sent(change: dict[str, Any], action: str, sent: dict[str, Any]) -> None:
    keystone = registered()
    assert converge(keystone, change) == [action]
    assert [(method, body) for method, _path, body in keystone.calls] == [("PATCH", sent)]


@pytest.mark.parametrize(
    ("user", "actions", "logins"),
    [
        ({"password": "secret-1"}, [], 1),
        ({"password": "secret-2"}, ["update user Default/placement (password)"], 1),
        ({"password": "secret-2", "update_password": "on_create"}, [], 0),
        ({}, [], 0),
    ],
)
def test_passwords_are_compared_by_logging_in(user: dict[str, Any], actions: list[str], logins: int) -> None:
    keystone = registered()
    desired = {"users": [{"name": "placement", "domain": "Default"} | user]}
    actual = fetch(keystone, desired)
    assert len(keystone.logins) == logins
    found = catalog.compare(desired, actual, keystone.request, OWN)
    assert [str(action) for action in found] == actions
    assert "secret-2" not in str(report(found))
    converge(keystone, desired)


class Deployment:
    """Runs one after the other on one host, which keeps what the module remembers."""

    def __init__(self, keystone: Keystone) -> None:
        """Start with nothing remembered."""
        self.keystone = keystone
        self.record: dict[str, Any] = {}

    def run(self, desired: dict[str, Any], minutes: float = 5) -> tuple[list[str], list[str]]:
        """Run so many minutes after the last time; return the actions and whose password was asked for."""
        keystone = self.keystone
        keystone.now += timedelta(minutes=minutes)
        keystone.logins.clear()
        memory = catalog.remembered(self.record, OWN[1], keystone.token(), keystone.request)
        actual = catalog.fetch(desired, keystone.request, keystone.authenticate, OWN, memory)
        actions = catalog.compare(desired, actual, keystone.request, OWN)
        apply_actions(actions)
        self.record = memory.record()
        return [str(action) for action in actions], list(keystone.logins)


def deployed() -> Deployment:
    deployment = Deployment(Keystone())
    deployment.run(placement())
    return deployment


SET_ANEW = ["update user Default/placement (password)"]


def test_a_known_password_is_not_asked_for_until_its_token_would_expire() -> None:
    deployment = deployed()
    assert deployment.run(placement(), 58) == ([], []), "as old as the run that made the user"
    assert deployment.run(placement(), 1.5) == ([], ["placement"]), "not prolonged by what was not asked"
    assert deployment.run(placement(), 58) == ([], []), "known from asking"
    assert "secret-1" not in str(deployment.record)


@pytest.mark.parametrize("minutes", [0, 0.5, 5, 59, 61, 600])
def test_a_password_that_was_changed_in_keystone_is_noticed(minutes: float) -> None:
    deployment = deployed()
    deployment.keystone.set_password("placement", "by hand")
    assert deployment.run(placement(), minutes) == (SET_ANEW, ["placement"])
    assert deployment.run(placement(), 2) == ([], ["placement"]), "what was changed is asked for once more"
    assert deployment.run(placement(), 2) == ([], [])


def test_controllers_clocks_may_be_apart() -> None:
    deployment = deployed()
    deployment.keystone.now -= timedelta(seconds=50)
    deployment.keystone.set_password("placement", "by hand")
    assert deployment.run(placement(), 2) == (SET_ANEW, ["placement"])


def test_another_wanted_password_is_noticed() -> None:
    deployment = deployed()
    user = placement()["users"][0] | {"password": "secret-2"}
    assert deployment.run(placement(users=[user])) == (SET_ANEW, ["placement"])


def test_what_is_not_certain_is_asked_for() -> None:
    deployment, asked = deployed(), ([], ["placement"])
    kept = deployment.record
    number = next(iter(kept["users"]))
    entry = kept["users"][number]
    for damaged in (
        {"users": []},
        {"users": {number: None}},
        {"users": {number: entry | {"issued": "yesterday"}}},
        {"users": {number: entry | {"issued": "2030-01-01T00:00:00+00:00", "expires": "2031-01-01T00:00:00+00:00"}}},
        {"users": {number: entry | {"digest": "00"}}},
        {"users": {"another": entry}},
    ):
        deployment.record = damaged
        assert deployment.run(placement(), 0) == asked, damaged
    deployment.record = kept
    assert deployment.run(placement(), 0) == ([], [])
    deployment.keystone.records["users"][number]["password_expires_at"] = "2026-05-04T12:30:00.000000"
    assert deployment.run(placement(), 0) == asked, "its expiry is no event"
    deployment.keystone.records["users"][number]["password_expires_at"] = None
    deployment.record = kept
    deployment.keystone.events.append({"user_id": number, "revoked_at": "2026-05-04T12:05:00.000000Z"})
    assert deployment.run(placement(), 0) == asked, "an event without a time"


@pytest.mark.parametrize("status", [403, 404, 410, 500])
def test_where_events_are_not_shown_every_password_is_asked_for(status: int) -> None:
    deployment = deployed()
    send = deployment.keystone.request

    def refuse(method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        if "OS-REVOKE" in path:
            raise ApiError("refused", status)
        return send(method, path, body)

    deployment.keystone.request = refuse  # type: ignore[method-assign]
    if status == 500:
        with pytest.raises(ApiError, match="refused"):
            deployment.run(placement())
    else:
        assert deployment.run(placement()) == ([], ["placement"])


def test_the_events_of_each_run_are_asked_for_anew() -> None:
    """Keystone caches lists of events by the time they start at."""
    deployment = deployed()
    paths: list[str] = []
    send = deployment.keystone.request

    def note(method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        paths.extend([path] if "OS-REVOKE" in path else [])
        return send(method, path, body)

    deployment.keystone.request = note  # type: ignore[method-assign]
    for _run in range(2):
        deployment.run(placement(), 1)
    assert paths == [
        "/OS-REVOKE/events?since=2026-05-04T11%3A05%3A00.000000Z",
        "/OS-REVOKE/events?since=2026-05-04T11%3A06%3A00.000000Z",
    ]


def test_a_refused_password_is_not_remembered() -> None:
    keystone = registered()
    keystone.set_password("placement", "by hand")
    memory = Memory("key", keystone.token())
    catalog.fetch(placement(), keystone.request, keystone.authenticate, OWN, memory)
    assert memory.record() == {"users": {}}


def test_without_a_memory_nothing_is_remembered() -> None:
    memory = Memory()
    memory.learn("u-1", "secret")
    assert memory.record() == {"users": {}}


def test_a_user_that_is_enabled_again_gets_its_password() -> None:
    keystone = registered()
    user = {"name": "placement", "domain": "Default", "password": "secret-1"}
    assert converge(keystone, {"users": [user | {"enabled": False}]}) == ["update user Default/placement (enabled)"]
    assert converge(keystone, {"users": [user | {"enabled": True}]}) == [
        "update user Default/placement (enabled, password)"
    ]


def test_the_callers_own_password_is_known_and_changes_last() -> None:
    keystone = Keystone()
    own = {"name": "admin", "domain": "default", "password": "own-password"}
    assert converge(keystone, {"users": [own]}) == []
    assert keystone.logins == []
    own["password"] = "new"
    assignment = {"role": "service", "user": "admin", "user_domain": "Default", "domain": "Default"}
    desired = {"users": [own], "assignments": [assignment]}
    assert converge(keystone, desired)[-1] == "update user Default/admin (password)"


def test_absent_objects_go_in_the_order_keystone_allows() -> None:
    keystone = registered()
    converge(keystone, {"domains": [{"name": "heat"}], "regions": [{"id": "A"}, {"id": "B", "parent_region_id": "A"}],
                        "roles": [{"name": "extra"}]})  # fmt: skip
    desired = {plural: [item | {"state": "absent"} for item in items] for plural, items in placement().items()}
    desired["domains"] = [{"name": "heat", "state": "absent"}, {"name": "never", "state": "absent"}]
    desired["regions"] = [{"id": "A", "state": "absent"}, {"id": "B", "state": "absent"}]
    desired["roles"] = [{"name": "extra", "state": "absent"}]
    assert converge(keystone, desired) == [
        "delete assignment service of Default/placement on project Default/service",
        "delete endpoint placement public RegionOne",
        "delete endpoint placement internal RegionOne",
        "delete service placement",
        "delete user Default/placement",
        "delete project Default/service",
        "delete role extra",
        "delete region B",
        "delete region A",
        "update domain heat (enabled)",
        "delete domain heat",
    ]


def test_what_went_with_its_parent_is_no_error() -> None:
    keystone = registered()
    desired = {"endpoints": [{"service": "placement", "interface": "public", "region": "RegionOne", "state": "absent"}]}
    actions = catalog.compare(desired, fetch(keystone, desired), keystone.request, OWN)
    keystone.records["endpoints"].clear()
    apply_actions(actions)


def test_objects_of_a_domain_that_is_still_to_be_made_are_predicted() -> None:
    keystone = Keystone()
    desired = {
        "domains": [{"name": "heat"}],
        "projects": [{"name": "p", "domain": "heat"}],
        "users": [{"name": "u", "domain": "heat", "password": "x"}],
        "roles": [{"name": "r", "domain": "heat"}, {"name": "admin"}],
        "regions": [{"id": "Child", "parent_region_id": "Parent"}, {"id": "Parent"}],
        "services": [{"name": "s", "type": "s"}],
        "endpoints": [{"service": "s", "interface": "public", "region": "Child", "url": "https://s"}],
        "assignments": [
            {"role": "admin", "user": "u", "user_domain": "heat", "domain": "heat"},
            {"role": "admin", "user": "u", "user_domain": "heat", "system": "all"},
        ],
    }
    actions = converge(keystone, desired)
    assert actions.index("create region Parent") < actions.index("create region Child")
    assert len(actions) == 11


@pytest.mark.parametrize("auth", [{"username": "admin", "project_name": "admin"}, {"username": "admin"}])
def test_what_comes_after_the_bootstrap_is_predicted_before_it(auth: dict[str, Any]) -> None:
    identity = [
        {"service": "keystone", "interface": name, "region": "RegionOne", "url": f"https://{name}:5000"}
        for name in ("public", "internal")
    ]
    desired = placement(
        regions=[{"id": "RegionOne"}],
        domains=[{"name": "Default", "enabled": True}],
        roles=[{"name": "service"}, {"name": "admin"}, {"name": "load-balancer_member"}],
        services=[
            {"name": "keystone", "type": "identity", "description": "Identity"},
            *placement()["services"],
        ],
        endpoints=[*identity, *placement()["endpoints"]],
    )
    desired["projects"].append({"name": "admin", "domain": "default", "enabled": True})
    predicted = catalog.compare(desired, catalog.after_bootstrap(desired, auth), catalog.unreachable, OWN)

    keystone = Keystone()
    keystone.records["roles"] = {
        f"r-{name}": {"id": f"r-{name}", "name": name, "domain_id": None}
        for name in ("admin", "manager", "member", "reader", "service")
    }
    keystone.records["services"]["s-0"] = {"id": "s-0", "name": "keystone", "type": "identity", "enabled": True}
    for number, one in enumerate(identity):
        keystone.records["endpoints"][f"e-{number}"] = {
            "id": f"e-{number}", "service_id": "s-0", "region_id": one["region"], "interface": one["interface"],
            "url": one["url"], "enabled": True,
        }  # fmt: skip
    actions = [str(action) for action in predicted]
    assert converge(keystone, desired) == actions
    assert actions == [
        "create role load-balancer_member",
        "create project Default/service",
        "update service keystone (description)",
        "create service placement",
        "create user Default/placement",
        "create endpoint placement public RegionOne",
        "create endpoint placement internal RegionOne",
        "create assignment service of Default/placement on project Default/service",
    ]
    with pytest.raises(ConvergenceError, match="there is no Keystone yet"):
        apply_actions(predicted)


def test_doubles_of_an_endpoint_go_and_the_one_that_fits_stays() -> None:
    keystone = registered()
    first = next(r for r in keystone.records["endpoints"].values() if r["interface"] == "public")
    keystone.records["endpoints"] = {"e-0": first | {"id": "e-0", "url": "https://old"}} | keystone.records["endpoints"]
    assert converge(keystone, placement()) == ["delete endpoint placement public RegionOne (surplus e-0)"]


def test_inherited_assignments_are_other_objects() -> None:
    keystone = Keystone()
    desired = {"assignments": [{"role": "service", "user": "admin", "user_domain": "Default", "domain": "Default"}]}
    actual = fetch(keystone, desired)
    scope = {"domain": {"id": "default"}, "OS-INHERIT:inherited_to": "projects"}
    actual.assignments = [{"role": {"id": "r-service"}, "user": {"id": "u-admin"}, "scope": scope}]
    assert len(catalog.compare(desired, actual, keystone.request, OWN)) == 1


def test_every_mistake_is_reported_at_once() -> None:
    keystone = Keystone()
    for number in ("1", "2"):
        keystone.records["services"][number] = {"id": number, "name": "twin", "type": f"t{number}"}
    desired = {
        "users": [{"name": "u", "domain": "none"}, {"name": "admin", "domain": "Default", "state": "absent"}],
        "services": [{"name": "a", "type": "a"}, {"name": "a", "type": "b"}, {"name": "twin", "type": "t3"}],
        "endpoints": [{"service": "zz", "interface": "public", "region": "Mars", "url": "u"}],
        "assignments": [
            {"role": "nope", "user": "admin", "user_domain": "Default", "system": "all"},
            {"role": "service", "user": "admin", "user_domain": "Default"},
        ],
        "regions": [{"id": "X", "parent_region_id": "Y"}, {"id": "Y", "parent_region_id": "X"}],
    }
    with pytest.raises(ConvergenceError) as caught:
        catalog.compare(desired, fetch(keystone, desired), keystone.request, OWN)
    assert str(caught.value).splitlines() == [
        "service twin: several services bear the name: 1 (t1), 2 (t2); delete all but one by id",
        "service a: named more than once; one entry may stay",
        "region X: its parents form a circle, or lie deeper than 99",
        "region Y: its parents form a circle, or lie deeper than 99",
        "user none/u: domain: domain none does not exist and is not planned",
        "user Default/admin: is the one this module logs in as; it has to stay",
        "endpoint zz public Mars: service: service zz does not exist and is not planned",
        "endpoint zz public Mars: region: region Mars does not exist and is not planned",
        "assignment nope of Default/admin on system all: not there or to be deleted: user Default/admin, role nope",
        "assignment of service to Default/admin: give one of project, domain and system",
    ]


def test_errors_name_the_object() -> None:
    keystone = Keystone()

    def refuse(method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        if method == "POST":
            raise ApiError("Invalid input. (HTTP 400)", 400)
        return keystone.request(method, path, body)

    desired = {"services": [{"name": "a", "type": "a"}, {"name": "b", "type": "b"}]}
    actions = catalog.compare(desired, catalog.fetch(desired, refuse, keystone.authenticate), refuse)
    with pytest.raises(ConvergenceError) as caught:
        apply_actions(actions, 4)
    assert str(caught.value).splitlines() == [f"create service {n}: Invalid input. (HTTP 400)" for n in "ab"]


def _chain(outer: Exception, inner: Exception) -> Exception:
    outer.__context__ = inner
    return outer


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (ConnectionRefusedError(), api_session.REFUSED),
        (_chain(RuntimeError("outer"), _chain(RuntimeError("middle"), ConnectionRefusedError())), api_session.REFUSED),
        (RuntimeError(("Connection aborted.", 1), ConnectionResetError()), api_session.RESET),
        (_chain(RuntimeError("outer"), TimeoutError()), None),
    ],
)
def test_transient_connection_errors_are_found_below_others(error: Exception, name: str | None) -> None:
    assert api_session.connection_error(error) == name


@pytest.mark.parametrize("url", ["http://a:5000", "http://a:5000/", "http://a:5000/v3", "http://a:5000/v3/"])
def test_the_address_may_lack_the_version(url: str) -> None:
    assert api_session.base_url(url) == "http://a:5000/v3"


@pytest.mark.parametrize("loaded", [True, False])
def test_a_package_is_hidden_for_a_while(loaded: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "brume_tracer").mkdir()
    (tmp_path / "brume_tracer/web.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    before = importlib.import_module("brume_tracer") if loaded else None
    with pytest.raises(ImportError), api_session.hidden("brume_tracer"):
        importlib.import_module("brume_tracer.web")
    assert sys.modules.get("brume_tracer") is before
    assert importlib.import_module("brume_tracer.web")
    for name in ("brume_tracer", "brume_tracer.web"):
        sys.modules.pop(name)
