"""Service descriptions: `roles/<name>/meta/service.yml`, read into types and checked key by key.

Every mistake is collected, with the file, the key and the remedy; nothing is guessed.
"""

from __future__ import annotations

import graphlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

WAVES = ("infrastructure", "identity", "core")
"""Waves in the order in which their services start."""

GROUPS = (
    "control",
    "network",
    "compute",
    "block",
    "object",
    "ceph_mon",
    "ceph_osd",
    "loadbalancer",
    "database",
    "messaging",
)
REMOVED = "removed"
"""Group of the hosts that `playbooks/remove.yml` takes out of the cloud; they are in no group of GROUPS."""

KINDS = ("wsgi", "daemon", "system")
ON_CHANGE = ("restart", "reload", "none")
COMMANDS = ("check", "sync", "expand", "online", "contract", "diagnose")
"""What a service has commands for: schema.Stage, and what is read for a diagnosis."""
HEALTH = ("http", "tcp", "queue", "command")
ONLY = ("", "cluster", "vip")
EXPOSURE_LIMIT, EXPOSURE_WORST = 6.0, 10.0
"""Above the first a unit needs a reason; the second is the end of the scale (systemd-analyze(1), security)."""

NETWORK_FALLBACKS = {"tunnel": "management", "api": "management", "storage": "management", "replication": "storage"}
"""Networks on which hosts have an address, with the one whose address they have where the inventory has no such one."""

PORT_MAXIMUM = 65535
_NAME = re.compile(r"[a-z][a-z0-9-]*")
_STORED_NAME = re.compile(r"[a-z][a-z0-9_]*")
_UNIT = re.compile(r"[A-Za-z0-9:_.@-]+(@\{host\})?\.(service|socket|target|timer|mount|path)")
_MODE = re.compile(r"0[0-7]{3}")
_PATH = re.compile(r"(/[A-Za-z0-9._-]+)+")
_STORED_REMEDY = "use lower-case letters, digits and underscores"
_MODE_REMEDY = 'write four octal digits in quotes, such as "0640"'


@dataclass(frozen=True)
class Problem:
    """A mistake in the operator's or the project's data: where it stands, what is wrong, what to do."""

    where: str
    message: str
    remedy: str

    def __str__(self) -> str:
        """Return one line for people."""
        return f"{self.where}: {self.message}; {self.remedy}"


_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")
_CONTROL_OR_BREAK = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


def control_character(value: Any, breaks: bool = True) -> str:
    """Return a text inside of a value, keys included, that has a character no file or line can hold; or nothing.

    Those are control characters and halves of surrogate pairs; with `breaks`, tabs and line breaks are allowed.
    """
    if isinstance(value, str):
        return value if (_CONTROL if breaks else _CONTROL_OR_BREAK).search(value) else ""
    items: list[Any] = []
    if isinstance(value, Mapping):
        items = [*value.keys(), *value.values()]
    elif isinstance(value, (list, tuple)):
        items = list(value)
    return next((found for item in items if (found := control_character(item, breaks))), "")


@dataclass(frozen=True)
class Named:
    """A database or vhost; with `each`, the name is a pattern such as `nova_{cell}`."""

    name: str
    each: str | None = None


@dataclass(frozen=True)
class Catalog:
    """What Keystone's catalog says of the service."""

    type: str
    description: str
    component: str
    path: str = ""


@dataclass(frozen=True)
class Exposure:
    """Why a unit's exposure as `systemd-analyze security` counts it, 0 to 10, may be above EXPOSURE_LIMIT."""

    limit: float
    reason: str


@dataclass(frozen=True)
class Balance:
    """How the load balancer hands a component's own protocol on: all connections to one member at a time.

    `port` is the member's and the load balancer's, at `check` each member says by HTTP whether it can serve.
    """

    port: int
    check: int


Conditions = Mapping[str, Any]
"""Variable of the cloud -> the value with which something is there.

Of a list it is an item, and of a mapping of mappings it is what one of those has to hold. Several values that will do
are a list.
"""


