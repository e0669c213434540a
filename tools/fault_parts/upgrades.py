"""The way of a lab's cloud to another release, back, and to the end, with instances that are looked after on the way.

Steps are methods of `Upgrades`, each of which returns what was seen and raises FaultError where something is not as it
has to be. The new release is the inventory's `brume_release` unless another one is given; hosts in `stay` keep the
former one.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.brume.cloud.plugins.module_utils import backup, run_lines, run_report
from ansible_collections.brume.cloud.plugins.module_utils.api_probe import Probe
from ansible_collections.brume.cloud.plugins.module_utils.releases import can_cross
from ansible_collections.brume.cloud.plugins.module_utils.run_lines import Report

from tools.fault_parts.losses import Losses
from tools.fault_parts.runs import ROOT, FaultError
from tools.prediction import Edit, edited, parse

MARK = "brume-upgrades"
"""How everything that is made in the cloud is called."""

CIDR = "10.213.0.0/24"
"""Network of the instances."""

ANSWER_SECONDS = 240.0
"""How long an instance may take until it answers, emulated as it is."""

SECONDS = {"upgrade": 300.0, "rollback": 120.0}
"""How long runs on one host take before one was measured; moments of kills are drawn from it."""

CONTROLLERS = "Roll out core: "
"""How the play begins in which the first controller takes the new release."""


def release_edit(release: str) -> Edit:
    """Return an edit of an inventory that names a release."""

    def edit(everywhere: dict[str, Any], host: dict[str, Any]) -> None:
        everywhere["brume_release"] = release

    return edit


def missed(report: Report, several: bool) -> list[str]:
    """Return which aims a report shows to be missed: no failed call, and no lost ping but for a router's fail-over.

    With one controller an API is silent while it starts, but a call still does not fail.
    """
    failed = [one for one in report.calls if one.problem]
    found = [f"{len(failed)} calls failed, the first at {failed[0].began:.1f} s: {failed[0].problem}"] if failed else []
    if not report.calls:
        found.append("no call was made")
    if not report.rounds:
        found.append("nothing was pinged")
    if not several:
        return found
    lost = {address: len(moments) for address, moments in report.lost.items() if len(moments) > ROUTER_PINGS}
    return found + [f"{number} pings to {address} were lost" for address, number in lost.items()]


ROUTER_PINGS = 10
"""How many pings in a row, one a second, a router's fail-over may cost."""


