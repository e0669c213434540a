"""Keystone's objects: what is wanted against what the Identity API lists, as actions.

`fetch` reads, `compare` is pure but for the callables it hands out. Objects are known by names, as operators write
them; ids are looked up when a change is made, so that an object which does not exist yet can be referred to.
Paths, attributes and filters are those of the Identity API v3 (https://docs.openstack.org/api-ref/identity/v3/).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from ansible_collections.brume.cloud.plugins.module_utils.api_session import (
    FIRST_ERROR,
    UNAUTHORIZED,
    ApiError,
    Record,
    Request,
    Session,
    base_url,
    error_message,
    requests_to,
    transient,
)
from ansible_collections.brume.cloud.plugins.module_utils.convergence import (
    Action,
    ConvergenceError,
    duplicates,
    retry,
    side_by_side,
    values,
)
from ansible_collections.brume.cloud.plugins.module_utils.known_passwords import (
    Lifetime,
    Memory,
    earliest,
    forget,
    recall,
)

Key = tuple[str, ...]

SECRET = "<secret>"  # noqa: S105 - the words that stand for one
ANOTHER = "<another secret>"

NOT_SHOWN = frozenset({403, 404, 410})
"""HTTP statuses of what policy forbids or a release does not have."""

Authenticate = Callable[[str, str, str], bool]
"""Whether Keystone accepts a user (name, domain id) with a password. Raises ApiError when it cannot say."""


@dataclass(frozen=True)
class Kind:
    """One type of object: where it lives, what identifies it, which options name other objects."""

    name: str
    identity: tuple[str, ...]
    """Options that make the key; those that are references too are kept as names."""
    attributes: tuple[str, ...] = ()
    """Options that are attributes of the same name."""
    references: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Option: (kind it names, attribute that holds the id)."""
    create_step: int = 0
    delete_step: int = 0

    @property
    def plural(self) -> str:
        """Name of the collection in paths, answers and module options."""
        return f"{self.name}s"


KINDS = {
    kind.name: kind
    for kind in (
        Kind("domain", ("name",), ("description", "enabled"), create_step=0, delete_step=960),
        Kind("region", ("id",), ("description", "parent_region_id"), create_step=100, delete_step=700),
        Kind("role", ("domain", "name"), ("description",), {"domain": ("domain", "domain_id")}, 300, 650),
        Kind(
            "project", ("domain", "name"), ("description", "enabled"), {"domain": ("domain", "domain_id")}, 300, 640
        ),
        Kind("service", ("name",), ("type", "description", "enabled"), create_step=300, delete_step=620),
        Kind(
            "user",
            ("domain", "name"),
            ("description", "enabled", "email"),
            {"domain": ("domain", "domain_id"), "default_project": ("project", "default_project_id")},
            400,
            630,
        ),
        Kind(
            "endpoint",
            ("service", "interface", "region"),
            ("url", "enabled"),
            {"service": ("service", "service_id"), "region": ("region", "region_id")},
            400,
            610,
        ),
    )
}
"""Steps: what others refer to is made first and goes last. Regions use the steps 100 to 199 and 700 to 799."""

ASSIGN_STEP, UNASSIGN_STEP, DISABLE_DOMAIN_STEP, OWN_PASSWORD_STEP = 500, 600, 950, 999
REGION_DEPTH = 99
"""Regions may be nested this deep, so that parents are made before their children."""


@dataclass
class Actual:
    """What the API lists: records by kind, assignments by scope, and whose password was accepted."""

    records: dict[str, list[Record]] = field(default_factory=dict)
    assignments: list[Record] = field(default_factory=list)
    passwords: dict[Key, bool] = field(default_factory=dict)
    """User's key: whether the wanted password is the one Keystone has. Missing: it could not be asked."""
    memory: Memory = field(default_factory=Memory)
    """What is known of passwords without asking, and what is learned about them."""


Desired = Mapping[str, Sequence[Mapping[str, Any]]]
"""The module's options: lists by plural name (`users`), and `assignments`."""


def _present(item: Mapping[str, Any]) -> bool:
    return bool(item.get("state", "present") != "absent")


