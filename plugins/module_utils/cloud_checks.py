"""The checks of `playbooks/verify.yml`: an administrator's way through a cloud, from a token to an instance and back.

Each check takes a `Run`, keeps in it what later checks need, and returns a line for the table. Everything it makes
is called `brume-verify...` and goes with the clean-up, be it of this run or of one that was killed; the guest's image
and the external network stay.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import shlex
import time
import urllib.parse
from collections.abc import Callable
from typing import Any

import netaddr
from ansible_collections.brume.cloud.plugins.module_utils import probes, volume_checks
from ansible_collections.brume.cloud.plugins.module_utils.cloud_run import (
    PREFIX,
    Gone,
    Run,
    down_and_absent,
    fault,
    give_floating_ip,
    on_server,
    ours,
    until_status,
)
from ansible_collections.brume.cloud.plugins.module_utils.verification import (
    Check,
    CheckFailed,
    NotYet,
    absent_agents,
    console_address,
    key_body,
    wait,
)
from ansible_collections.brume.cloud.plugins.module_utils.volume_types import CATALOG_TYPE

METADATA_URL = "http://169.254.169.254"
CONSOLE_TAIL = 30
"""Lines of the guest's console that are shown after a failure."""

CLOSED_SECONDS = 5
"""How long a closed port is tried."""


def _console(run: Run) -> str:
    return str(run.cloud.compute.get_server_console_output(run.server).get("output") or "")


def _until_booted_anew(run: Run) -> str:
    """Wait until the guest answers with another boot than the last one seen; return that boot's id."""

    def probe() -> str:
        try:
            found = on_server(run, "cat /proc/sys/kernel/random/boot_id").strip()
        except probes.ProbeError as error:
            raise NotYet(str(error)) from error
        if not found or found == run.boot_id:
            raise NotYet("the guest still answers from the boot before")
        return found

    run.boot_id = wait("the guest is back over SSH", run.seconds("ssh"), probe, run.clock)
    return run.boot_id


def diagnostics(run: Run) -> list[str]:
    """Return lines that help after a failure: the instances' states and faults, the end of the first one's console."""
    if run.server is None:
        return []
    lines = []
    try:
        for one in filter(None, (run.server, run.second)):
            server = run.cloud.compute.get_server(one.id)
            lines.append(f"instance: {server.name}, status {server.status}, host {server.compute_host}")
            if getattr(server, "fault", None):
                lines.append(f"fault: {fault(server)}")
        tail = _console(run).splitlines()[-CONSOLE_TAIL:]
    except Exception as error:  # what explains a failure must not hide it
        return [f"instance: no more can be read, {type(error).__name__}: {error}"]
    return [*lines, "console:", *(f"  {line}" for line in tail)] if tail else [*lines, "console: empty"]


def token(run: Run) -> str:
    """Prove that Keystone gives a token, and every public URL of the plan is in its catalog and answers."""
    session = run.cloud.session
    access = session.auth.get_access(session)
    catalog = {
        entry["type"]: [
            one["url"]
            for one in entry["endpoints"]
            if (one["interface"], one["region_id"]) == ("public", run.expected.region)
        ]
        for entry in access.service_catalog.catalog
    }
    problems = []
    for kind, pattern in run.expected.endpoints.items():
        url = pattern % {"project_id": access.project_id}
        if url not in catalog.get(kind, []):
            instead = ", ".join(catalog.get(kind, [])) or "nothing"
            problems.append(f"{kind}: the catalog has {instead} in place of {url}")
            continue
        status = session.get(url, authenticated=False, raise_exc=False).status_code
        if status >= 500 or status == 404:  # noqa: PLR2004
            problems.append(f"{kind}: {url} answers {status}")
    if problems:
        raise CheckFailed("; ".join(problems))
    return f"catalog: {', '.join(run.expected.endpoints)}"


