"""No secret is where it does not belong: on the hosts, in what Ansible keeps, and in what a run prints.

A failure names the secret and the place, never the value.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible import constants
from ansible_collections.brume.cloud.plugins.module_utils import fernet, secret_exposure, secret_search
from ansible_collections.brume.cloud.plugins.module_utils.secret_exposure import Secret
from ansible_collections.brume.cloud.plugins.module_utils.secret_search import Patterns
from cloud import ROOT, Reader, deployment, inventory, plan, program

RUNS: dict[str, tuple[dict[str, Any], tuple[str, ...], tuple[str, ...]]] = {
    # An option in a file full of secrets, its neighbors in the diff; and the administrator's password.
    "option": (
        {
            "brume_config": {"nova": {"nova.conf": {"neutron": {"timeout": 31}}}},
            "brume_secret_generations": {"keystone/admin": 2},
        },
        ("configure", "migrate"),
        ("+timeout = 31", "admin_password: <secret>"),
    ),
    # All others anew: every file, account, key and user that holds one. As the administrator it has to log in.
    "generations": (
        {"brume_secret_generations": {"default": 2, "keystone/admin": 1}},
        (),
        ("<secret nova/database/nova_api>", "<another secret>", "create account", "create user"),
    ),
}
"""Dry runs with `--diff -vvv`: variables, tags, and what their output must hold to prove that it shows a change."""

KEPT: dict[str, Callable[[str], str]] = {
    "ansible-home": lambda _where: str(constants.ANSIBLE_HOME),
    "inventory": lambda where: where,
    "lab": lambda where: str(ROOT / ".lab" / Path(where).name),
}
"""Folders of the deploy host in which Ansible, the operator and the lab keep things."""


@functools.cache
def secrets(where: str, generation: int = 0) -> dict[str, Secret]:
    """Return all secrets of the cloud, or those of another generation."""
    found = deployment(where)
    vault = replace(found.vault, generations={"default": generation}) if generation else found.vault
    return secret_exposure.all_of(found.plan, found.sources, vault, _primary(where))


@functools.cache
def _primary(where: str) -> int:
    """Return the index of the key that signs tokens, from a host that signs."""
    host = deployment(where).plan.cloud.members["control"][0][0]
    listing = Reader(where, host).output(f"ls {fernet.REPOSITORIES['fernet']}")
    return max(int(name) for name in listing.split())


@functools.cache
def search(where: str, host: str) -> dict[str, Any]:
    """Return what the search of a host found, once per host."""
    values = secret_exposure.payload(secrets(where).values())
    found: dict[str, Any] = program(where, host, secret_search, "search", values=values)
    return found


@functools.cache
def patterns(where: str) -> Patterns:
    """Return what output and the deploy host are searched for: what is in use, and what comes next."""
    now, later = secrets(where).values(), secrets(where, 2).values()
    return Patterns({f"the next {one.name}": one.values for one in later} | {one.name: one.values for one in now})


def output(where: str, name: str) -> tuple[int, bytes]:
    """Return the exit code of a dry run, and all that it printed."""
    variables, tags, _proof = RUNS[name]
    argv = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", where, str(ROOT / "playbooks/site.yml")]
    argv += ["--check", "--diff", "-vvv", "-e", json.dumps(variables)]
    argv += ["--tags", ",".join(tags)] if tags else []
    environment = {name: value for name, value in os.environ.items() if name != "BRUME_PHASES_FILE"}
    environment["ANSIBLE_NOCOLOR"] = "1"
    done = subprocess.run(
        argv, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    return done.returncode, done.stdout


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make one test of each secret on each host, of each run, and of each folder of the deploy host."""
    where = inventory(metafunc.config)
    found = deployment(where)
    every = secret_exposure.all_of(found.plan, found.sources, found.vault, 1)
    for fixture, names in (("secret", list(every)), ("held", [name for name, one in every.items() if one.readers])):
        if fixture in metafunc.fixturenames:
            metafunc.parametrize(fixture, names, ids=[name.replace("/", "-") for name in names])
    for fixture, values in (("target", plan(where)), ("run", RUNS), ("kept", KEPT)):
        if fixture in metafunc.fixturenames:
            metafunc.parametrize(fixture, list(values))


def test_secret_is_where_it_belongs_only(where: str, target: str, secret: str) -> None:
    found = [one for one in search(where, target)["found"] if one["secret"] == secret]
    problems = [text for one in found if (text := secret_exposure.problem(one, secrets(where)))]
    assert not problems, "\n".join(problems)


def test_everything_was_searched(where: str, target: str) -> None:
    found = search(where, target)
    numbers = found["searched"]
    print(", ".join(f"{number} {what}" for what, number in numbers.items()))
    assert numbers["files"] > 10000 and numbers["processes"] > 10 and numbers["journal bytes"] > 10000
    assert not numbers["closed processes"]
    unreadable = [secret_exposure.problem(one, {}) for one in found["found"] if not one["secret"]]
    assert not unreadable, "\n".join(unreadable)


def test_search_sees_what_hosts_hold(where: str, held: str) -> None:
    """A search that does not find a secret in the file that must hold it proves nothing of other places."""
    found = [one["place"] for host in plan(where) for one in search(where, host)["found"] if one["secret"] == held]
    assert any(place.startswith(("/etc/", "/var/lib/")) for place in found), f"{held} was found in {found}"


def test_deploy_host_keeps_secrets_to_its_owner(where: str, kept: str) -> None:
    found, _numbers = secret_search.search_files(patterns(where), KEPT[kept](where))
    problems = [text for one in found if (text := secret_exposure.deploy_host_problem(one))]
    assert not problems, "\n".join(problems)


def test_facts_are_not_kept_or_hold_no_secret(where: str) -> None:
    folder = constants.CACHE_PLUGIN_CONNECTION
    found, _numbers = secret_search.search_files(patterns(where), folder) if folder else ([], {})
    assert folder or constants.CACHE_PLUGIN == "memory", f"facts go to {constants.CACHE_PLUGIN}, which is not searched"
    assert not found, "\n".join(f"{one['place']}: holds {one['secret']} ({one['form']})" for one in found)


def test_run_prints_no_secret(where: str, run: str) -> None:
    code, printed = output(where, run)
    names = [f"{name} ({form})" for name, form in patterns(where).within(printed)]
    assert not names, f"the output holds {', '.join(names)}"
    missing = [proof for proof in RUNS[run][2] if proof.encode() not in printed]
    assert not code and not missing, f"exit code {code}; not shown: {missing}"
