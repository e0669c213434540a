"""Every endpoint speaks TLS that verifies, none speaks an old version or plain text."""

from __future__ import annotations

import functools
from typing import Any

import pytest
from ansible_collections.brume.cloud.plugins.module_utils import tls_trials
from ansible_collections.brume.cloud.plugins.module_utils.rendering import CA_FILE
from cloud import deployment, inventory, program


@functools.cache
def trial(where: str) -> dict[str, Any]:
    """Return what all endpoints came to, tried by one process on the first control host."""
    cloud = deployment(where).plan.cloud
    result: dict[str, Any] = program(
        where,
        cloud.members["control"][0][0],
        tls_trials,
        "trial",
        endpoints=tls_trials.endpoints(cloud),
        ca_file=CA_FILE,
        shut=tls_trials.shut(cloud),
    )
    return result


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make one test of each endpoint, and of each port without TLS."""
    where = inventory(metafunc.config)
    cloud = deployment(where).plan.cloud
    if "endpoint" in metafunc.fixturenames:
        metafunc.parametrize("endpoint", list(tls_trials.endpoints(cloud)))
    if "port" in metafunc.fixturenames:
        metafunc.parametrize("port", [f"{host}:{port}" for host, port in tls_trials.shut(cloud)])


def test_endpoint(where: str, endpoint: str) -> None:
    protocol = tls_trials.endpoints(deployment(where).plan.cloud)[endpoint]["protocol"]
    problems = tls_trials.problems(protocol, trial(where)["endpoints"][endpoint])
    assert not problems, f"{endpoint}: {'; '.join(problems)}"


def test_port_for_plain_text_is_shut(where: str, port: str) -> None:
    assert trial(where)["open"][port] is False, f"{port} accepts connections without TLS"