def compute_services(run: Run) -> str:
    """Prove that every compute service is up, and nova-compute is there on each compute host of the plan.

    Where only some hosts are judged, theirs.
    """

    def probe() -> str:
        found = [one for one in run.cloud.compute.services() if run.expected.judges(one.host)]
        down = [f"{one.binary} on {one.host}" for one in found if one.state != "up"]
        binaries = {one.binary for one in found}
        anywhere = () if run.expected.hosts else ("nova-scheduler", "nova-conductor")
        absent = [name for name in anywhere if name not in binaries]
        wanted = [("nova-compute", host) for host in run.expected.compute_hosts if run.expected.judges(host)]
        absent += absent_agents(wanted, [(one.binary, one.host) for one in found])
        if down or absent:
            raise NotYet(down_and_absent(down, absent))
        disabled = [f"{one.binary} on {one.host}" for one in found if one.status != "enabled"]
        return f"{len(found)} up" + (f", disabled: {', '.join(disabled)}" if disabled else "")

    return wait("compute services are up", run.seconds("services"), probe, run.clock)


def network_agents(run: Run) -> str:
    """Prove that every network agent is alive, and those that the plan's hosts need are there.

    Where only some hosts are judged, theirs.
    """

    def probe() -> str:
        found = [one for one in run.cloud.network.agents() if run.expected.judges(one.host)]
        down = [f"{one.binary} on {one.host}" for one in found if not one.is_alive]
        wanted = [(binary, host) for binary, host in run.expected.agents if run.expected.judges(host)]
        absent = absent_agents(wanted, [(one.binary, one.host) for one in found])
        if down or absent:
            raise NotYet(down_and_absent(down, absent))
        return f"{len(found)} alive"

    return wait("network agents are alive", run.seconds("services"), probe, run.clock)


def hypervisors(run: Run) -> str:
    """Prove that each compute host of the plan has a hypervisor, and it is up."""

    def probe() -> str:
        found = {(one.service_details or {}).get("host"): one for one in run.cloud.compute.hypervisors(details=True)}
        absent = [host for host in run.expected.compute_hosts if host not in found]
        down = [str(host) for host, one in found.items() if one.state != "up"]
        if down or absent:
            raise NotYet(down_and_absent(down, absent))
        return ", ".join(f"{host} ({one.hypervisor_type})" for host, one in found.items())

    return wait("hypervisors are there", run.seconds("services"), probe, run.clock)


def leftovers(run: Run) -> str:
    """Prove that nothing is left of an earlier run."""
    removed = remove(run)
    return f"removed {', '.join(removed)}" if removed else "none"


def image(run: Run) -> str:
    """Prove that the guest's image is in Glance; upload it where it is missing."""
    name, path = run.settings.image_name, run.settings.image_path
    found = list(run.cloud.image.images(name=name))
    run.image = next((one for one in found if one.status == "active"), None)
    if run.image is None:
        if not path.is_file():
            raise CheckFailed(f"there is no active image {name}, and no file {path}: make it with tools/guest_image.py")
        for one in found:  # an upload that was killed
            run.cloud.image.delete_image(one.id)
        made = run.cloud.image.create_image(
            name,
            filename=str(path),
            disk_format="qcow2",
            container_format="bare",
            visibility="public",
            allow_duplicates=True,
            wait=True,
            timeout=run.seconds("image"),
        )
        run.lasting.append(f"image {name}")
        run.image = run.cloud.image.get_image(made.id)
        if run.image.status != "active":
            raise CheckFailed(f"the image {name} is {run.image.status} after its upload")
    return f"{name}, {run.image.disk_format}, {int(run.image.size or 0) / 1024**2:.0f} MiB"


def flavor(run: Run) -> str:
    """Prove that a flavor can be made."""
    size = run.settings.flavor
    run.flavor = run.cloud.compute.create_flavor(
        name=PREFIX, vcpus=size["vcpus"], ram=size["ram"], disk=size["disk"], is_public=True
    )
    return f"{size['vcpus']} vCPU, {size['ram']} MiB, {size['disk']} GiB"


