"""Ring builders: read, changed, rebalanced and written by Swift's own `RingBuilder`. Runs in Swift's Python.

Everything is computed in memory, on all rings, before anything is written; a dry run leaves out the writing alone.
With the same builder, declaration and time it gives the same bytes: the seed of a rebalance is the builder's id and
version, and the id is a digest of the first declaration.

Below a folder lie `<ring>.builder`, `<ring>.ring.gz`, `<ring>.state.json` and `history/`. The state says, by the digest
of a builder, whether its ring was brought to an end, and the digest of the ring's file. Source of the rules:
`swift.common.ring.builder` and `swift.cli.ringbuilder` (2.38).
"""

from __future__ import annotations

import base64
import contextlib
import copy
import hashlib
import io
import json
import math
import os
import pickle
import random
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils import swift_rings
from ansible_collections.brume.cloud.plugins.module_utils.convergence import atomic_write, read_marker, write_marker
from ansible_collections.brume.cloud.plugins.module_utils.swift_rings import Action, Found, Ring, key_in
from swift.common import exceptions
from swift.common.ring import builder as upstream

FOLDER_MODE, FILE_MODE = 0o750, 0o640
HOUR = 3600
HISTORY = "history"
ROUNDING = 1e-6


@dataclass(frozen=True)
class Options:
    """What holds for all rings of a call. `now` is in seconds since the epoch, `maximum_share` from 0 to 1."""

    folder: str
    now: float
    held: Mapping[str, Any] = field(default_factory=dict)
    lost: Sequence[str] = ()
    allow: Sequence[str] = ()
    maximum_share: float = 1.0
    history: int = 10
    elsewhere: Mapping[str, str] = field(default_factory=dict)
    """Ring -> why it may be in use already, so that a builder that is missing must not be made anew."""

    def path(self, ring: str, kind: str) -> str:
        """Return the path of a ring's file: `builder`, `ring.gz` or `state.json`."""
        return os.path.join(self.folder, f"{ring}.{kind}")


@dataclass(frozen=True)
class Loaded:
    """A declared ring, its builder if there is one, and what differs. `entry` is what the state says of the builder."""

    ring: Ring
    builder: Any
    content: bytes
    entry: Mapping[str, Any]
    strange: bool
    """Whether the builder has been written by another hand since."""
    actions: Sequence[Action]


@dataclass(frozen=True)
class Result:
    """What a ring comes to: the contents of its files, the state's entry, and what is reported."""

    name: str
    builder: bytes
    ring: bytes
    entry: Mapping[str, Any]
    report: dict[str, Any]


def run(request: Mapping[str, Any]) -> dict[str, Any]:
    """Do what the module `swift_ring` asks for, and return {"problems": [...]} or {"rings": [...]}.

    `request` has `rings` as they are declared, `check`, and the fields of Options. Raises OSError.
    """
    options = Options(**{name: request[name] for name in Options.__dataclass_fields__ if name in request})
    rings, problems = swift_rings.parse(request["rings"], options.lost)
    if problems:
        return {"problems": problems}
    with _time(options.now):
        loaded: list[Loaded] = []
        for ring in rings:
            try:
                loaded.append(load(ring, options))
            except RingError as error:
                problems += [f"ring {ring.name}: {text}" for text in error.problems]
        results = []
        for one in [] if problems else loaded:
            try:
                results.append(computed(one, options))
            except RingError as error:
                problems += [f"ring {one.ring.name}: {text}" for text in error.problems]
    if problems:
        return {"problems": problems}
    if not request.get("check"):
        for one, result in zip(loaded, results, strict=True):
            write(one, result, options)
    if request.get("content"):
        for result in results:
            result.report["content"] = base64.b64encode(result.ring).decode()
    return {"rings": [result.report for result in results]}


class RingError(Exception):
    """A ring cannot be converged; `problems` has one line for each reason, with key and remedy."""

    def __init__(self, problems: Sequence[str]) -> None:
        """Keep the lines."""
        super().__init__("\n".join(problems))
        self.problems = list(problems)


