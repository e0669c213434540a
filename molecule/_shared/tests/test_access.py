"""Every account reaches its own and nothing else, tried for real with the account's own password."""

from __future__ import annotations

import functools
import os
from typing import Any

import pytest
from ansible_collections.brume.cloud.plugins.module_utils import access_trials, certificates
from ansible_collections.brume.cloud.plugins.module_utils.plan import Account, Login
from ansible_collections.brume.cloud.plugins.module_utils.rendering import CA_FILE
from ansible_collections.brume.cloud.plugins.module_utils.secrets import ADMIN_SECRET
from cloud import deployment, inventory, program


@functools.cache
def trial(where: str) -> dict[str, Any]:
    """Return what all accounts came to, tried by one process on the first control host."""
    found = deployment(where)
    cloud, renderer = found.plan.cloud, found.renderer()
    host = found.plan.hosts[cloud.members["control"][0][0]]
    services = {one.service for one in cloud.databases} & {one.service for one in cloud.vhosts}
    environment = next(one.path for one in host.environments if one.service in services)
    result: dict[str, Any] = program(
        where,
        host.name,
        access_trials,
        "trial",
        python=f"{environment}/bin/python",
        databases={one.name: renderer.shared["database_url"](one.name) for one in cloud.databases},
        vhosts={one.name: renderer.shared["transport_url"](one.name) for one in cloud.vhosts},
        ca_file=CA_FILE,
        login={
            "auth_url": renderer.urls["keystone", "internal"],
            "username": "admin",
            "password": found.vault.value(ADMIN_SECRET),
            "ca_file": CA_FILE,
        },
        stranger=certificates.authority(os.urandom(32)).pem,
    )
    return result


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make one test of each account."""
    where = inventory(metafunc.config)
    cloud = deployment(where).plan.cloud
    for fixture, accounts in (("database", cloud.databases), ("vhost", cloud.vhosts), ("login", cloud.logins)):
        if fixture in metafunc.fixturenames:
            metafunc.parametrize(fixture, accounts, ids=[one.name for one in accounts])


def test_database_account_reaches_its_own_only(where: str, database: Account) -> None:
    problems = access_trials.database_problems(database.name, trial(where)["databases"][database.name])
    assert not problems, f"the account {database.account} {'; '.join(problems)}"


def test_vhost_account_reaches_its_own_only(where: str, vhost: Account) -> None:
    problems = access_trials.vhost_problems(vhost.name, trial(where)["vhosts"][vhost.name])
    assert not problems, f"the account {vhost.account} {'; '.join(problems)}"


def test_broker_has_no_other_user(where: str) -> None:
    cloud = deployment(where).plan.cloud
    users = program(where, cloud.members["messaging"][0][0], access_trials, "broker_users")
    problems = access_trials.broker_user_problems([one.account for one in cloud.vhosts], users)
    assert not problems, "; ".join(problems)


def test_service_user_has_its_roles_only(where: str, login: Login) -> None:
    problems = access_trials.role_problems(login.name, login.roles, trial(where)["roles"])
    assert not problems, f"the user {login.name} {'; '.join(problems)}"
