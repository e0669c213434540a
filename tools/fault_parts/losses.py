"""What a cloud with several controllers loses while users work with it.

Each loss is made while `watch` looks on, lasts for some seconds and is made good; then every host has to be well
again without help, and `site.yml` has to find nothing to change, at the latest in a second run.
"""

from __future__ import annotations

import math
import os
import shlex
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openstack
import yaml

from tools.fault_parts.runs import BIN, ROOT, Bench, FaultError
from tools.fault_parts.watch import Seen, watching
from tools.lab_parts import containers
from tools.prediction import PredictionError

LAST = 12.0
"""Seconds that a loss lasts at least before it is made good: more than any aim below."""

HOST_FAILURES = 5.0
"""Seconds after the loss of a host in which calls may fail."""

ADDRESS_SECONDS = 3.0
"""Within how many seconds a shared address has to answer on another host."""

ROUTER_SECONDS = 10.0
"""Within how many seconds an instance has to answer through another router."""

WELL_SECONDS = 240.0
"""How long hosts may take until everything on them is well again."""

STEADY_SECONDS = 4.0
"""How long is looked on before the loss: calls must not fail for another reason."""

APIS = ("keystone", "glance", "placement", "nova", "neutron")
FULL_DISK = "900m"
"""Size of the file system that a database gets to fill it: data and cache of the lab's take half of it."""

IS_WELL = r"""
import glob, json, os, subprocess, sys
names = [os.path.basename(path)[:-5] for path in glob.glob("/var/lib/brume/units/*.json")]
shown = subprocess.run(["systemctl", "is-active", *names], capture_output=True, text=True).stdout.split()
problems = [f"{name} is {state}" for name, state in zip(names, shown) if state not in ("active",)]
if "rabbitmq-server.service" in names and not problems:
    done = subprocess.run(["rabbitmqctl", "-q", "cluster_status", "--formatter=json"], capture_output=True, text=True)
    try:
        found = json.loads(done.stdout)
        down = sorted(set(found["disk_nodes"]) - set(found["running_nodes"]))
        problems += [f"the broker misses {' '.join(down)}"] if down or found["partitions"] else []
    except ValueError:
        problems.append("the broker does not say who is in its cluster")
if "mariadb.service" in names and not problems:
    query = "SHOW GLOBAL STATUS LIKE 'wsrep_%'"
    done = subprocess.run(["mariadb", "-NBe", query], capture_output=True, text=True)
    values = dict(line.lower().split("\t") for line in done.stdout.splitlines() if "\t" in line)
    if values.get("wsrep_cluster_size") != sys.argv[1] or values.get("wsrep_local_state_comment") != "synced":
        problems.append(f"the database's cluster has {values.get('wsrep_cluster_size')} members, "
                        f"this one is {values.get('wsrep_local_state_comment')}")
print("; ".join(problems))
"""
"""Prints what is not well on a host, or nothing."""


def verdict(seen: Seen, failures_until: float, gaps: dict[str, float]) -> list[str]:
    """Return which aims were missed: reading calls that failed too late, addresses silent for too long, lost writes.

    `failures_until`: until how many seconds after the loss calls may begin that fail; minus infinity where none may.
    `gaps`: seconds by name of what is pinged.
    """
    missed = []
    late = [one for one in seen.failed() if one.began >= failures_until and one.kind != "write"]
    if late:
        first = late[0]
        missed.append(f"{len(late)} calls failed, the first at {first.began:.1f} s: {first.kind}: {first.problem}")
    missed += [
        f"{name} did not answer for {seen.gaps[name]:.1f} s (aim {aim:.0f})"
        for name, aim in gaps.items()
        if seen.gaps[name] >= aim
    ]
    if seen.missing:
        missed.append(f"{seen.missing} acknowledged writes are gone")
    return missed