@contextlib.contextmanager
def _time(now: float) -> Any:
    """Give the builders a time that stands still, so that a dry run and a run agree on what may move."""
    before = upstream.time
    upstream.time = lambda: now
    try:
        yield
    finally:
        upstream.time = before


# --- reading


def parsed(content: bytes) -> Any:
    """Return the builder that a file holds. Raises RingError, also for one that a newer Swift has written."""
    try:
        data = pickle.loads(content)  # noqa: S301  # the file is root's, and Swift keeps builders as pickles
        if isinstance(data, dict):
            newer = sorted(set(data) - set(upstream.RingBuilder(1, 1, 1).to_dict()))
            if newer:
                raise RingError([
                    f"builder: is of a newer Swift, which keeps {', '.join(newer)} in it; use the environment of the "
                    "release that has written it"
                ])  # fmt: skip
        builder = upstream.RingBuilder.load("builder", open=lambda *_words: io.BytesIO(content))
        if builder.ever_rebalanced and sum(one["parts"] for one in builder._iter_devs()) != sum(
            len(row) for row in builder._replica2part2dev
        ):
            raise ValueError("its devices have other partitions than its table says")
    except RingError:
        raise
    except Exception as error:  # a damaged pickle raises whatever its bytes come to
        raise RingError([f"builder: is damaged ({str(error) or type(error).__name__})"]) from None
    return builder


def load(ring: Ring, options: Options) -> Loaded:
    """Return a ring with its builder. Raises RingError with the reasons why it may not be converged."""
    path = options.path(ring.name, "builder")
    try:
        with open(path, "rb") as stream:
            content = stream.read()
    except FileNotFoundError:
        _check_nothing_was_there(ring, options)
        actions = swift_rings.compare(ring, None)
        return Loaded(ring, None, b"", {}, False, actions)
    try:
        builder = parsed(content)
    except RingError as error:
        raise RingError([f"{path}: {text}; {newest_copy(ring.name, options)}" for text in error.problems]) from None
    found = found_in(builder)
    actions = swift_rings.compare(ring, found, held=options.held, lost=options.lost, allow=options.allow)
    refused = swift_rings.refusals(ring, found, actions, options.allow)
    gone = [one.key for one in actions if one.verb == "lose"]
    without = copies_lost(builder, gone) if gone and "lost" not in options.allow else 0
    if without:
        refused.append(
            f"ring {ring.name}: lost: {without} partitions have all copies on {', '.join(gone)}; take out what can be "
            "read still, or confirm with `allow: [lost]` that these data are given up"
        )
    if refused:
        raise RingError([text.removeprefix(f"ring {ring.name}: ") for text in refused])
    state = read_marker(options.path(ring.name, "state.json"))
    entry = state.get(digest(content), {})
    return Loaded(ring, builder, content, entry, bool(state) and not entry, actions)


def _check_nothing_was_there(ring: Ring, options: Options) -> None:
    """Raise RingError where a builder is missing though there was one: a new one would place all data anew."""
    old = options.path(ring.name, "ring.gz")
    if os.path.exists(old) or copies(ring.name, options):
        raise RingError([
            f"builder: {options.path(ring.name, 'builder')} is missing, but there was one before; "
            f"{newest_copy(ring.name, options)}"
        ])  # fmt: skip
    if reason := options.elsewhere.get(ring.name):
        file = options.path(ring.name, "builder")
        raise RingError([
            f"builder: {file} is missing, and {reason}; bring it back from another controller or a backup, or make it "
            f"of the ring in use: `swift-ring-builder /etc/swift/{ring.name}.ring.gz write_builder`, and put it there"
        ])  # fmt: skip


def copies(ring: str, options: Options) -> list[str]:
    """Return the paths of a ring's older builders, the newest first."""
    folder = os.path.join(options.folder, HISTORY)
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    return [os.path.join(folder, one) for one in sorted(names, reverse=True) if one.startswith(f"{ring}.builder.")]


