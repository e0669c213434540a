"""What a deployment takes: from a bare host, with nothing to change, with one option changed, and in memory."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tools.bench_parts.figures import Figure
from tools.bench_parts.runs import ROOT, Context, NotMeasured, Run, execute, say

SITE, VERIFY = "playbooks/site.yml", "playbooks/verify.yml"
CACHE = ROOT / ".cache"
DOWNLOADS = ("uv", "apt-*")
"""What hosts of a lab download, in `.cache/` (tools/lab_parts/containers.py: KEPT)."""

OPTION = {"placement": {"placement.conf": {"placement": {"allocation_conflict_retry_count": 11}}}}
"""A setting that makes no difference to anyone, of a service with one unit; the default is 10."""

LARGEST = 5


def deploy(context: Context) -> Iterator[Figure]:
    """Yield the seconds from a bare host to SSH over a floating IP, with what earlier labs have downloaded."""
    _remove(context)
    yield from _deployment(context, "caches warm", 150)


def cold(context: Context) -> Iterator[Figure]:
    """Yield the same with everything to be downloaded anew, but for the images of hosts and instances."""
    _remove(context)
    with _aside():
        yield from _deployment(context, "caches cold", 240)


def _lab(command: str, context: Context) -> None:
    execute([sys.executable, "tools/lab.py", command, context.inventory])


def _remove(context: Context) -> None:
    """Make what a lab needs, and remove the one there is, which puts its downloads into the caches."""
    if context.check:
        raise NotMeasured("no host is removed or made in check mode")
    execute([sys.executable, "tools/guest_image.py"])
    _lab("image", context)
    say(f"removing the lab of {context.inventory}, to make it anew")
    _lab("destroy", context)


def _deployment(context: Context, what: str, aim: float) -> Iterator[Figure]:
    _lab("create", context)
    site = context.playbook(SITE)
    _lab("keep", context)
    say(f"site.yml: {site.seconds:.1f} s")
    ssh = context.playbook(VERIFY, variables={"verify_checks": ["ssh"]})
    say(f"verify.yml up to SSH: {ssh.seconds:.1f} s")
    yield Figure(f"bare host to SSH over a floating IP, {what}", site.seconds + ssh.seconds, aim=aim)
    yield Figure(f"site.yml, {what}", site.seconds, note=_longest(site))
    yield Figure(f"verify.yml up to SSH, {what}", ssh.seconds, note="its clean-up included")


def _longest(run: Run, count: int = LARGEST) -> str:
    plays = sorted(run.plays.items(), key=lambda item: item[1], reverse=True)[:count]
    return ", ".join(f"{name} {seconds:.1f}" for name, seconds in plays)


@contextmanager
def _aside() -> Iterator[None]:
    """Put downloads out of sight; afterwards the new ones stay, and where there are none the old ones return."""
    moved = {path: path.with_name(f"aside-{path.name}") for pattern in DOWNLOADS for path in CACHE.glob(pattern)}
    for path, hidden in moved.items():
        path.rename(hidden)
    try:
        yield
    finally:
        for path, hidden in moved.items():
            if path.exists():
                shutil.rmtree(hidden)
            else:
                hidden.rename(path)


def again(context: Context) -> Iterator[Figure]:
    """Yield the seconds of a run with nothing to change."""
    run = context.playbook(SITE, *_mode(context))
    say(f"{run.seconds:.1f} s, changed={run.changed}")
    name = "second run, nothing to change" + (", --check" if context.check else "")
    yield Figure(name, run.seconds, aim=15, note=f"changed={run.changed}; {_longest(run)}")


def option(context: Context) -> Iterator[Figure]:
    """Yield the seconds in which one option of one service is rolled out and healthy; then it is set back."""
    mode = _mode(context)
    try:
        run = context.playbook(SITE, *mode, variables={"brume_config": OPTION})
        say(f"{run.seconds:.1f} s, changed={run.changed}")
    finally:
        if not context.check:
            back = context.playbook(SITE)
            say(f"set back: {back.seconds:.1f} s, changed={back.changed}")
    if not run.changed:
        raise NotMeasured("the option was there already: nothing was rolled out")
    name = "one option of one service rolled out and healthy" + (", --check" if context.check else "")
    yield Figure(name, run.seconds, aim=15, note=_longest(run))


def _mode(context: Context) -> list[str]:
    return ["--check"] if context.check else []


def memory(context: Context) -> Iterator[Figure]:
    """Yield what the units of each host take, proportional set size."""
    with tempfile.TemporaryDirectory(prefix="brume-bench-") as folder:
        context.playbook("tools/bench_parts/unit_memory.yml", variables={"bench_folder": folder})
        files = sorted(Path(folder).glob("*.json"))
        hosts = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in files}
    for host, units in hosts.items():
        largest = sorted(units.items(), key=lambda item: item[1], reverse=True)[:LARGEST]
        note = ", ".join(f"{name.removesuffix('.service')} {size / 1024:,.0f}" for name, size in largest)
        say(f"{host}: {sum(units.values()) / 1024:,.0f} MiB in {len(units)} units")
        yield Figure(f"memory of {host} at rest", sum(units.values()) / 1024, "MiB", 4096, note=note)
