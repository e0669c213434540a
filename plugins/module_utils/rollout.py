"""systemd units of a host: which of them must start anew, in what order, and whether they are well.

`decide` is pure; `Systemd` reads and runs. A unit is restarted when the digest of its unit file, of the files it reads
and of its release differs from the one that was recorded when it last started well.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import socket
import ssl
import subprocess
import threading
import time
import urllib.parse
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

from ansible_collections.brume.cloud.plugins.module_utils import file_state

RECORDS = "/var/lib/brume/units"
"""Directory of the records, 0700; one JSON file a unit."""

UNIT_DIRECTORY = "/etc/systemd/system"

MARK = "# Written by Brume"
"""Begin of the unit files and drop-ins that are the project's own."""

SETTLED = 2.0
"""Seconds a unit without a health check must stay active without a restart."""

SETTLED_PYTHON = 5.0
"""The same for a program of a Python environment, which reads its configuration after it has loaded all it needs."""

CRASHES = 2
"""Automatic restarts after which a unit counts as failed: one may be a race at the start, two are a fault."""

POLL = 0.25
"""Seconds between two looks at a unit."""

JOURNAL_LINES = 20

ENABLED = frozenset({"enabled", "enabled-runtime", "static", "alias", "generated", "indirect"})
"""States in which `systemctl enable` has nothing to do (systemctl(1), is-enabled)."""

Verb = Literal["", "start", "restart", "reload", "wait"]


class UnitError(ValueError):
    """The units that are asked for contradict each other; one line per mistake."""


@dataclass(frozen=True)
class Unit:
    """A unit as it is planned."""

    name: str
    content: str | None = None
    dropin: str | None = None
    absent: bool = False
    idle: bool = False
    files: tuple[str, ...] = ()
    reload_files: tuple[str, ...] = ()
    revision: str = ""
    on_change: Literal["restart", "reload", "none"] = "restart"
    enabled: bool = True
    after: tuple[str, ...] = ()
    health: Mapping[str, Any] = field(default_factory=dict)
    timeout: float = 120.0
    start_environment: Mapping[str, str] = field(default_factory=dict)
    waits_for: Mapping[str, Any] = field(default_factory=dict)
    """Where a connection must be accepted before the unit is started; empty for one that waits for nobody."""
    first: bool = False
    versions: str = ""
    """What a process that keeps other services' versions must have been started with; empty for one that need not."""

    @property
    def texts(self) -> dict[str, str | None]:
        """Return the files below UNIT_DIRECTORY that belong to the unit, None for one that must not exist.

        A drop-in that nobody plans may be another's, so it is left alone unless the unit goes.
        """
        paths: dict[str, str | None] = {}
        if self.content is not None or self.absent:
            paths[f"{UNIT_DIRECTORY}/{self.name}"] = None if self.absent else self.content
        if self.dropin is not None or self.absent:
            paths[f"{UNIT_DIRECTORY}/{self.name}.d/brume.conf"] = None if self.absent else self.dropin
        return paths


@dataclass(frozen=True)
class State:
    """What systemd says of a unit."""

    load: str = "not-found"
    active: str = "inactive"
    sub: str = "dead"
    file_state: str = ""
    restarts: int = 0
    needs_reload: bool = False
    result: str = ""
    triggers: str = ""
    """Of a socket: the service that it starts."""

    @property
    def is_active(self) -> bool:
        """Whether the unit runs, or is in the middle of a reload."""
        return self.active in ("active", "reloading")


@dataclass(frozen=True)
class Step:
    """What one unit needs."""

    unit: Unit
    verb: Verb = ""
    reason: str = ""
    enable: bool = False
    disable: bool = False
    remove: bool = False
    files: tuple[str, ...] = ()
    """Files that go with a unit that is removed."""
    write: tuple[str, ...] = ()
    record: bool = False
    digest: str = ""

    @property
    def actions(self) -> list[str]:
        """Return what a person is told; the same in check mode and in a run."""
        name = self.unit.name
        lines = [f"write {path}" for path in self.write]
        if self.remove:
            verb = "stop and disable" if self.unit.idle else "stop, disable and remove"
            lines.append(f"{verb} {name} (nothing here plans it)")
        lines += [f"remove {path}" for path in self.files]
        lines += [f"enable {name}"] if self.enable else []
        lines += [f"disable {name}"] if self.disable else []
        lines += [f"{self.verb} {name} ({self.reason})"] if self.verb not in ("", "wait") else []
        return lines