class Names:
    """Names of domains: an id is accepted where a name is expected, as the command line client does."""

    def __init__(self, desired: Desired, actual: Actual) -> None:
        """Learn the domains that exist or are to exist."""
        self._by_id = {record["id"]: record["name"] for record in actual.records.get("domain", [])}
        self._names = {*self._by_id.values(), *(item["name"] for item in desired.get("domains") or ())}

    def domain(self, text: str | None) -> str:
        """Return a domain's name from its name or id; empty for none."""
        if not text:
            return ""
        return text if text in self._names else self._by_id.get(text, text)

    def domain_of(self, record: Mapping[str, Any]) -> str:
        """Return the name of the domain an object of the API belongs to; empty for none."""
        number = record.get("domain_id")
        return self._by_id.get(number, str(number)) if number else ""


def label(kind: str, key: Key) -> str:
    """Return how an object is named in messages: `Default/nova`, `nova internal RegionOne`."""
    return " ".join(key) if kind == "endpoint" else "/".join(part for part in key if part)


def wanted_key(kind: Kind, item: Mapping[str, Any], names: Names) -> Key:
    """Return the key of a wanted object."""
    return tuple(
        names.domain(item.get(option)) if option == "domain" else str(item.get(option) or "")
        for option in kind.identity
    )


# --- reading ----------------------------------------------------------------------------------------------------------


def list_all(request: Request, plural: str, **filters: str) -> list[Record]:
    """Return every record of a collection, page after page.

    Pages follow `links.next`, of which only the query counts: its host is Keystone's public one. Raises ApiError.
    """
    path = f"/{plural}" + (f"?{urlencode(filters)}" if filters else "")
    records: list[Record] = []
    while True:
        body = request("GET", path)
        page = body.get(plural) or []
        records += page
        following = (body.get("links") or {}).get("next")
        if not following or not page:
            if body.get("truncated"):
                raise ApiError(
                    f"Keystone ends its list of {plural} after {len(records)} entries; "
                    "unset the list_limit options in keystone.conf, else objects would be made twice"
                )
            return records
        path = f"/{plural}?{urlsplit(following).query}"


def fetch(
    desired: Desired,
    request: Request,
    authenticate: Authenticate,
    own: tuple[Key, str] | None = None,
    memory: Memory | None = None,
) -> Actual:
    """Read what `compare` needs: each type that is wanted or referred to once, side by side.

    Users and projects are listed for the domains in question only, and assignments for the scopes in question: both
    may be many, and Keystone with a driver per domain wants to be told the domain. `own` is the caller's own key and
    password, which need no asking; neither do passwords that `memory` knows.
    Raises ConvergenceError naming every list and user that could not be read.
    """
    actual = Actual(memory=memory or Memory())
    wanted = {name: [*(desired.get(kind.plural) or ())] for name, kind in KINDS.items()}
    assignments = [*(desired.get("assignments") or ())]
    people = bool(wanted["user"] or assignments)
    needed = {
        "domain": bool(wanted["domain"] or wanted["project"] or people or any(r.get("domain") for r in wanted["role"])),
        "region": bool(wanted["region"] or wanted["endpoint"]),
        "role": bool(wanted["role"] or assignments),
        "service": bool(wanted["service"] or wanted["endpoint"]),
        "endpoint": bool(wanted["endpoint"]),
    }
    lists: dict[str, Callable[[], Any]] = {
        f"list of {KINDS[name].plural}": _lister(request, KINDS[name].plural)
        for name, flag in needed.items()
        if flag
    }
    found = values(side_by_side(lists))
    for name in needed:
        actual.records[name] = found.get(f"list of {KINDS[name].plural}", [])
    names = Names(desired, actual)
    ids = {record["name"]: record["id"] for record in actual.records["domain"]}

    role_domains = sorted({names.domain(item.get("domain")) for item in wanted["role"]} - {""})
    users, projects = _domains_in_question(wanted, assignments, names)
    lists = {f"list of users of domain {name}": _lister(request, "users", domain_id=ids[name])
             for name in sorted(users) if name in ids}
    lists |= {f"list of projects of domain {name}": _lister(request, "projects", domain_id=ids[name])
              for name in sorted(projects) if name in ids}
    lists |= {f"list of roles of domain {name}": _lister(request, "roles", domain_id=ids[name])
              for name in role_domains if name in ids}
    for name, records in values(side_by_side(lists)).items():
        kind = name.split()[2].removesuffix("s")
        actual.records.setdefault(kind, []).extend(records)
    # `is_domain` projects are the domains themselves.
    actual.records["project"] = [r for r in actual.records.get("project", []) if not r.get("is_domain")]
    actual.records.setdefault("user", [])

    lists = dict(_scope_lists(assignments, names, actual, request))
    asked: dict[str, tuple[Key, str, str]] = {}
    index = _by_key(KINDS["user"], actual, names, wanted["user"])
    for item in wanted["user"]:
        key = wanted_key(KINDS["user"], item, names)
        record = index.get(key)
        if not _asks_password(item) or record is None or not record.get("enabled", True):
            continue
        if own == (key, item["password"]) or actual.memory.knows(record, item["password"]):
            actual.passwords[key] = True
            continue
        name = f"user {label('user', key)}"
        asked[name] = (key, record["id"], item["password"])
        lists[name] = _asker(authenticate, record, item["password"])
    for name, outcome in values(side_by_side(lists)).items():
        if name not in asked:
            actual.assignments += outcome
            continue
        key, number, password = asked[name]
        actual.passwords[key] = outcome
        if outcome:
            actual.memory.learn(number, password)
    return actual