@dataclass(frozen=True)
class Component:
    """One process (or set of equal processes) of a service."""

    name: str
    groups: tuple[str, ...]
    kind: str
    each: str | None = None
    app: str = ""
    port: int = 0
    public: bool = True
    websocket: bool = False
    failover: bool = False
    """Requests go to one host, and to another only while that one is lost, because it holds what they are about."""
    repeatable: tuple[str, ...] = ()
    """Paths to which a POST may be sent again where its answer was lost: it makes nothing that stays."""
    processes: int = 0
    threads: int = 1
    environment: Mapping[str, str] = field(default_factory=dict)
    uwsgi: Mapping[str, Any] = field(default_factory=dict)
    health: Any = None
    command: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    unit: Any = None
    sandbox: str = "full"
    user: str = ""
    unix_groups: tuple[str, ...] = ()
    shell: str = ""
    """Login shell that its user needs; without one the user has none (nologin(8))."""
    on_change: str = "restart"
    keeps_versions: bool = False
    """Whether a process keeps from its start on which versions the other ones of the service have."""
    on_renewal: str = ""
    """What a new certificate needs where that is less than `on_change`."""
    ports: tuple[Any, ...] = ()
    packages: tuple[str, ...] = ()
    system_modules: tuple[str, ...] = ()
    """Modules of the operating system's Python that the environment sees: bindings that no index has."""
    python_packages: tuple[str, ...] = ()
    """Packages of the lock that it alone needs: environments of hosts where it does not run are built without them."""
    timeout: int = 120
    exposure: Exposure | None = None
    only: str = ""
    """Where it runs at all: everywhere, with `cluster` in a group of several hosts, with `vip` for a shared address."""
    balance: Balance | None = None
    """For groups of several hosts."""
    data: str = ""
    """Folder whose content is the component's own and that nobody else may have filled."""
    when: Conditions = field(default_factory=dict)
    only_when: Mapping[tuple[str, str], Conditions] = field(default_factory=dict)
    """By list (`group`, `groups`, `packages`, `system_modules`) and item: when it is there; `failover` has no items."""


@dataclass(frozen=True)
class Sections:
    """Sections of a file that a variable names: one for each item of a mapping of mappings.

    An item has the options of the section of the tree `settings` that its `type` names, and its own further keys are
    options too.
    """

    variable: str
    settings: str
    schema: str = ""
    """Section of the release's schema that knows the options of every item."""


@dataclass(frozen=True)
class File:
    """A configuration file: a relative name lives below /etc/<service>/."""

    name: str
    components: tuple[str, ...]
    settings: tuple[str, ...] = ()
    template: str = ""
    each: str | None = None
    auth_sections: tuple[str, ...] = ()
    owner: str = "root"
    group: str = ""
    mode: str = "0640"
    format: str = "ini"
    """`ini` are the service's own options, `ceph` those of Ceph, `text` is anything else."""
    sections: Sections | None = None
    when: Conditions = field(default_factory=dict)
    only_when: Mapping[tuple[str, str], Conditions] = field(default_factory=dict)
    """As Component.only_when, for `settings`."""


@dataclass(frozen=True)
class Directory:
    """A directory beside the derived ones."""

    path: str
    mode: str = "0750"
    owner: str = ""
    group: str = ""
    components: tuple[str, ...] = ()


@dataclass(frozen=True)
class Purge:
    """One command that ends rows which are marked as deleted: its words, and the exit codes of a success.

    `{before}` and `{days}` stand for the moment before which they were deleted, in UTC, and for the days since then.
    """

    words: tuple[str, ...]
    success: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class Cleanup:
    """How a service's databases lose rows that are marked as deleted (`deleted_at`, oslo.db's SoftDeleteMixin).

    The commands run in order and may do a part each time: they are repeated as long as there are fewer rows then.
    """

    commands: tuple[Purge, ...]
    keeps: tuple[str, ...] = ()
    """Tables whose rows the commands leave."""


@dataclass(frozen=True)
class Identity:
    """A file in which a component keeps who it is, and where its service's databases have that too.

    Without the file a bare host would be another one. `host` and `identity` are columns of `table`, whose rows that
    are marked as deleted (`deleted`, oslo.db's SoftDeleteMixin) do not count.
    """

    component: str
    file: str
    table: str
    host: str
    identity: str


@dataclass(frozen=True)
class Restore:
    """What a restore does with a service's databases before anybody uses them, and with its hosts."""

    ahead: tuple[str, ...] = ()
    """Tables whose next numbers come after those that rows made since the backup had: what bears them may be there."""
    identities: tuple[Identity, ...] = ()


