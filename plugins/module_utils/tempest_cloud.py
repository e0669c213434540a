"""What Tempest needs from a live cloud: its features as its APIs tell them, and objects that are made for its tests.

Talks through an openstack.connection.Connection (or a fake) only.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

from ansible_collections.brume.cloud.plugins.module_utils.tempest import (
    PREFIX,
    Access,
    Cloud,
    Left,
    Pool,
    TempestError,
)
from ansible_collections.brume.cloud.plugins.module_utils.volume_types import CATALOG_TYPE, TRUE_SPEC

ALT = f"{PREFIX}-alt"
"""Name of the second image and the second flavor, which tests of rebuild and resize change to."""

ALT_MEMORY = 64
"""MiB that the second flavor has more than the first: tests of resize want a larger one."""

POOL = "10.213.0.0/16"
"""Addresses of the default subnet pool that is made where there is none; tests take networks from it."""

AUTO_ALLOCATION = "auto-allocated-topology"
"""Neutron has this extension always, but it works only with a default external network and a default subnet pool."""

DELETE_SECONDS = 120
"""How long the deletion of an instance, a volume, or what was made of one may take."""


@dataclass(frozen=True)
class Kind:
    """A kind of objects that tests make: how an administrator lists all of them, and removes one by its identifier.

    `service` is the type in the catalog of the service that has them.
    """

    service: str
    listed: Callable[[Any], Iterable[Any]]
    removed: Callable[[Any, str], object]


def _remove_server(cloud: Any, identifier: str) -> None:
    server = cloud.compute.get_server(identifier)
    cloud.compute.delete_server(server)
    cloud.compute.wait_for_delete(server, wait=DELETE_SECONDS)


def _remove_storage(cloud: Any, kind: str, identifier: str, **options: bool) -> None:
    """Remove a volume, or what was made of one, and wait until it is gone: others need that."""
    storage = cloud.block_storage
    found = getattr(storage, f"get_{kind}")(identifier)
    getattr(storage, f"delete_{kind}")(identifier, **options)
    storage.wait_for_delete(found, wait=DELETE_SECONDS)


def _remove_router(cloud: Any, identifier: str) -> None:
    for port in list(cloud.network.ports(device_id=identifier)):
        if "interface" in port.device_owner:
            cloud.network.remove_interface_from_router(identifier, None, port.id)
    cloud.network.delete_router(identifier)


def _remove_domain(cloud: Any, identifier: str) -> None:
    cloud.identity.update_domain(identifier, is_enabled=False)  # an enabled one cannot be deleted
    cloud.identity.delete_domain(identifier)


KINDS: Mapping[str, Kind] = {
    "server": Kind("compute", lambda cloud: cloud.compute.servers(all_projects=True), _remove_server),
    "backup": Kind(
        CATALOG_TYPE,
        lambda cloud: cloud.block_storage.backups(all_projects=True),
        lambda cloud, one: _remove_storage(cloud, "backup", one),
    ),
    "volume snapshot": Kind(
        CATALOG_TYPE,
        lambda cloud: cloud.block_storage.snapshots(all_projects=True),
        lambda cloud, one: _remove_storage(cloud, "snapshot", one),
    ),
    "volume": Kind(
        CATALOG_TYPE,
        lambda cloud: cloud.block_storage.volumes(all_projects=True),
        lambda cloud, one: _remove_storage(cloud, "volume", one, force=True),
    ),
    "volume type": Kind(
        CATALOG_TYPE,
        lambda cloud: cloud.block_storage.types(is_public="None"),
        lambda cloud, one: cloud.block_storage.delete_type(one),
    ),
    "QoS specs": Kind(
        CATALOG_TYPE,
        lambda cloud: cloud.block_storage.qos_specs(),
        lambda cloud, one: cloud.block_storage.delete_qos_spec(one, force=True),
    ),
    "image": Kind("image", lambda cloud: cloud.image.images(), lambda cloud, one: cloud.image.delete_image(one)),
    "flavor": Kind(
        "compute",
        lambda cloud: cloud.compute.flavors(is_public=None),
        lambda cloud, one: cloud.compute.delete_flavor(one),
    ),
    "aggregate": Kind(
        "compute",
        lambda cloud: cloud.compute.aggregates(),
        lambda cloud, one: cloud.compute.delete_aggregate(one),
    ),
    "router": Kind("network", lambda cloud: cloud.network.routers(), _remove_router),
    "network": Kind(
        "network",
        lambda cloud: cloud.network.networks(),
        lambda cloud, one: cloud.network.delete_network(one),
    ),
    "security group": Kind(
        "network",
        lambda cloud: cloud.network.security_groups(),
        lambda cloud, one: cloud.network.delete_security_group(one),
    ),
    "subnet pool": Kind(
        "network",
        lambda cloud: cloud.network.subnet_pools(),
        lambda cloud, one: cloud.network.delete_subnet_pool(one),
    ),
    "user": Kind("identity", lambda cloud: cloud.identity.users(), lambda cloud, one: cloud.identity.delete_user(one)),
    "group": Kind(
        "identity",
        lambda cloud: cloud.identity.groups(),
        lambda cloud, one: cloud.identity.delete_group(one),
    ),
    "project": Kind(
        "identity",
        lambda cloud: cloud.identity.projects(),
        lambda cloud, one: cloud.identity.delete_project(one),
    ),
    "role": Kind("identity", lambda cloud: cloud.identity.roles(), lambda cloud, one: cloud.identity.delete_role(one)),
    "service": Kind(
        "identity",
        lambda cloud: cloud.identity.services(),
        lambda cloud, one: cloud.identity.delete_service(one),
    ),
    "domain": Kind("identity", lambda cloud: cloud.identity.domains(), _remove_domain),
}
"""Each kind comes before those that it needs."""


def access(connection: Any) -> Access:
    """Return how the cloud is reached, from the connection's own configuration (clouds.yaml)."""
    auth = connection.config.get_auth_args()
    verify, _certificate = connection.config.get_requests_verify_args()
    return Access(
        auth_url=str(auth["auth_url"]),
        username=str(auth["username"]),
        password=str(auth["password"]),
        project=str(auth["project_name"]),
        user_domain=str(auth.get("user_domain_name", "Default")),
        project_domain=str(auth.get("project_domain_name", "Default")),
        region=str(connection.config.get_region_name()),
        interface=str(connection.config.get_interface("identity") or "public"),
        authority=verify if isinstance(verify, str) else "",
    )