def remembered(record: Mapping[str, Any], key: str, token: Lifetime, request: Request) -> Memory:
    """Return what an earlier run's record tells about passwords, held against Keystone's revocation events.

    Where Keystone does not show the events, or has none any more, nothing is known. Raises ApiError.
    """
    memory = recall(record, key, token)
    since = earliest(memory)
    if not since:
        return memory
    try:
        forget(memory, request("GET", f"/OS-REVOKE/events?{urlencode({'since': since})}").get("events") or ())
    except ApiError as error:
        if error.status not in NOT_SHOWN:
            raise
        return Memory(key, token)
    return memory


def _asks_password(item: Mapping[str, Any]) -> bool:
    return bool(item.get("password")) and _present(item) and item.get("update_password", "always") == "always"


def _lister(request: Request, plural: str, **filters: str) -> Callable[[], list[Record]]:
    return lambda: list_all(request, plural, **filters)


def _asker(authenticate: Authenticate, record: Record, password: str) -> Callable[[], bool]:
    return lambda: authenticate(record["name"], record["domain_id"], password)


def _domains_in_question(
    wanted: Mapping[str, Sequence[Mapping[str, Any]]], assignments: Iterable[Mapping[str, Any]], names: Names
) -> tuple[set[str], set[str]]:
    """Return the domains whose users, and those whose projects, have to be listed."""
    users = {names.domain(item.get("domain")) for item in wanted["user"]}
    projects = {names.domain(item.get("domain")) for item in wanted["project"]}
    projects |= {_project_domain(item, names) for item in wanted["user"] if item.get("default_project")}
    for item in assignments:
        users.add(names.domain(item.get("user_domain")))
        if item.get("project"):
            projects.add(names.domain(item.get("project_domain")))
    return users - {""}, projects - {""}


def _project_domain(item: Mapping[str, Any], names: Names) -> str:
    """Return the domain of a user's default project, which is the user's own unless said otherwise."""
    return names.domain(item.get("default_project_domain") or item.get("domain"))


