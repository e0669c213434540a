"""Runs that are broken in the middle.

Kinds: `deploy` and `reconfigure` are runs of site.yml killed with SIGKILL at a random moment (the first three deploys
in the package transaction, in a schema sync and in the start of units, with the processes there); the others break the
host: `network` is lost in mid-run, its `disk` is full, the package `index` is unreachable, a `daemon` does not come
up. After each, the same command has to finish; then nothing may be left to change, every unit has to run on what its
files say now, and an instance has to boot and answer.
"""

from __future__ import annotations

import json
import os
import random
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tools.fault_parts.together import together
from tools.lab_parts.layout import Lab, read
from tools.prediction import CASES, ENDPOINT_NAME, Cloud, Edit, PredictionError, edited, parse

ROOT = Path(__file__).resolve().parent.parent.parent
BIN = Path(sys.executable).parent
DEPLOY_SECONDS, RECONFIGURE_SECONDS = 110.0, 40.0
"""How long a whole run takes before one was measured; moments are drawn from it."""

WHERE = {
    "packages": r"[d]pkg( |$)",
    "schemas": r"(nova|neutron|keystone|glance|placement)-(db-)?[m]anage",
    "units": r"[s]ystemctl (re)?start",
}
"""Moments of a deploy by what then runs on the host: a pattern for pgrep -f, in brackets so that it misses itself."""

CHECK_UNITS = r"""
import glob, hashlib, json, os, time, calendar
for path in sorted(glob.glob("/var/lib/brume/units/*.json")):
    record = json.load(open(path))
    started = calendar.timegm(time.strptime(record["started_at"], "%Y-%m-%dT%H:%M:%SZ"))
    for file, digest in record.get("files", {}).items():
        there = hashlib.sha256(open(file, "rb").read()).hexdigest() if os.path.exists(file) else "absent"
        if there != digest:
            print(os.path.basename(path), "started well with another", file)
        elif os.path.exists(file) and os.stat(file).st_mtime > started + 1:
            print(os.path.basename(path), "has not started since", file, "was written")
"""
"""Prints every unit whose files are newer, or others, than what it last started well with."""


class FaultError(RuntimeError):
    """A fault was not recovered from; the text says what is wrong."""


@dataclass(frozen=True)
class Outcome:
    """What became of one fault."""

    name: str
    text: str
    recovered: bool