def external_network(run: Run) -> str:
    """Prove that the external network is there; make it with the plan's addresses where it is missing."""
    name = run.settings.external_network
    run.external = run.cloud.network.find_network(name, ignore_missing=True)
    if run.external is None:
        # the default one is where routers of auto-allocated topologies ("get me a network") lead; there can be one
        others = list(run.cloud.network.networks(is_router_external=True))
        run.external = run.cloud.network.create_network(
            name=name,
            is_router_external=True,
            is_default=not any(one.is_default for one in others),
            provider_network_type="flat",
            provider_physical_network=run.settings.physical_network,
        )
        run.lasting.append(f"network {name}")
    if not run.external.is_router_external:
        raise CheckFailed(f"the network {name} is there, but is not external")
    cidr = run.expected.cidr
    if cidr is None:
        raise CheckFailed("the plan has no external network; add `external` to brume_networks")
    subnets = list(run.cloud.network.subnets(network_id=run.external.id, ip_version=cidr.version))
    if not subnets:
        pool = run.expected.allocation_pool
        arguments: dict[str, Any] = {
            "name": name,
            "network_id": run.external.id,
            "ip_version": cidr.version,
            "cidr": str(cidr),
            "gateway_ip": str(run.expected.gateway) if run.expected.gateway else None,
            "is_dhcp_enabled": False,
        }
        if pool:
            arguments["allocation_pools"] = [{"start": str(pool[0]), "end": str(pool[1])}]
        subnets = [run.cloud.network.create_subnet(**arguments)]
        run.lasting.append(f"subnet {name}")
    return f"{name}, {', '.join(subnet.cidr for subnet in subnets)}"


def tenant_network(run: Run) -> str:
    """Prove that a network and a subnet can be made."""
    cidr = run.settings.tenant_cidr
    run.network = run.cloud.network.create_network(name=PREFIX)
    run.subnet = run.cloud.network.create_subnet(
        name=PREFIX, network_id=run.network.id, ip_version=cidr.version, cidr=str(cidr)
    )
    return f"{cidr}, {run.network.provider_network_type or 'type not shown'}, MTU {run.network.mtu}"


def router(run: Run) -> str:
    """Prove that a router joins both networks, and answers from the external network."""
    run.router = run.cloud.network.create_router(name=PREFIX, external_gateway_info={"network_id": run.external.id})
    run.cloud.network.add_interface_to_router(run.router.id, run.subnet.id)
    fixed = (run.cloud.network.get_router(run.router.id).external_gateway_info or {}).get("external_fixed_ips") or []
    addresses = [one["ip_address"] for one in fixed if netaddr.IPAddress(one["ip_address"]).version == 4]  # noqa: PLR2004
    if not addresses:
        raise CheckFailed("the router has no IPv4 address on the external network")
    run.router_address = addresses[0]

    def probe() -> str:
        if not run.probes.ping(run.router_address):
            raise NotYet(f"{run.router_address} does not answer ping from this machine")
        return f"{run.router_address} answers ping"

    return wait("the router answers", run.seconds("router"), probe, run.clock)


def security_group(run: Run) -> str:
    """Prove that a security group can be made; without a rule for ingress it lets nothing in."""
    run.group = run.cloud.network.create_security_group(name=PREFIX, description="Made by verify.yml")
    return "no rule for ingress"


def key_pair(run: Run) -> str:
    """Prove that a key pair can be registered."""
    run.key_path, run.public_key = run.probes.make_key(run.directory, PREFIX)
    run.cloud.compute.create_keypair(name=PREFIX, public_key=run.public_key, type="ssh")
    return run.public_key.split()[0]