@dataclass(frozen=True)
class Service:
    """One service: an OpenStack project or a piece of infrastructure."""

    name: str
    wave: str
    file: str
    description: str = ""
    requires: tuple[str, ...] = ()
    catalog: Catalog | None = None
    auth: bool = False
    service_roles: tuple[str, ...] = ("service",)
    roles: tuple[str, ...] = ()
    """Roles that the service gives a meaning to and Keystone's bootstrap does not make; nobody has them at first."""
    databases: tuple[Named, ...] = ()
    vhosts: tuple[Named, ...] = ()
    secrets: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    directories: tuple[Directory, ...] = ()
    components: Mapping[str, Component] = field(default_factory=dict)
    files: Mapping[str, File] = field(default_factory=dict)
    commands: Mapping[str, tuple[tuple[str, ...], ...]] = field(default_factory=dict)
    cleanup: Cleanup | None = None
    restore: Restore = field(default_factory=Restore)
    python_packages: tuple[str, ...] = ()
    when: Conditions = field(default_factory=dict)
    only_when: Mapping[tuple[str, str], Conditions] = field(default_factory=dict)
    """As Component.only_when, for `service_roles`."""


def conditions(service: Service) -> list[Conditions]:
    """Return all conditions of a description, in order."""
    found = [service.when, *service.only_when.values()]
    for component in service.components.values():
        found += [component.when, *component.only_when.values()]
    for file in service.files.values():
        found += [file.when, *file.only_when.values()]
    return [one for one in found if one]


def holds(condition: Conditions, variables: Mapping[str, Any]) -> bool:
    """Return whether a cloud with these variables fulfills a condition."""
    return all(_fits(value, variables.get(name)) for name, value in condition.items())


def _fits(wanted: Any, value: Any) -> bool:
    """Return whether a variable's value is what a condition wants (Conditions)."""
    if isinstance(wanted, Mapping):
        items = value.values() if isinstance(value, Mapping) else ()
        return any(
            isinstance(item, Mapping) and all(key in item and item[key] == one for key, one in wanted.items())
            for item in items
        )
    if isinstance(value, (list, tuple)) and not isinstance(wanted, list):
        return wanted in value
    return value in wanted if isinstance(wanted, list) and not isinstance(value, list) else bool(value == wanted)


def settled(service: Service, variables: Mapping[str, Any]) -> Service | None:
    """Return a service as a cloud with these variables has it, without any condition; None where it has none of it."""
    if not holds(service.when, variables):
        return None

    def kept(one: Component | File | Service, key: str, items: Iterable[str]) -> tuple[str, ...]:
        return tuple(item for item in items if holds(one.only_when.get((key, item), {}), variables))

    components = {
        name: replace(
            one,
            groups=kept(one, "group", one.groups),
            unix_groups=kept(one, "groups", one.unix_groups),
            packages=kept(one, "packages", one.packages),
            system_modules=kept(one, "system_modules", one.system_modules),
            failover=one.failover and holds(one.only_when.get(("failover", ""), {}), variables),
            when={},
            only_when={},
        )
        for name, one in service.components.items()
        if holds(one.when, variables)
    }
    if service.components and not components:
        return None

    def there(names: Iterable[str]) -> tuple[str, ...]:
        return tuple(name for name in names if name in components)

    return replace(
        service,
        components={name: replace(one, after=there(one.after)) for name, one in components.items()},
        files={
            name: replace(
                one,
                components=there(one.components),
                settings=kept(one, "settings", one.settings),
                when={},
                only_when={},
            )
            for name, one in service.files.items()
            if there(one.components) and holds(one.when, variables)
        },
        directories=tuple(
            replace(one, components=there(one.components))
            for one in service.directories
            if not one.components or there(one.components)
        ),
        service_roles=kept(service, "service_roles", service.service_roles),
        when={},
        only_when={},
    )