@dataclass
class Outcome:
    """What became of one unit."""

    name: str
    action: str
    seconds: float = 0.0
    healthy: bool = True
    message: str = ""
    journal: list[str] = field(default_factory=list)


def parse(items: Iterable[Mapping[str, Any]]) -> list[Unit]:
    """Return the module's `units` as typed records. Raises UnitError for double names, unknown `after` and cycles."""
    units = [
        Unit(
            name=str(item["name"]),
            content=item.get("content"),
            dropin=item.get("dropin"),
            absent=item.get("state", "present") == "absent",
            idle=item.get("state", "present") == "idle",
            files=tuple(item.get("files") or ()),
            reload_files=tuple(item.get("reload_files") or ()),
            revision=str(item.get("revision") or ""),
            on_change=item.get("on_change") or "restart",
            enabled=item.get("enabled") is not False,
            after=tuple(item.get("after") or ()),
            health=dict(item.get("health") or {}),
            timeout=float(item.get("timeout") or 120),
            start_environment=dict(item.get("start_environment") or {}),
            waits_for=dict(item.get("waits_for") or {}),
            first=bool(item.get("first")),
            versions=str(item.get("versions") or ""),
        )
        for item in items
    ]
    names = [unit.name for unit in units]
    problems = [f"{name}: given more than once" for name in sorted({name for name in names if names.count(name) > 1})]
    for unit in units:
        problems += [
            f"{unit.name}: after names {other}, which is not in this call" for other in unit.after if other not in names
        ]
        unknown = set(unit.health) - {"http", "tcp", "queue", "command", "ca_file"}
        if unknown:
            problems.append(f"{unit.name}: unknown health check {', '.join(sorted(unknown))}")
    if not problems:
        waiting = {unit.name: set(unit.after) for unit in units}
        while free := [name for name, others in waiting.items() if not others & set(waiting)]:
            for name in free:
                del waiting[name]
        if waiting:
            problems.append(f"after: {', '.join(sorted(waiting))} wait for each other")
    if problems:
        raise UnitError("\n".join(problems))
    return units


def digest(
    unit: Unit, content_of: Callable[[str], bytes | None], predicted: Mapping[str, str] | None = None
) -> tuple[str, str]:
    """Return two digests: of everything a unit reads, and of what a reload cannot apply (unit file and revision).

    `predicted` are digests of files as a run will write them, for a dry run.
    """
    start = hashlib.sha256()
    for part in (unit.content or "", unit.dropin or "", unit.revision):
        start.update(f"{len(part)}:{part}".encode())
    whole = start.copy()
    for path, one in sorted(file_digests(unit, content_of, predicted).items()):
        whole.update(f"{path}:{one}\n".encode())
    return whole.hexdigest(), start.hexdigest()