class Bench:
    """A lab, and the runs on it."""

    def __init__(self, inventory: Path, seed: int) -> None:
        """Read the lab's hosts and groups."""
        self.inventory, self.random = inventory, random.Random(seed)  # noqa: S311  # moments, not secrets
        self.lab: Lab = read(inventory)
        self.cloud = Cloud(inventory)
        longer = 1 + (len(self.lab.hosts) - 1) / 5  # seven hosts take two to three times as long as one
        self.seconds = {"deploy": DEPLOY_SECONDS * longer, "reconfigure": RECONFIGURE_SECONDS * longer}
        self.edits: list[Edit] = []
        self.number = 0
        listed = subprocess.run(
            [str(BIN / "ansible-inventory"), "-i", str(inventory), "--list"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        self.groups: dict[str, Any] = json.loads(listed.stdout)
        self.controllers: list[str] = self.groups["control"]["hosts"]

    def lab_command(self, *words: str) -> None:
        """Run tools/lab.py. Raises FaultError."""
        done = subprocess.run(
            [sys.executable, str(ROOT / "tools/lab.py"), *words], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise FaultError(f"lab.py {words[0]}: {done.stderr.strip() or done.stdout.strip()}")

    def on(self, host: str, command: str, failing: bool = False) -> str:
        """Run a line on a host and return what it prints. Raises FaultError unless it may be `failing`."""
        done = subprocess.run(
            [sys.executable, str(ROOT / "tools/lab.py"), "ssh", "-i", str(self.inventory), host, command],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            stdin=subprocess.DEVNULL,
        )
        if done.returncode and not failing:
            raise FaultError(f"{host}: `{command[:60]}` ends with {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def on_hosts(self, command: str, failing: bool = False) -> str:
        """Run a line on every host and return what they print. Raises FaultError unless it may be `failing`."""
        return "".join(self.on(host.name, command, failing) for host in self.lab.hosts)

    def fresh(self) -> None:
        """Make the lab anew, with nothing on its hosts."""
        self.lab_command("destroy", str(self.inventory))
        self.lab_command("create", str(self.inventory))
        self.cloud = Cloud(self.inventory)
        self.edits = []

    def current(self) -> Path:
        """Return the inventory with the edits made so far."""
        return edited(self.inventory, self.cloud.folder, self.edits) if self.edits else self.inventory

    @contextmanager
    def started(
        self, name: str, *words: str, playbook: str = "site.yml"
    ) -> Iterator[tuple[subprocess.Popen[bytes], Path, Path]]:
        """Start a playbook and yield its process, its log and its record."""
        log, record = self.cloud.folder / f"{name}.log", self.cloud.folder / f"{name}.jsonl"
        record.unlink(missing_ok=True)
        with log.open("wb") as stream:
            process = subprocess.Popen(
                [str(BIN / "ansible-playbook"), "-i", str(self.current()), f"playbooks/{playbook}", *words],
                cwd=ROOT,
                env={**os.environ, "BRUME_RECORD_FILE": str(record), "CI": "1"},
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                yield process, log, record
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def wait_for(self, process: subprocess.Popen[bytes], pattern: str, seconds: float) -> bool:
        """Wait until a process on a host fits a pattern; False when the run ends or time is up before."""
        end = time.monotonic() + seconds
        while process.poll() is None and time.monotonic() < end:
            if self.on_hosts(f"pgrep -f {shlex.quote(pattern)} | head -n 1", failing=True).strip():
                return True
        return False

    def kill(self, kind: str, place: str, *words: str, playbook: str = "site.yml") -> str:
        """Start a run and kill it, at a random moment or while `place` goes on.

        Returns what was hit, or nothing where the run had ended before.
        """
        name = f"{kind}-{self.number}-killed"
        with self.started(name, *words, playbook=playbook) as (process, _log, record):
            began = time.monotonic()
            whole = self.random.random() < 0.5  # noqa: PLR2004
            if place:
                if not self.wait_for(process, WHERE[place], 2 * self.seconds[kind]):
                    raise FaultError(f"the moment `{place}` never came")
                time.sleep(self.random.random() * 2)
            else:
                moment = self.random.uniform(1, self.seconds[kind])
                while process.poll() is None and time.monotonic() - began < moment:
                    time.sleep(0.05)
            took = time.monotonic() - began
            if process.poll() is not None:
                self.seconds[kind] = took  # so that the next one is killed in the middle
                return ""
            if whole or place:
                os.killpg(process.pid, signal.SIGKILL)
            else:
                process.kill()
            if place:
                self.on_hosts(f"pkill -9 -f {shlex.quote(WHERE[place])}", failing=True)
            lines = record.read_text(encoding="utf-8").splitlines() if record.exists() else []
        phase = list(parse("\n".join(lines)))[-1][0] if lines else "its beginning"
        what = "with the processes on the host" if place else "with its children" if whole else "alone"
        return f"killed {what} after {took:.1f} s, {f'in {place}, ' if place else ''}last seen in {phase}"

    def playbook(self, name: str, *words: str, playbook: str = "site.yml") -> float:
        """Run a playbook to its end; returns its seconds. Raises FaultError."""
        began = time.monotonic()
        try:
            self.cloud.run(self.current(), name, *words, playbook=playbook)
        except PredictionError as error:
            raise FaultError(str(error)) from None
        return time.monotonic() - began

    def settled(self, name: str) -> None:
        """See that site.yml has nothing to change. Raises FaultError."""
        try:
            left = self.cloud.run(self.current(), name, "--check")
        except PredictionError as error:
            raise FaultError(str(error)) from None
        changes = [f"{key[2]}: {key[1]}: {line.actions}" for key, line in left.items() if line.changed]
        if changes:
            raise FaultError(f"the next run left something to change: {changes}")

    def recover(self, kind: str, *words: str, playbook: str = "site.yml") -> str:
        """Run again to the end, then see that nothing is left. Raises FaultError."""
        took = self.playbook(f"{kind}-{self.number}-again", *words, playbook=playbook)
        self.settled(f"{kind}-{self.number}-settled")
        units = self.on_hosts(f"python3 -c {shlex.quote(CHECK_UNITS)}").strip()
        if units:
            raise FaultError(f"a restart was lost: {units}")
        self.verify()
        return f"finished in {took:.0f} s, nothing left to change, verified"

    def internal_address(self) -> str:
        """Return where the internal endpoints are."""
        variables = yaml.safe_load((self.inventory / "group_vars/all.yml").read_text(encoding="utf-8"))
        shared = variables["brume_networks"]["management"].get("vip")
        return str(shared or next(host.address for host in self.lab.hosts if host.name == self.controllers[0]))

    def verify(self) -> None:
        """Boot an instance and log in on it. Raises FaultError."""
        log, hosts = self.cloud.folder / f"verify-{self.number}.log", self.cloud.folder / "hosts"
        # No name server knows the endpoints' name; with a mount of its own, verify.yml alone does.
        known = Path("/etc/hosts").read_text(encoding="utf-8")
        hosts.write_text(f"{known}\n{self.internal_address()} {ENDPOINT_NAME}\n", encoding="utf-8")
        alone = ("unshare", "--mount", "sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"', str(hosts))
        with log.open("wb") as stream:
            done = subprocess.run(
                [
                    *(["sudo", "--preserve-env"] if os.geteuid() else []),
                    *alone,
                    str(BIN / "ansible-playbook"),
                    *("-i", str(self.current()), "playbooks/verify.yml", "-e", '{"verify_checks": ["ssh"]}'),
                ],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                check=False,
            )
        if done.returncode:
            raise FaultError(f"verify.yml failed; {log} has the rest")

    def deploy(self) -> str:
        """Kill a deployment from nothing."""
        places = list(WHERE)
        place = places[self.number] if self.number < len(places) else ""
        said = ""
        while not said:
            self.fresh()
            said = self.kill_and_recover("deploy", place)
        return said

    def reconfigure(self) -> str:
        """Kill the roll-out of a change."""
        self.edits.append(list(CASES.values())[self.number % len(CASES)])
        if self.number >= len(CASES):  # every change once more, to another value
            self.edits.append(_again(self.number))
        said, tries = "", 0
        while not said:
            if tries:  # that change is there by now
                self.edits.append(_again(100 * tries + self.number))
            said, tries = self.kill_and_recover("reconfigure", ""), tries + 1
        return said

    def kill_and_recover(self, kind: str, place: str) -> str:
        """Kill a run and let the next one finish it; nothing where the run had ended before. Raises FaultError.

        Meanwhile no unit may be down on two controllers at once.
        """
        with together(self.inventory, self.controllers) as watch:
            hit = self.kill(kind, place)
            recovered = self.recover(kind) if hit else ""
        if watch.found:
            raise FaultError("; ".join(watch.found.values()))
        silent = sorted(set(self.controllers) - watch.heard)
        if hit and silent:
            raise FaultError(f"{', '.join(silent)} did not say what is down there")
        return f"{hit}; {recovered}" if hit else ""

    def broken(self, name: str, edit: Edit, breaking: str, mending: str, said: Sequence[str]) -> str:
        """Break the hosts, see a run fail with its reason and next step, mend them, recover."""
        self.edits.append(edit)
        self.on_hosts(breaking)
        try:
            with self.started(f"{name}-broken") as (process, log, _record):
                if process.wait(timeout=600) == 0:
                    raise FaultError("the run did not notice")
        finally:
            self.on_hosts(mending)
        return self._judge(log, said)

    def _judge(self, log: Path, said: Sequence[str]) -> str:
        text = log.read_text(encoding="utf-8", errors="replace")
        wanted = (*(host.name for host in self.lab.hosts), *said)
        missing = [words for words in wanted if words.lower() not in text.lower()]
        if missing or "Traceback" in text:
            raise FaultError(f"the failure does not say {missing or 'it without a traceback'}; see {log}")
        return f"stopped, and said why; {self.recover(log.stem)}"

    def network(self) -> str:
        """Cut the hosts off while a run goes on."""
        self.edits.append(_again(self.number + 50))
        addresses = [host.address for host in self.lab.hosts]
        ways = (("OUTPUT", "-d"), ("INPUT", "-s"))
        rules = [[chain, way, one, "-j", "DROP"] for one in addresses for chain, way in ways]
        with self.started("network-broken") as (process, log, _record):
            time.sleep(self.random.uniform(5, 15))
            for rule in rules:
                subprocess.run(["iptables", "-I", *rule], check=True)
            try:
                if process.wait(timeout=300) == 0:
                    raise FaultError("the run did not notice")
            finally:
                for rule in rules:
                    subprocess.run(["iptables", "-D", *rule], check=True)
        return self._judge(log, ["next:"])

    def disk(self) -> str:
        """Let a host have no room for the file that a run is going to write."""
        full = (
            "mkdir /run/full && cp -a /etc/nova/. /run/full/ && mount -t tmpfs -o size=1m,mode=0750 full /etc/nova "
            "&& chgrp nova /etc/nova && cp -a /run/full/. /etc/nova/ && rm -r /run/full "
            "&& { dd if=/dev/zero of=/etc/nova/full bs=4k 2>/dev/null; test -s /etc/nova/full; }"
        )
        said = ["No space left on device (free some there): '/etc/nova/nova.conf'", "next:"]
        return self.broken("disk", _again(self.number + 60), full, "umount /etc/nova", said)

    def index(self) -> str:
        """Let a package be wanted from an index that does not answer."""

        def edit(everywhere: dict[str, object], host: dict[str, object]) -> None:
            everywhere["host_packages"] = ["tree", "pv"]

        broken = """echo 'Acquire::http::Proxy "http://127.0.0.1:9";' > /etc/apt/apt.conf.d/99fault; """
        broken += """echo 'Acquire::https::Proxy "http://127.0.0.1:9";' >> /etc/apt/apt.conf.d/99fault"""
        mend = "rm /etc/apt/apt.conf.d/99fault"
        said = ["apt-get", "check network, mirror and the proxy", "next:"]
        return self.broken("index", edit, f"apt-get clean; {broken}", mend, said)

    def daemon(self) -> str:
        """Let a daemon not come up."""
        folder = "/etc/systemd/system/glance-api.service.d"
        broken = f"mkdir -p {folder}; printf '[Service]\\nExecStartPre=/bin/false\\n' > {folder}/fault.conf"

        def edit(everywhere: dict[str, object], host: dict[str, object]) -> None:
            everywhere["brume_workers"] = {"default": 1, "glance/api": 3}

        mend = f"rm -r {folder}; systemctl daemon-reload"
        return self.broken("daemon", edit, f"{broken}; systemctl daemon-reload", mend, ["glance-api.service", "next:"])


def _again(number: int) -> Edit:
    """Return an edit of an option of Nova, another one for every number."""

    def edit(everywhere: dict[str, object], host: dict[str, object]) -> None:
        CASES["nova-option"](everywhere, host)
        config = everywhere["brume_config"]
        assert isinstance(config, dict)  # noqa: S101  # the case has made it
        config["nova"]["nova.conf"]["DEFAULT"]["osapi_max_limit"] = 500 + number

    return edit


ONCE = ("network", "disk", "index", "daemon")
KINDS = ("deploy", "reconfigure", *ONCE)