class _Reader:
    """Reads one mapping: types are checked, unknown keys and missing ones are problems."""

    def __init__(self, problems: list[Problem], file: str, prefix: str, data: Any) -> None:
        self.problems, self.file, self.prefix = problems, file, prefix
        self.data: dict[str, Any] = {}
        self.known: set[str] = set()
        if isinstance(data, Mapping):
            self.data = {str(key): value for key, value in data.items()}
        elif data is not None:
            self.problem("", f"is {_kind(data)}, a mapping is needed", "write `key: value` lines below it")

    def problem(self, key: str, message: str, remedy: str) -> None:
        """Note a mistake at a key."""
        path = ".".join(part for part in (self.prefix, key) if part)
        self.problems.append(Problem(f"{self.file}: {path}" if path else self.file, message, remedy))

    def take(self, key: str, kind: type | tuple[type, ...], default: Any) -> Any:
        """Return a value of the wanted type, or the default where it is missing or wrong."""
        self.known.add(key)
        value = self.data.get(key)
        if value is None:
            return default
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            unquoted = kind is str and isinstance(value, (int, float))
            remedy = "write it in quotes" if unquoted else "correct the value"
            self.problem(key, f"is {_kind(value)}, {_types(kind)} is needed", remedy)
            return default
        return value

    def text(self, key: str, default: str = "") -> str:
        """Return a string."""
        return str(self.take(key, str, default))

    def choice(self, key: str, allowed: Sequence[str], default: str) -> str:
        """Return one of the allowed words."""
        value = self.text(key, default)
        if value not in allowed:
            self.problem(key, f"`{value}` is not known", "use one of " + ", ".join(filter(None, allowed)))
            return default
        return value

    def texts(self, key: str, default: tuple[str, ...] = ()) -> tuple[str, ...]:
        """Return a list of strings; a single string is a list of one."""
        value = self.take(key, (list, str), None)
        if value is None:
            return default
        items = [value] if isinstance(value, str) else value
        for item in items:
            if not isinstance(item, str):
                self.problem(key, f"holds {_kind(item)}, strings are needed", "quote the value")
        return tuple(item for item in items if isinstance(item, str))

    def choosable(self, key: str) -> tuple[tuple[str, ...], dict[tuple[str, str], Conditions]]:
        """Return a list of strings, and the conditions of those items that are `{item: name, when: {...}}`."""
        value = self.take(key, (list, str), [])
        names: list[str] = []
        found: dict[tuple[str, str], Conditions] = {}
        for item in [value] if isinstance(value, str) else value:
            if not isinstance(item, Mapping):
                if isinstance(item, str):
                    names.append(item)
                else:
                    self.problem(key, f"holds {_kind(item)}, strings are needed", "quote the value")
                continue
            inner = _Reader(self.problems, self.file, f"{self.prefix}.{key}".strip("."), item)
            name, condition = inner.text("item"), inner.mapping("when")
            inner.done()
            if not name or not condition:
                inner.problem("", "is an item without `item` or `when`", "write {item: name, when: {variable: value}}")
                continue
            if name in names:
                inner.problem("", f"names `{name}` a second time", "write one condition with all values that will do")
            names.append(name)
            found[key, name] = condition
        return tuple(names), found

    def mapping(self, key: str) -> dict[str, Any]:
        """Return a mapping whose keys are strings."""
        return {str(name): value for name, value in self.take(key, Mapping, {}).items()}

    def number(self, key: str, default: int, least: int, most: int | None = None) -> int:
        """Return a number within bounds; the default may lie outside of them and means that nothing was said."""
        value = int(self.take(key, int, default))
        if value != default and (value < least or (most is not None and value > most)):
            limits = f"at least {least}" if most is None else f"from {least} to {most}"
            self.problem(key, f"`{value}` is out of range", f"write a number {limits}")
            return default
        return value

    def matching(self, key: str, pattern: re.Pattern[str], default: str, remedy: str) -> str:
        """Return a string of a certain form."""
        value = self.text(key, default)
        if value != default and not pattern.fullmatch(value):
            self.problem(key, f"`{value}` has not the right form", remedy)
            return default
        return value

    def each(self) -> str | None:
        """Return what the thing exists once per: nothing, or `cell`."""
        return self.choice("each", ("", "cell"), "") or None

    def nested(self, key: str) -> dict[str, dict[str, Any]]:
        """Return a mapping of mappings."""
        result = {}
        for name, value in self.mapping(key).items():
            if isinstance(value, Mapping):
                result[name] = {str(inner): item for inner, item in value.items()}
            else:
                self.problem(f"{key}.{name}", f"is {_kind(value)}, a mapping is needed", "write `key: value` below it")
        return result

    def done(self) -> None:
        """Note the keys that nobody asked for."""
        for key in sorted(set(self.data) - self.known):
            self.problem(
                key, "is not a key of the description", "remove it, or use one of " + ", ".join(sorted(self.known))
            )


def _kind(value: Any) -> str:
    kinds = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "a list", dict: "a mapping"}
    return "empty" if value is None else kinds.get(type(value), f"of type {type(value).__name__}")


def _types(kind: type | tuple[type, ...]) -> str:
    """Return the wanted types in words."""
    number = {int: "a number", float: "a number"}
    names = {**number, str: "a string", bool: "true or false", list: "a list", Mapping: "a mapping"}
    return " or ".join(dict.fromkeys(names[one] for one in (kind if isinstance(kind, tuple) else (kind,))))


