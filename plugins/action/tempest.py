"""Runs Tempest against a deployed cloud in the controller process, and says how it goes while it runs.

An action and not a module: a module's output is shown when all of it is over, and this takes minutes to hours.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import netaddr
import yaml
from ansible.plugins.action import ActionBase
from ansible_collections.brume.cloud.plugins.action.cloud_verification import connect, expected
from ansible_collections.brume.cloud.plugins.module_utils import (
    cloud_checks,
    cloud_run,
    convergence,
    run,
    sources,
    tempest,
    tempest_cloud,
    verification,
)
from ansible_collections.brume.cloud.plugins.module_utils import uv_environments as uv
from ansible_collections.brume.cloud.plugins.module_utils.plan import PlanError

SPEC: dict[str, Any] = {
    "clouds_file": {"type": "path", "required": True},
    "cloud": {"type": "str", "required": True},
    "set": {"type": "str", "default": "smoke"},
    "regex": {"type": "str", "default": ""},
    "concurrency": {"type": "int", "default": 0},
    "directory": {"type": "path", "required": True},
    "junit": {"type": "path", "required": True},
    "environments": {"type": "path", "required": True},
    "wheelhouse": {"type": "str", "default": ""},
    "image_name": {"type": "str", "required": True},
    "image_path": {"type": "path", "required": True},
    "flavor": {
        "type": "dict",
        "required": True,
        "options": {name: {"type": "int", "required": True} for name in ("vcpus", "ram", "disk")},
    },
    "external_network": {"type": "str", "required": True},
    "physical_network": {"type": "str", "required": True},
    "ssh_user": {"type": "str", "required": True},
    "timeouts": {
        "type": "dict",
        "required": True,
        "options": {name: {"type": "int", "required": True} for name in ("image", "build", "ssh")},
    },
    "config": {"type": "dict", "default": {}},
}
ROLE = "roles/tempest/files"
MOST_WORKERS = 4
"""Workers unless told otherwise; it is the cloud that limits them, not the machine on which they run."""

REPORT_SECONDS = 60
"""How often a line says how far the run is."""

ENVIRONMENT_NAME = "tempest"


def workers(wanted: int) -> int:
    """Return how many workers run: as wanted, else one per processor that this process may use, at most four."""
    return wanted if wanted > 0 else min(MOST_WORKERS, len(os.sched_getaffinity(0)))


def environment(root: Path, release: str, folder: str) -> uv.Environment:
    """Return Tempest's environment below a folder; raises TempestError when the release has no lock."""
    lock = root / ROLE / f"locks/{release}.txt"
    if not lock.exists():
        raise tempest.TempestError(f"{lock.relative_to(root)}: is missing; make it with `make lock RELEASE={release}`")
    text = lock.read_text("utf-8")
    item = uv.Environment(ENVIRONMENT_NAME, "", text, sys.executable)
    return uv.Environment(
        ENVIRONMENT_NAME, f"{Path(folder).resolve()}/{ENVIRONMENT_NAME}/{release}-{item.digest}", text, sys.executable
    )


def build(plan: uv.Plan, wheelhouse: str) -> None:
    """Build the environment where it is missing. Raises BuildError."""
    if not plan.build:
        return
    from uv import find_uv_bin  # noqa: PLC0415  # only the deploy host has it

    started = time.monotonic()
    options = ["--no-index", "--find-links", wheelhouse] if wheelhouse else []
    variables = {**uv.host_variables(os.environ), "HOME": str(Path.home())}
    uv.build(plan, find_uv_bin(), variables, options)
    uv.finish(plan.environment, time.monotonic() - started)