def user_data(run: Run) -> str:
    """Return a script that prints on the console what the guest got: our marker, its key by metadata, its address.

    No `wget -T`: busybox 1.35 crashes on it.
    """
    url = shlex.quote(f"{METADATA_URL}/latest/meta-data/public-keys/0/openssh-key")
    return "\n".join(
        (
            "#!/bin/sh",
            f"echo '{PREFIX} marker {run.marker}'",
            f'echo "{PREFIX} key $(wget -q -O - {url} || curl -s {url})"',
            f"ip -4 addr | sed 's/^/{PREFIX} address /'",
            "",
        )
    )


def server_active(run: Run) -> str:
    """Prove that an instance becomes ACTIVE."""
    run.server = run.cloud.compute.create_server(
        name=PREFIX,
        image_id=run.image.id,
        flavor_id=run.flavor.id,
        key_name=PREFIX,
        networks=[{"uuid": run.network.id}],
        security_groups=[{"name": run.group.id}],
        user_data=base64.b64encode(user_data(run).encode()).decode(),
    )
    run.server = until_status(run, run.server, "the instance is ACTIVE", "ACTIVE", run.seconds("active"))
    return f"on {run.server.compute_host}"


def address(run: Run) -> str:
    """Prove that the instance has an address of its subnet."""
    entries = [one for addresses in run.server.addresses.values() for one in addresses]
    fixed = [one["addr"] for one in entries if one.get("OS-EXT-IPS:type", "fixed") == "fixed"]
    inside = [one for one in fixed if netaddr.IPAddress(one) in run.settings.tenant_cidr]
    if not inside:
        raise CheckFailed(f"addresses {', '.join(fixed) or 'none'}, none of {run.settings.tenant_cidr}")
    run.address = inside[0]
    return run.address


def _until_console(run: Run, what: str, judge: Callable[[str], str]) -> str:
    """Wait until the console's text satisfies `judge`, which returns the detail or raises NotYet."""
    return wait(what, run.seconds("console"), lambda: judge(_console(run)), run.clock)


def dhcp_lease(run: Run) -> str:
    """Prove that the guest got its address by DHCP: it prints it on its console."""

    def judge(console: str) -> str:
        if run.address not in console_address(console):
            raise NotYet(f"no line with {run.address} among {len(console.splitlines())} lines of console")
        return f"the guest printed {run.address}"

    return _until_console(run, "the guest printed its address", judge)


def metadata(run: Run) -> str:
    """Prove that key pair and user data reached the guest: its console shows both."""

    def judge(console: str) -> str:
        absent = [] if f"{PREFIX} marker {run.marker}" in console else ["user data"]
        absent += [] if key_body(run.public_key) in console else ["the public key"]
        if absent:
            raise NotYet(f"not on the console: {', '.join(absent)}")
        return "key pair and user data on the console"

    return _until_console(run, "the guest has its metadata", judge)


def console_log(run: Run) -> str:
    """Prove that the console's log can be read, and cut to its last lines."""
    lines = len(_console(run).splitlines())
    cut = str(run.cloud.compute.get_server_console_output(run.server, length=2).get("output") or "")
    if not lines or len(cut.splitlines()) >= lines:
        raise CheckFailed(f"{lines} lines, {len(cut.splitlines())} where 2 were asked for")
    return f"{lines} lines"


def floating_ip(run: Run) -> str:
    """Prove that a floating IP becomes ACTIVE on the instance's port."""
    run.floating = give_floating_ip(run, run.server)
    return f"{run.floating.floating_ip_address} for {run.floating.fixed_ip_address}"


def security_group_closed(run: Run) -> str:
    """Prove that without a rule neither ping nor TCP port 22 get through, though router and guest are up."""
    target = run.floating.floating_ip_address
    end = run.clock.now() + CLOSED_SECONDS
    tries = 0
    while True:
        tries += 1
        answers = {"ping": run.probes.ping(target), "TCP 22": run.probes.connects(target, 22)}
        through = [name for name, answered in answers.items() if answered]
        if through:
            raise CheckFailed(f"without a rule {' and '.join(through)} reached {target}")
        if run.clock.now() >= end:
            return f"{tries} tries of ping and TCP 22 unanswered"
        run.clock.sleep(1)