def read_service(data: Any, file: str, name: str) -> tuple[Service, list[Problem]]:
    """Return the typed description and every mistake in it.

    `data` is the parsed YAML, `file` names it in messages, `name` is the role's folder.
    """
    problems: list[Problem] = []
    top = _Reader(problems, file, "", data)
    if control_character(data):
        top.problem("", f"holds a control character in {control_character(data)!a}", "remove it")
    said = top.text("name")
    if said != name and isinstance(data, Mapping | None):
        top.problem("name", f"is `{said}`, but the folder is `{name}`", f"write `name: {name}`")
    components = {key: _component(problems, file, key, value) for key, value in top.mapping("components").items()}
    files = {key: _file(problems, file, key, value) for key, value in top.mapping("files").items()}
    catalog = _catalog(problems, file, top, components)
    python = _Reader(problems, file, "python", top.take("python", Mapping, {}))
    service_roles, of_roles = top.choosable("service_roles")
    service = Service(
        name=name,
        file=file,
        wave=top.choice("wave", WAVES, "core"),
        description=top.text("description"),
        requires=top.texts("requires"),
        catalog=catalog,
        auth=bool(top.take("auth", bool, catalog is not None and name != "keystone")),
        service_roles=service_roles or ("service",),
        roles=top.texts("roles"),
        databases=_named(problems, file, "databases", top.take("databases", list, [])),
        vhosts=_named(problems, file, "vhosts", top.take("vhosts", list, [])),
        secrets=top.texts("secrets"),
        groups=top.texts("groups"),
        directories=tuple(_directory(problems, file, value) for value in top.take("directories", list, [])),
        components=components,
        files=files,
        commands=_commands(problems, file, top.mapping("commands")),
        cleanup=_cleanup(problems, file, top.take("cleanup", Mapping, None)),
        restore=_restore(problems, file, top.mapping("restore")),
        python_packages=python.texts("packages"),
        when=top.mapping("when"),
        only_when=of_roles,
    )
    if not python.data.get("packages") and any(one.kind != "system" for one in components.values()):
        python.problem("packages", "is missing", "name the packages that its programs come from")
    # What follows is for tools/locks.py.
    for package, version in python.mapping("pinned").items():
        if package not in service.python_packages or not isinstance(version, str):
            remedy = "name one of `packages`, with a version in quotes"
            python.problem(f"pinned.{package}", "is no package with a version", remedy)
    python.done()
    top.done()
    for where, used in [
        *((f"files.{entry.name}.components", entry.components) for entry in files.values()),
        *((f"components.{entry.name}.after", entry.after) for entry in components.values()),
        *((f"directories.{entry.path}.components", entry.components) for entry in service.directories),
        ("restore.identities", tuple(entry.component for entry in service.restore.identities)),
    ]:
        for missing in sorted(set(used) - set(components)):
            top.problem(where, f"names `{missing}`, which is no component", "use a key of `components`")
    for entry in components.values():
        for missing in sorted(set(entry.python_packages) - set(service.python_packages)):
            where = f"components.{entry.name}.python_packages"
            top.problem(where, f"names `{missing}`, which is not locked", "name it in `python.packages` too")
    try:
        graphlib.TopologicalSorter({name: entry.after for name, entry in components.items()}).prepare()
    except graphlib.CycleError as error:
        top.problem("components", f"wait for each other: {', '.join(error.args[1])}", "correct `after`")
    return service, problems


def _catalog(problems: list[Problem], file: str, top: _Reader, components: Mapping[str, Component]) -> Catalog | None:
    data = top.take("catalog", Mapping, None)
    if data is None:
        return None
    reader = _Reader(problems, file, "catalog", data)
    served = [name for name, component in components.items() if component.port]
    result = Catalog(
        type=reader.text("type"),
        description=reader.text("description"),
        component=reader.text("component", "api" if "api" in served else (served or ["api"])[0]),
        path=reader.text("path"),
    )
    if not result.type:
        reader.problem("type", "is missing", "write the service type of the OpenStack service types authority")
    if result.component not in served:
        reader.problem("component", f"`{result.component}` has no port", "name a component with a port")
    reader.done()
    return result