class Losses(Bench):
    """A lab with several controllers, and what it loses."""

    def __init__(self, inventory: Path, seed: int) -> None:
        """Know no instance yet."""
        super().__init__(inventory, seed)
        self.state = ROOT / ".lab" / inventory.resolve().name
        self.instance = ""

    @property
    def cloud_api(self) -> Any:
        """Return a new connection as the administrator."""
        clouds = yaml.safe_load((self.state / "clouds.yaml").read_text(encoding="utf-8"))["clouds"]
        return openstack.connect(load_yaml_config=False, load_envvars=False, **clouds["lab"])

    def prepare(self) -> None:
        """Have a cloud with nothing to change, and an instance that answers pings. Raises FaultError."""
        self.wait_until_well()
        self.converge()
        self.instance = next(filter(self._answers, self._floating_addresses()), "")
        if self.instance:
            return
        done = subprocess.run(
            [
                *(str(BIN / "ansible-playbook"), "-i", str(self.inventory), "playbooks/verify.yml"),
                *("-e", '{"verify_checks": ["ssh"], "verify_keep": true}'),
            ],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise FaultError(f"verify.yml failed before anything was lost:\n{done.stdout[-3000:]}")
        self.instance = next(filter(self._answers, self._floating_addresses()), "")
        if not self.instance:
            raise FaultError("verify.yml left no instance that answers at a floating IP")

    def _floating_addresses(self) -> list[str]:
        return [one.floating_ip_address for one in self.cloud_api.network.ips() if one.port_id]

    def _answers(self, address: str) -> bool:
        command = ["ping", "-c", "3", "-i", "0.2", "-W", "2", address]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def addresses(self) -> dict[str, str]:
        """Return what is pinged: the shared address, and the instance."""
        api = self.cloud_api
        public = api.session.get_endpoint(service_type="identity", interface="public")
        return {"address": public.split("//")[1].split(":")[0], "instance": self.instance}

    def holder(self) -> str:
        """Return the controller that has the public shared address. Raises FaultError."""
        address = self.addresses()["address"]
        for host in self.controllers:
            if f" {address}/" in self.on(host, "ip -o address", failing=True):
                return host
        raise FaultError(f"no controller has {address}")

    def kill_host(self, host: str) -> None:
        """Take the power from a host."""
        number = containers.container_init(containers.root_of(self.lab.name, host))
        if number is None:
            raise FaultError(f"{host} does not run")
        os.kill(number, signal.SIGKILL)

    def shut_down(self, host: str) -> None:
        """Shut a host down in good order, and wait until it is off. Raises FaultError."""
        self.on(host, "systemctl poweroff", failing=True)
        end = time.monotonic() + 120
        while containers.container_init(containers.root_of(self.lab.name, host)) is not None:
            if time.monotonic() > end:
                raise FaultError(f"{host} does not shut down")
            time.sleep(0.2)

    def power_on(self) -> None:
        """Start every host that does not run."""
        self.lab_command("create", str(self.inventory))

    def problems(self) -> list[str]:
        """Return what is not well on the hosts, and which daemons the cloud misses."""
        size = str(len(self.controllers))
        found = []
        for host in self.lab.hosts:
            try:
                text = self.on(host.name, f"python3 -c {shlex.quote(IS_WELL)} {size}").strip()
            except (FaultError, subprocess.TimeoutExpired) as error:
                text = str(error)
            if text:
                found.append(f"{host.name}: {text}")
        if found:
            return found
        try:
            api = self.cloud_api
            found += [f"{one.binary} on {one.host} is down" for one in api.compute.services() if one.state != "up"]
            found += [f"{one.binary} on {one.host} is down" for one in api.network.agents() if not one.is_alive]
        except Exception as error:  # whatever the API says, it is not well
            found.append(f"the API: {error}")
        return found

    def wait_until_well(self) -> float:
        """Wait; returns the seconds it took. Raises FaultError."""
        began = time.monotonic()
        while found := self.problems():
            if time.monotonic() - began > WELL_SECONDS:
                raise FaultError(f"not well after {WELL_SECONDS:.0f} s: {'; '.join(found)}")
            time.sleep(1)
        return time.monotonic() - began

    def converge(self) -> str:
        """Run site.yml until it finds nothing to change, twice at most. Raises FaultError."""
        begin = time.monotonic()
        for number in (1, 2):
            try:
                done = self.cloud.run(self.current(), f"loss-{self.number}-{number}")
            except PredictionError as error:
                raise FaultError(str(error)) from None
            changes = [f"{key[2]}: {line.actions}" for key, line in done.items() if line.changed]
            if not changes:
                return f"site.yml: nothing to change in run {number} ({time.monotonic() - begin:.0f} s)"
        raise FaultError(f"site.yml still changes in its second run: {changes}")

    def lose(
        self,
        what: str,
        lose: Callable[[], Any],
        mend: Callable[[], Any] | None = None,
        failures_until: float = -math.inf,
        gaps: dict[str, float] | None = None,
        last: float = LAST,
    ) -> str:
        """Lose something, look on, mend it, wait until all is well, and converge. Raises FaultError."""
        with watching(self.state, self.addresses()) as watch:
            time.sleep(STEADY_SECONDS)
            if watch.probe.calls and any(one.problem for one in watch.probe.calls):
                raise FaultError(f"{what}: calls failed before anything was lost: {watch.probe.calls[-1]}")
            watch.mark()
            try:
                lose()
                time.sleep(max(0.0, last - (time.monotonic() - watch.lost)))
            finally:
                if mend:
                    mend()
            seconds = self.wait_until_well()
            seen = watch.close()
        failed = seen.failed()
        kinds = ", ".join(f"{number} {kind}" for kind, number in Counter(one.kind for one in failed).items())
        longest = max(one.seconds for one in seen.calls)
        lines = [
            f"lost {what}: {len(seen.calls)} calls, {len(failed)} failed"
            + (f" ({kinds}; {failed[0].began:.1f} to {failed[-1].began:.1f} s after it)" if failed else "")
            + f", the longest took {longest:.1f} s; {seen.written} writes acknowledged, {seen.missing} of them lost; "
            + ", ".join(f"{name} without answer for {gap:.1f} s" for name, gap in seen.gaps.items())
            + f"; well {seconds:.0f} s after it was mended",
        ]
        wanted = {"address": ADDRESS_SECONDS, "instance": ROUTER_SECONDS, **(gaps or {})}
        missed = verdict(seen, failures_until, wanted)
        lines.append(self.converge())
        if missed:
            raise FaultError("; ".join([*lines, "AIM MISSED: " + "; ".join(missed)]))
        return "; ".join(lines)

    def controller_killed(self) -> str:
        """Take the power from a controller, the one with the shared address first."""
        host = self._next_controller()
        return self.lose(f"{host} (killed)", lambda: self.kill_host(host), self.power_on, HOST_FAILURES)

    def controller_stopped(self) -> str:
        """Shut a controller down in good order."""
        host = self._next_controller()
        return self.lose(f"{host} (shut down)", lambda: self.shut_down(host), self.power_on, HOST_FAILURES)

    def _next_controller(self) -> str:
        """Return the host with the shared address for the first of a kind, another controller for each that follows."""
        holder = self.holder()
        others = [one for one in self.controllers if one != holder]
        return [holder, *others][self.number % len(self.controllers)]

    def _service_host(self, name: str) -> str:
        """Return the controller where a service is missed most: with the address, the clients, the files, or any."""
        if name in ("haproxy", "keepalived"):
            return self.holder()
        if name == "glance-api":  # with the files of the images
            return self.controllers[0]
        return self._writer() if name == "mariadb" else self.random.choice(self.controllers)

    def service_killed(self) -> str:
        """Kill one service's processes on one controller: database, broker, load balancer, keepalived, each API."""
        name = SERVICES[self.number]
        host = self._service_host(name)
        command = f"systemctl kill --kill-whom=all --signal=KILL {name}.service"
        return self.lose(f"{name} on {host} (killed)", lambda: self.on(host, command))

    def service_stopped(self) -> str:
        """Stop one service on one controller, and start it again."""
        name = SERVICES[self.number]
        host = self._service_host(name)
        sockets = f"{name}.socket" if name.endswith("-api") else ""
        return self.lose(
            f"{name} on {host} (stopped)",
            lambda: self.on(host, f"systemctl stop {sockets} {name}.service"),
            lambda: self.on(host, f"systemctl start {sockets} {name}.service"),
        )

    def _writer(self) -> str:
        """Return the controller whose database has the clients."""
        query = "SELECT count(*) FROM information_schema.processlist WHERE user NOT IN ('system user', 'root')"
        command = f'mariadb -NBe "{query}"'
        counts = {host: int(self.on(host, command).strip() or 0) for host in self.controllers}
        return max(counts, key=lambda host: counts[host])

    def router(self) -> str:
        """Take the power from the network host with the active router."""
        api = self.cloud_api
        routers = [one for one in api.network.routers() if one.is_ha]
        if not routers:
            raise FaultError("there is no highly available router")
        agents = list(api.network.routers_hosting_l3_agents(routers[0]))
        active = [one.host for one in agents if one.ha_state == "active"]
        if len(active) != 1:
            raise FaultError(f"the router is active on {active or 'no host'}")
        return self.lose(f"{active[0]} with the active router", lambda: self.kill_host(active[0]), self.power_on)

    def partition(self) -> str:
        """Cut the controller with the shared address off the management network, and let it back."""
        host = self.holder()
        number = containers.container_init(containers.root_of(self.lab.name, host))
        interface = next(network.interface for network in self.lab.networks if network.name == "management")
        enter = ["nsenter", f"--target={number}", "--net"]
        rules = [[chain, way, interface, "-j", "DROP"] for chain, way in (("INPUT", "-i"), ("OUTPUT", "-o"))]

        def cut() -> None:
            for rule in rules:
                subprocess.run([*enter, "iptables", "-I", *rule], check=True)

        def heal() -> None:
            for rule in rules:
                subprocess.run([*enter, "iptables", "-D", *rule], check=True)

        return self.lose(f"the management network of {host}", cut, heal, HOST_FAILURES)

    def full_disk(self) -> str:
        """Fill the disk of the database with the clients."""
        host, data, kept = self._writer(), "/var/lib/mysql", "/var/lib/mysql.kept"
        # A file system of its own, because the machine's must not be full; what was there goes on below it.
        self.on(
            host,
            f"systemctl stop mariadb && cp -a {data} {kept} && "
            f"mount -t tmpfs -o size={FULL_DISK},mode=0755 full {data} && "
            f"chown mysql:mysql {data} && cp -a {kept}/. {data}/ && systemctl start mariadb",
        )
        try:
            self.wait_until_well()
            if self._writer() != host:  # the clients left when it stopped; they go when theirs is lost, to the first
                self.on(self._writer(), "systemctl restart mariadb")
                self.wait_until_well()
            clients = "with" if self._writer() == host else "without"
            return self.lose(
                f"room on the disk of {host}'s database ({clients} the clients)",
                lambda: self.on(host, f"dd if=/dev/zero of={data}/full bs=1M 2>/dev/null", failing=True),
                lambda: self.on(host, f"rm -f {data}/full"),
                HOST_FAILURES,
                last=2 * LAST,
            )
        finally:
            self.on(
                host,
                f"systemctl stop mariadb; rm -rf {kept} && cp -a {data} {kept} && umount {data} && rm -rf {data}/* && "
                f"cp -a {kept}/. {data}/ && rm -rf {kept}; systemctl start mariadb",
            )
            self.wait_until_well()

    def power(self) -> str:
        """Take the power from all controllers at once, and start them again."""

        def lose() -> None:
            for host in self.controllers:
                self.kill_host(host)

        # What users see while there is no controller is no surprise; that everything comes back is what counts.
        return self.lose("the power of all controllers", lose, self.power_on, math.inf, {"address": math.inf}, last=5)


SERVICES = ("mariadb", "rabbitmq-server", "haproxy", "keepalived", *(f"{name}-api" for name in APIS))
LOSSES = {
    "controller_killed": 3,
    "controller_stopped": 3,
    "service_killed": len(SERVICES),
    "service_stopped": len(SERVICES),
    "router": 1,
    "partition": 1,
    "full_disk": 1,
    "power": 1,
}
"""Kinds of losses, and how often each is made: with another controller or service each time."""