def security_group_open(run: Run) -> str:
    """Prove that after rules for them are added, ping and TCP port 22 get through."""
    target = run.floating.floating_ip_address
    rule = {"security_group_id": run.group.id, "direction": "ingress", "ethertype": "IPv4"}
    run.cloud.network.create_security_group_rule(**rule, protocol="icmp")
    run.cloud.network.create_security_group_rule(**rule, protocol="tcp", port_range_min=22, port_range_max=22)
    started = run.clock.now()

    def pings() -> float:
        if not run.probes.ping(target):
            raise NotYet(f"{target} does not answer ping")
        return run.clock.now() - started

    def connects() -> float:
        if not run.probes.connects(target, 22):
            raise NotYet(f"{target} does not answer on TCP 22")
        return run.clock.now() - started

    ping_seconds = wait("ping gets through", run.seconds("security_group"), pings, run.clock)
    tcp_seconds = wait("TCP 22 gets through", run.seconds("ssh"), connects, run.clock)
    return f"ping after {ping_seconds:.0f} s, TCP 22 after {tcp_seconds:.0f} s"


def ssh(run: Run) -> str:
    """Prove that the key pair's key opens the guest over the floating IP, and the guest is called as the instance."""
    _until_booted_anew(run)
    name = on_server(run, "uname -n").strip()
    if name.split(".")[0] != PREFIX:
        raise CheckFailed(f"the guest is called {name or 'nothing'}, not {PREFIX}")
    return f"{run.settings.ssh_user}@{run.floating.floating_ip_address} is {name}"


def metadata_inside(run: Run) -> str:
    """Prove that the metadata service answers the guest, with this instance's data."""
    url = shlex.quote(f"{METADATA_URL}/openstack/latest/meta_data.json")
    text = on_server(run, f"wget -q -O - {url} || curl -sf {url}")
    try:
        found = json.loads(text)
    except ValueError as error:
        raise CheckFailed(f"{METADATA_URL} answered with no JSON, but `{text[:80]}`") from error
    if found.get("uuid") != run.server.id:
        raise CheckFailed(f"the metadata is that of {found.get('uuid')}, not of {run.server.id}")
    return f"uuid {found['uuid']}"


def _console_url(run: Run) -> str:
    return str(run.cloud.compute.create_console(run.server, console_type="novnc", console_protocol="vnc")["url"])


def vnc_page(run: Run) -> str:
    """Prove that a token for noVNC is given, and the page of its URL is there."""
    url = _console_url(run)
    answer = run.cloud.session.get(url, authenticated=False, raise_exc=False)
    page = url.split("?", maxsplit=1)[0]
    if answer.status_code != 200 or "<html" not in answer.text.lower():  # noqa: PLR2004
        raise CheckFailed(f"{page} answers {answer.status_code}, {len(answer.text)} characters")
    return page


def vnc_socket(run: Run) -> str:
    """Prove that the token opens a WebSocket behind which the VNC server greets; a wrong token does not."""
    url, verify = _console_url(run), run.cloud.session.verify
    greeting = run.probes.vnc_greeting(url, verify)
    _scheme, _host, _port, target = probes.websocket_target(url)
    given = target.rpartition("token=")[2]
    if "token=" not in target or not given:
        raise CheckFailed("the console's URL has no token")
    try:
        run.probes.vnc_greeting(url.replace(given, "00000000-0000-4000-8000-000000000000"), verify)
    except probes.ProbeError:
        return f"101, {greeting}; a wrong token is refused"
    raise CheckFailed("a wrong token is accepted")


