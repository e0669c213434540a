"""Ceph as a cloud uses it: keys and identities that follow from secrets, and who may do what with which pool. Pure.

A key that is a function of a secret can be written on every host before there is a monitor, so that no host waits for
what another one has made.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MONITORS, OSDS = "ceph_mon", "ceph_osd"
"""Groups of hosts."""

NETWORK = "storage"
"""Where monitors and OSDs are reached; OSDs copy to each other on `replication`."""

FSID_SECRET = "ceph/constant/fsid"  # noqa: S105  # a name
V2_PORT, V1_PORT = 3300, 6789
"""Ports of a monitor (docs.ceph.com: Messenger v2)."""

_KEY = struct.Struct("<HIIH")
"""Head of a key: its type, when it was made in seconds and nanoseconds, its length (CryptoKey::encode of Ceph)."""
_AES, _AES_BYTES = 1, 16
_SPACE = uuid.UUID("6d1c2bd3-0c2f-5a92-9a0e-54c6ba3d2f61")
"""Names that UUIDs are made of here."""

ADMINISTRATOR, OSD_HOST = "client.admin", "client.osd-host"

USERS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "client.glance": {"writes": ("images",)},
    "client.cinder": {"writes": ("volumes",), "reads": ("images",)},
    "client.cinder-backup": {"writes": ("backups",)},
    "client.nova": {"writes": ("vms",), "reads": ("images",)},
}
"""Services' users with their pools. Who clones images only reads those (docs.ceph.com: user management)."""


def key(secret: str) -> str:
    """Return the cephx key of a secret, or the secret itself where it is such a key: base64 of 28 bytes.

    The moment at which it was made is zero, so that it is the same in every run.
    """
    if is_key(secret):
        return secret
    material = hashlib.sha256(f"ceph/{secret}".encode()).digest()[:_AES_BYTES]
    return base64.b64encode(_KEY.pack(_AES, 0, 0, _AES_BYTES) + material).decode()


def is_key(text: str) -> bool:
    """Say whether a text is a cephx key."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return False
    if len(data) != _KEY.size + _AES_BYTES:
        return False
    kind, _seconds, _nanoseconds, length = _KEY.unpack_from(data)
    return bool(kind == _AES and length == _AES_BYTES)


def identity(secret: str) -> str:
    """Return the UUID that follows from a secret, or the secret itself where it is a UUID."""
    try:
        return str(uuid.UUID(secret))
    except ValueError:
        return str(uuid.uuid5(_SPACE, secret))


def secret_uuid(user: str) -> str:
    """Return under which UUID libvirt keeps a user's key: the same on all compute hosts, so that instances can move."""
    return str(uuid.uuid5(_SPACE, user))


def secret_name(user: str) -> str:
    """Return the name of the secret that a user's key is made of. All managers share one."""
    return f"ceph/constant/{'mgr' if user.startswith('mgr.') else user.rstrip('.')}"


def monitor(address: str) -> str:
    """Return a monitor's addresses of both protocols, as `mon_host` and monmaptool(8) have them."""
    place = f"[{address}]" if ":" in address else address
    return f"[v2:{place}:{V2_PORT}/0,v1:{place}:{V1_PORT}/0]"


POOL_OPTIONS = ("size", "min_size", "pg_autoscale_mode", "target_size_ratio")
"""What may be said of a pool beside its name, application and failure domain."""


@dataclass(frozen=True)
class User:
    """An entity with its key and what it may do, by kind of daemon (docs.ceph.com: user management)."""

    name: str
    key: str
    caps: Mapping[str, str]

    @property
    def keyring(self) -> str:
        """Return it as a keyring has it."""
        lines = [f"[{self.name}]", f"\tkey = {self.key}"]
        lines += [f'\tcaps {kind} = "{text}"' for kind, text in sorted(self.caps.items())]
        return "".join(f"{line}\n" for line in lines)