def newest_copy(ring: str, options: Options) -> str:
    """Return the remedy for a builder that cannot be read: the newest copy that can."""
    for path in copies(ring, options):
        try:
            with open(path, "rb") as stream:
                parsed(stream.read())
        except (RingError, OSError):
            continue
        return f"put back the newest good copy, `cp -p {path} {options.path(ring, 'builder')}`, and run again"
    return (
        "there is no good copy in its history; put one back from a backup, or make it with `swift-ring-builder "
        f"{options.path(ring, 'builder')} write_builder` from {ring}.ring.gz of any node"
    )


def found_in(builder: Any) -> Found:
    """Return what a builder has."""
    return Found(
        builder.part_power,
        builder.next_part_power,
        float(builder.replicas),
        builder.min_part_hours,
        builder.overload,
        list(builder._iter_devs()),
    )


def copies_lost(builder: Any, keys: Iterable[str]) -> int:
    """Return how many partitions have all their replicas on these devices."""
    wanted = set(keys)
    ids = {one["id"] for one in builder._iter_devs() if key_in(one) in wanted}
    rows = builder._replica2part2dev or []
    return sum(
        all(row[part] in ids for row in rows if part < len(row)) for part in range(builder.parts if rows else 0)
    )


# --- changing


def apply(builder: Any, actions: Iterable[Action]) -> None:
    """Do to a builder what actions say, without a rebalance."""
    ids = {key_in(one): one["id"] for one in builder._iter_devs()}
    for action in actions:
        if action.verb == "add":
            builder.add_dev(dict(action.values))
        elif action.key in ids:
            _apply_to_device(builder, action, ids[action.key])
        else:
            _apply_to_ring(builder, action)
        if action.verb == "rename":
            ids[action.values["to"]] = ids[action.key]


def _apply_to_device(builder: Any, action: Action, number: int) -> None:
    values = dict(action.values)
    if action.verb == "rename":
        ip, _, device = values["to"].rpartition("/")
        inform(builder, number, {"ip": ip, "device": device})
    elif action.verb == "inform":
        inform(builder, number, values)
    elif action.verb == "place":
        builder.set_dev_region(number, values.get("region", builder.devs[number]["region"]))
        builder.set_dev_zone(number, values.get("zone", builder.devs[number]["zone"]))
    elif action.verb in ("weigh", "drain"):
        builder.set_dev_weight(number, values["weight"] if action.verb == "weigh" else 0.0)
    else:
        builder.remove_dev(number)


def _apply_to_ring(builder: Any, action: Action) -> None:
    steps = {
        "prepare": builder.prepare_increase_partition_power,
        "increase": builder.increase_partition_power,
        "finish": builder.finish_increase_partition_power,
    }
    setters = {
        "replicas": builder.set_replicas,
        "min_part_hours": builder.change_min_part_hours,
        "overload": builder.set_overload,
    }
    if action.verb in steps:
        steps[action.verb]()
    elif action.verb == "set":
        setters[action.key](action.values["to"])


def inform(builder: Any, number: int, values: Mapping[str, Any]) -> None:
    """Set attributes of a device that move nothing, as `swift-ring-builder set_info` does; the version tells of it."""
    builder.devs[number].update(values)
    builder.version += 1
    builder._ring = None


def created(ring: Ring) -> Any:
    """Return a new builder; its id is a digest of the declaration, so that the same one gives the same bytes."""
    builder = upstream.RingBuilder(ring.part_power, ring.replicas, ring.min_part_hours)
    said = json.dumps({**vars(ring), "devices": [one.values() for one in ring.devices]}, sort_keys=True)
    builder._id = uuid.uuid5(uuid.NAMESPACE_OID, said).hex
    return builder


# --- rebalancing


def excess(builder: Any) -> int:
    """Return how many replicas of partitions lie where they should not, by weight or by dispersion.

    `RingBuilder.rebalance` leaves in `parts_wanted` of each device how many it wants more (less than 0: fewer).
    """
    heavy = sum(
        max(0, -one.get("parts_wanted", 0)) if one["weight"] else one["parts"] for one in builder._iter_devs()
    )
    return int(heavy + round((builder.dispersion or 0.0) / 100 * builder.parts * builder.replicas))