def stop(run: Run) -> str:
    """Prove that the instance stops."""
    run.cloud.compute.stop_server(run.server)
    return str(until_status(run, run.server, "the instance is SHUTOFF", "SHUTOFF", run.seconds("stop")).status)


def start(run: Run) -> str:
    """Prove that the instance starts, and is back over SSH from a new boot."""
    run.cloud.compute.start_server(run.server)
    until_status(run, run.server, "the instance is ACTIVE", "ACTIVE", run.seconds("active"))
    return f"boot {_until_booted_anew(run)}"


def _reboot(run: Run, kind: str) -> str:
    run.cloud.compute.reboot_server(run.server, kind)
    until_status(run, run.server, "the instance is ACTIVE", "ACTIVE", run.seconds("reboot"))
    return f"boot {_until_booted_anew(run)}"


def reboot_soft(run: Run) -> str:
    """Prove that a soft reboot brings a new boot."""
    return _reboot(run, "SOFT")


def reboot_hard(run: Run) -> str:
    """Prove that a hard reboot brings a new boot."""
    return _reboot(run, "HARD")


def snapshot(run: Run) -> str:
    """Prove that a snapshot of the instance becomes an active image."""
    name = f"{PREFIX}-snapshot"
    before = run.cloud.compute.get_server(run.server.id).status
    made = run.cloud.compute.create_server_image(run.server, name)

    def probe() -> str:
        found = run.cloud.image.get_image(made.id)
        if found.status in ("killed", "deleted", "error"):
            raise CheckFailed(f"the image {name} is {found.status}")
        if found.status != "active" or not found.size:
            raise NotYet(f"the image {name} is {found.status}")
        return f"{found.disk_format}, {int(found.size) / 1024**2:.0f} MiB"

    detail = wait("the snapshot is active", run.seconds("snapshot"), probe, run.clock)
    until_status(run, run.server, f"the instance is {before} again", before, run.seconds("active"))
    return detail


OBJECT = f"{PREFIX}/object"
"""Container and object."""

OBJECT_SIZE = 8 * 1024 * 1024
"""Bytes of the object, several of the chunks in which it travels."""


def object_write(run: Run) -> str:
    """Prove that a container can be made and an object stored."""
    store = run.cloud.object_store
    run.content = secrets.token_bytes(OBJECT_SIZE)
    for path, data in ((PREFIX, b""), (OBJECT, run.content)):
        answer = store.put(f"/{path}", data=data)
        if answer.status_code not in (201, 202):
            raise CheckFailed(f"PUT of {path} answers {answer.status_code}: {answer.text[:200]}")
    etag = answer.headers.get("Etag", "").strip('"')
    if etag != hashlib.md5(run.content, usedforsecurity=False).hexdigest():
        raise CheckFailed(f"the object's ETag is {etag}, which is not what was sent")
    return f"{OBJECT_SIZE // 1024**2} MiB"


def object_read(run: Run) -> str:
    """Prove that the object comes back as it was, as a whole and in part, and that it is listed."""
    store = run.cloud.object_store
    if store.get(f"/{OBJECT}").content != run.content:
        raise CheckFailed("what was read is not what was written")
    part = store.get(f"/{OBJECT}", headers={"Range": "bytes=4194300-4194310"})
    if (part.status_code, part.content) != (206, run.content[4194300:4194311]):
        raise CheckFailed(f"a range of it answers {part.status_code} with {len(part.content)} bytes")

    def probe() -> str:
        names = [one["name"] for one in store.get(f"/{PREFIX}?format=json").json()]
        if names != ["object"]:
            raise NotYet(f"the container lists {', '.join(names) or 'nothing'}")
        return "whole, in part, and listed"

    return wait("the object is listed", run.seconds("delete"), probe, run.clock)


