"""`keystone_catalog` against loops over modules of the collection openstack.cloud, with the same content."""

from __future__ import annotations

import json
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tools.bench_parts.figures import Figure
from tools.bench_parts.runs import Context, NotMeasured, Run, say

PREFIX = "brume-bench"
SERVICES = 15
INTERFACES = ("public", "internal", "admin")
BOTH_AIMS = {"create": 10.0, "no change": 2.0, "ratio": 50.0}
ONE_CALL, LOOPS = "tools/bench_parts/catalog.yml", "tools/bench_parts/catalog_loops.yml"
PLAYS = {ONE_CALL: "Catalog", LOOPS: "Loops"}


def content(region: str, count: int = SERVICES) -> dict[str, list[dict[str, Any]]]:
    """Return services with three endpoints, a user and its role each, as options of `keystone_catalog`.

    All have names of their own, and passwords that nothing else knows.
    """
    names = [f"{PREFIX}-{index:02}" for index in range(1, count + 1)]
    return {
        "projects": [{"name": PREFIX, "domain": "Default", "description": "Measures; removed at the end"}],
        "roles": [{"name": PREFIX}],
        "users": [
            {
                "name": name,
                "domain": "Default",
                "password": secrets.token_urlsafe(24),
                "description": f"Service user of {name}",
            }
            for name in names
        ],
        "assignments": [
            {"user": name, "user_domain": "Default", "project": PREFIX, "project_domain": "Default", "role": PREFIX}
            for name in names
        ],
        "services": [{"name": name, "type": name, "description": f"Service {name}"} for name in names],
        "endpoints": [
            {
                "service": name,
                "interface": interface,
                "region": region,
                "url": f"https://{interface}.example.com/{name}",
            }
            for name in names
            for interface in INTERFACES
        ],
    }


def removal(wanted: Mapping[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """Return what removes a content: Keystone removes assignments and endpoints with what they belong to."""
    return {
        name: []
        if name in ("assignments", "endpoints")
        else [{key: value for key, value in item.items() if key != "password"} | {"state": "absent"} for item in items]
        for name, items in wanted.items()
    }


def _measured(context: Context, playbook: str, variables: dict[str, Any], what: str, *, changes: bool) -> Run:
    run = context.playbook(playbook, variables=variables)
    say(f"{what}: {run.plays[PLAYS[playbook]]:.1f} s of {run.seconds:.1f} s")
    if bool(run.changed) != changes:
        raise NotMeasured(f"{what}: {run.changed} tasks changed something; expected {'some' if changes else 'none'}")
    return run


@contextmanager
def _removed_at_the_end(context: Context, variables: Mapping[str, Any]) -> Iterator[None]:
    """Remove the content before, in case an earlier measurement was cut off, and after."""
    gone = {**variables, "bench_content": removal(variables["bench_content"])}
    context.playbook(ONE_CALL, variables=gone)
    try:
        yield
    finally:
        context.playbook(ONE_CALL, variables=gone)
        say("removed all of it")


def measure(context: Context) -> Iterator[Figure]:
    """Yield the seconds of both ways, creating and with nothing to change; raises NotMeasured.

    The seconds are those of the tasks; those of the whole playbook, Ansible's start included, are in the notes.
    """
    file = context.state / "clouds.yaml"
    if not file.exists():
        raise NotMeasured(f"{file} is missing: this part needs a deployed cloud")
    cloud = yaml.safe_load(file.read_text(encoding="utf-8"))["clouds"]["lab"]
    wanted = content(cloud["region_name"])
    variables: dict[str, Any] = {"bench_content": wanted}
    size = f"{len(wanted['services'])} services, {len(wanted['endpoints'])} endpoints, {len(wanted['users'])} users"
    say(f"keystone_catalog: {size}")

    def figure(name: str, run: Run, playbook: str, aim: float | None = None) -> Figure:
        return Figure(name, run.plays[PLAYS[playbook]], aim=aim, note=f"playbook {run.seconds:.1f} s")

    with _removed_at_the_end(context, variables):
        create = _measured(context, ONE_CALL, variables, "create", changes=True)
        yield figure("keystone_catalog, create", create, ONE_CALL, BOTH_AIMS["create"])
        asked = {**variables, "bench_remember": None}
        long = _measured(context, ONE_CALL, asked, "no change, every password asked for", changes=False)
        yield figure("keystone_catalog, no change, every password asked for", long, ONE_CALL)
        again = _measured(context, ONE_CALL, variables, "no change, passwords known", changes=False)
        yield figure("keystone_catalog, no change, passwords known", again, ONE_CALL, BOTH_AIMS["no change"])
    loops = {
        **variables,
        "bench_auth": cloud["auth"],
        "bench_region": cloud["region_name"],
        "bench_python": _python(context),
    }
    say("loops over openstack.cloud: the same content")
    with _removed_at_the_end(context, variables):
        slow = _measured(context, LOOPS, loops, "create", changes=True)
        yield figure("openstack.cloud, create", slow, LOOPS)
        slow_again = _measured(context, LOOPS, loops, "no change", changes=False)
        yield figure("openstack.cloud, no change, no password compared", slow_again, LOOPS)
    for name, one, other in (
        ("create", create, slow),
        ("no change, every password asked for", long, slow_again),
        ("no change", again, slow_again),
    ):
        quick, whole = one.plays[PLAYS[ONE_CALL]], other.seconds / one.seconds
        yield Figure(
            f"how many times faster, {name}",
            other.plays[PLAYS[LOOPS]] / quick,
            "times",
            BOTH_AIMS["ratio"] if name == "no change" else None,
            "more",
            f"playbooks {whole:.0f} times",
        )


def _python(context: Context) -> str:
    """Return the interpreter of an environment that has openstacksdk on the control hosts."""
    with tempfile.TemporaryDirectory(prefix="brume-bench-") as folder:
        path = Path(folder) / "plan.json"
        context.playbook("playbooks/plan.yml", "--tags", "json", "-e", f"plan_file={path}")
        plan = json.loads(path.read_text(encoding="utf-8"))
    first = next(host for host in plan["hosts"].values() if "control" in host["groups"])
    for one in first["environments"]:
        if one["service"] == "nova":
            return f"{one['path']}/bin/python"
    raise NotMeasured("the loops need openstacksdk of Nova's environment, and Nova is not deployed")