def seed(builder: Any) -> str:
    """Return the seed of a builder's next rebalance."""
    return f"{builder._id} {builder.version}"


def _table(builder: Any) -> list[Any]:
    return [row[:] for row in builder._replica2part2dev or []]


def changed_parts(old: Sequence[Any], new: Sequence[Any]) -> list[int]:
    """Return the partitions of which a replica has moved, one item for each replica; new replicas have not moved."""
    return [part for before, after in zip(old, new, strict=False)
            for part, (one, other) in enumerate(zip(before, after, strict=False)) if one != other]  # fmt: skip


def rebalance(builder: Any, number: str) -> list[int]:
    """Rebalance with a seed, and return the partitions that moved, one item for each replica. Raises RingError.

    `RingBuilder` counts whole hours, and only when one has passed since it last counted. A partition that moves before
    that would gain the hour that had begun; so the count begins anew with every move.
    """
    old = _table(builder)
    try:
        builder.rebalance(seed=number)
    except Exception as error:  # `RingBuilder` has no class of its own for a partition without a home
        raise RingError([f"devices: Swift cannot balance them: {error}"]) from error
    moved = changed_parts(old, builder._replica2part2dev)
    if moved:
        builder._last_part_moves_epoch = int(upstream.time())
    return moved


@dataclass(frozen=True)
class Balanced:
    """A rebalanced builder, the partitions that moved, why it is not the end (empty: it is), and when it may go on."""

    builder: Any
    moved: Sequence[int] = ()
    reason: str = ""
    due: int = 0


def balanced(start: Any, share: float, *, pressing: bool) -> Balanced:
    """Return a builder that was rebalanced, with at most a share of its replicas moved. `start` stays as it is.

    Unless it is `pressing`, what gains nothing is not taken. Where more would move than may, the partitions that gain
    most go to where the whole rebalance has put them, the others stay; so the steps end where it would. Replicas on
    removed devices are assigned again whatever their number, and new replicas too.
    """
    number = seed(start)
    whole = copy.deepcopy(start)
    moved = rebalance(whole, number)
    if not pressing and excess(whole) >= excess(start):
        return _waiting(start, (), number)
    most = math.floor(share * start.parts * start.replicas + ROUNDING)
    if not start.ever_rebalanced or len(moved) <= most:
        return _waiting(whole, moved, number)
    moved = _part_of(whole, start, moved, most, number)
    return Balanced(whole, moved, "maximum_share" if excess(whole) else "")


def _part_of(whole: Any, start: Any, moved: Sequence[int], most: int, number: str) -> list[int]:
    """Take back moves of a whole rebalance until `most` replicas have moved; return the partitions that have."""
    old, new = start._replica2part2dev, whole._replica2part2dev
    removed = {one["id"] for one in start._remove_devs}
    forced = {part for row in old for part, one in enumerate(row) if one in removed}
    # a new replica may be where another one was
    forced |= {part for part in moved if sum(part < len(row) for row in old) < sum(part < len(row) for row in new)}
    target = {one["id"]: one["parts"] + one["parts_wanted"] if one["weight"] else 0 for one in whole._iter_devs()}
    parts = {one["id"]: one["parts"] for one in start._iter_devs()}

    def rank(part: int) -> int:
        """Return 0 for a move from a device that has too much to one that has too little, else more."""
        rows = [(a[part], b[part]) for a, b in zip(old, new, strict=False) if part < min(len(a), len(b))]
        source, goal = next((a, b) for a, b in rows if a != b)
        return int(parts[source] <= target.get(source, 0)) * 2 + int(parts.get(goal, 0) >= target[goal])

    free = sorted(set(moved) - forced)
    random.Random(number).shuffle(free)  # noqa: S311  # only spreads them over the ring
    room = max(0, most - sum(part in forced for part in moved))
    chosen = sorted(free, key=rank)[:room]
    ages = copy.deepcopy(start)
    ages._update_last_part_moves()
    for part in set(free) - set(chosen):
        whole._last_part_moves[part] = ages._last_part_moves[part]
        for before, after in zip(old, new, strict=False):
            if part < len(before) and part < len(after):
                after[part] = before[part]
    counts = Counter(one for row in new for one in row)
    for one in whole._iter_devs():
        one["parts_wanted"] += one["parts"] - counts[one["id"]]
        one["parts"] = counts[one["id"]]
    whole._build_dispersion_graph()
    whole._ring = None
    return changed_parts(old, new)


