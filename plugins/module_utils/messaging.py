"""RabbitMQ's virtual hosts and accounts: what is wanted against the broker's exported definitions, as changes.

`compare` is pure. Everything that is made or altered goes into one import, what goes is removed by commands afterwards.
Passwords travel as salted hashes in a file that only the broker's user can read, never as arguments.
Sources: https://www.rabbitmq.com/docs/definitions, https://www.rabbitmq.com/docs/passwords (hashes),
rabbitmqctl(8). Seen with 4.0.5: an import takes a virtual host's queue type from its metadata only, and
`import_definitions` without a file waits for its standard input without end.
"""

from __future__ import annotations

import base64
import binascii
import glob
import hashlib
import json
import os
import pwd
import re
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils.convergence import (
    Action,
    ConvergenceError,
    atomic_write,
    duplicates,
)

Run = Callable[[Sequence[str]], str]
"""Runs rabbitmqctl with arguments and returns its standard output. Raises MessagingError."""

SECRET = "<secret>"  # noqa: S105 - the words that stand for one
ANOTHER = "<another secret>"
ALGORITHM = "rabbit_password_hashing_sha256"
HASHES = {ALGORITHM: "sha256", "rabbit_password_hashing_sha512": "sha512"}
SALT_BYTES = 4
"""Salt in front of the hash, in bytes, as RabbitMQ has it."""

RIGHTS = ("configure", "write", "read")

_NAME = re.compile(r"(?!-)[\w./@:+-]+")
"""Names that are safe as arguments: Debian's rabbitmqctl hands them to a shell."""

STREAMS = (
    "#{running => rabbit_nodes:list_running(), streams => [#{vhost => V, name => element(4, N), members => M} || "
    "V <- rabbit_vhost:list_names(), "
    "[{name, N}, {type, T}, {members, M}] <- rabbit_amqqueue:info_all(V, [name, type, members]), "
    "lists:member(T, [stream, rabbit_stream_queue])]}."
)
"""Erlang that tells all streams in one call: rabbitmqctl lists one virtual host at a time, a second each.

The type is the second one up to RabbitMQ 3, the first one since.
"""

ADD_REPLICAS = (
    "[iolist_to_binary(io_lib:format(\"~0p\", [rabbit_stream_queue:add_replica(V, N, Node)])) || {V, N, Node}"
)
"""Erlang, without the list of replicas."""

DATA = "/var/lib/rabbitmq/mnesia"
"""Where a node keeps its data (Debian)."""

FRESH: dict[str, Any] = {
    "users": [{"name": "guest", "tags": ["administrator"]}],
    "vhosts": [{"name": "/"}],
    "permissions": [{"user": "guest", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}],
}
"""What a broker holds after its first start (https://www.rabbitmq.com/docs/access-control)."""

CLUSTER_ID = "internal_cluster_id"
"""Global parameter in which a cluster keeps what it calls itself: made with its first member's data, the same for all
that join, and kept over restarts and new versions (rabbit_nodes:seed_internal_cluster_id/0 of rabbitmq-server)."""

UNBORN = "not made yet"
"""Stands in a dry run for the identity of a broker that has no data yet."""

CLEAR_STEP, DELETE_USER_STEP, DELETE_VHOST_STEP = 1, 2, 3


class MessagingError(Exception):
    """rabbitmqctl failed; the message holds what it said, without password hashes."""


@dataclass
class Changes:
    """What has to happen: all actions in their order, and the definitions to import for those of step 0."""

    actions: list[Action] = field(default_factory=list)
    definitions: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def define(self, action: Action, section: str, definition: dict[str, Any]) -> None:
        """Add an action that the import makes."""
        self.actions.append(action)
        self.definitions.setdefault(section, []).append(definition)


@dataclass
class Wanted:
    """One account as it is wanted: password, tags, and its rights by virtual host."""

    password: str = field(repr=False)
    tags: tuple[str, ...]
    rights: dict[str, dict[str, str]] = field(default_factory=dict)


def password_hash(password: str, salt: bytes, algorithm: str = ALGORITHM) -> str:
    """Return the salted hash of a password as RabbitMQ keeps it: base64 of the salt and of hash(salt + password)."""
    return base64.b64encode(salt + hashlib.new(HASHES[algorithm], salt + password.encode()).digest()).decode()


def matches(password: str, user: Mapping[str, Any]) -> bool:
    """Whether a password is that of a user in exported definitions."""
    algorithm = str(user.get("hashing_algorithm", ALGORITHM))
    try:
        salt = base64.b64decode(str(user.get("password_hash", "")), validate=True)[:SALT_BYTES]
    except binascii.Error:
        return False
    return algorithm in HASHES and password_hash(password, salt, algorithm) == user.get("password_hash")