def _scope_lists(
    assignments: Iterable[Mapping[str, Any]], names: Names, actual: Actual, request: Request
) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield a listing of role assignments for every scope that is wanted and exists."""
    projects = _by_key(KINDS["project"], actual, names)
    domains = {record["name"]: record for record in actual.records["domain"]}
    for key in sorted({_scope(item, names) for item in assignments}):
        record: Mapping[str, Any] | None
        if key[0] == "system":
            filters = {"scope.system": "all"}
        elif key[0] == "domain":
            if (record := domains.get(key[1])) is None:
                continue
            filters = {"scope.domain.id": record["id"]}
        else:
            if (record := projects.get(key[1:])) is None:
                continue
            filters = {"scope.project.id": record["id"]}
        yield f"list of role assignments on {' '.join(key)}", _lister(request, "role_assignments", **filters)


def _by_key(
    kind: Kind, actual: Actual, names: Names, wanted: Iterable[Mapping[str, Any]] = ()
) -> dict[Key, Record]:
    """Return the records of a kind by key. Of several with one key, the one that fits a wanted object best stays."""
    grouped: dict[Key, list[Record]] = {}
    for record in actual.records.get(kind.name, []):
        grouped.setdefault(_actual_key(kind, record, actual, names), []).append(record)
    fits = {wanted_key(kind, item, names): item for item in wanted}
    return {
        key: max(group, key=lambda record: _fitness(fits.get(key, {}), record)) for key, group in grouped.items()
    }


def _fitness(item: Mapping[str, Any], record: Record) -> int:
    """Return how many of the attributes that make up what clients see are as wanted."""
    return sum(record.get(name) == item.get(name) for name in ("type", "url"))


def _actual_key(kind: Kind, record: Record, actual: Actual, names: Names) -> Key:
    """Return the key of a record the API listed."""
    if kind.name == "endpoint":
        services = {item["id"]: item.get("name") or item["type"] for item in actual.records.get("service", [])}
        service = services.get(record.get("service_id"), str(record.get("service_id")))
        return (service, str(record.get("interface")), str(record.get("region_id") or ""))
    if kind.name == "service":
        return (record.get("name") or record["type"],)
    return tuple(
        names.domain_of(record) if option == "domain" else str(record.get(option) or "") for option in kind.identity
    )


def _scope(item: Mapping[str, Any], names: Names) -> Key:
    """Return the scope of a wanted assignment: its type and key."""
    if item.get("system"):
        return ("system", str(item["system"]))
    if item.get("project"):
        return ("project", names.domain(item.get("project_domain")), str(item["project"]))
    return ("domain", names.domain(item.get("domain")))


BOOTSTRAP_ROLES = ("admin", "manager", "member", "reader", "service")
"""Roles that `keystone-manage bootstrap` makes (keystone.cmd.bootstrap at 2026.1)."""


def after_bootstrap(desired: Desired, auth: Mapping[str, Any]) -> Actual:
    """Return what Keystone will hold when it has been bootstrapped and nothing else, for a dry run before that.

    The identity service, its endpoints and the region are those that are wanted, since the bootstrap is told the same.
    It makes a project of the administrator's name where `auth` names none.
    """
    domain, name = "default", "Default"

    def record(kind: str, key: str, **more: Any) -> Record:
        return {"id": f"{kind} {key}", "name": key, "enabled": True, **more}

    identity = [item for item in desired.get("services") or () if item.get("type") == "identity"]
    names = {item["name"] for item in identity}
    records = {
        "domain": [{"id": domain, "name": name, "enabled": True, "description": "The default domain"}],
        "region": [
            {"id": item["id"], "description": "", "parent_region_id": None} for item in desired.get("regions") or ()
        ],
        "role": [record("role", role, domain_id=None) for role in BOOTSTRAP_ROLES],
        "project": [record("project", str(auth.get("project_name") or auth["username"]), domain_id=domain)],
        "user": [record("user", auth["username"], domain_id=domain)],
        "service": [record("service", item["name"], type="identity") for item in identity],
        "endpoint": [
            {
                "id": f"endpoint {item['service']} {item['interface']}",
                "service_id": f"service {item['service']}",
                "region_id": item["region"],
                "interface": item["interface"],
                "url": item["url"],
                "enabled": True,
            }
            for item in desired.get("endpoints") or ()
            if item["service"] in names
        ],
    }
    return Actual(records)


# --- comparing --------------------------------------------------------------------------------------------------------


@dataclass
class World:
    """Which objects exist, or will once the actions have run, and their ids as far as they are known."""

    ids: dict[tuple[str, Key], str | None]
    going: set[tuple[str, Key]]

    def usable(self, kind: str, key: Key) -> bool:
        """Whether an object can be referred to after the run."""
        return (kind, key) in self.ids and (kind, key) not in self.going

    def label_of(self, kind: str, number: str | None) -> str:
        """Return how the object with an id is named; the id itself when it is not listed, empty for none."""
        for (name, key), known in self.ids.items():
            if name == kind and known is not None and known == number:
                return label(kind, key)
        return number or ""

    def id(self, kind: str, key: Key) -> str:
        """Return an id. Raises ConvergenceError when the object's creation failed."""
        number = self.ids.get((kind, key))
        if number is None:
            raise ConvergenceError(f"{kind} {label(kind, key)} does not exist")
        return number


