"""Sockets of APIs: systemd listens where uWSGI looks for its socket, and an API does not start without it."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from ansible_collections.brume.cloud.plugins.module_utils import service_units, sources
from ansible_collections.brume.cloud.plugins.module_utils.plan import Listen, plan

from .inventories import AIO, inventory


def api(**changes: Any) -> tuple[Any, Any, Any]:
    """Return the service, component and instance of Placement's API, the instance with other fields."""
    found = plan(inventory(AIO), sources.load())
    instance = next(one for one in found.hosts["aio"].instances if one.unit == "placement-api.service")
    service = sources.load().services["placement"]
    component = service.components["api"]
    return service, component, dataclasses.replace(instance, **changes)


@pytest.mark.parametrize(
    ("address", "stream"), [("192.0.2.11", "192.0.2.11:18778"), ("2001:db8::5", "[2001:db8::5]:18778")]
)
def test_the_socket_of_an_api(address: str, stream: str) -> None:
    service, component, instance = api(listen=Listen(address, 18778))
    assert service_units.socket_text(service, component, instance) == (
        "# Written by Brume; a change here is overwritten.\n"
        "\n"
        "[Unit]\n"
        f"Description={service.description} (api), socket\n"
        "\n"
        "[Socket]\n"
        f"ListenStream={stream}\n"
        "Backlog=1024\n"
        "FreeBind=true\n"
        "\n"
        "[Install]\n"
        "WantedBy=sockets.target\n"
    )
    lines = service_units.uwsgi_text(component, instance, "/env").splitlines()
    assert f"socket = {stream}" in lines, "uWSGI finds the inherited socket by its address"
    assert "protocol = http" in lines


def test_an_api_needs_its_socket_and_other_components_have_none() -> None:
    service, component, _instance = api()
    lines = service_units.unit_text(service, component, "/env", []).splitlines()
    assert "Requires=placement-api.socket" in lines
    assert "After=network-online.target placement-api.socket" in lines
    other = dataclasses.replace(component, kind="daemon", command=("x",))
    assert ".socket" not in service_units.unit_text(service, other, "/env", [])


@pytest.mark.parametrize(
    ("command", "files", "expected"),
    [
        (["two-worker"], ["/etc/two/two.conf"], "/env/bin/two-worker --config-file /etc/two/two.conf"),
        (["two-worker", "/etc/two/two.conf"], ["/etc/two/two.conf", "/etc/two/swift.conf"],
         "/env/bin/two-worker /etc/two/two.conf"),
        (["two-worker", "-v"], ["/etc/a.conf", "/etc/b.conf"],
         "/env/bin/two-worker -v --config-file /etc/a.conf --config-file /etc/b.conf"),
        (["/usr/bin/mount", "--all"], [], "/usr/bin/mount --all"),
    ],
)  # fmt: skip
def test_a_command_that_names_its_file_gets_no_option(command: list[str], files: list[str], expected: str) -> None:
    service, component, _instance = api()
    daemon = dataclasses.replace(component, kind="daemon", command=tuple(command))
    assert f"ExecStart={expected}\n" in service_units.unit_text(service, daemon, "/env", files)


def test_a_service_that_lacks_a_description_is_called_by_its_name() -> None:
    service, component, instance = api()
    text = service_units.socket_text(dataclasses.replace(service, description=""), component, instance)
    assert "Description=placement (api), socket\n" in text