def _waiting(builder: Any, moved: Sequence[int], number: str) -> Balanced:
    """Return what was rebalanced, and until when it waits because partitions have moved lately."""
    if not excess(builder):
        return Balanced(builder, moved)
    later = copy.deepcopy(builder)
    later.pretend_min_part_hours_passed()
    parts = set(rebalance(later, number))
    left = [hours for part in parts if (hours := builder.min_part_hours - builder._last_part_moves[part]) > 0]
    if excess(later) >= excess(builder) or not left:
        return Balanced(builder, moved)
    return Balanced(builder, moved, "min_part_hours", builder._last_part_moves_epoch + min(left) * HOUR)


def computed(loaded: Loaded, options: Options) -> Result:
    """Return what a ring comes to. Raises RingError where Swift cannot balance it."""
    actions, entry = loaded.actions, loaded.entry
    start = loaded.builder if loaded.builder is not None else created(loaded.ring)
    before = summary(loaded.builder)
    builder = copy.deepcopy(start) if actions else start
    apply(builder, actions)
    pressing = any(map(swift_rings.moves, actions)) or builder.devs_changed or not builder.ever_rebalanced
    open_still = is_open(entry, options)
    reason, due = ("", 0) if open_still else (entry.get("reason", ""), entry.get("due", 0))
    moved: Sequence[int] = ()
    if builder.next_part_power:
        reason, due = "part_power", 0
    elif pressing or (open_still and excess(builder)):
        free = builder
        if "min_part_hours" in options.allow and builder.ever_rebalanced:
            free = copy.deepcopy(builder)
            free.pretend_min_part_hours_passed()
        done = balanced(free, options.maximum_share, pressing=pressing)
        reason, due, moved = done.reason, done.due, done.moved
        if done.builder is not free:
            builder = validated(done.builder)
    same = builder is start and loaded.builder is not None
    content = loaded.content if same else pickle.dumps(builder.to_dict(), protocol=2)
    file = ring_file(builder, content, loaded, options)
    after = before if same else summary(builder)
    entry = {"reason": reason, "due": due, "ring": digest(file)}
    return Result(loaded.ring.name, content, file, entry, reported(loaded, options, before, after, moved, entry, file))


def validated(builder: Any) -> Any:
    """Return a builder that is valid, as `swift-ring-builder` looks before it saves one. Raises RingError."""
    try:
        builder.validate()
    except exceptions.RingValidationError as error:
        raise RingError([f"devices: the rebalanced ring is not valid: {error}"]) from error
    return builder


def is_open(entry: Mapping[str, Any], options: Options) -> bool:
    """Return whether a builder may have partitions to move though nothing differs from its declaration.

    A builder that is not known may have been left by another hand; after a part power increase nothing is known of
    what there was to move before.
    """
    reason = entry.get("reason")
    if reason == "min_part_hours":
        return options.now >= entry["due"] or "min_part_hours" in options.allow
    return not entry or reason in ("maximum_share", "part_power")


# --- writing and reporting


def digest(content: bytes) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except FileNotFoundError:
        return b""


def ring_file(builder: Any, content: bytes, loaded: Loaded, options: Options) -> bytes:
    """Return the content of the ring's file; of a builder that is known, what lies there if the state knows it too."""
    if content == loaded.content:
        there = _read(options.path(loaded.ring.name, "ring.gz"))
        if there and digest(there) == loaded.entry.get("ring"):
            return there
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, f"{loaded.ring.name}.ring.gz")
        builder.get_ring().save(path)
        return _read(path)