@dataclass(frozen=True)
class Comparison:
    """What the comparison of every object needs."""

    desired: Desired
    actual: Actual
    request: Request
    own: tuple[Key, str] | None
    names: Names
    world: World
    chosen: Mapping[str, Mapping[Key, Record]]
    """The record of each object that exists, by kind and key."""


def compare(desired: Desired, actual: Actual, request: Request, own: tuple[Key, str] | None = None) -> list[Action]:
    """Return the actions that turn what is there into what is wanted, in the order of their steps.

    `own` is the key and password of the user whose token is in use. A change of its password ends that token, so it
    comes after everything else.
    Raises ConvergenceError with every mistake of the wanted state: objects named twice or never, scopes missing.
    """
    names = Names(desired, actual)
    problems = list(_ambiguous_services(desired, actual))
    world = World({}, set())
    chosen = {
        name: _by_key(kind, actual, names, desired.get(kind.plural) or ()) for name, kind in KINDS.items()
    }
    for kind, key, item in _wanted(desired, names):
        if _present(item):
            world.ids[kind.name, key] = None
        else:
            world.going.add((kind.name, key))
    world.ids |= {(name, key): record["id"] for name, found in chosen.items() for key, record in found.items()}
    problems += [
        f"{name}: named more than once; one entry may stay"
        for name in duplicates(f"{kind.name} {label(kind.name, key)}" for kind, key, _item in _wanted(desired, names))
    ]
    context = Comparison(desired, actual, request, own, names, world, chosen)
    actions: list[Action] = []
    for kind, key, item in _wanted(desired, names):
        try:
            actions += _present_actions(context, kind, key, item) if _present(item) else _deletions(context, kind, key)
        except ConvergenceError as error:
            problems.append(str(error))
    found, assignment_actions = _assignments(context)
    problems += found
    if problems:
        raise ConvergenceError("\n".join(problems))
    return sorted(actions + assignment_actions, key=lambda action: action.step)


def _wanted(desired: Desired, names: Names) -> Iterator[tuple[Kind, Key, Mapping[str, Any]]]:
    """Yield every wanted object but assignments, with its kind and key."""
    for kind in KINDS.values():
        for item in desired.get(kind.plural) or ():
            yield kind, wanted_key(kind, item, names), item


def _ambiguous_services(desired: Desired, actual: Actual) -> Iterator[str]:
    """Yield a problem for each wanted service whose name several services bear, none of which has its type."""
    for item in desired.get("services") or ():
        same = [record for record in actual.records.get("service", []) if record.get("name") == item["name"]]
        if len(same) > 1 and sum(record["type"] == item.get("type") for record in same) != 1:
            listed = ", ".join(f"{record['id']} ({record['type']})" for record in same)
            yield f"service {item['name']}: several services bear the name: {listed}; delete all but one by id"


def _reference_keys(kind: Kind, item: Mapping[str, Any], names: Names) -> dict[str, tuple[str, Key]]:
    """Return the objects a wanted one refers to, by option: (kind, key)."""
    found: dict[str, tuple[str, Key]] = {}
    for option, (target, _attribute) in kind.references.items():
        text = item.get(option)
        if not text:
            continue
        if target == "domain":
            found[option] = (target, (names.domain(text),))
        elif target == "project":
            found[option] = (target, (_project_domain(item, names), str(text)))
        else:
            found[option] = (target, (str(text),))
    if kind.name == "region" and item.get("parent_region_id"):
        found["parent_region_id"] = ("region", (str(item["parent_region_id"]),))
    return found