def object_temporary_url(run: Run) -> str:
    """Prove that a temporary URL gives the object to who has no token, and one with a wrong signature does not."""
    store, key = run.cloud.object_store, secrets.token_hex(16)
    store.post(f"/{PREFIX}", headers={"X-Container-Meta-Temp-URL-Key": key})
    url = f"{store.get_endpoint().rstrip('/')}/{OBJECT}"
    expires = int(time.time()) + 300
    text = f"GET\n{expires}\n{urllib.parse.urlsplit(url).path}"
    signature = hmac.new(key.encode(), text.encode(), hashlib.sha256).hexdigest()
    answers = [
        run.cloud.session.get(
            f"{url}?temp_url_sig={one}&temp_url_expires={expires}", authenticated=False, raise_exc=False
        )
        for one in (signature, signature[::-1])
    ]
    if answers[0].content != run.content or answers[1].status_code != 401:  # noqa: PLR2004
        raise CheckFailed(f"a right signature answers {answers[0].status_code}, a wrong one {answers[1].status_code}")
    return "right signature 200, wrong one 401"


def clean_up(run: Run) -> str:
    """Prove that everything that was made is gone."""
    if run.settings.keep:
        return "left as it is, as asked for; the next run removes it"
    removed = remove(run)
    return f"removed {', '.join(removed)}" if removed else "nothing to remove"


def remove(run: Run) -> list[str]:
    """Remove what has our prefix, users before what they use; return what. Raises CheckFailed after a timeout."""
    from openstack import exceptions  # noqa: PLC0415  # only where a cloud is talked to

    removed: list[str] = []

    def gone(what: str, delete: Callable[[], object]) -> None:
        """Delete, again while Neutron or Nova still holds it (409): ports of a deleted instance go a little later."""

        def probe() -> None:
            try:
                delete()
            except exceptions.NotFoundException:
                return
            except exceptions.ConflictException as error:
                raise NotYet(str(error)) from error

        wait(f"{what} is removed", run.seconds("delete"), probe, run.clock)
        removed.append(what)

    for kind, part in (
        ("compute", _remove_servers),
        ("network", _remove_networks),
        ("compute", _remove_compute),
        (CATALOG_TYPE, volume_checks.remove),
        ("image", _remove_images),
        ("object-store", _remove_objects),
    ):
        if kind in run.expected.endpoints:
            part(run, gone)
    return removed


def _remove_servers(run: Run, gone: Gone) -> None:
    compute = run.cloud.compute
    for server in ours(compute.servers(name=f"^{PREFIX}")):
        gone(f"instance {server.name}", lambda server=server: compute.delete_server(server.id))  # type: ignore[misc]

    def no_server() -> None:
        left = ours(compute.servers(name=f"^{PREFIX}"))
        if left:
            raise NotYet(", ".join(f"{one.name} is {one.status}, task {one.task_state}" for one in left))

    wait("instances are deleted", run.seconds("delete"), no_server, run.clock)


def _remove_networks(run: Run, gone: Gone) -> None:
    network, project = run.cloud.network, run.cloud.current_project_id
    for floating in network.ips(project_id=project):
        if (floating.description or "").startswith(PREFIX):
            gone(f"floating IP {floating.floating_ip_address}", lambda one=floating: network.delete_ip(one.id))  # type: ignore[misc]
    for one in ours(network.routers(project_id=project)):
        for port in list(network.ports(device_id=one.id)):
            if "interface" in port.device_owner and "ha_interface" not in port.device_owner:
                gone(
                    f"interface {port.id} of router {one.name}",
                    lambda one=one, port=port: network.remove_interface_from_router(one.id, None, port.id),  # type: ignore[misc]
                )
        gone(f"router {one.name}", lambda one=one: network.delete_router(one.id))  # type: ignore[misc]
    for one in ours(network.networks(project_id=project)):
        gone(f"network {one.name}", lambda one=one: network.delete_network(one.id))  # type: ignore[misc]
    for one in ours(network.security_groups(project_id=project)):
        gone(f"security group {one.name}", lambda one=one: network.delete_security_group(one.id))  # type: ignore[misc]