def file_digests(
    unit: Unit, content_of: Callable[[str], bytes | None], predicted: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return path -> digest of each file that a unit reads, so that the next run can name those that differ."""
    known = predicted or {}
    return {path: known.get(path) or file_state.digest(content_of(path)) for path in unit.files}


def differing(recorded: Mapping[str, str], present: Mapping[str, str]) -> list[str]:
    """Return the files whose digests differ from what was recorded; none when nothing was."""
    return [path for path, one in present.items() if recorded and recorded.get(path) != one]


def decide(
    unit: Unit,
    state: State,
    record: Mapping[str, Any] | None,
    texts: Mapping[str, str | None],
    digests: tuple[str, str],
    *,
    changed_files: Iterable[str] = (),
    there: Collection[str] = (),
    simulated: bool = False,
) -> Step:
    """Return what a unit needs.

    `texts` are its unit files as they are on the host (None: not there), `changed_files` which files differ from the
    record, in check mode as the run would leave them, and `there` which of its files the host has.
    """
    write = tuple(path for path, text in unit.texts.items() if text is not None and texts.get(path) != text)
    if unit.absent:
        # Another's unit may have the name: ours has a record, or a file that says so from its first write on.
        ours = bool(record) or any((text or "").startswith(MARK) for text in texts.values())
        return Step(unit, remove=ours, files=tuple(path for path in unit.files if ours and path in there))
    if unit.idle:
        present = any(texts.get(path) is not None for path in unit.texts)
        enabled = state.file_state in ("enabled", "enabled-runtime")
        # Its package, which a run has installed by now, enables it.
        comes = simulated and state.load == "not-found"
        gone = not (present or state.active in ("active", "reloading", "activating") or enabled or record or comes)
        return Step(unit, remove=not gone)
    whole, start = digests
    # A package that is not there yet enables its own units when it comes (deb-systemd-helper(1p)).
    comes = unit.content is None and state.load == "not-found"
    enable = unit.enabled and state.file_state not in ENABLED and not comes
    disable = not unit.enabled and state.file_state in ("enabled", "enabled-runtime")
    known = record or {}
    predicted = sorted(set(unit.files) & set(changed_files))
    differs = known.get("digest") != whole or bool(predicted) or bool(write)
    verb: Verb = ""
    reason = ""
    if not state.is_active:
        verb = "start" if state.active == "inactive" else "restart"
        reason = "has failed" if state.active == "failed" else "does not run"
        reason += f"; with {', '.join(unit.start_environment)}" if unit.start_environment else ""
    elif differs and unit.on_change != "none":
        verb = "restart"
        if not record:
            reason = "has never been seen to start well with this configuration"
        elif write or known.get("start_digest") != start:
            reason = "its unit or release changed"
        else:
            light = unit.on_change == "reload" or (predicted and set(predicted) <= set(unit.reload_files))
            verb = "reload" if light else "restart"
            reason = f"{', '.join(predicted)} changed" if predicted else "its files changed since it last started well"
    elif unit.versions and known.get("versions") != unit.versions:
        verb, reason = "restart", "it keeps the versions that other services had"
    return Step(
        unit, verb=verb, reason=reason, enable=enable, disable=disable, write=write, record=differs, digest=whole
    )


def of_stage(steps: Sequence[Step], states: Mapping[str, State], stage: str, *, simulated: bool) -> list[Step]:
    """Return the steps of a stage: `start` for what does not run, `change` for the rest, empty for both.

    `well` changes nothing that runs or is about to: it is waited for, and the others start.

    What comes first is settled by the start, whether it runs or not. A socket that does not run belongs to its service,
    which has to stop for it. What is absent goes when what stays is well, so by the change. After a start nothing is
    left that does not run, but for what has failed meanwhile; a dry run has started nothing and would tell of it twice.
    """

    def runs(name: str) -> bool:
        return states[name].is_active or (is_socket(name) and states.get(service_of(name, states), State()).is_active)

    if stage == "start":
        return [step for step in steps if not step.unit.absent and (step.unit.first or not runs(step.unit.name))]
    if stage == "well":
        planned = [step for step in steps if not (step.unit.absent or step.unit.idle)]
        waits = {name for name, state in states.items() if state.is_active or state.active == "activating"}
        return [Step(step.unit, verb="wait") if step.unit.name in waits else step for step in planned]
    if stage == "change" and simulated:
        return [step for step in steps if step.unit.absent or (not step.unit.first and runs(step.unit.name))]
    return list(steps)


def with_files_once(steps: Sequence[Step]) -> list[Step]:
    """Return the steps with each file that goes told of once, by the first of the units that it goes with."""
    told: set[str] = set()
    result = []
    for step in steps:
        result.append(replace(step, files=tuple(path for path in step.files if path not in told)))
        told.update(step.files)
    return result


def is_pending(steps: Sequence[Step], staged: Sequence[Step]) -> bool:
    """Return whether another stage than the one of `staged` has something to do."""
    here = {step.unit.name for step in staged}
    return any(step.actions or step.record for step in steps if step.unit.name not in here)


def is_socket(name: str) -> bool:
    """Return whether a unit is a socket."""
    return name.endswith(".socket")


def service_of(socket: str, states: Mapping[str, State]) -> str:
    """Return the service that a socket belongs to: what systemd says, else the one of the same name."""
    return states.get(socket, State()).triggers or f"{socket.removesuffix('.socket')}.service"


def with_sockets(steps: Sequence[Step], states: Mapping[str, State]) -> list[Step]:
    """Return the steps with those services started anew whose socket is, because they hold the old one."""
    renewed = {
        service_of(step.unit.name, states): step.unit.name for step in steps if step.verb and is_socket(step.unit.name)
    }
    return [
        replace(step, verb="restart", reason=f"{renewed[step.unit.name]} starts anew")
        if step.unit.name in renewed and step.verb in ("", "reload") and not step.unit.absent
        else step
        for step in steps
    ]


def parse_show(text: str, names: Sequence[str]) -> dict[str, State]:
    """Return the states in the output of `systemctl show`, which prints a block a unit in the order they were named."""
    blocks = [
        dict(line.partition("=")[::2] for line in block.splitlines() if "=" in line)
        for block in text.strip("\n").split("\n\n")
    ]
    states = {}
    for name, block in zip(names, blocks, strict=False):
        states[name] = State(
            load=block.get("LoadState", "not-found"),
            active=block.get("ActiveState", "inactive"),
            sub=block.get("SubState", "dead"),
            file_state=block.get("UnitFileState", ""),
            restarts=int(block.get("NRestarts") or 0),
            needs_reload=block.get("NeedDaemonReload") == "yes",
            result=block.get("Result", ""),
            triggers=block.get("Triggers", ""),
        )
    return states


def verdict(state: State, baseline: int) -> str:
    """Return why a unit that was started counts as failed, or an empty text while it may still become well."""
    if state.active == "failed":
        return f"it failed ({state.result or state.sub})"
    if state.active == "inactive":
        return "it ended"
    if state.restarts - baseline >= CRASHES:
        return f"it ended and was restarted {state.restarts - baseline} times ({state.result or state.sub})"
    return ""


def http_problem(url: str, ca_file: str | None = None, seconds: float = 5.0) -> str:
    """Return why a GET of a URL does not count as healthy (status of 500 and more, no answer), or an empty text."""
    parts = urllib.parse.urlsplit(url)
    host = parts.hostname or ""
    connection = (
        http.client.HTTPSConnection(
            host, parts.port, timeout=seconds, context=ssl.create_default_context(cafile=ca_file)
        )
        if parts.scheme == "https"
        else http.client.HTTPConnection(host, parts.port, timeout=seconds)
    )
    try:
        connection.request("GET", f"{parts.path or '/'}{f'?{parts.query}' if parts.query else ''}")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return f"{url}: {error}"
    finally:
        connection.close()
    return f"{url} answers {status}" if status >= http.client.INTERNAL_SERVER_ERROR else ""


def tcp_problem(host: str, port: int, seconds: float = 5.0) -> str:
    """Return why a TCP connection cannot be opened, or an empty text."""
    try:
        with socket.create_connection((host, port), timeout=seconds):
            return ""
    except OSError as error:
        return f"{host} port {port}: {error}"


QUEUE_PROBE = r"""
import re, ssl, sys, time, urllib.parse
import amqp

names, config_file, seconds = sys.argv[1].split(","), sys.argv[2], float(sys.argv[3])
options, section = {}, "DEFAULT"
with open(config_file, encoding="utf-8") as stream:
    for line in stream:
        head = re.match(r"\[([^]]+)\]", line)
        if head:
            section = head[1]
        elif line[:1] not in "#; \t\n" and "=" in line:
            key, _, value = line.partition("=")
            options[section, key.strip()] = value.strip()
url = options.get(("DEFAULT", "transport_url"))
if not url:
    sys.exit(f"{config_file}: [DEFAULT] transport_url is missing")
scheme, _, rest = url.partition("://")
netloc, _, path = rest.partition("/")
path, _, query = path.partition("?")
rabbit = "oslo_messaging_rabbit"
secure = options.get((rabbit, "ssl"), "").lower() in ("true", "1", "yes", "on") or "ssl=1" in query
user = password = ""
targets = []
for item in netloc.split(","):
    account, at, address = item.rpartition("@")
    if at:
        user, _, password = account.partition(":")
    match = re.fullmatch(r"\[([^]]+)\](?::(\d+))?|([^:]*)(?::(\d+))?", address)
    targets.append((match[1] or match[3], int(match[2] or match[4] or 5672),
                    urllib.parse.unquote(user), urllib.parse.unquote(password)))
end, problem = time.monotonic() + seconds, "no broker was tried"
while time.monotonic() < end:
    for host, port, login, word in targets:
        tls = False
        if secure:
            tls = {"server_hostname": host, "cert_reqs": ssl.CERT_REQUIRED}
            if options.get((rabbit, "ssl_ca_file")):
                tls["ca_certs"] = options[rabbit, "ssl_ca_file"]
        try:
            connection = amqp.Connection(f"[{host}]:{port}" if ":" in host else f"{host}:{port}", userid=login,
                                         password=word, virtual_host=urllib.parse.unquote(path) or "/",
                                         ssl=tls, connect_timeout=5, read_timeout=10, write_timeout=10)
            connection.connect()
            try:
                while time.monotonic() < end:
                    channel = connection.channel()
                    try:
                        # A durable queue outlives its daemon, so somebody has to be listening too.
                        while names and channel.queue_declare(queue=names[0], passive=True).consumer_count:
                            del names[0]
                        if not names:
                            sys.exit(0)
                        problem = f"nobody listens on the queue {names[0]} yet"
                        time.sleep(0.3)
                    except amqp.exceptions.NotFound:
                        problem = f"the queue {names[0]} does not exist yet"
                        time.sleep(0.3)
            finally:
                connection.close()
        except (OSError, amqp.exceptions.AMQPError) as error:
            problem = f"{host} port {port}: {type(error).__name__}: {error}"
    time.sleep(0.3)
sys.exit(problem)
"""
"""Waits until queues exist, whose names have commas between them. It runs in the service's environment, which has the
`amqp` library, and takes no secret in its arguments: it reads the address from the service's own file."""


class Systemd:
    """The host's service manager."""

    VARIABLES: ClassVar[dict[str, str]] = {"LC_ALL": "C.UTF-8", "SYSTEMD_PAGER": "", "SYSTEMD_COLORS": "0"}

    def run(self, *arguments: str, timeout: float | None = None) -> subprocess.CompletedProcess[str]:
        """Run systemctl. Raises subprocess.TimeoutExpired after `timeout` seconds."""
        return subprocess.run(
            ["systemctl", *arguments],
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **self.VARIABLES},
        )

    def states(self, names: Sequence[str]) -> dict[str, State]:
        """Return the state of every unit, with one process whatever their number."""
        if not names:
            return {}
        properties = "LoadState,ActiveState,SubState,UnitFileState,NRestarts,NeedDaemonReload,Result,Triggers"
        shown = self.run("show", f"--property={properties}", "--", *names)
        if shown.returncode:
            raise OSError(f"systemctl show: {(shown.stderr or shown.stdout).strip()}")
        return parse_show(shown.stdout, names)

    def journal(self, name: str) -> list[str]:
        """Return the unit's last lines in the journal, oldest first."""
        shown = subprocess.run(
            ["journalctl", "-u", name, "-n", str(JOURNAL_LINES), "--no-pager", "-o", "cat", "-q"],
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        return shown.stdout.splitlines()[-JOURNAL_LINES:]


class Watch:
    """States of the units that are waited for, read by one process for all of them at a time."""

    def __init__(self, systemd: Systemd, clock: Callable[[], float] = time.monotonic) -> None:
        """Keep the manager; nothing is read yet."""
        self._systemd = systemd
        self._clock = clock
        self._lock = threading.Lock()
        self._names: set[str] = set()
        self._states: dict[str, State] = {}
        self._read = 0.0

    def add(self, name: str) -> None:
        """Read this unit too from now on."""
        with self._lock:
            self._names.add(name)
            self._read = 0.0

    def drop(self, name: str) -> None:
        """Read this unit no more."""
        with self._lock:
            self._names.discard(name)

    def state(self, name: str) -> State:
        """Return a state that is at most POLL seconds old."""
        with self._lock:
            if self._clock() - self._read > POLL or name not in self._states:
                self._states = self._systemd.states(sorted(self._names | {name}))
                self._read = self._clock()
            return self._states[name]


def wait_healthy(unit: Unit, watch: Watch, baseline: int, deadline: float) -> str:
    """Wait until a unit that was started is well. Return an empty text, or why it is not.

    `deadline` is a reading of time.monotonic. A unit that fails ends the wait at once.
    """
    problem = "no answer yet"
    probe: subprocess.Popen[str] | None = None
    settled, restarts = time.monotonic(), baseline
    try:
        while True:
            state = watch.state(unit.name)
            failed = verdict(state, baseline)
            if failed:
                return failed
            if state.restarts != restarts:
                settled, restarts = time.monotonic(), state.restarts
            if state.is_active:
                if unit.health.get("queue"):
                    probe = probe or _start_probe(unit, deadline)
                    problem = _probe_problem(probe)
                    if probe.returncode is not None:
                        return problem
                else:
                    problem = _problem(unit, time.monotonic() - settled)
                if not problem:
                    return ""
            else:
                settled = time.monotonic()
                problem = f"it is {state.active} ({state.sub})"
            if time.monotonic() >= deadline:
                return f"not well after {unit.timeout:.0f} s: {problem}"
            time.sleep(POLL)
    finally:
        if probe is not None:
            _end(probe)


def _problem(unit: Unit, settled: float) -> str:
    """Return why a unit is not well yet by the checks that a single look can answer."""
    health = unit.health
    if health.get("http"):
        return http_problem(str(health["http"]), health.get("ca_file"))
    if health.get("tcp"):
        return tcp_problem(str(health["tcp"].get("host") or "127.0.0.1"), int(health["tcp"]["port"]))
    if health.get("command"):
        try:
            done = subprocess.run(
                [str(word) for word in health["command"]],
                capture_output=True,
                text=True,
                check=False,
                timeout=30,
                stdin=subprocess.DEVNULL,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"{health['command'][0]}: {error}"
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        return f"{health['command'][0]} exits with {done.returncode}: {''.join(last)}" if done.returncode else ""
    return "" if settled >= (SETTLED_PYTHON if unit.revision else SETTLED) else "it has just started"


def _start_probe(unit: Unit, deadline: float) -> subprocess.Popen[str]:
    queue = unit.health["queue"]
    seconds = max(1.0, deadline - time.monotonic())
    probe = subprocess.Popen(
        [str(queue["python"]), "-I", "-", str(queue["name"]), str(queue["config_file"]), f"{seconds:.0f}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    if probe.stdin is not None:
        # A probe that ends at once closes its end; its exit code and message say why.
        with contextlib.suppress(BrokenPipeError):
            probe.stdin.write(QUEUE_PROBE)
            probe.stdin.close()
    return probe


def _probe_problem(probe: subprocess.Popen[str]) -> str:
    code = probe.poll()
    if code is None:
        return "its queue does not exist yet"
    text = probe.stderr.read().strip() if probe.stderr is not None else ""
    return "" if code == 0 else (text.splitlines() or [f"the queue probe exits with {code}"])[-1]


def _end(probe: subprocess.Popen[str]) -> None:
    if probe.poll() is None:
        probe.kill()
        probe.wait()
    if probe.stderr is not None:
        probe.stderr.close()


def roll_out(
    steps: Sequence[Step],
    states: Mapping[str, State],
    systemd: Systemd,
    record: Callable[[Step], None],
) -> list[Outcome]:
    """Start, restart and reload what the steps say, side by side except for `after`, and wait until all are well.

    `record` is called for each unit that was started and became well, also when another one does not.
    """
    done: dict[str, threading.Event] = {step.unit.name: threading.Event() for step in steps}
    outcomes: dict[str, Outcome] = {}
    watch = Watch(systemd)

    def one(step: Step) -> None:
        unit, began = step.unit, time.monotonic()
        outcome = Outcome(unit.name, step.verb)
        try:
            for other in unit.after:
                if other in done:
                    done[other].wait()
                    if not outcomes[other].healthy:
                        outcome.healthy, outcome.message = False, f"left alone, because {other} is not well"
                        return
            began = time.monotonic()
            outcome.message = _start(step, states[unit.name], systemd, watch)
            outcome.healthy = not outcome.message
            if outcome.healthy and step.verb != "wait":
                record(step)
            elif not outcome.healthy:
                outcome.journal = systemd.journal(unit.name)
        except Exception as error:  # whatever it is, the units that wait for this one must hear of it
            outcome.healthy, outcome.message = False, f"{type(error).__name__}: {error}"
        finally:
            outcome.seconds = round(time.monotonic() - began, 1)
            outcomes[unit.name] = outcome
            done[unit.name].set()

    threads = [threading.Thread(target=one, args=(step,), name=step.unit.name) for step in steps]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [outcomes[step.unit.name] for step in steps]


def _start(step: Step, before: State, systemd: Systemd, watch: Watch) -> str:
    """Run a unit's verb and wait until it is well. Return an empty text, or why it is not.

    A start that fails is not final while systemd itself tries again; `verdict` says when it is.
    """
    unit = step.unit
    deadline = time.monotonic() + unit.timeout
    if step.verb == "wait":
        return _well(unit, before.restarts, watch, deadline)
    awaited = _wait_for(unit, deadline) if step.verb != "reload" else ""
    if awaited:
        return f"not started, because what it needs does not answer after {unit.timeout:.0f} s: {awaited}"
    variables = unit.start_environment if step.verb != "reload" else {}
    try:
        if variables:
            systemd.run("set-environment", *(f"{key}={value}" for key, value in variables.items()))
        done = systemd.run(step.verb, "--", unit.name, timeout=unit.timeout)
    except subprocess.TimeoutExpired:
        return f"its {step.verb} did not end within {unit.timeout:.0f} s"
    finally:
        if variables:
            systemd.run("unset-environment", *variables)
    if done.returncode and systemd.states([unit.name])[unit.name].active != "activating":
        lines = [line for line in done.stderr.splitlines() if "journalctl" not in line and line.strip()]
        return f"systemctl {step.verb}: {' '.join(lines) or f'exit code {done.returncode}'}"
    # systemd counts from zero after a start or restart that somebody asked for; a reload keeps the count.
    return _well(unit, before.restarts if step.verb == "reload" else 0, watch, deadline)


def _well(unit: Unit, baseline: int, watch: Watch, deadline: float) -> str:
    """Wait until a unit is well, and let it be watched meanwhile. Return an empty text, or why it is not."""
    watch.add(unit.name)
    try:
        return wait_healthy(unit, watch, baseline, deadline)
    finally:
        watch.drop(unit.name)


def _wait_for(unit: Unit, deadline: float) -> str:
    """Wait until what a unit waits for accepts a connection. Return an empty text, or why it does not."""
    while unit.waits_for:
        problem = tcp_problem(str(unit.waits_for["host"]), int(unit.waits_for["port"]))
        if not problem or time.monotonic() >= deadline:
            return problem
        time.sleep(POLL)
    return ""


def stop(
    names: Sequence[str],
    systemd: Systemd,
    first: Collection[str] = (),
    last: Collection[str] = (),
    disabled: Collection[str] = (),
) -> None:
    """Stop units: `first`, the others, `last`; those in `disabled` do not start with the host any more.

    Raises OSError with what systemd said.
    """
    late = [name for name in names if name in last]
    early = [name for name in names if name in first and name not in late]
    for some in (early, [name for name in names if name not in (*early, *late)], late):
        for verb, ones in (("stop", some), ("disable", [name for name in some if name in disabled])):
            done = systemd.run(verb, "--", *ones) if ones else None
            if done is not None and done.returncode:
                raise OSError(f"systemctl {verb}: {done.stderr.strip() or f'exit code {done.returncode}'}")


def failure_text(outcomes: Iterable[Outcome]) -> str:
    """Return the message of a roll-out that failed: units, reasons, the journal's last lines, and what to do next."""
    failed = [outcome for outcome in outcomes if not outcome.healthy]
    parts = []
    for outcome in failed:
        parts.append(f"{outcome.name}: {outcome.message}")
        parts += [f"    {line}" for line in outcome.journal]
        if outcome.journal:
            parts.append(
                f"  next: `journalctl -u {outcome.name}` on this host shows the rest; correct the cause and run again"
            )
    names = ", ".join(outcome.name for outcome in failed)
    parts.append(f"{len(failed)} unit(s) are not well: {names}; the others were recorded and will not start again")
    return "\n".join(parts)