def _named(problems: list[Problem], file: str, key: str, data: list[Any]) -> tuple[Named, ...]:
    result = []
    for value in data:
        reader = _Reader(problems, file, key, {"name": value} if isinstance(value, str) else value)
        named = Named(reader.text("name"), reader.each())
        reader.done()
        plain = named.name.replace("{cell}", "cell1") if named.each else named.name
        if not _STORED_NAME.fullmatch(plain):
            remedy = "use lower-case letters, digits and underscores, and `{cell}` with `each: cell`"
            reader.problem("name", f"`{named.name}` is no name of a database or vhost", remedy)
            continue
        result.append(named)
    return tuple(result)


def _directory(problems: list[Problem], file: str, data: Any) -> Directory:
    reader = _Reader(problems, file, "directories", data)
    result = Directory(
        path=reader.text("path"),
        mode=reader.matching("mode", _MODE, "0750", _MODE_REMEDY),
        owner=reader.text("owner"),
        group=reader.text("group"),
        components=reader.texts("components"),
    )
    if not result.path.startswith("/"):
        reader.problem("path", f"`{result.path}` is no absolute path", "write the whole path")
    reader.done()
    return result


def _commands(problems: list[Problem], file: str, data: dict[str, Any]) -> dict[str, tuple[tuple[str, ...], ...]]:
    reader = _Reader(problems, file, "commands", data)
    result = {}
    for verb in COMMANDS:
        value = reader.take(verb, list, [])
        argvs = [value] if value and all(isinstance(item, str) for item in value) else value
        for argv in argvs:
            if not isinstance(argv, list) or not argv or not all(isinstance(word, str) for word in argv):
                reader.problem(
                    verb, f"holds {_kind(argv)}, lists of words are needed", "write [program, argument, ...]"
                )
            elif any("{" in word.replace("{cell}", "").replace("{environment}", "") for word in argv):
                remedy = "only {cell} and {environment} are known"
                reader.problem(verb, f"`{' '.join(argv)}` has an unknown name in braces", remedy)
        result[verb] = tuple(tuple(str(word) for word in argv) for argv in argvs if isinstance(argv, list))
    reader.done()
    return result


def _cleanup(problems: list[Problem], file: str, data: Any) -> Cleanup | None:
    if data is None:
        return None
    reader = _Reader(problems, file, "cleanup", data)
    commands = []
    for entry in reader.take("commands", list, []):
        inner = _Reader(problems, file, "cleanup.commands", entry)
        words, codes = inner.texts("run"), inner.take("success", list, [0])
        if not words:
            inner.problem("run", "is missing", "write [program, argument, ...]")
        if any("{" in re.sub(r"\{(before|days)\}", "", word) for word in words):
            remedy = "only {before} and {days} are known"
            inner.problem("run", f"`{' '.join(words)}` has an unknown name in braces", remedy)
        if any(isinstance(code, bool) or not isinstance(code, int) for code in codes):
            inner.problem("success", f"`{codes}` are no exit codes", "write numbers, such as [0, 1]")
        inner.done()
        commands.append(Purge(words, tuple(codes)))
    if not commands:
        reader.problem("commands", "is missing", "write [{run: [program, argument, ...]}]")
    result = Cleanup(tuple(commands), reader.texts("keeps"))
    reader.done()
    return result


def _restore(problems: list[Problem], file: str, data: dict[str, Any]) -> Restore:
    reader = _Reader(problems, file, "restore", data)
    identities = []
    for component, entry in reader.mapping("identities").items():
        inner = _Reader(problems, file, f"restore.identities.{component}", entry)
        path = _needed(inner, "file", _PATH, "write the whole path")
        names = (_needed(inner, key, _STORED_NAME, _STORED_REMEDY) for key in ("table", "host", "identity"))
        identities.append(Identity(component, path, *names))
        inner.done()
    result = Restore(reader.texts("ahead"), tuple(identities))
    for table in result.ahead:
        if not _STORED_NAME.fullmatch(table):
            reader.problem("ahead", f"`{table}` is no name of a table", _STORED_REMEDY)
    reader.done()
    return result


def _needed(reader: _Reader, key: str, pattern: re.Pattern[str], remedy: str) -> str:
    """Return a string of a certain form that must not be left out."""
    if reader.data.get(key) is None:
        reader.problem(key, "is missing", remedy)
    return reader.matching(key, pattern, "", remedy)