_EVERYTHING = "allow *"
_OSD_COMMANDS = ", ".join(f"allow command 'osd {one}'" for one in ("in", "out", "destroy-actual", "purge-actual"))
_CAPS: Mapping[str, Mapping[str, str]] = {
    "mon": {"mon": _EVERYTHING},
    "admin": dict.fromkeys(("mon", "osd", "mgr", "mds"), _EVERYTHING),
    "mgr": {"mon": "allow profile mgr", "osd": _EVERYTHING, "mds": _EVERYTHING},
    # The profile makes OSDs. What else their host does: it looks at them, and ends one that is lost or empty.
    "osd-host": {"mon": f"allow profile bootstrap-osd, allow r, {_OSD_COMMANDS}", "mgr": "allow r"},
}
"""By kind of entity: daemons, the administrator, and hosts of OSDs (docs.ceph.com: user management, capabilities)."""


def caps(user: str) -> dict[str, str]:
    """Return what an entity of a cloud may do."""
    kind = user.removeprefix("client.").partition(".")[0]
    if kind in _CAPS:
        return dict(_CAPS[kind])
    pools = USERS[user]
    writes = [f"profile rbd pool={pool}" for pool in pools.get("writes", ())]
    reads = [f"profile rbd-read-only pool={pool}" for pool in pools.get("reads", ())]
    return {"mon": "profile rbd", "osd": ", ".join(writes + reads), "mgr": ", ".join(writes)}


def entities(hosts: Mapping[str, Sequence[str]]) -> list[str]:
    """Return all entities of a cluster, `hosts` are the groups' members."""
    return [
        "mon.",
        ADMINISTRATOR,
        OSD_HOST,
        *(f"mgr.{name}" for name in hosts[MONITORS]),
        *USERS,
    ]


@dataclass(frozen=True)
class Step:
    """Something to do: the command as the monitors take it, what goes with it, and the sentence for people."""

    text: str
    command: Mapping[str, Any]
    data: str = ""
    """A keyring; it never comes into a message."""


def user_steps(users: Iterable[User], known: Mapping[str, tuple[str, Mapping[str, str]]]) -> list[Step]:
    """Return what makes the cluster's users as declared; others are left alone. `known` are key and caps by name."""
    steps = []
    for one in users:
        found = known.get(one.name)
        if found == (one.key, dict(one.caps)):
            continue
        verb = "make" if found is None else "change the key of" if found[0] != one.key else "change what may"
        text = f"{verb} {one.name}" + (" do" if verb == "change what may" else "")
        steps.append(Step(text, {"prefix": "auth import"}, one.keyring))
    return steps


def monitor_refusal(name: str, stores: Sequence[str], osds: Sequence[str], unasked: Sequence[str]) -> str:
    """Return why a monitor's store must not be made, with the remedy; nothing where it may.

    `stores` are other monitors that have one: then the new one takes over what they know. Without any it begins another
    cluster, which would know nothing of the data of `osds`. Nobody knows what `unasked` hosts hold.
    """
    if stores:
        return ""
    if osds:
        return (
            f"no monitor has a store, and hosts have {', '.join(osds)}: a new store would know nothing of their data; "
            "put back a monitor's folder below /var/lib/ceph/mon, or make it from the OSDs (docs.ceph.com: recovery "
            "using OSDs)"
        )
    if unasked:
        return (
            f"{name} has no store, and {', '.join(unasked)} were not asked whether there is a cluster already; run "
            "without --limit, or with these hosts too"
        )
    return ""


OLD_CLIENTS = frozenset(
    {"argonaut", "bobtail", "cuttlefish", "dumpling", "emperor", "firefly", "giant", "hammer", "infernalis", "jewel"}
    | {"kraken", "luminous"}
)
"""Releases of before there were clones whose parents may go before them (docs.ceph.com: RBD snapshots, layering)."""


def client_steps(oldest: str) -> list[Step]:
    """Return what lets RBD make clones of the second kind; `oldest` is the release that clients are at least of."""
    if oldest not in OLD_CLIENTS:
        return []
    command = {"prefix": "osd set-require-min-compat-client", "version": "mimic"}
    return [Step("require clients of Mimic or later", command)]


def rule_steps(domain: str, rules: Iterable[str]) -> list[Step]:
    """Return what makes the rule by which copies lie in different places of a kind, such as `host`."""
    name = rule_name(domain)
    if name in rules:
        return []
    command = {"prefix": "osd crush rule create-replicated", "name": name, "root": "default", "type": domain}
    return [Step(f"make the rule {name}", command)]


