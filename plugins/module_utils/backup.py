"""What a backup is: its manifest, which backup builds on which, which are to go, and what a restored one must equal.

Pure. A manifest is signed with a key that follows from the master key: what was altered, and what is another cloud's,
is not taken for a backup. Incremental backups: mariadb.com, "Incremental Backup and Restore with mariadb-backup".
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils.backup_store import PARTIAL
from ansible_collections.brume.cloud.plugins.module_utils.releases import release_number
from ansible_collections.brume.cloud.plugins.module_utils.secrets import derive

FORMAT = 1
FULL, INCREMENTAL = "full", "incremental"
SYNCED = "4"
"""wsrep_local_state of a member that is in step (mariadb.com, Galera Cluster Status Variables)."""

AGE_SECRET = "backup/age"  # noqa: S105  # a name
SHOWN = 10
KEPT = 2
"""How many of the newest full backups stay whatever the limits are."""

LOGS = 256 << 20
"""Bytes for what a server makes of its own when it starts on a backup: its log, temporary and undo tablespaces."""

_NAME = re.compile(r"\d{8}T\d{6}Z-(full|incremental)")


class BackupError(ValueError):
    """There is no backup that can be used; the text says why and what to do."""


@dataclass(frozen=True)
class Found:
    """What lies where backups are kept: whole ones by name, oldest first, and names of what is not whole."""

    manifests: Mapping[str, Mapping[str, Any]]
    partial: Sequence[str] = ()


@dataclass(frozen=True)
class Choice:
    """The member to back up, and the backup that an incremental one builds on (empty for a full one), with reasons."""

    member: str
    base: str = ""
    notes: Sequence[str] = field(default_factory=tuple)


def name_of(moment: datetime, kind: str, last: str) -> str:
    """Return the name of a backup that begins at a moment; `last` is that of the newest one, empty for none.

    Raises BackupError for a moment that is not later: names are the order in which backups build on each other and go.
    """
    if last and moment_of(last) >= moment.astimezone(UTC).replace(microsecond=0):
        raise BackupError(
            f"{last}: is of a time that has not come yet by the clock of the deploy host, "
            f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC; next: correct the clock, or move that backup away"
        )
    return f"{moment.astimezone(UTC):%Y%m%dT%H%M%SZ}-{kind}"


def moment_of(name: str) -> datetime:
    """Return when a backup began."""
    return datetime.strptime(name.partition("-")[0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)


def cloud_mark(master_key: bytes) -> str:
    """Return what tells clouds with different master keys apart, and tells nothing of the key."""
    return derive(master_key, "backup/cloud", 1, 8).hex()


def keyed_digest(master_key: bytes, text: str) -> str:
    """Return the digest of a configuration file, which is of no use to those who guess what is in the file."""
    return hmac.new(derive(master_key, "backup/configuration"), text.encode(), hashlib.sha256).hexdigest()[:16]


def sign(manifest: Mapping[str, Any], master_key: bytes) -> str:
    """Return the text of a manifest with its signature (HMAC-SHA-256)."""
    body = {key: value for key, value in manifest.items() if key != "signature"}
    return json.dumps({**body, "signature": _signature(body, master_key)}, indent=1, sort_keys=True) + "\n"


def _signature(body: Mapping[str, Any], master_key: bytes) -> str:
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return hmac.new(derive(master_key, "backup/manifest"), text.encode(), hashlib.sha256).hexdigest()


def read(name: str, text: str, master_key: bytes, region: str) -> dict[str, Any]:
    """Return a manifest. Raises BackupError for one that is another cloud's, that was altered, or of a later format."""
    try:
        manifest = json.loads(text)
        body = {key: value for key, value in manifest.items() if key != "signature"}
        if body["format"] > FORMAT:
            raise BackupError(f"{name}: was made by a later version of Brume; restore it with that one")
        if body["cloud"] != cloud_mark(master_key) or body["region"] != region:
            raise BackupError(
                f"{name}: is a backup of another cloud (region {body['region']}, master key {body['cloud']}; here "
                f"{region}, {cloud_mark(master_key)}); next: name another place with backup_path, or give the "
                "master key that the cloud had"
            )
        right = hmac.compare_digest(str(manifest["signature"]), _signature(body, master_key)) and body["name"] == name
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError):
        raise BackupError(f"{name}: its manifest cannot be read; next: move the backup away") from None
    if not right:
        raise BackupError(f"{name}: its manifest was altered; next: move the backup away and use another backup")
    return dict(body)


def found(listed: Mapping[str, Any], master_key: bytes, region: str) -> Found:
    """Return what `backup_store.store_list` has listed. Raises BackupError naming all that cannot be trusted."""
    problems = [f"{name}: is no backup; next: move it away" for name in listed["strange"]]
    manifests = {}
    for name in sorted(listed["manifests"]):
        try:
            if not _NAME.fullmatch(name):
                raise BackupError(f"{name}: is no name of a backup; next: move it away")
            manifests[name] = read(name, listed["manifests"][name], master_key, region)
        except BackupError as error:
            problems.append(str(error))
    partial = [name for name in listed["partial"] if _NAME.fullmatch(name.removesuffix(PARTIAL))]
    problems += [f"{name}: is no backup; next: move it away" for name in listed["partial"] if name not in partial]
    if problems:
        raise BackupError("\n".join(problems))
    return Found(manifests, partial)