def _component(problems: list[Problem], file: str, name: str, data: Any) -> Component:
    reader = _Reader(problems, file, f"components.{name}", data)
    kind = reader.choice("kind", KINDS, "daemon")
    unit: Any
    if kind == "system":
        unit = reader.matching("unit", _UNIT, f"{name}.service", "write the unit's whole name, such as chrony.service")
    else:
        unit = reader.nested("unit")
    if not _NAME.fullmatch(name):
        reader.problem("", f"`{name}` is no component name", "use lower-case letters, digits and hyphens")
    groups, only_when = reader.choosable("group")
    unix_groups, choices = reader.choosable("groups")
    packages, of_packages = reader.choosable("packages")
    system_modules, of_modules = reader.choosable("system_modules")
    failover, of_failover = _failover(problems, file, name, reader.take("failover", (bool, Mapping), False))
    for group in groups:
        if group not in GROUPS and group != "all":
            reader.problem("group", f"`{group}` is no group", "use one of " + ", ".join(GROUPS))
    if not groups:
        reader.problem("group", "is missing", "name the group of hosts that runs it")
    health = _health(reader)
    result = Component(
        name=name,
        groups=groups,
        kind=kind,
        each=reader.each(),
        app=reader.text("app"),
        port=reader.number("port", 0, 1, PORT_MAXIMUM),
        public=reader.take("public", bool, True),
        websocket=reader.take("websocket", bool, False),
        failover=failover,
        repeatable=reader.texts("repeatable"),
        processes=reader.number("processes", 0, 1),
        threads=reader.number("threads", 1, 1),
        environment={key: str(value) for key, value in reader.mapping("environment").items()},
        uwsgi=reader.mapping("uwsgi"),
        health=health,
        command=reader.texts("command"),
        after=reader.texts("after"),
        unit=unit,
        sandbox=reader.choice("sandbox", ("full", "privileged"), "full"),
        user=reader.text("user"),
        unix_groups=unix_groups,
        shell=reader.matching("shell", _PATH, "", "write the whole path of a program, such as /bin/sh"),
        on_change=reader.choice("on_change", ON_CHANGE, "restart"),
        keeps_versions=reader.take("keeps_versions", bool, False),
        on_renewal=reader.choice("on_renewal", ("", "reload"), ""),
        ports=_ports(reader),
        packages=packages,
        system_modules=system_modules,
        python_packages=reader.texts("python_packages"),
        timeout=reader.number("timeout", 120, 1),
        exposure=_exposure(problems, file, name, reader.take("exposure", Mapping, None)),
        only=reader.choice("only", ONLY, ""),
        balance=_balance(problems, file, name, reader.take("balance", Mapping, None)),
        data=reader.text("data"),
        when=reader.mapping("when"),
        only_when=only_when | choices | of_packages | of_modules | of_failover,
    )
    if kind == "wsgi" and (not result.app or not result.port):
        reader.problem("", "is of kind wsgi without `app` or `port`", "give both")
    if kind == "daemon" and not result.command:
        remedy = "give the program's name in the environment's bin, or its whole path, as a list"
        reader.problem("command", "is missing", remedy)
    if result.data and not result.data.startswith("/"):
        reader.problem("data", f"`{result.data}` is no absolute path", "write the whole path")
    reader.done()
    return result


def _failover(
    problems: list[Problem], file: str, component: str, data: Any
) -> tuple[bool, dict[tuple[str, str], Conditions]]:
    """Return whether it may hold at all, and the condition where it is `{when: {...}}`."""
    if isinstance(data, bool):
        return data, {}
    reader = _Reader(problems, file, f"components.{component}.failover", data)
    condition = reader.mapping("when")
    if not condition:
        reader.problem("when", "is missing", "write {when: {variable: value}}, or true")
    reader.done()
    return True, {("failover", ""): condition}


def _balance(problems: list[Problem], file: str, component: str, data: Any) -> Balance | None:
    if data is None:
        return None
    reader = _Reader(problems, file, f"components.{component}.balance", data)
    result = Balance(reader.number("port", 0, 1, PORT_MAXIMUM), reader.number("check", 0, 1, PORT_MAXIMUM))
    for key, value in (("port", result.port), ("check", result.check)):
        if not value:
            reader.problem(key, "is missing", "write the number of a TCP port")
    reader.done()
    return result


def _exposure(problems: list[Problem], file: str, component: str, data: Any) -> Exposure | None:
    if data is None:
        return None
    reader = _Reader(problems, file, f"components.{component}.exposure", data)
    result = Exposure(float(reader.take("limit", (int, float), 0.0)), reader.text("reason"))
    if not EXPOSURE_LIMIT < result.limit <= EXPOSURE_WORST:
        reader.problem(
            "limit",
            f"`{result.limit}` is not between {EXPOSURE_LIMIT} and {EXPOSURE_WORST}",
            f"write what `systemd-analyze security` shows; up to {EXPOSURE_LIMIT} leave `exposure` out",
        )
    if not result.reason.strip():
        reader.problem("reason", "is missing", "say what of the host the unit needs, and why")
    reader.done()
    return result