def _present_actions(context: Comparison, kind: Kind, key: Key, item: Mapping[str, Any]) -> list[Action]:
    """Return the creation, or the update of what differs, of one object, and the deletion of its doubles.

    Raises ConvergenceError when it refers to what is not there.
    """
    references = _reference_keys(kind, item, context.names)
    problems = []
    for option, target in references.items():
        if not context.world.usable(*target):
            reason = "is to be deleted" if target in context.world.going else "does not exist and is not planned"
            problems.append(f"{kind.name} {label(kind.name, key)}: {option}: {target[0]} {label(*target)} {reason}")
    if problems:
        raise ConvergenceError("\n".join(problems))
    record = context.chosen[kind.name].get(key)
    if record is None:
        return [_creation(context, kind, key, item, references)]
    actions = list(_update(context, kind, key, item, references, record=record))
    return actions + (list(_surplus(context, kind, key, record)) if kind.name == "endpoint" else [])


@dataclass(frozen=True)
class Shape:
    """What a wanted object looks like: to the API (but for ids), in a diff, and its references that have an id."""

    body: dict[str, Any]
    shown: dict[str, Any]
    links: dict[str, tuple[str, Key]]
    step: int

    def resolved(self, kind: Kind, world: World, options: Iterable[str]) -> dict[str, Any]:
        """Return the body of a request that sets the given options."""
        body = {option: self.body[option] for option in options if option in self.body}
        return body | {kind.references[o][1]: world.id(*self.links[o]) for o in options if o in self.links}


def _shape(
    context: Comparison, kind: Kind, item: Mapping[str, Any], references: Mapping[str, tuple[str, Key]]
) -> Shape:
    body = {name: item[name] for name in kind.attributes if item.get(name) is not None}
    if kind.name == "user" and item.get("options"):
        body["options"] = dict(item["options"])
    links = {option: target for option, target in references.items() if option in kind.references}
    shown = body | {option: label(*target) for option, target in links.items()}
    step = kind.create_step + (_depth(item, context.desired) if kind.name == "region" else 0)
    return Shape(body, shown, links, step)


def _creation(
    context: Comparison, kind: Kind, key: Key, item: Mapping[str, Any], references: Mapping[str, tuple[str, Key]]
) -> Action:
    shape = _shape(context, kind, item, references)
    own_names = {option: item[option] for option in kind.identity if option not in kind.references}
    shape.body.update(own_names)
    shape.shown.update(own_names)
    if item.get("password"):
        shape.body["password"], shape.shown["password"] = item["password"], SECRET

    def create() -> None:
        body = shape.resolved(kind, context.world, [*shape.body, *shape.links])
        if kind.name == "region":
            # A PUT names the id, so that a second attempt cannot make a second region.
            body.pop("id")
            context.request("PUT", f"/regions/{quote(key[0], safe='')}", {"region": body})
            context.world.ids[kind.name, key] = key[0]
        else:
            answer = context.request("POST", f"/{kind.plural}", {kind.name: body})
            context.world.ids[kind.name, key] = answer[kind.name]["id"]
            if item.get("password"):
                context.actual.memory.learn(answer[kind.name]["id"], item["password"])

    return Action(kind.name, "create", label(kind.name, key), {}, shape.shown, create, shape.step)


def _update(
    context: Comparison,
    kind: Kind,
    key: Key,
    item: Mapping[str, Any],
    references: Mapping[str, tuple[str, Key]],
    *,
    record: Record,
) -> Iterator[Action]:
    shape = _shape(context, kind, item, {o: t for o, t in references.items() if o not in kind.identity})
    step = shape.step
    before = {name: _normal(name, record.get(name), shape.shown) for name in shape.body}
    for option in shape.links:
        target, attribute = kind.references[option]
        before[option] = context.world.label_of(target, record.get(attribute))
    if _password_differs(item, record, context.actual.passwords.get(key)):
        before["password"], shape.shown["password"] = ANOTHER, SECRET
        shape.body["password"] = item["password"]
        if context.own is not None and key == context.own[0]:
            step = OWN_PASSWORD_STEP
    differing = [name for name in shape.shown if before.get(name) != shape.shown[name]]
    if not differing:
        return

    def update() -> None:
        body = shape.resolved(kind, context.world, differing)
        context.request("PATCH", f"/{kind.plural}/{quote(record['id'], safe='')}", {kind.name: body})

    yield Action(kind.name, "update", label(kind.name, key), before, shape.shown, update, step)