def rule_name(domain: str) -> str:
    """Return the name of the rule for a failure domain."""
    return f"replicated_{domain}"


def first_steps(pools: Sequence[Mapping[str, Any]], domain: str) -> list[Step]:
    """Return what makes the pools of a cluster that is not there yet, as Ceph makes it."""
    return plan(pools, {}, {"replicated_rule": 0}, "luminous", domain)


def plan(
    pools: Sequence[Mapping[str, Any]],
    known: Mapping[str, Mapping[str, Any]],
    rules: Mapping[str, int],
    oldest: str,
    domain: str,
) -> list[Step]:
    """Return what makes clients, rules and pools as declared; see the functions of each."""
    found = client_steps(oldest)
    for one in dict.fromkeys(pool.get("failure_domain", domain) for pool in pools):
        found += rule_steps(one, rules)
    return found + pool_steps(pools, known, rules, domain)


def pool_steps(
    pools: Iterable[Mapping[str, Any]], known: Mapping[str, Mapping[str, Any]], rules: Mapping[str, int], domain: str
) -> list[Step]:
    """Return what makes the pools as declared. Pools that are not declared are left alone, none is ever deleted.

    `known` is what `osd pool ls detail` says, by name, with `options` merged into each; `rules` are numbers by name.
    What is not said of a pool is left as it is, but for the rule and the application.
    """
    steps = []
    for one in pools:
        name = one["name"]
        found = known.get(name, {})
        if not found:
            steps.append(Step(f"make the pool {name}", {"prefix": "osd pool create", "pool": name}))
        application = one.get("application", "rbd")
        if application not in found.get("application_metadata", {}):
            command = {"prefix": "osd pool application enable", "pool": name, "app": application}
            steps.append(Step(f"let {application} use the pool {name}", command))
        wanted = {"crush_rule": rule_name(one.get("failure_domain", domain))}
        wanted |= {key_: one[key_] for key_ in POOL_OPTIONS if key_ in one}
        for key_, value in wanted.items():
            is_ = found.get(key_)
            if key_ == "crush_rule":
                is_ = next((rule for rule, number in rules.items() if number == is_), is_)
            if is_ != value:
                command = {"prefix": "osd pool set", "pool": name, "var": key_, "val": str(value)}
                steps.append(Step(f"set {key_} of the pool {name} to {value}", command))
    return steps


@dataclass(frozen=True)
class Health:
    """What is said of a cluster: its own word, the share of its capacity that is used, and what is wrong or odd."""

    health: str
    used: float
    text: str
    problems: list[str]
    warnings: list[str]


def judge(status: Mapping[str, Any], df: Mapping[str, Any], osds: Sequence[Mapping[str, Any]], full: float) -> Health:
    """Return the health of a cluster from what `status`, `df` and `osd dump` say of it.

    `full` is the share of the raw capacity that may be used. A placement group that is not active serves nobody.
    """
    health = str(status["health"]["status"])
    checks = status["health"].get("checks", {})
    said = {name: str(one["summary"]["message"]) for name, one in checks.items() if not one.get("muted")}
    down = sorted(one["osd"] for one in osds if one["in"] and not one["up"])
    groups = status["pgmap"].get("pgs_by_state", [])
    idle = {one["state_name"]: one["count"] for one in groups if "active" not in one["state_name"].split("+")}
    total = df["stats"]["total_bytes"]
    used = round(df["stats"]["total_used_raw_bytes"] / total, 3) if total else 1.0
    problems = [f"osd.{number} is down" for number in down]
    problems += [f"{count} placement groups are {state}" for state, count in idle.items()]
    problems += [f"{used:.0%} of its capacity are used, more than {full:.0%}"] if used > full else []
    if health == "HEALTH_ERR":
        problems += said.values()
    count = sum(one["count"] for one in groups)
    text = f"{health}, {len(osds)} OSDs, {count} placement groups, {used:.0%} used"
    return Health(health, used, text, problems, [one for one in said.values() if one not in problems])