def chain(name: str, manifests: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the backups that are needed to restore one, the full one first. Raises BackupError where one lacks."""
    if gap := _gap(name, manifests):
        raise BackupError(f"{name}: builds on {gap}, which is not there; next: restore another one")
    names = [name]
    while base := manifests[names[0]]["base"]:
        names.insert(0, base)
    return names


def _gap(name: str, manifests: Mapping[str, Mapping[str, Any]]) -> str:
    """Return which backup lacks to restore one, empty for none."""
    while (base := str(manifests[name]["base"])) and base in manifests:
        name = base
    return base


def images_of(
    names: Sequence[str], manifests: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, tuple[str, int]]]:
    """Return by host and file of Glance's store which backup of a chain has it last, and its size there in bytes.

    A file of another size is another one: that of an earlier backup was written to still.
    """
    found: dict[str, dict[str, tuple[str, int]]] = {}
    for name in names:
        for host, sizes in manifests[name]["images"].items():
            found.setdefault(host, {}).update({image: (name, size) for image, size in sizes.items()})
    return found


def needed(names: Sequence[str], manifests: Mapping[str, Mapping[str, Any]]) -> int:
    """Return the bytes that unpacking and trying a chain takes on a database host: a tenth and LOGS beside the data."""
    return sum(int(manifests[name]["unpacked"]) for name in names) * 11 // 10 + LOGS


def choose(
    members: Mapping[str, Mapping[str, Any]], manifests: Mapping[str, Mapping[str, Any]], kind: str
) -> Choice:
    """Return which member is backed up and what an incremental backup builds on. Raises BackupError.

    The writer is the member that serves the most clients; it is taken only where no other is in step. An incremental
    backup needs the data of which the last one was made; a state transfer replaces it.
    """
    serving = {name: one for name, one in members.items() if _serves(one, alone=len(members) == 1)}
    if not serving:
        said = ", ".join(f"{name}: {_said(one)}" for name, one in members.items())
        raise BackupError(f"no member of the database can be backed up ({said}); next: `site.yml`")
    writer = max(serving, key=lambda name: serving[name]["clients"])
    others = [name for name in serving if name != writer or not serving[writer]["clients"]] or [writer]
    notes = []
    if others == [writer] and len(members) > 1:
        notes.append(f"{writer} serves clients, and no other member is in step")
    chosen, base = min(reversed(others), key=lambda name: serving[name]["clients"]), ""
    last = max(manifests, default="")
    if kind == INCREMENTAL and last:
        before = manifests[last]
        host = before["member"]
        now = serving.get(host)
        gap = _gap(last, manifests)
        if gap:
            notes.append(f"full, because {last} needs {gap}, which is not there")
        elif host not in others or now is None:
            notes.append(f"full, because {host}, of which the last backup was made, is not in step or serves clients")
        elif (now["identity"], now["version"]) != (before["identity"], before["version"]):
            notes.append(f"full, because {host} has other data or another version since the last backup")
        else:
            chosen, base = host, last
    elif kind == INCREMENTAL:
        notes.append("full, because there is none to build on")
    lacking = serving[chosen]["missing"]
    if lacking:
        raise BackupError(f"{chosen}: lacks {', '.join(lacking)}; next: `site.yml --tags host` installs what is needed")
    return Choice(chosen, base, notes)


def _serves(one: Mapping[str, Any], *, alone: bool) -> bool:
    if not one.get("active"):
        return False
    if alone and int(one.get("wsrep_cluster_size") or 0) == 0:
        return True
    return one.get("wsrep_cluster_status") == "Primary" and one.get("wsrep_local_state") == SYNCED


def _said(one: Mapping[str, Any]) -> str:
    return "does not run" if not one.get("active") else f"is {one.get('wsrep_cluster_status')}, not in step"


def expired(names: Sequence[str], manifests: Mapping[str, Mapping[str, Any]], now: datetime, count: int,
            days: int) -> list[str]:  # fmt: skip
    """Return which backups are to go, the newest first, so that none is ever left without what it builds on.

    A full backup and those that build on it go together: when `count` newer full ones are there, or when the newest of
    them is older than `days`. 0 is no limit. The KEPT newest full ones never go, nor what builds on them: the newest
    one has not been tested yet. The newest with images stays too. `names` are all, the one that has just been made
    among them; of manifests, `base` and `with_images` count. What builds on a backup that is not there counts for none,
    and goes when a full one of its time would.
    """
    chains: dict[str, list[str]] = {}
    for name in sorted(names):
        base = str(manifests[name]["base"])
        first = next((full for full, some in chains.items() if base in some), "") if base else ""
        chains.setdefault(first or name, []).append(name)
    fulls = [name for name in chains if not manifests[name]["base"]]
    imaged = max((full for full in fulls if any(manifests[name]["with_images"] for name in chains[full])), default="")
    going: list[str] = []
    for first, some in sorted(chains.items(), reverse=True):
        newer = sum(full > first for full in fulls)
        old = days > 0 and now - moment_of(some[-1]) > timedelta(days=days)
        if newer >= KEPT and first != imaged and ((count > 0 and newer >= count) or old):
            going += reversed(some)
    return going


def differences(expected: Mapping[str, Mapping[str, Any]], actual: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return in what a restored server differs from the tables of a manifest.

    Of a table that was written to while the backup was made only its presence is compared.
    """
    said = [f"{name}: is not there" for name in expected if name not in actual]
    said += [f"{name}: is there, and was not" for name in actual if name not in expected]
    for name, one in expected.items():
        now = actual.get(name)
        if now is not None and not one["moving"] and (one["rows"], one["checksum"]) != (now["rows"], now["checksum"]):
            said.append(f"{name}: has {now['rows']} rows, not the {one['rows']} of the backup, or others")
    return said


def compared(expected: Mapping[str, Mapping[str, Any]]) -> str:
    """Return what a comparison says of itself."""
    moving = [name for name, one in expected.items() if one["moving"]]
    text = f"{len(expected) - len(moving)} tables are row by row what they were"
    if moving:
        shown = ", ".join(moving[:SHOWN]) + (f" and {len(moving) - SHOWN} more" if moving[SHOWN:] else "")
        text += f"; {len(moving)} were written to meanwhile and are there: {shown}"
    return text


def pick(wanted: str, found_ones: Found) -> str:
    """Return the backup to restore or test: the wanted one, else the newest. Raises BackupError."""
    if not found_ones.manifests:
        raise BackupError("there is no whole backup; next: see backup_path and backup_host")
    if wanted and wanted not in found_ones.manifests:
        raise BackupError(f"{wanted}: is no whole backup there; there are {', '.join(found_ones.manifests)}")
    return wanted or max(found_ones.manifests)


def release_of(served: Iterable[Iterable[str]], planned: str) -> str:
    """Return the release that can use a backed up database, by what the controllers say of their schemas.

    While a schema serves two, that is the newer one: the older one's tools do not know what has been added. The planned
    release may be further: an upgrade makes its backup first.
    """
    return max((one for names in served for one in names), key=release_number, default=planned)


def not_fitting(manifest: Mapping[str, Any], release: str, versions: Mapping[str, str]) -> list[str]:
    """Return why a backup cannot be restored to what the inventory plans; `versions` are services' locks."""
    if manifest["release"] != release:
        return [
            f"{manifest['name']}: is of release {manifest['release']}, and brume_release is {release}; next: set "
            f"brume_release to {manifest['release']}, restore, and upgrade then"
        ]
    lacking = sorted(set(manifest["services"]) - set(versions))
    return [f"{manifest['name']}: holds {', '.join(lacking)}, which the inventory does not deploy"] if lacking else []


def told(names: Sequence[str], manifests: Mapping[str, Mapping[str, Any]], now: datetime, plan: Mapping[str, Any],
         ) -> list[str]:  # fmt: skip
    """Return what a restore of a chain brings back and what is lost by it, for people.

    `plan` has `services` and `configuration`, as a manifest has.
    """
    manifest = manifests[names[-1]]
    age = now - moment_of(names[-1])
    lines = [
        f"{names[-1]}: of {manifest['member']}, {len(manifest['tables'])} tables" + (
            f", built on {', '.join(names[:-1])}" if names[1:] else ""
        ),
        f"lost is every change since {moment_of(names[-1]):%Y-%m-%d %H:%M:%S} UTC, {_span(age)} ago: instances, "
        "volumes, networks, users and images made since are forgotten, those deleted since come back as records",
        "lost are messages that no service has read yet, and tokens where the Fernet keys were rotated since",
    ]
    lines.append(_told_of_images(names, manifests))
    for name, digest in manifest["services"].items():
        if plan["services"].get(name) not in (None, digest):
            lines.append(f"{name}: other packages than at the backup; its schema is brought up to date")
    changed = [
        f"{host}:{path}"
        for host, files in manifest["configuration"].items()
        for path, digest in files.items()
        if host in plan["configuration"] and plan["configuration"][host].get(path) != digest
    ]
    if changed:
        shown = ", ".join(changed[:SHOWN]) + (f" and {len(changed) - SHOWN} more" if changed[SHOWN:] else "")
        lines.append(f"configured otherwise than at the backup, and it stays so: {shown}")
    return lines


def _told_of_images(names: Sequence[str], manifests: Mapping[str, Mapping[str, Any]]) -> str:
    having = [name for name in names if manifests[name]["with_images"]]
    if not having:
        return "no files of Glance's store are in it"
    held = sum(len(images) for images in images_of(names, manifests).values())
    return f"files of Glance's store: {held}" + (
        "" if having[-1] == names[-1] else f", as of {having[-1]}; later ones are in no backup"
    )


def _span(age: timedelta) -> str:
    hours = int(age.total_seconds() // 3600)
    return f"{hours // 24} days and {hours % 24} hours" if hours >= 24 else f"{hours} hours"  # noqa: PLR2004