def _remove_compute(run: Run, gone: Gone) -> None:
    compute = run.cloud.compute
    for one in ours(compute.keypairs()):
        gone(f"key pair {one.name}", lambda one=one: compute.delete_keypair(one.name))  # type: ignore[misc]
    for one in ours(compute.flavors()):
        gone(f"flavor {one.name}", lambda one=one: compute.delete_flavor(one.id))  # type: ignore[misc]


def _remove_images(run: Run, gone: Gone) -> None:
    for one in ours(run.cloud.image.images()):
        gone(f"image {one.name}", lambda one=one: run.cloud.image.delete_image(one.id))  # type: ignore[misc]


def _remove_objects(run: Run, gone: Gone) -> None:
    """Remove the container with what is in it. A listing follows its objects a little later (409)."""
    store = run.cloud.object_store
    found = store.get(f"/{PREFIX}?format=json")
    if found.status_code == 404:  # noqa: PLR2004
        return
    for one in found.json() if found.content else ():
        gone(f"object {one['name']}", lambda one=one: store.delete(f"/{PREFIX}/{one['name']}"))  # type: ignore[misc]
    gone(f"container {PREFIX}", lambda: _deleted(store, f"/{PREFIX}"))


def _deleted(store: Any, path: str) -> None:
    answer = store.delete(path)
    if answer.status_code == 409:  # noqa: PLR2004
        raise NotYet(f"DELETE of {path} answers 409")


CHECKS: tuple[Check[Run], ...] = (
    Check("token", token, reads_only=True),
    Check("compute-services", compute_services, ("token",), reads_only=True, about="compute"),
    Check("network-agents", network_agents, ("token",), reads_only=True, about="network"),
    Check("hypervisors", hypervisors, ("token",), reads_only=True, about="compute"),
    volume_checks.HEALTH,
    Check("leftovers", leftovers, ("token",)),
    Check("image", image, ("token",), about="image"),
    Check("flavor", flavor, ("leftovers",), about="compute"),
    Check("external-network", external_network, ("leftovers",), about="network"),
    Check("tenant-network", tenant_network, ("leftovers",), about="network"),
    Check("router", router, ("external-network", "tenant-network", "network-agents")),
    Check("security-group", security_group, ("leftovers",), about="network"),
    Check("key-pair", key_pair, ("leftovers",), about="compute"),
    *volume_checks.BEFORE_INSTANCES,
    Check(
        "server-active",
        server_active,
        ("compute-services", "hypervisors", "image", "flavor", "tenant-network", "security-group", "key-pair"),
    ),
    Check("address", address, ("server-active",)),
    Check("dhcp-lease", dhcp_lease, ("address",)),
    Check("metadata", metadata, ("server-active",)),
    Check("console-log", console_log, ("dhcp-lease",)),
    Check("floating-ip", floating_ip, ("router", "address")),
    Check("security-group-closed", security_group_closed, ("floating-ip", "dhcp-lease")),
    Check("security-group-open", security_group_open, ("security-group-closed",)),
    Check("ssh", ssh, ("security-group-open", "metadata")),
    Check("metadata-inside", metadata_inside, ("ssh",)),
    *volume_checks.WITH_INSTANCES,
    Check("vnc-page", vnc_page, ("server-active",)),
    Check("vnc-socket", vnc_socket, ("vnc-page",)),
    Check("stop", stop, ("ssh",)),
    Check("start", start, ("stop",)),
    Check("reboot-soft", reboot_soft, ("start",)),
    Check("reboot-hard", reboot_hard, ("start",)),
    Check("snapshot", snapshot, ("server-active",)),
    Check("object-write", object_write, ("leftovers",), about="object-store"),
    Check("object-read", object_read, ("object-write",)),
    Check("object-temporary-url", object_temporary_url, ("object-write",)),
    Check("clean-up", clean_up, ("leftovers",), last=True),
)