def summary(builder: Any) -> dict[str, Any]:
    """Return balance (percent), dispersion (percent) and devices of a builder; empty where there is none.

    `balance` is how many percent more or less partitions a device has than its weight stands for.
    """
    if builder is None:
        return {}
    total = sum(one["weight"] for one in builder._iter_devs())
    part = builder.parts * builder.replicas / total if total else 0.0
    devices = {}
    for one in sorted(builder._iter_devs(), key=lambda one: one["id"]):
        wanted = one["weight"] * part
        balance = 100.0 * one["parts"] / wanted - 100.0 if wanted else upstream.MAX_BALANCE if one["parts"] else 0.0
        devices[key_in(one)] = {
            "id": one["id"],
            "region": one["region"],
            "zone": one["zone"],
            "weight": one["weight"],
            "parts": one["parts"],
            "wanted": round(wanted, 1),
            "balance": round(balance, 2),
        }
    return {
        "version": builder.version,
        "part_power": builder.part_power,
        "next_part_power": builder.next_part_power,
        "replicas": builder.replicas,
        "min_part_hours": builder.min_part_hours,
        "overload": builder.overload,
        "balance": max((abs(one["balance"]) for one in devices.values()), default=0.0),
        "dispersion": round(builder.dispersion or 0.0, 2),
        "devices": devices,
    }


def reported(
    loaded: Loaded,
    options: Options,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    moved: Sequence[int],
    entry: Mapping[str, Any],
    file: bytes,
) -> dict[str, Any]:
    """Return what the module says of a ring."""
    ring = loaded.ring
    actions = [str(one) for one in loaded.actions]
    if moved or (before and before["version"] != after["version"] and not actions):
        actions.append(f"move {len(moved)} partitions")
    if digest(_read(options.path(ring.name, "ring.gz"))) != entry["ring"]:
        actions.append(f"write {ring.name}.ring.gz")
    slots = int(after["replicas"] * 2 ** after["part_power"])
    waits = swift_rings.leaving(ring, found_in(loaded.builder), options.lost) if loaded.builder is not None else []
    return {
        "name": ring.name,
        "changed": bool(actions),
        "actions": actions,
        "changed_by_hand": loaded.strange,
        "leaving": [one for one in waits if one in after["devices"]],
        "moved": len(moved),
        "moved_share": round(len(moved) / slots, 6),
        "before": before,
        "after": after,
        "complete": not entry["reason"],
        "reason": entry["reason"],
        "next": max(0, int(entry["due"] - options.now)) if entry["reason"] == "min_part_hours" else 0,
        "md5": hashlib.md5(file, usedforsecurity=False).hexdigest(),
        "sha256": entry["ring"],
    }


def write(loaded: Loaded, result: Result, options: Options) -> None:
    """Write what differs: state, history, builder and ring, in this order, each at once. Raises OSError.

    Killed in between, the state knows both builders, and the next call writes a ring that is not of its builder.
    """
    folder = os.path.join(options.folder, HISTORY)
    for path in (options.folder, folder):
        if not os.path.isdir(path):
            os.makedirs(path, mode=FOLDER_MODE)
            os.chmod(path, FOLDER_MODE)
    if result.builder != loaded.content or result.entry != loaded.entry:
        entries = {digest(loaded.content): loaded.entry, digest(result.builder): result.entry}
        known = {key: entry for key, entry in entries.items() if entry}
        write_marker(options.path(result.name, "state.json"), known, mode=FILE_MODE)
    path = options.path(result.name, "builder")
    if result.builder != loaded.content:
        if loaded.content:
            _keep(loaded, result.name, path, folder, options)
        atomic_write(path, result.builder, mode=FILE_MODE)
    ring = options.path(result.name, "ring.gz")
    if _read(ring) != result.ring:
        atomic_write(ring, result.ring, mode=FILE_MODE)


def _keep(loaded: Loaded, ring: str, path: str, folder: str, options: Options) -> None:
    """Keep the builder that is going to be replaced, and give up the oldest ones."""
    moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(options.now))
    kept = os.path.join(folder, f"{ring}.builder.{moment}.{loaded.builder.version:06}.{digest(loaded.content)[:12]}")
    with contextlib.suppress(FileExistsError):
        os.link(path, kept)
    for old in copies(ring, options)[options.history :]:
        os.unlink(old)