class Upgrades(Losses):
    """A lab on its way between two releases."""

    def __init__(self, inventory: Path, seed: int, former: str, target: str = "") -> None:
        """Begin with the former release everywhere. Raises FaultError where no upgrade leads to the other one."""
        super().__init__(inventory, seed)
        variables = yaml.safe_load((inventory / "group_vars/all.yml").read_text(encoding="utf-8"))
        self.former, self.target = former, target or str(variables["brume_release"])
        if not can_cross(self.former, self.target):
            message = f"no upgrade leads from {self.former} to {self.target}; name others by --former and --release"
            raise FaultError(message)
        self.release = former
        self.stay: dict[str, str] = {}
        longer = 1 + (len(self.lab.hosts) - 1) / 3
        self.seconds |= {kind: seconds * longer for kind, seconds in SECONDS.items()}
        self.steps = 0

    @property
    def several(self) -> bool:
        """Say whether there are several controllers."""
        return len(self.controllers) > 1

    def current(self) -> Path:
        """Return the inventory with the release of now, and with that of hosts that stay."""
        copy = edited(self.inventory, self.cloud.folder, [*self.edits, release_edit(self.release)])
        for host, release in self.stay.items():
            path = copy / f"host_vars/{host}.yml"
            known = yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else {}
            path.write_text(yaml.safe_dump({**(known or {}), "brume_release": release}), encoding="utf-8")
        return copy

    def verb(self, name: str, *words: str) -> float:
        """Run the playbook of a verb, with a log of its own; returns its seconds. Raises FaultError."""
        self.steps += 1
        return self.playbook(f"{self.steps:02}-{name}", *words, playbook=f"{name}.yml")

    def nothing_left(self) -> None:
        """See that site.yml has nothing to change. Raises FaultError."""
        self.steps += 1
        self.settled(f"{self.steps:02}-settled")

    # Steps

    def deploy(self) -> str:
        """Deploy the former release, verify it, and leave an instance on each compute host."""
        self.lab_command("create", str(self.inventory))
        subprocess.run([sys.executable, str(ROOT / "tools/guest_image.py")], capture_output=True, check=True)
        self.release, self.stay = self.former, {}
        took = self.verb("site")
        verified = self.verb("verify", "-e", '{"verify_keep": true}')
        self.nothing_left()
        self._let_instances_be("before", self._compute_hosts())
        return f"{self.former} deployed in {took:.0f} s, verified in {verified:.0f} s, nothing left to change"

    def upgrade(self) -> str:
        """Upgrade with a backup, and judge the report."""
        self.release = self.target
        self._dry_run_starts_nothing("upgrade", *self._backup())
        took = self.verb("upgrade", *self._backup())
        text = self._judge_report()
        self.nothing_left()
        self._instances_answer()
        self._let_instances_be("after", self._compute_hosts()[:1])
        return f"{self.target} in {took:.0f} s with verification; {text}"

    def rollback(self) -> str:
        """Go back, and use instances that were made before and after the upgrade."""
        self.release, self.stay = self.former, {}
        self._dry_run_starts_nothing("rollback")
        took = self.verb("rollback")
        text = self._judge_report()
        self.nothing_left()
        self._instances_answer()
        self._use_instances()
        return f"{self.former} again in {took:.0f} s; instances of before rebooted, of after rebuilt; {text}"

    def finalize(self) -> str:
        """End the upgrade: a second run has nothing to do, and there is no way back."""
        self.release, self.stay = self.target, {}
        took = self.verb("finalize")
        text = self._judge_report()
        again = self.verb("finalize")
        record = self.cloud.folder / f"{self.steps:02}-finalize.jsonl"
        if any(line.changed for line in parse(record.read_text(encoding="utf-8")).values()):
            raise FaultError(f"finalize.yml changed something in its second run; see {record}")
        self.nothing_left()
        self.release = self.former
        self._refused("rollback")
        self.release = self.target
        self._instances_answer()
        return f"ended in {took:.0f} s, again in {again:.0f} s; there is no way back; {text}"

    def restored(self) -> str:
        """Go back by the backup that the upgrade made: what came since is told, has to be confirmed, and is lost."""
        name = min(path.name for path in (self.state / "backups").glob("*-full"))
        after = self._made_since(backup.moment_of(name))
        if not after:
            raise FaultError(f"no instance was made after {name}; take the step upgrade before")
        self.release, self.stay = self.former, {}
        self._refused("restore", *self._backup(), "-e", f"restore_backup={name}")
        if not self._made_since(backup.moment_of(name)):
            raise FaultError("restore.yml did not wait until its loss was confirmed")
        confirmed = ("-e", f"restore_backup={name}", "-e", f"restore_confirm={name}")
        took = self.verb("restore", *self._backup(), *confirmed)
        self.nothing_left()
        if left := self._made_since(backup.moment_of(name)):
            raise FaultError(f"{', '.join(one.name for one in left)} was made after {name}, and is known still")
        self._use_instances()
        self.verify()
        return f"{self.former} from {name} in {took:.0f} s; {len(after)} instances of after it forgotten"

    def tempest(self) -> str:
        """Let Tempest judge."""
        return f"Tempest's smoke tests passed in {self.verb('tempest'):.0f} s"

    def upgrade_killed(self) -> str:
        """Kill an upgrade at a random moment, and run it again to its end."""
        self.release = self.target
        return self._killed("upgrade", *self._backup(), "-e", '{"verify_checks": ["ssh"]}')

    def rollback_killed(self) -> str:
        """Kill a rollback at a random moment, and run it again to its end."""
        self.release = self.former
        return self._killed("rollback")

    def host_dies(self) -> str:
        """Let a controller die while another takes the new release: the run stops, the cloud serves, and it goes on."""
        self.release = self.target
        victim = self.controllers[-1]
        name = f"{self.steps:02}-dies"
        with self.started(name, *self._backup(), playbook="upgrade.yml") as (process, log, _record):
            self._wait_for_line(process, log, CONTROLLERS)
            self.kill_host(victim)
            if process.wait(timeout=1200) == 0:
                raise FaultError("the run did not notice")
        if victim not in log.read_text(encoding="utf-8", errors="replace"):
            raise FaultError(f"the run did not say that {victim} is gone; see {log}")
        calls = self._probe(20.0)
        self.power_on()
        well = self.wait_until_well()
        took = self.verb("upgrade", *self._backup())
        self.nothing_left()
        self._instances_answer()
        return f"stopped without {victim}; {calls}; well {well:.0f} s after it was back; ended in {took:.0f} s more"

    def mixed(self) -> str:
        """Leave the last compute and network host with the former release, use both, and take them along later."""
        computes, networks = self._compute_hosts(), self.groups["network"]["hosts"]
        self.release, self.stay = self.target, dict.fromkeys((computes[-1], networks[-1]), self.former)
        took = self.verb("upgrade", *self._backup())
        text = self._judge_report()
        self.nothing_left()
        self._instances_answer()
        self._let_instances_be("mixed", computes)
        self._use_instances()
        del self.stay[computes[-1]]
        limited = self.verb("upgrade", *self._backup(), "--limit", computes[-1])
        self.stay = {}
        rest = self.verb("upgrade", *self._backup())
        self.nothing_left()
        self._instances_answer()
        return (
            f"all but {computes[-1]} and {networks[-1]} in {took:.0f} s; {text}; {computes[-1]} by --limit in "
            f"{limited:.0f} s, {networks[-1]} in {rest:.0f} s"
        )

    # What steps are made of

    def _refused(self, name: str, *words: str) -> None:
        """See that a playbook refuses, and says what to do. Raises FaultError."""
        try:
            self.verb(name, *words)
        except FaultError as error:
            if "next:" not in str(error):
                raise
            return
        raise FaultError(f"{name}.yml did not refuse")

    def _backup(self) -> tuple[str, ...]:
        return ("-e", f"backup_path={self.state / 'backups'}")

    def _compute_hosts(self) -> list[str]:
        return list(self.groups["compute"]["hosts"])

    def _dry_run_starts_nothing(self, name: str, *words: str) -> None:
        """See that a dry run of the step works and leaves the hosts alone."""
        before = self.cloud.units()
        self.verb(name, "--check", *words)
        if self.cloud.units() != before:
            raise FaultError(f"{name}.yml --check started something")

    def _judge_report(self) -> str:
        """Return the newest report's figures. Raises FaultError where it misses an aim."""
        path = max((self.state / "reports").glob("*.jsonl"), key=lambda one: one.stat().st_mtime)
        if not run_report.page(path).exists():
            raise FaultError(f"{path} has no page")
        report = run_lines.read(path)
        text = f"{report.seconds:.0f} s by its report: {run_report.sentence(report)}"
        if found := missed(report, self.several):
            raise FaultError(f"{text}; AIM MISSED: {'; '.join(found)}; see {run_report.page(path)}")
        return text

    def _killed(self, kind: str, *words: str) -> str:
        hit = self.kill(kind, "", *words, playbook=f"{kind}.yml")
        took = self.recover(kind, *words, playbook=f"{kind}.yml")
        self._instances_answer()
        return f"{hit or 'ended before it could be killed'}; {took}"

    def _wait_for_line(self, process: subprocess.Popen[bytes], log: Path, text: str) -> None:
        end = time.monotonic() + 2 * self.seconds["upgrade"]
        while process.poll() is None and time.monotonic() < end:
            if text in log.read_text(encoding="utf-8", errors="replace"):
                return
            time.sleep(0.5)
        raise FaultError(f"the run never came to `{text}`; see {log}")

    def _probe(self, seconds: float) -> str:
        """Make calls for a time. Raises FaultError where one fails."""
        probe = Probe(self.state / "clouds.yaml", "lab")
        threading.Timer(seconds, probe.ended.set).start()
        try:
            probe.run()
        finally:
            probe.close()
        failed = [one for one in probe.calls if one.problem]
        if failed:
            raise FaultError(f"{len(failed)} of {len(probe.calls)} calls failed: {failed[0].problem}")
        return f"{len(probe.calls)} calls meanwhile, 0 failed"

    # Instances

    def _servers(self, when: str = "") -> list[Any]:
        return [one for one in self.cloud_api.compute.servers() if one.name.startswith(f"{MARK}-{when}")]

    def _made_since(self, moment: datetime) -> list[Any]:
        """Return the instances that were made after a moment."""
        return [one for one in self._servers() if datetime.fromisoformat(one.created_at) > moment]

    def _let_instances_be(self, when: str, hosts: list[str]) -> None:
        """Have an instance called by `when` on each of these compute hosts, which answers at a floating IP."""
        cloud = self.cloud_api
        network = cloud.get_network(MARK) or self._make_network(cloud)
        there = {one.name for one in self._servers(when)}
        image = next(one for one in cloud.image.images(name="brume-test"))
        flavor = cloud.get_flavor(MARK) or cloud.create_flavor(MARK, ram=192, vcpus=1, disk=1)
        for host in hosts:
            name = f"{MARK}-{when}-{host}"
            if name not in there:
                server = cloud.create_server(
                    name,
                    image=image.id,
                    flavor=flavor.id,
                    network=network.id,
                    security_groups=[MARK],
                    availability_zone=f"nova:{host}",
                    wait=True,
                    timeout=ANSWER_SECONDS,
                    auto_ip=False,
                )
                cloud.add_auto_ip(server, wait=True)
        self._instances_answer()

    def _make_network(self, cloud: Any) -> Any:
        network = cloud.create_network(MARK)
        subnet = cloud.create_subnet(network.id, cidr=CIDR, subnet_name=MARK, enable_dhcp=True)
        router = cloud.create_router(MARK, ext_gateway_net_id=cloud.get_network("external").id)
        cloud.add_router_interface(router, subnet_id=subnet.id)
        group = cloud.create_security_group(MARK, MARK)
        cloud.create_security_group_rule(group.id, protocol="icmp")
        return network

    def _addresses_of_instances(self) -> Mapping[str, str]:
        """Return the floating IP of each instance by its name."""
        found = {}
        for server in self._servers():
            entries = [one for network in (server.addresses or {}).values() for one in network]
            found[server.name] = next(one["addr"] for one in entries if one["OS-EXT-IPS:type"] == "floating")
        return found

    def _instances_answer(self) -> None:
        """Wait until all instances answer. Raises FaultError."""
        waiting = dict(self._addresses_of_instances())
        if not waiting:
            raise FaultError("there is no instance")
        end = time.monotonic() + ANSWER_SECONDS
        while waiting and time.monotonic() < end:
            waiting = {name: address for name, address in waiting.items() if not self._answers(address)}
        if waiting:
            raise FaultError(f"does not answer: {', '.join(f'{name} ({one})' for name, one in waiting.items())}")

    def _use_instances(self) -> None:
        """Reboot the instances of before and rebuild the others: each has to answer again. Raises FaultError."""
        cloud = self.cloud_api
        for server in self._servers():
            if server.name.startswith(f"{MARK}-before"):
                cloud.compute.reboot_server(server, "HARD")
            else:
                cloud.compute.rebuild_server(server, image=server.image.id)
            cloud.compute.wait_for_server(server, wait=ANSWER_SECONDS)
        self._instances_answer()


STEPS: Mapping[str, Callable[[Upgrades], str]] = {
    name: getattr(Upgrades, name)
    for name in (
        "deploy",
        "upgrade",
        "rollback",
        "finalize",
        "restored",
        "tempest",
        "upgrade_killed",
        "rollback_killed",
        "host_dies",
        "mixed",
    )
}