def _password_differs(item: Mapping[str, Any], record: Record, accepted: bool | None) -> bool:
    """Whether the wanted password has to be set.

    A user that is disabled cannot be asked for; when it is enabled it gets the wanted password, to be sure.
    """
    if not _asks_password(item):
        return False
    if accepted is None:
        return not record.get("enabled", True) and item.get("enabled") is True
    return not accepted


def _normal(name: str, value: Any, shown: Mapping[str, Any]) -> Any:
    """Return an attribute of the API the way it is wanted: no text is an empty one, options only as far as given."""
    if name == "options":
        return {option: (value or {}).get(option, False) for option in shown["options"]}
    if name == "parent_region_id":
        return value or ""
    return "" if value is None and isinstance(shown.get(name), str) else value


def _depth(item: Mapping[str, Any], desired: Desired) -> int:
    """Return below how many wanted regions a region lies. Raises ConvergenceError when they form a circle."""
    parents = {str(region["id"]): region.get("parent_region_id") for region in desired.get("regions") or ()}
    depth, parent = 0, item.get("parent_region_id")
    while parent:
        depth, parent = depth + 1, parents.get(str(parent))
        if depth > REGION_DEPTH:
            raise ConvergenceError(f"region {item['id']}: its parents form a circle, or lie deeper than {REGION_DEPTH}")
    return depth


def _deletions(context: Comparison, kind: Kind, key: Key, record: Record | None = None) -> Iterator[Action]:
    """Yield the deletion of an object if it exists, and before it what Keystone wants to be done first."""
    record = record or context.chosen[kind.name].get(key)
    if record is None:
        return
    name, path = label(kind.name, key), f"/{kind.plural}/{quote(record['id'], safe='')}"
    if kind.name == "user" and context.own is not None and key == context.own[0]:
        raise ConvergenceError(f"user {name}: is the one this module logs in as; it has to stay")
    if kind.name == "domain" and record.get("enabled", True):
        yield Action(
            "domain", "update", name, {"enabled": True}, {"enabled": False},
            lambda: context.request("PATCH", path, {"domain": {"enabled": False}}), DISABLE_DOMAIN_STEP,
        )  # fmt: skip
    step = kind.delete_step
    if kind.name == "region":
        step += REGION_DEPTH - _actual_depth(context.actual.records["region"], record)
    before = {option: record[option] for option in kind.attributes if record.get(option) not in (None, "")}
    yield Action(kind.name, "delete", name, before, {}, lambda: _delete(context.request, path), step)


def _actual_depth(regions: Iterable[Record], record: Record) -> int:
    """Return below how many regions an existing region lies."""
    parents = {item["id"]: item.get("parent_region_id") for item in regions}
    depth, parent = 0, record.get("parent_region_id")
    while parent and depth < REGION_DEPTH:
        depth, parent = depth + 1, parents.get(parent)
    return depth


def _delete(request: Request, path: str) -> None:
    """Delete what is at a path; that it is gone already, with its parent or by an attempt before, is no error."""
    try:
        request("DELETE", path)
    except ApiError as error:
        if error.status != 404:  # noqa: PLR2004 - Not Found
            raise


def _surplus(context: Comparison, kind: Kind, key: Key, record: Record) -> Iterator[Action]:
    """Yield deletions of further endpoints of the same service, interface and region: clients would take any."""
    for other in context.actual.records[kind.name]:
        if other is not record and _actual_key(kind, other, context.actual, context.names) == key:
            for action in _deletions(context, kind, key, other):
                yield replace(action, name=f"{action.name} (surplus {other['id']})")