def _health(reader: _Reader) -> Any:
    """Return the probe: a path of an API, or a mapping with one kind of probe."""
    health = reader.take("health", (str, Mapping), None)
    if not isinstance(health, Mapping):
        return health
    kinds: dict[str, type | tuple[type, ...]] = {"http": str, "tcp": (int, Mapping), "queue": str, "command": list}
    if len(health) != 1 or set(health) - set(HEALTH):
        reader.problem("health", f"has the probes {', '.join(map(str, health))}", "use one of " + ", ".join(HEALTH))
        return None
    for key, value in health.items():
        if not isinstance(value, kinds[key]) or isinstance(value, bool):
            reader.problem(f"health.{key}", f"is {_kind(value)}, {_types(kinds[key])} is needed", "correct the value")
            return None
        known = isinstance(value, Mapping) and set(value) <= {"host", "port", "network"}
        if isinstance(value, Mapping) and not (known and _is_port(value.get("port"))):
            reader.problem(f"health.{key}", f"`{value}` is no port", "write a number, or {port: number, network: name}")
            return None
        _known_network(reader, f"health.{key}", value)
    return health


def _is_port(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= PORT_MAXIMUM


def _known_network(reader: _Reader, key: str, value: Any) -> None:
    """Note a mapping that names a network on which hosts have no address."""
    known = ("management", *NETWORK_FALLBACKS)
    if isinstance(value, Mapping) and value.get("network", "management") not in known:
        reader.problem(key, f"`{value['network']}` is no network of hosts", "use one of " + ", ".join(known))


def _ports(reader: _Reader) -> tuple[Any, ...]:
    """Return the ports that a component opens itself: numbers, or mappings of `port` and what goes with it.

    `address` is where, or `network` says on the host's address of which network; `only` is as for components.
    """
    result = []
    for entry in reader.take("ports", list, []):
        known = isinstance(entry, Mapping) and set(entry) <= {"port", "address", "network", "only"}
        number = entry.get("port") if known else entry
        _known_network(reader, "ports", entry)
        if known and entry.get("only", "") not in ONLY:
            reader.problem("ports", f"`{entry}` has an unknown `only`", "use one of " + ", ".join(filter(None, ONLY)))
        if not _is_port(number):
            reader.problem("ports", f"`{entry}` is no port", "write a number, or {port: number, network: name}")
        else:
            result.append(entry)
    return tuple(result)


def _sections(problems: list[Problem], file: str, name: str, data: Any) -> Sections | None:
    if data is None:
        return None
    reader = _Reader(problems, file, f"files.{name}.sections", data)
    result = Sections(reader.text("variable"), reader.text("settings"), reader.text("schema"))
    for key, value in (("variable", result.variable), ("settings", result.settings)):
        if not value:
            reader.problem(key, "is missing", "name the variable with the items, and the tree with their types")
    reader.done()
    return result


def _file(problems: list[Problem], file: str, name: str, data: Any) -> File:
    reader = _Reader(problems, file, f"files.{name}", data)
    settings, only_when = reader.choosable("settings")
    result = File(
        name=name,
        components=reader.texts("components"),
        settings=settings,
        template=reader.text("template"),
        each=reader.each(),
        auth_sections=reader.texts("auth_sections"),
        owner=reader.text("owner", "root"),
        group=reader.text("group"),
        mode=reader.matching("mode", _MODE, "0640", _MODE_REMEDY),
        format=reader.choice("format", ("ini", "ceph", "text"), "ini"),
        sections=_sections(problems, file, name, reader.take("sections", Mapping, None)),
        when=reader.mapping("when"),
        only_when=only_when,
    )
    if result.sections and not settings:
        reader.problem("sections", "stand beside no `settings`", "a template writes its own sections")
    if "{" in name.replace("{cell}", "" if result.each else "{"):
        reader.problem("", "has an unknown name in braces", "only {cell} is known, with `each: cell`")
    if bool(result.settings) == bool(result.template):
        reader.problem("", "needs either `settings` or `template`", "give one of the two")
    if not result.components:
        reader.problem("components", "is missing", "name the components that read the file")
    reader.done()
    return result