def _tags(value: Any) -> tuple[str, ...]:
    """Return tags in order; releases before 3.9 export them as one text with commas."""
    return tuple(sorted(filter(None, value.split(",") if isinstance(value, str) else value or ())))


def _present(item: Mapping[str, Any]) -> bool:
    return bool(item.get("state", "present") != "absent")


def compare(
    vhosts: Sequence[Mapping[str, Any]],
    absent_accounts: Iterable[str],
    exported: Mapping[str, Any],
    run: Run,
    salt: Callable[[int], bytes] = secrets.token_bytes,
) -> Changes:
    """Return what turns the exported definitions into what is wanted.

    An account reaches the virtual hosts it is named with and no other. It is deleted when it is in `absent_accounts`,
    or when no virtual host wants it and one names it as absent, or is absent itself.
    Raises ConvergenceError with every mistake of the wanted state.
    """
    wanted, dropped = _wanted_accounts(vhosts, absent_accounts)
    users = {user["name"]: user for user in exported.get("users") or ()}
    changes = Changes()
    for item in vhosts:
        _compare_vhost(item, {v["name"]: v for v in exported.get("vhosts") or ()}.get(item["name"]), changes, run)
    for name, want in wanted.items():
        _compare_user(name, want, users.get(name), changes, salt)
    held: dict[str, dict[str, dict[str, str]]] = {}
    for entry in exported.get("permissions") or ():
        held.setdefault(entry["user"], {})[entry["vhost"]] = {right: entry[right] for right in RIGHTS}
    going = {str(item["name"]) for item in vhosts if not _present(item)}
    for name, want in wanted.items():
        _compare_rights(name, want, {v: r for v, r in held.get(name, {}).items() if v not in going}, changes, run)
    for name in dropped:
        if name in users:
            before = {"tags": ", ".join(_tags(users[name].get("tags"))), "password": SECRET}
            change = partial(run, ["delete_user", name])
            changes.actions.append(Action("account", "delete", name, before, {}, change, DELETE_USER_STEP))
    changes.actions.sort(key=lambda action: action.step)
    return changes


def _wanted_accounts(
    vhosts: Sequence[Mapping[str, Any]], absent_accounts: Iterable[str]
) -> tuple[dict[str, Wanted], list[str]]:
    """Return the accounts that are to exist, and those that are to go. Raises ConvergenceError."""
    problems = [
        f"vhost {name}: named more than once; one entry may stay"
        for name in duplicates(str(item["name"]) for item in vhosts)
    ]
    named_absent = [str(name) for name in absent_accounts]
    wanted: dict[str, Wanted] = {}
    absent = dict.fromkeys(named_absent)
    for vhost in vhosts:
        items = vhost.get("accounts") or ()
        problems += [
            f"vhost {vhost['name']}: account {name} is named more than once; one entry may stay"
            for name in duplicates(str(item["name"]) for item in items)
        ]
        for item in items:
            name, where = str(item["name"]), f"vhost {vhost['name']}: account {item['name']}"
            if not (_present(item) and _present(vhost)):
                absent[name] = None
                continue
            if not item.get("password"):
                problems.append(f"{where}: no password; give one, or `state: absent`")
                continue
            if name in named_absent:
                problems.append(f"{where}: is in absent_accounts too")
            want = wanted.setdefault(name, Wanted(item["password"], _tags(item.get("tags"))))
            if (want.password, want.tags) != (item["password"], _tags(item.get("tags"))):
                problems.append(f"{where}: password or tags differ from its entry at another vhost")
            want.rights[str(vhost["name"])] = {
                right: ".*" if item.get(right) is None else str(item[right]) for right in RIGHTS
            }
    problems += [
        f"name {name!r}: only letters, digits and ./@:+-_ can be used, and no hyphen first"
        for name in dict.fromkeys([*(str(item["name"]) for item in vhosts), *wanted, *absent])
        if not _NAME.fullmatch(name)
    ]
    if problems:
        raise ConvergenceError("\n".join(problems))
    return wanted, [name for name in absent if name not in wanted]