def service_types(connection: Any) -> tuple[str, ...]:
    """Return the types of the services that the catalog has in the cloud's region. Raises TempestError without one."""
    from keystoneauth1.exceptions import ClientException  # noqa: PLC0415  # only where a cloud is talked to

    session, region = connection.session, connection.config.get_region_name()
    try:
        catalog = session.auth.get_access(session).service_catalog.catalog
    except ClientException as error:
        raise TempestError(f"the cloud does not answer ({error}); see why with playbooks/verify.yml") from error
    return tuple(
        sorted(str(one["type"]) for one in catalog if region in [place["region_id"] for place in one["endpoints"]])
    )


def network_features(connection: Any, types: Collection[str]) -> tuple[set[str], set[str]]:
    """Return Neutron's extensions and the binaries of its agents, nothing for a cloud without it."""
    if "network" not in types:
        return set(), set()
    extensions = {str(one.alias) for one in connection.network.extensions()}
    return extensions, {str(one.binary) for one in connection.network.agents()} if "agent" in extensions else set()


def census(connection: Any, types: Collection[str]) -> dict[str, dict[str, str]]:
    """Return kind -> identifier -> name of everything that tests could leave behind in services of these types."""
    return {
        name: {str(one.id): str(one.name or "") for one in kind.listed(connection)}
        for name, kind in KINDS.items()
        if kind.service in types
    }


def discard(connection: Any, left: Iterable[Left]) -> list[str]:
    """Remove what tests left behind; return a line for each that stays, with the reason."""
    stay = []
    for one in sorted(left, key=lambda one: list(KINDS).index(one.kind)):
        try:
            KINDS[one.kind].removed(connection, one.identifier)
        except Exception as error:  # whatever holds one of them, the others can still go
            stay.append(f"{one}: {type(error).__name__}: {error}")
    return stay


def prepare(
    connection: Any, types: Collection[str], image_path: Path, size: Mapping[str, int], timeout: float
) -> dict[str, str]:
    """Return the second image and the two flavors, after making what an earlier run did not leave.

    They are identifiers by field of `Cloud`, and only of services of these types. A default subnet pool is made too
    where there is none.

    `size`: vcpus, ram in MiB, disk in GiB of the first flavor. `timeout` of the upload in seconds. Raises TempestError
    without the image's file.
    """
    made: dict[str, str] = {}
    if "image" in types:
        image = next((one for one in connection.image.images(name=ALT) if one.status == "active"), None)
        if image is None:
            if not image_path.is_file():
                raise TempestError(f"image_path: there is no file {image_path}: make it with tools/guest_image.py")
            image = connection.image.create_image(
                ALT, filename=str(image_path), disk_format="qcow2", container_format="bare", visibility="public",
                allow_duplicates=True, wait=True, timeout=timeout,
            )  # fmt: skip
        made["image_alt"] = str(image.id)
    if "network" in types and not any(one.is_default for one in connection.network.subnet_pools(ip_version=4)):
        connection.network.create_subnet_pool(
            name=PREFIX, prefixes=[POOL], default_prefix_length=26, is_default=True, is_shared=True
        )
    if "compute" in types:
        known = {one.name: one for one in connection.compute.flavors()}
        for field, name, more in (("flavor", PREFIX, 0), ("flavor_alt", ALT, ALT_MEMORY)):
            flavor = known.get(name) or connection.compute.create_flavor(
                name=name, vcpus=size["vcpus"], ram=size["ram"] + more, disk=size["disk"], is_public=True
            )
            made[field] = str(flavor.id)
    return made