def _assignments(context: Comparison) -> tuple[list[str], list[Action]]:
    """Return the problems and actions of role assignments: a user's role on a project, a domain or the system."""
    names, world = context.names, context.world
    existing = {
        (record["role"]["id"], record["user"]["id"], *_actual_scope(record["scope"]))
        for record in context.actual.assignments
        if "user" in record and "OS-INHERIT:inherited_to" not in record["scope"]
    }
    problems: list[str] = []
    actions: list[Action] = []
    seen: list[str] = []
    for item in context.desired.get("assignments") or ():
        user = ("user", (names.domain(item.get("user_domain")), str(item["user"])))
        role = ("role", (names.domain(item.get("role_domain")), str(item["role"])))
        if len([option for option in ("project", "domain", "system") if item.get(option)]) != 1:
            problems.append(f"assignment of {label(*role)} to {label(*user)}: give one of project, domain and system")
            continue
        scope = _scope(item, names)
        name = f"{label(*role)} of {label(*user)} on {scope[0]} {label(scope[0], scope[1:])}"
        seen.append(name)
        objects = [user, role, *([] if scope[0] == "system" else [(scope[0], scope[1:])])]
        ids = [world.ids.get(target) for target in objects]
        there = None not in ids and (ids[1], ids[0], scope[0], "all" if scope[0] == "system" else ids[2]) in existing
        missing = [f"{target[0]} {label(*target)}" for target in objects if not world.usable(*target)]
        if _present(item) and missing:
            problems.append(f"assignment {name}: not there or to be deleted: {', '.join(missing)}")
        elif _present(item) and not there:
            change = partial(_assign, context, objects, scope)
            actions.append(Action("assignment", "create", name, {}, {"role": label(*role)}, change, ASSIGN_STEP))
        elif there and not _present(item):
            change = partial(_unassign, context, objects, scope)
            actions.append(Action("assignment", "delete", name, {"role": label(*role)}, {}, change, UNASSIGN_STEP))
    problems += [f"assignment {name}: named more than once; one entry may stay" for name in duplicates(seen)]
    return problems, actions


def _actual_scope(scope: Mapping[str, Any]) -> Key:
    """Return the scope of a listed assignment: its type and id."""
    for name in ("project", "domain"):
        if name in scope:
            return (name, str(scope[name]["id"]))
    return ("system", "all")


def _assignment_path(world: World, objects: Sequence[tuple[str, Key]], scope: Key) -> str:
    """Return the path that stands for an assignment of [user, role, project or domain]."""
    user, role = world.id(*objects[0]), world.id(*objects[1])
    where = "/system" if scope[0] == "system" else f"/{scope[0]}s/{world.id(*objects[2])}"
    return f"{where}/users/{user}/roles/{role}"


def _assign(context: Comparison, objects: Sequence[tuple[str, Key]], scope: Key) -> None:
    context.request("PUT", _assignment_path(context.world, objects, scope))


def _unassign(context: Comparison, objects: Sequence[tuple[str, Key]], scope: Key) -> None:
    _delete(context.request, _assignment_path(context.world, objects, scope))


def unreachable(method: str, path: str, body: Mapping[str, Any] | None = None) -> Record:
    """Refuse a request: what a Keystone that is not there yet would answer is only predicted."""
    raise ApiError(f"{method} {path}: there is no Keystone yet")


# --- talking ----------------------------------------------------------------------------------------------------------


def connect(auth_url: str, session: Session) -> tuple[Request, Authenticate, Lifetime]:
    """Return what sends requests, what asks Keystone for a password, and the lifetime of the session's token.

    Requests go to `auth_url`, not to what the catalog says, which is still being made. Raises ApiError.
    """
    base = base_url(auth_url)

    def authenticate(name: str, domain_id: str, password: str) -> bool:
        user = {"name": name, "domain": {"id": domain_id}, "password": password}
        body = {"auth": {"identity": {"methods": ["password"], "password": {"user": user}}, "scope": "unscoped"}}

        def once() -> bool:
            answer = session.send("POST", f"{base}/auth/tokens?nocatalog", body, authenticated=False)
            if answer.status_code == UNAUTHORIZED:  # with a receipt another factor is asked for
                return "Openstack-Auth-Receipt" in answer.headers
            if answer.status_code >= FIRST_ERROR:
                raise ApiError(error_message(answer), answer.status_code)
            return True

        return retry(once, transient, session.attempts, session.pause)

    return requests_to(session, base), authenticate, Lifetime(session.issued, session.expires)