def own_address(url: str) -> str:
    """Return this machine's address on the way to a URL's host; nothing is sent. Raises OSError."""
    family, kind, protocol, _name, target = socket.getaddrinfo(urlsplit(url).hostname, 9, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.connect(target)
        return str(probe.getsockname()[0])


@contextmanager
def served(path: Path, address: str, port: int = 80) -> Iterator[str]:
    """Serve one file to Glance by HTTP and yield its URL; an empty one when the port cannot be had.

    Port 80, because Glance downloads from 80 and 443 only (its option import_filtering_opts/allowed_ports).
    """

    class Handler(BaseHTTPRequestHandler):
        """Answers every path with the file."""

        def do_HEAD(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(path.stat().st_size))
            self.end_headers()

        def do_GET(self) -> None:
            self.do_HEAD()
            with path.open("rb") as stream:
                shutil.copyfileobj(stream, self.wfile)

        def log_message(self, *_arguments: Any) -> None:
            """Say nothing between the lines of the run."""

    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in address else socket.AF_INET

    try:
        server = Server((address, port), Handler)
    except OSError:
        yield ""
        return
    threading.Thread(target=server.serve_forever, daemon=True).start()
    host = f"[{address}]" if ":" in address else address
    try:
        yield f"http://{host}:{server.server_port}/{path.name}"
    finally:
        server.shutdown()
        server.server_close()


def lasting(context: cloud_run.Run, types: Collection[str]) -> dict[str, str]:
    """Return the guest's image and the external network by field of `tempest.Cloud`, as far as services have them.

    What is missing is made, and stays. Raises CheckFailed.
    """
    found = {}
    if "image" in types:
        cloud_checks.image(context)
        found["image"] = str(context.image.id)
    if "network" in types:
        cloud_checks.external_network(context)
        found |= {"external_network": str(context.external.id), "external_network_name": str(context.external.name)}
    return found


def stestr_configuration(item: uv.Environment) -> str:
    """Return .stestr.conf: where Tempest's tests are, and that the tests of a class stay with one worker."""
    packages = next(Path(item.path).glob("lib/python3*/site-packages"))
    return (
        "[DEFAULT]\n"
        f"test_path={packages}/tempest/test_discover\n"
        f"top_dir={packages}\n"
        r"group_regex=([^\.]*\.)*" + "\n"
    )


@contextmanager
def alone(directory: Path) -> Iterator[None]:
    """Keep other runs out of a folder; the kernel lets go of it when the process ends. Raises TempestError."""
    with (directory / ".lock").open("w", encoding="utf-8") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise tempest.TempestError(f"{directory}: another run is using it; wait for its end") from None
        yield


@contextmanager
def started(command: list[str], directory: str, variables: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """Start a command in a session of its own, and end all of it if it is left before it ended by itself."""
    process = subprocess.Popen(
        command, cwd=directory, env=variables, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, errors="replace", start_new_session=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
        process.wait()


class ActionModule(ActionBase):
    """See the documentation of the module tempest."""

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Prepare, run, judge and clean up; fails on any failure that is not known."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        _validation, args = self.validate_argument_spec(SPEC)
        root = sources.COLLECTION
        try:
            plan = run.current(task_vars or {})
            known_file = root / ROLE / "known_failures.yml"
            known = tempest.known_failures(sources.read_yaml(known_file.read_text("utf-8")), known_file.name)
            omissions_file = root / ROLE / "omissions.yml"
            omissions = tempest.omissions(sources.read_yaml(omissions_file.read_text("utf-8")), omissions_file.name)
            sets = sources.read_yaml((root / ROLE / "sets.yml").read_text("utf-8"))
            chosen = tempest.selection(sets, args["set"], args["regex"])
            item = environment(root, plan.cloud.release, args["environments"])
            wanted = uv.decide(item, uv.marker_of(item), os.path.lexists(item.path), "")
            connection = connect(args["clouds_file"], args["cloud"])
            number = workers(args["concurrency"])
            types = tempest_cloud.service_types(connection)
            features = tempest_cloud.network_features(connection, types)
            chosen, result["left_out"] = tempest.leave_out(chosen, omissions, *features)
            for line in tempest.omitted_lines(result["left_out"]):
                self._display.display(line)
            if self._task.check_mode:
                return {**result, **self._would(wanted, chosen, number)}
            build(wanted, args["wheelhouse"])
            directory = Path(args["directory"]).resolve()
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)  # Tempest's log tells a lot
            with alone(directory):
                first = plan.hosts[plan.cloud.members["control"][0][0]]
                args["backup_driver"] = str(first.variables.get("cinder_backup_driver") or "")
                made = self._judged(result, args, connection, item, chosen, number, known, expected(plan), types)
        except (PlanError, ValueError, uv.BuildError, yaml.YAMLError, verification.CheckFailed, OSError) as error:
            return {**result, "failed": True, "msg": str(error)}
        result["changed"] = bool(made or wanted.actions)
        result["made"] = [*wanted.actions, *made]
        return result

    def _would(self, wanted: uv.Plan, chosen: tempest.Selection, number: int) -> dict[str, Any]:
        """Return what check mode says."""
        line = f"would run the set {chosen.name}: {' '.join(chosen.arguments())}, {number} workers"
        for one in (*wanted.actions, line):
            self._display.display(one)
        return {"changed": bool(wanted.actions), "made": wanted.actions, "msg": line}

    def _judged(
        self,
        result: dict[str, Any],
        args: dict[str, Any],
        connection: Any,
        item: uv.Environment,
        chosen: tempest.Selection,
        number: int,
        known: tuple[tempest.KnownFailure, ...],
        wanted: cloud_run.Expected,
        types: tuple[str, ...],
    ) -> list[str]:
        """Run the set, put the verdict into `result`, and return what was made to stay."""
        directory = Path(args["directory"]).resolve()
        image_path = Path(args["image_path"]).resolve()
        context = cloud_run.Run(
            connection,
            cloud_run.Settings(
                image_name=args["image_name"],
                image_path=image_path,
                flavor=args["flavor"],
                external_network=args["external_network"],
                physical_network=args["physical_network"],
                tenant_cidr=netaddr.IPNetwork("0.0.0.0/0"),
                ssh_user=args["ssh_user"],
                timeouts=args["timeouts"],
            ),
            wanted,
            directory,
        )
        access = tempest_cloud.access(connection)
        try:
            objects = lasting(context, types)
            before = tempest_cloud.census(connection, types)
            objects |= tempest_cloud.prepare(connection, types, image_path, args["flavor"], args["timeouts"]["image"])
            cloud = tempest_cloud.discover(connection, types, objects)
            convergence.atomic_write(str(directory / ".stestr.conf"), stestr_configuration(item))
            glance = "image" in types
            with served(image_path, own_address(access.auth_url)) if glance else nullcontext("") as image_url:
                if glance and not image_url:
                    self._display.display("port 80 of this machine cannot be had: Glance downloads from the Internet")
                choices = tempest.Choices(
                    directory=str(directory),
                    ssh_user=args["ssh_user"],
                    image_path=str(image_path),
                    image_url=image_url,
                    build_timeout=args["timeouts"]["build"],
                    ssh_timeout=args["timeouts"]["ssh"],
                    config=args["config"],
                    backup_driver=args["backup_driver"],
                )
                text = tempest.text(tempest.configuration(access, cloud, choices))
                convergence.atomic_write(str(directory / "tempest.conf"), text, 0o600)
                begin = time.monotonic()
                self._run(item, directory, chosen, number, access.authority)
                seconds = time.monotonic() - begin
            junit = Path(args["junit"]).resolve()
            self._write_junit(item, directory, junit)
            verdict = tempest.judge(tempest.cases(junit.read_text("utf-8")), known)
            left = tempest.left_behind(before, tempest_cloud.census(connection, types))
            stay = tempest_cloud.discard(connection, left)
        finally:
            tempest_cloud.remove(connection, types)
            connection.close()
        for line in tempest.table(chosen.name, verdict, seconds):
            self._display.display(line, color="red" if line.startswith("FAILED") else None)
        for one in left:
            self._display.display(f"left behind, removed: {one}")
        for line in stay:
            self._display.display(f"cannot be removed: {line}", color="red")
        result["junit"] = str(junit)
        result["left_behind"] = [str(one) for one in left]
        result["known_failures"] = [case.name for case, _reason in verdict.known]
        result["failures"] = [case.name for case in verdict.failed]
        result["seconds"] = round(seconds)
        result["msg"] = tempest.summary(chosen.name, verdict, len(result["left_out"]))
        if not verdict.ok or stay:
            result["failed"] = True
        return context.lasting

    def _run(
        self, item: uv.Environment, directory: Path, chosen: tempest.Selection, number: int, authority: str
    ) -> None:
        """Run Tempest; its output goes to run.log, failures and how far it is to the screen."""
        command = [
            f"{item.path}/bin/tempest", "run", "--config-file", "tempest.conf", "--concurrency", str(number),
            *chosen.arguments(),
        ]  # fmt: skip
        variables = {"PATH": f"{item.path}/bin:/usr/bin:/bin", "HOME": str(Path.home()), "LANG": "C.UTF-8"}
        if authority:
            variables["SSL_CERT_FILE"] = authority  # the test of noVNC's page is not told of the configured one
        if not (directory / ".stestr").is_dir():
            subprocess.run([f"{item.path}/bin/stestr", "init"], cwd=directory, env=variables, check=True)
        (directory / "tempest.log").unlink(missing_ok=True)
        counts: dict[str, int] = {}
        shown = time.monotonic()
        with (directory / "run.log").open("w", encoding="utf-8") as log, started(
            command, str(directory), variables
        ) as process:
            for line in process.stdout or ():
                log.write(line)
                log.flush()
                found = tempest.progress(line)
                if found is None:
                    continue
                counts[found[1]] = counts.get(found[1], 0) + 1
                if found[1] == "FAILED":
                    self._display.display(f"FAILED {found[0]}", color="red")
                if time.monotonic() - shown > REPORT_SECONDS:
                    shown = time.monotonic()
                    self._display.display(", ".join(f"{number} {status}" for status, number in counts.items()))

    def _write_junit(self, item: uv.Environment, directory: Path, junit: Path) -> None:
        """Write the results of the last run as JUnit; raises TempestError when there are none."""
        variables = {"PATH": f"{item.path}/bin:/usr/bin:/bin", "HOME": str(Path.home()), "LANG": "C.UTF-8"}
        last = subprocess.run(
            [f"{item.path}/bin/stestr", "last", "--subunit"],
            cwd=directory, env=variables, capture_output=True, check=False,
        )  # fmt: skip
        # its exit code says only whether tests failed
        made = subprocess.run(
            [f"{item.path}/bin/subunit2junitxml", "--no-passthrough"],
            input=last.stdout, cwd=directory, env=variables, capture_output=True, check=False,
        )  # fmt: skip
        if b"<testsuite" not in made.stdout:
            tail = (last.stderr + made.stderr).decode(errors="replace").strip().splitlines()[-5:]
            raise tempest.TempestError("\n".join([f"Tempest ended without results, see {directory}/run.log", *tail]))
        convergence.atomic_write(str(junit), made.stdout, 0o600)  # it holds the log of each failure