def remove(connection: Any, types: Collection[str]) -> list[str]:
    """Remove what `prepare` made, be it of this run or of one that was killed; return what."""
    removed = []
    for one in connection.compute.flavors() if "compute" in types else ():
        if one.name in (PREFIX, ALT):
            connection.compute.delete_flavor(one.id)
            removed.append(f"flavor {one.name}")
    for one in list(connection.image.images(name=ALT)) if "image" in types else ():
        connection.image.delete_image(one.id)
        removed.append(f"image {one.name}")
    for one in list(connection.network.subnet_pools(name=PREFIX)) if "network" in types else ():
        connection.network.delete_subnet_pool(one.id)
        removed.append(f"subnet pool {one.name}")
    return removed


def discover(connection: Any, types: Collection[str], objects: Mapping[str, str]) -> Cloud:
    """Return the cloud's features as its APIs tell them (an administrator's token is needed for the hypervisors).

    `types` are the services that it has, `objects` identifiers and names by field. Raises TempestError when Nova is
    there and no hypervisor: no test of instances could pass.
    """
    told: dict[str, Any] = dict(objects)
    if "compute" in types:
        hypervisors = tuple(str(one.hypervisor_type) for one in connection.compute.hypervisors(details=True))
        if not hypervisors:
            raise TempestError("the cloud has no hypervisor; see why with playbooks/verify.yml")
        told |= {"hypervisor_types": hypervisors, "compute_microversions": _microversions(connection.compute)}
    if "placement" in types:
        told["placement_microversions"] = _microversions(connection.placement)
    if "network" in types:
        told["network_extensions"] = tuple(sorted(_extensions(connection)))
    if "image" in types:
        schema = connection.image.get("/schemas/image").json()["properties"]
        stores = connection.image.get("/info/stores").json()["stores"]
        told |= {
            "disk_formats": tuple(one for one in schema["disk_format"]["enum"] if one),
            "container_formats": tuple(one for one in schema["container_format"]["enum"] if one),
            "image_stores": tuple(str(one["id"]) for one in stores),
        }
    if "object-store" in types:
        url = urljoin(connection.object_store.get_endpoint(), "/info")  # beside the accounts, not in one
        told["object_capabilities"] = tuple(sorted(connection.object_store.get(url).json()))
    if CATALOG_TYPE in types:
        told |= _volume_features(connection.block_storage)
    return Cloud(service_types=tuple(types), **told)


def _volume_features(storage: Any) -> dict[str, Any]:
    """Return what Cinder tells, by field of `Cloud`. Raises TempestError without a back end that reports."""
    capabilities = [one.capabilities for one in storage.backend_pools()]
    if not capabilities:
        raise TempestError("no back end of Cinder has reported to its scheduler; see why with playbooks/verify.yml")
    keys = ("volume_backend_name", "storage_protocol", "vendor_name")
    types = storage.types(is_public="None")
    shared = (one.name for one in types if (one.extra_specs or {}).get("multiattach") == TRUE_SPEC)
    return {
        "volume_microversions": _microversions(storage),
        "volume_pools": tuple(Pool(*(str(one.get(key) or "") for key in keys)) for one in capabilities),
        "volume_backup": any(one.binary == "cinder-backup" for one in storage.services()),
        "volume_type_multiattach": str(next(shared, "")),
    }


def _extensions(connection: Any) -> list[str]:
    """Return Neutron's extensions, without the auto-allocated topology where Neutron says that it lacks something."""
    from openstack import exceptions  # noqa: PLC0415  # only where a cloud is talked to

    names = [str(one.alias) for one in connection.network.extensions()]
    if AUTO_ALLOCATION in names:
        try:
            connection.network.validate_auto_allocated_topology(connection.current_project_id)
        except exceptions.HttpException:
            names.remove(AUTO_ALLOCATION)
    return names


def _microversions(proxy: Any) -> tuple[str, str]:
    """Return the lowest and the highest microversion that a service's endpoint offers, as `major.minor`."""
    data = proxy.get_endpoint_data()
    lowest, highest = ((*version, 0)[:2] for version in (data.min_microversion, data.max_microversion))
    return f"{lowest[0]}.{lowest[1]}", f"{highest[0]}.{highest[1]}"