def _compare_vhost(item: Mapping[str, Any], found: Mapping[str, Any] | None, changes: Changes, run: Run) -> None:
    name = str(item["name"])
    metadata = dict((found or {}).get("metadata") or {})
    kept = metadata.get("default_queue_type") or (found or {}).get("default_queue_type") or "classic"
    before = {"default_queue_type": kept}
    if not _present(item):
        if found is not None:
            change = partial(run, ["delete_vhost", name])
            changes.actions.append(Action("vhost", "delete", name, before, {}, change, DELETE_VHOST_STEP))
        return
    after = {"default_queue_type": item.get("default_queue_type") or "quorum"}
    if found is None or before != after:
        action = (
            Action("vhost", "create", name, {}, after) if found is None else
            Action("vhost", "update", name, before, after)
        )  # fmt: skip
        changes.define(action, "vhosts", {"name": name, "metadata": metadata | after})


def _compare_user(
    name: str, want: Wanted, found: Mapping[str, Any] | None, changes: Changes, salt: Callable[[int], bytes]
) -> None:
    after = {"password": SECRET, "tags": ", ".join(want.tags)}
    before = {} if found is None else {
        "password": SECRET if matches(want.password, found) else ANOTHER, "tags": ", ".join(_tags(found.get("tags")))
    }  # fmt: skip
    if before == after:
        return
    definition = {
        "name": name,
        "password_hash": password_hash(want.password, salt(SALT_BYTES)),
        "hashing_algorithm": ALGORITHM,
        "tags": list(want.tags),
    }
    changes.define(Action("account", "update" if before else "create", name, before, after), "users", definition)


def _compare_rights(
    name: str, want: Wanted, held: Mapping[str, Mapping[str, str]], changes: Changes, run: Run
) -> None:
    for vhost in sorted({*want.rights, *held}):
        before, after = held.get(vhost, {}), want.rights.get(vhost, {})
        label = f"of {name} on {vhost}"
        if after and before != after:
            action = Action("permission", "update" if before else "create", label, before, after)
            changes.define(action, "permissions", {"user": name, "vhost": vhost, **after})
        elif not after:
            if not _NAME.fullmatch(vhost):
                raise ConvergenceError(f"permission {label}: the name is not safe as an argument; clear it by hand")
            change = partial(run, ["clear_permissions", "-p", vhost, name])
            changes.actions.append(Action("permission", "delete", label, before, {}, change, CLEAR_STEP))


# --- talking ----------------------------------------------------------------------------------------------------------


def is_fresh(data: str = DATA) -> bool:
    """Return whether no broker was ever started here: there is no node's directory."""
    return not glob.glob(os.path.join(data, "*"))


def export_definitions(run: Run) -> dict[str, Any]:
    """Return the broker's definitions. Raises MessagingError."""
    text = run(["export_definitions", "-"])
    try:
        return dict(json.loads(text))
    except ValueError as error:
        raise MessagingError(f"rabbitmqctl export_definitions: not JSON: {error}") from error


def identity(exported: Mapping[str, Any]) -> str:
    """Return what tells a broker from one that was made anew, from its definitions; empty where they say none."""
    found = {one.get("name"): one.get("value") for one in exported.get("global_parameters") or ()}
    return str(found.get(CLUSTER_ID) or "")


def joins(said: Iterable[Mapping[str, Any]]) -> bool:
    """Return whether a broker without data will join others, from what M(brume.cloud.rabbitmq_member) said of each."""
    return any((one.get("member") or {}).get("active") for one in said)


def is_anew(vhosts: Sequence[Mapping[str, Any]], exported: Mapping[str, Any]) -> bool:
    """Return whether a broker has none of the virtual hosts that it is to have, as one that was just made."""
    there = {one["name"] for one in exported.get("vhosts") or ()}
    wanted = {str(one["name"]) for one in vhosts if _present(one)}
    return bool(wanted) and not wanted & there


Replica = tuple[str, str, str]
"""Virtual host, stream and node."""


def lacking_replicas(vhosts: Iterable[str], nodes: Sequence[str], cluster: Mapping[str, Any]) -> list[Replica]:
    """Return the replicas that are missing for every stream of `vhosts` to have one on each of `nodes` that runs.

    A broker adds members to quorum queues by itself, and never to streams (rabbitmq.com: Streams, Replication).
    `cluster` is the answer to STREAMS. Raises ConvergenceError for names that are not safe in Erlang or as arguments.
    """
    wanted, running = set(vhosts), [one for one in nodes if one in cluster["running"]]
    lacking = [
        (one["vhost"], one["name"], node)
        for one in cluster["streams"]
        if one["vhost"] in wanted
        for node in running
        if node not in one["members"]
    ]
    unsafe = [name for _vhost, name, _node in lacking if not _NAME.fullmatch(name)]
    if unsafe:
        raise ConvergenceError(
            f"streams {', '.join(dict.fromkeys(unsafe))}: the names are not safe as arguments; "
            "give them their replicas by hand (/usr/lib/rabbitmq/bin/rabbitmq-streams add_replica)"
        )
    return lacking


def replica_actions(replicas: Iterable[Replica]) -> list[Action]:
    """Return the replicas to be added, for a report."""
    return [
        Action("stream replica", "create", f"of {name} in {vhost} on {node}", {}, {"node": node})
        for vhost, name, node in replicas
    ]


def add_replicas(replicas: Sequence[Replica], run: Run) -> None:
    """Add replicas, all in one call; Debian has no wrapper of rabbitmq-streams.

    Raises ConvergenceError naming those that could not be added, and MessagingError.
    """
    wanted = ", ".join(f"{{<<\"{vhost}\">>, <<\"{name}\">>, '{node}'}}" for vhost, name, node in replicas)
    answers = _evaluate(f"{ADD_REPLICAS} <- [{wanted}]].", run) if replicas else []
    failed = [
        f"{action}: {said}"
        for action, said in zip(replica_actions(replicas), answers, strict=True)
        if said != "ok"
    ]
    if failed:
        raise ConvergenceError("\n".join(failed))


def read_cluster(run: Run) -> dict[str, Any]:
    """Return the answer to STREAMS: `running` nodes, and `streams` with their `members`. Raises MessagingError."""
    return dict(_evaluate(STREAMS, run))


def _evaluate(expression: str, run: Run) -> Any:
    text = run(["--formatter", "json", "eval", expression])
    try:
        return json.loads(text)["value"]
    except (ValueError, KeyError, TypeError) as error:
        raise MessagingError(f"rabbitmqctl eval: no answer that can be read: {text.strip()[:200]}") from error


def users(run: Run) -> dict[str, set[str]]:
    """Return account -> addresses from which it is connected now. Raises MessagingError."""
    found: dict[str, set[str]] = {}
    for item in json.loads(run(["list_connections", "--formatter", "json", "user", "peer_host"])):
        found.setdefault(str(item["user"]), set()).add(str(item["peer_host"]))
    return found


def refuse_used(actions: Sequence[Action], used: Mapping[str, set[str]]) -> None:
    """Raise ConvergenceError naming the accounts that are to be deleted while somebody is connected with them."""
    lines = [
        f"account {action.name}: is still used from {', '.join(sorted(used[action.name]))}; "
        "roll the new one out there first (playbooks/site.yml), then run again"
        for action in actions
        if (action.kind, action.verb) == ("account", "delete") and action.name in used
    ]
    if lines:
        raise ConvergenceError("\n".join(lines))


def import_definitions(definitions: Mapping[str, Any], run: Run, owner: str, directory: str = "/run") -> None:
    """Import definitions from a file that only `owner`, as whom rabbitmqctl runs, can read. Raises MessagingError.

    `directory` should lie in memory. The file is gone afterwards, whatever happens.
    """
    try:
        entry = pwd.getpwnam(owner)
    except KeyError:
        raise MessagingError(f"user {owner} does not exist on this host; is RabbitMQ installed?") from None
    folder = tempfile.mkdtemp(prefix="brume-", dir=directory)
    try:
        os.chown(folder, entry.pw_uid, entry.pw_gid)
        path = os.path.join(folder, "definitions.json")
        atomic_write(path, json.dumps(definitions), mode=0o600, uid=entry.pw_uid, gid=entry.pw_gid)
        run(["import_definitions", path])
    finally:
        shutil.rmtree(folder)


def connect(command: str = "rabbitmqctl", timeout: int = 60) -> Run:
    """Return what runs rabbitmqctl; `timeout` is in seconds for each command."""

    def run(arguments: Sequence[str]) -> str:
        what = f"rabbitmqctl {next(word for word in arguments if not word.startswith('-'))}"
        try:
            done = subprocess.run(
                [command, "-q", *arguments],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=timeout,
                check=False,
            )
        except FileNotFoundError:
            raise MessagingError(f"{what}: {command} is not there; is RabbitMQ installed?") from None
        except subprocess.TimeoutExpired:
            raise MessagingError(f"{what}: no answer in {timeout} s; look at the broker's log") from None
        if done.returncode != 0:
            said = re.sub(r"[A-Za-z0-9+/]{40,}={0,2}", SECRET, done.stderr.strip() or done.stdout.strip())
            raise MessagingError(f"{what}: {said} (exit status {done.returncode})")
        return done.stdout

    return run
