"""Tempest, OpenStack's own integration tests: its configuration from a live cloud, its sets, and judging its results.

Pure: what was read from the cloud comes in, text and verdicts go out. The action `tempest` reads, runs and shows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal
from xml.etree import ElementTree

from ansible_collections.brume.cloud.plugins.module_utils import rendering
from ansible_collections.brume.cloud.plugins.module_utils.volume_types import CATALOG_TYPE

Outcome = Literal["passed", "failed", "skipped"]
Tree = dict[str, dict[str, Any]]

PREFIX = "brume-tempest"
"""What a run makes for its tests has a name with this prefix."""

RESOURCE_PREFIX = "tempest"
"""What tests make has a name with this prefix, Tempest's own default (its option DEFAULT/resource_name_prefix)."""

SERVICES = {
    "glance": ("image",),
    "nova": ("compute",),
    "neutron": ("network",),
    "cinder": (CATALOG_TYPE, "volumev3"),
    "swift": ("object-store",),
}
"""Services that Tempest asks about (its section service_available), with their types in the catalog."""

SCOPED = {"glance": "image", "placement": "placement", "nova": "compute", "neutron": "network"}
"""Services whose policies enforce scope (its section enforce_scope) beside Keystone, with their type in the catalog."""

LINK = re.compile(r"https://(?:bugs\.launchpad\.net|review\.opendev\.org|opendev\.org|docs\.openstack\.org)/\S+")
"""Where a known failure may point to: upstream's own words on it."""

HEADER = "# Written by Brume at each run of playbooks/tempest.yml; options of your own go to tempest_config."
DETAIL = 200
"""Characters of a failure's last line that are shown."""


class TempestError(ValueError):
    """A set or the file of known failures makes no sense, or results cannot be read; the text has the remedy."""


@dataclass(frozen=True)
class Access:
    """How the cloud is reached as an administrator. `authority` is a file, empty for the system's own trust store."""

    auth_url: str
    username: str
    password: str
    project: str
    user_domain: str
    project_domain: str
    region: str
    interface: str
    authority: str

    def __repr__(self) -> str:
        """Return it without the password."""
        return f"Access({self.auth_url}, {self.username})"


@dataclass(frozen=True)
class Pool:
    """A pool of Cinder's by what types can ask for; `backend` is its `volume_backend_name`."""

    backend: str
    storage_protocol: str
    vendor: str


@dataclass(frozen=True)
class Cloud:
    """What was read from the live cloud, empty for services that its catalog has not.

    Microversions are the lowest and the highest; identifiers are UUIDs; capabilities are the names of Swift's /info.
    """

    service_types: tuple[str, ...]
    compute_microversions: tuple[str, str] = ("", "")
    placement_microversions: tuple[str, str] = ("", "")
    hypervisor_types: tuple[str, ...] = ()
    network_extensions: tuple[str, ...] = ()
    disk_formats: tuple[str, ...] = ()
    container_formats: tuple[str, ...] = ()
    image_stores: tuple[str, ...] = ()
    object_capabilities: tuple[str, ...] = ()
    volume_microversions: tuple[str, str] = ("", "")
    volume_pools: tuple[Pool, ...] = ()
    volume_backup: bool = False
    volume_type_multiattach: str = ""
    image: str = ""
    image_alt: str = ""
    flavor: str = ""
    flavor_alt: str = ""
    external_network: str = ""
    external_network_name: str = ""


@dataclass(frozen=True)
class Choices:
    """What the caller chooses: timeouts in seconds, the guest's user and image file, and options by section.

    `image_url` is where Glance can download the image (HTTP, port 80 or 443, which are all it downloads from); empty
    leaves it to Tempest's own default, which is on the Internet. `backup_driver` is Cinder's as the inventory says it.
    """

    directory: str
    ssh_user: str
    image_path: str
    image_url: str
    build_timeout: int
    ssh_timeout: int
    config: Mapping[str, Mapping[str, Any]]
    backup_driver: str = ""


def configuration(access: Access, cloud: Cloud, choices: Choices) -> Tree:
    """Return tempest.conf as section -> option -> value (docs.openstack.org/tempest: configuration guide).

    What an API tells is taken from it. What none tells is what Brume deploys: policies that enforce scope and the new
    defaults (the services' own), no encrypted volumes, moving instances only where there is a second hypervisor,
    Swift's roles, and what Cinder's drivers can do. A service that is not in the catalog has no section.
    """
    present = set(cloud.service_types)
    tree: Tree = {
        "DEFAULT": {"log_dir": choices.directory, "log_file": "tempest.log", "debug": True},
        "oslo_concurrency": {"lock_path": f"{choices.directory}/lock"},
        "auth": {
            "use_dynamic_credentials": True,
            "admin_username": access.username,
            "admin_password": access.password.replace("$", "$$"),  # oslo.config substitutes $name
            "admin_project_name": access.project,
            "admin_domain_name": access.user_domain,
            "admin_project_domain_name": access.project_domain,
            "default_credentials_domain_name": access.user_domain,
        },
        "identity": {
            "uri_v3": access.auth_url,
            "auth_version": "v3",
            "region": access.region,
            "v3_endpoint_type": access.interface,
            "ca_certificates_file": access.authority,
        },
        "identity-feature-enabled": {"access_rules": True},
        "service_available": {
            **{name: not present.isdisjoint(types) for name, types in SERVICES.items()},
            "horizon": False,
        },
        "enforce_scope": {"keystone": True, **{name: kind in present for name, kind in SCOPED.items()}},
    }
    for kind, sections in _SECTIONS.items():
        if kind in present:
            tree |= sections(cloud, choices)
    for section, options in choices.config.items():
        tree.setdefault(section, {}).update(options)
    return tree


def _compute(cloud: Cloud, choices: Choices) -> Tree:
    several = len(cloud.hypervisor_types) > 1
    return {
        "compute": {
            "image_ref": cloud.image,
            "image_ref_alt": cloud.image_alt,
            "flavor_ref": cloud.flavor,
            "flavor_ref_alt": cloud.flavor_alt,
            "min_microversion": cloud.compute_microversions[0],
            "max_microversion": cloud.compute_microversions[1],
            "min_compute_nodes": len(cloud.hypervisor_types),
            "hypervisor_type": cloud.hypervisor_types[0],
            "build_timeout": choices.build_timeout,
            "build_interval": 2,
        },
        "compute-feature-enabled": {
            "resize": True,
            "cold_migration": several,
            "live_migration": several,
            "block_migration_for_live_migration": several,
            "volume_backed_live_migration": several and CATALOG_TYPE in cloud.service_types,
            "volume_multiattach": bool(cloud.volume_type_multiattach),
            "vnc_console": True,
            "stable_rescue": True,
            "hostname_fqdn_sanitization": True,
            # Nova takes the libvirt machine type's default, which for x86-64 has an IDE bus only with `pc`.
            "attach_encrypted_volume": False,
            "change_password": False,
        },
        "validation": {
            "run_validation": True,
            "connect_method": "floating",
            "image_ssh_user": choices.ssh_user,
            "image_alt_ssh_user": choices.ssh_user,
            "ssh_timeout": choices.ssh_timeout,
            "ping_timeout": choices.ssh_timeout,
        },
        "scenario": {"img_file": choices.image_path, "dhcp_client": "udhcpc"},
    }


def _image(cloud: Cloud, choices: Choices) -> Tree:
    served = dict.fromkeys(("http_image", "http_qcow2_image"), choices.image_url) if choices.image_url else {}
    return {
        "image": {
            "disk_formats": list(cloud.disk_formats),
            "container_formats": list(cloud.container_formats),
            "build_timeout": choices.build_timeout,
            **served,
        },
        "image-feature-enabled": {"http_store_enabled": "http" in cloud.image_stores},
    }


def _network(cloud: Cloud, choices: Choices) -> Tree:
    return {
        "network": {
            "public_network_id": cloud.external_network,
            "floating_network_name": cloud.external_network_name,
            "build_timeout": choices.build_timeout,
        },
        "network-feature-enabled": {
            "api_extensions": sorted(cloud.network_extensions),
            "ipv6_subnet_attributes": True,
            "port_security": "port-security" in cloud.network_extensions,
            "floating_ips": "router" in cloud.network_extensions,
        },
    }


def _placement(cloud: Cloud, _choices: Choices) -> Tree:
    lowest, highest = cloud.placement_microversions
    return {"placement": {"min_microversion": lowest, "max_microversion": highest}}


def _object_storage(cloud: Cloud, choices: Choices) -> Tree:
    return {
        "object-storage": {
            "operator_role": "member",
            "reseller_admin_role": "ResellerAdmin",
            "build_timeout": choices.build_timeout,
        },
        "object-storage-feature-enabled": {
            "discoverable_apis": sorted(cloud.object_capabilities),
            "object_versioning": "versioned_writes" in cloud.object_capabilities,
            "container_sync": False,  # needs Swift's daemon container-sync
        },
    }


CEPH, LVM, NFS = "ceph", "iSCSI", "NFS"
"""Protocols as pools name them (cinder.common.constants); of the drivers that Brume deploys, LVM alone has iSCSI."""


def _volume(cloud: Cloud, choices: Choices) -> Tree:
    """Return the sections of Cinder.

    Tests of types ask for one pool by protocol and vendor: Ceph's where there is one, because that also leaves out what
    does not go with Ceph. Volumes and snapshots are taken over by their names in a driver, which is configured once:
    only where all back ends are of the one kind.
    """
    first = min(cloud.volume_pools, key=lambda one: one.storage_protocol != CEPH)
    protocols = {one.storage_protocol for one in cloud.volume_pools}
    backends = list(dict.fromkeys(one.backend for one in cloud.volume_pools))
    taken_over = len(protocols) == 1 and protocols <= {CEPH, LVM}
    return {
        "volume": {
            "catalog_type": CATALOG_TYPE,
            "min_microversion": cloud.volume_microversions[0],
            "max_microversion": cloud.volume_microversions[1],
            "build_timeout": choices.build_timeout,
            "build_interval": 2,
            "storage_protocol": first.storage_protocol,
            "vendor_name": first.vendor,
            "backend_names": backends,
            "volume_type_multiattach": cloud.volume_type_multiattach,
            # LVM cannot call a volume snapshot..., its own word for what it makes (cinder.volume.drivers.lvm)
            "manage_snapshot_ref": ["source-name", "snapshot-%s" if CEPH in protocols else "_snapshot-%s"],
            **({"backup_driver": choices.backup_driver} if choices.backup_driver else {}),
        },
        "volume-feature-enabled": {
            "multi_backend": len(backends) > 1,
            "backup": cloud.volume_backup,
            "snapshot": True,
            "clone": True,
            "manage_volume": taken_over,
            "manage_snapshot": taken_over,
            "extend_attached_volume": NFS not in protocols,
            "extend_volume_with_snapshot": NFS not in protocols,
        },
    }


_SECTIONS: Mapping[str, Callable[[Cloud, Choices], Tree]] = {
    "compute": _compute,
    "image": _image,
    "network": _network,
    "placement": _placement,
    "object-store": _object_storage,
    CATALOG_TYPE: _volume,
}
"""Type in the catalog -> the sections that tell Tempest of such a service."""


def text(tree: Tree) -> str:
    """Return tempest.conf's text."""
    return rendering.ini(tree).replace(rendering.HEADER, HEADER)


@dataclass(frozen=True)
class Selection:
    """Tests by regular expressions: one of `include` must be found in a test's id, none of `exclude` may."""

    name: str
    include: tuple[str, ...]
    exclude: tuple[str, ...] = ()

    def arguments(self) -> list[str]:
        """Return the arguments of `tempest run` for it."""
        chosen = ["--regex", "|".join(self.include)]
        return [*chosen, "--exclude-regex", "|".join(self.exclude)] if self.exclude else chosen

    def finds(self, test: str) -> bool:
        """Return whether it chooses the test of that id, attributes included, as stestr would."""
        wanted, unwanted = (any(re.search(one, test) for one in regexes) for regexes in (self.include, self.exclude))
        return wanted and not unwanted


def selection(sets: Any, name: str, regex: str = "") -> Selection:
    """Return the set of that name, or of a regular expression where one is given. Raises TempestError."""
    if regex:
        return Selection("regex", (_compiled(regex, "regex"),))
    if not isinstance(sets, Mapping) or not sets:
        raise TempestError("sets.yml: is no mapping of names to `include` and `exclude`")
    found = sets.get(name)
    if not isinstance(found, Mapping) or not found.get("include"):
        raise TempestError(f"set: there is no set `{name}` with an include; there are {', '.join(sets)}")
    return Selection(
        name,
        tuple(_compiled(one, f"set {name}") for one in found["include"]),
        tuple(_compiled(one, f"set {name}") for one in found.get("exclude", ())),
    )


def _compiled(regex: Any, owner: str) -> str:
    try:
        re.compile(regex)
    except (re.error, TypeError) as error:
        raise TempestError(f"{owner}: `{regex}` is no regular expression: {error}") from None
    return str(regex)


@dataclass(frozen=True)
class KnownFailure:
    """A failure that is understood: `test` matches whole test ids, `link` is where upstream speaks of it."""

    test: str
    reason: str
    link: str

    def matches(self, name: str) -> bool:
        """Return whether it speaks of the test of that id."""
        return re.fullmatch(self.test, name) is not None


def known_failures(data: Any, file: str) -> tuple[KnownFailure, ...]:
    """Return the entries of the file of known failures. Raises TempestError with all mistakes at once."""
    mistakes: list[str] = []
    found: list[KnownFailure] = []
    entries = data if data is not None else []
    if not isinstance(entries, list):
        raise TempestError(f"{file}: is no list of test, reason and link")
    for number, entry in enumerate(entries, 1):
        if not isinstance(entry, Mapping) or set(entry) != {"test", "reason", "link"}:
            mistakes.append(f"{file}: entry {number}: must have test, reason and link, and nothing else")
            continue
        try:
            test = _compiled(entry["test"], f"{file}: entry {number}")
        except TempestError as error:
            mistakes.append(str(error))
            continue
        if not str(entry["reason"]).strip():
            mistakes.append(f"{file}: entry {number}: says no reason")
        if not LINK.fullmatch(str(entry["link"])):
            mistakes.append(f"{file}: entry {number}: `{entry['link']}` is no link to upstream's bugs, reviews or docs")
        found.append(KnownFailure(test, " ".join(str(entry["reason"]).split()), str(entry["link"])))
    if mistakes:
        raise TempestError("\n".join(mistakes))
    return tuple(found)


TEST = re.compile(r"(?P<name>tempest(?:\.\w+)+)\[id-[0-9a-f-]{36}(?:,\w+)*\]")
"""A test's id as `tempest run --list-tests` prints it: its name, and its attributes in brackets."""


@dataclass(frozen=True)
class Omission:
    """Tests, by their ids, that are left out where Neutron has an agent of that binary and lacks that extension."""

    tests: tuple[str, ...]
    reason: str
    with_agent: str
    without_extension: str


def omissions(data: Any, file: str) -> tuple[Omission, ...]:
    """Return the entries of the file of tests that are left out. Raises TempestError with all mistakes at once."""
    mistakes: list[str] = []
    found: list[Omission] = []
    entries = data if data is not None else []
    keys = {"tests", "reason", "with_agent", "without_extension"}
    if not isinstance(entries, list):
        raise TempestError(f"{file}: is no list of {', '.join(sorted(keys))}")
    for number, entry in enumerate(entries, 1):
        where = f"{file}: entry {number}"
        if not isinstance(entry, Mapping) or set(entry) != keys or not isinstance(entry["tests"], Mapping):
            mistakes.append(f"{where}: must have {', '.join(sorted(keys))}, and nothing else; tests are lists by class")
            continue
        tests = [f"{group}.{one}" for group, names in entry["tests"].items() for one in names or ()]
        mistakes += [
            f"{where}: `{one}` is no test; write it as `tempest run --list-tests` does"
            for one in tests
            if not TEST.fullmatch(one)
        ]
        mistakes += [f"{where}: says no {key}" for key in sorted(keys) if not str(entry[key] or "").strip()]
        reason = " ".join(str(entry["reason"]).split())
        found.append(Omission(tuple(tests), reason, str(entry["with_agent"]), str(entry["without_extension"])))
    if mistakes:
        raise TempestError("\n".join(mistakes))
    return tuple(found)


def leave_out(
    chosen: Selection, entries: Iterable[Omission], extensions: Collection[str], agents: Collection[str]
) -> tuple[Selection, dict[str, str]]:
    """Return the selection without the tests that a cloud of these extensions and agents' binaries cannot pass.

    The second value names those of them that were chosen, each with the reason.
    """
    omitted = {
        test.partition("[")[0]: one.reason
        for one in entries
        if one.with_agent in agents and one.without_extension not in extensions
        for test in one.tests
        if chosen.finds(test)
    }
    excluded = tuple(rf"^{re.escape(name)}\[" for name in omitted)
    return replace(chosen, exclude=chosen.exclude + excluded), omitted


def omitted_lines(omitted: Mapping[str, str]) -> list[str]:
    """Return a line for each test that is left out, and below those of one reason the reason."""
    lines = []
    for reason in dict.fromkeys(omitted.values()):
        lines += [f"left out: {name}" for name, why in omitted.items() if why == reason] + [f"    {reason}"]
    return lines


@dataclass(frozen=True)
class Case:
    """A test, or the set-up or tear-down of a class, and what it came to."""

    name: str
    outcome: Outcome
    seconds: float
    detail: str = ""


def cases(junit: str) -> list[Case]:
    """Return the test cases of a JUnit file, attributes such as `[id-...,smoke]` left out of the names.

    Raises TempestError when it is no JUnit or holds no test.
    """
    try:
        root = ElementTree.fromstring(junit)  # noqa: S314  # our own process wrote it
    except ElementTree.ParseError as error:
        raise TempestError(f"tempest.xml: is no JUnit: {error}") from None
    found = []
    for element in root.iter("testcase"):
        parts = [element.get("classname") or "", element.get("name") or ""]
        name = re.sub(r"\[[^\]]*\]", "", ".".join(part for part in parts if part))
        bad = next((one for one in element if one.tag in ("failure", "error")), None)
        skipped = element.find("skipped")
        outcome: Outcome = "failed" if bad is not None else "skipped" if skipped is not None else "passed"
        node = bad if bad is not None else skipped
        found.append(Case(name, outcome, float(element.get("time") or 0), "" if node is None else last_line(node.text)))
    if not found:
        reasons = "the set's regular expressions match none, or only such as are left out, or Tempest broke"
        raise TempestError(f"tempest.xml: holds no test: {reasons}")
    return found


def last_line(trace: str | None) -> str:
    """Return what a failure's text says is wrong: the exception below the last traceback, in one line and cut to fit.

    Before the traceback stands the log of the test, in blocks of testtools (`name: {{{ ... }}}`); a text without a
    traceback is a reason as it is.
    """
    lines = (trace or "").rpartition("Traceback (most recent call last):\n")[2].splitlines()
    said = next((number for number, line in enumerate(lines) if line.strip() and not line.startswith(" ")), 0)
    line = " ".join(" ".join(lines[said:]).split())
    return line if len(line) <= DETAIL else f"{line[: DETAIL - 3]}..."


@dataclass(frozen=True)
class Verdict:
    """Results against what is known."""

    passed: tuple[Case, ...]
    failed: tuple[Case, ...]
    skipped: tuple[Case, ...]
    known: tuple[tuple[Case, KnownFailure], ...]
    surprises: tuple[tuple[Case, KnownFailure], ...]
    """Passed, though known to fail."""

    @property
    def ok(self) -> bool:
        """Return whether nothing failed that is not known, and something passed."""
        return not self.failed and bool(self.passed)


def judge(results: Iterable[Case], known: Sequence[KnownFailure]) -> Verdict:
    """Return results with each failure put to the known or the other ones."""
    found = list(results)

    def entry(case: Case) -> KnownFailure | None:
        return next((one for one in known if one.matches(case.name)), None)

    failed = [(case, entry(case)) for case in found if case.outcome == "failed"]
    passed = [case for case in found if case.outcome == "passed"]
    return Verdict(
        tuple(passed),
        tuple(case for case, reason in failed if reason is None),
        tuple(case for case in found if case.outcome == "skipped"),
        tuple((case, reason) for case, reason in failed if reason is not None),
        tuple((case, reason) for case in passed if (reason := entry(case)) is not None),
    )


def table(name: str, verdict: Verdict, seconds: float) -> list[str]:
    """Return the closing lines: a table of one row, then failures with their last line, then what is known."""
    row = {
        "set": name,
        "passed": len(verdict.passed),
        "failed": len(verdict.failed),
        "skipped": len(verdict.skipped),
        "known failures": len(verdict.known),
        "seconds": f"{seconds:.0f}",
    }
    widths = {key: max(len(key), len(str(value))) for key, value in row.items()}
    first, *others = row
    lines = [
        "  ".join([str(cells[first]).ljust(widths[first]), *(str(cells[key]).rjust(widths[key]) for key in others)])
        for cells in ({key: key for key in row}, row)
    ]
    for case in verdict.failed:
        lines += [f"FAILED {case.name}", f"    {case.detail}"]
    for case, reason in verdict.known:
        lines += [f"known failure {case.name}", f"    {reason.reason} ({reason.link})"]
    for case, reason in verdict.surprises:
        lines += [f"passed, though known to fail: {case.name}", f"    remove the entry if that lasts ({reason.link})"]
    return lines


def summary(name: str, verdict: Verdict, omitted: int = 0) -> str:
    """Return the verdict in one line, with the number of tests that were left out."""
    parts = [f"{len(verdict.passed)} passed", f"{len(verdict.failed)} failed", f"{len(verdict.skipped)} skipped"]
    parts += [f"{len(verdict.known)} known to fail"] if verdict.known else []
    parts += [f"{omitted} left out"] if omitted else []
    return f"{name}: {', '.join(parts)}"


@dataclass(frozen=True)
class Left:
    """An object that a test made and did not remove."""

    kind: str
    name: str
    identifier: str

    def __str__(self) -> str:
        """Return it as a person reads it."""
        return f"{self.kind} {self.name} ({self.identifier})"


def left_behind(before: Mapping[str, Mapping[str, str]], after: Mapping[str, Mapping[str, str]]) -> list[Left]:
    """Return what tests made and did not remove, from kind -> identifier -> name before and after a run."""
    return [
        Left(kind, name, identifier)
        for kind, objects in after.items()
        for identifier, name in objects.items()
        if identifier not in before.get(kind, {}) and name.startswith(RESOURCE_PREFIX)
    ]


def progress(line: str) -> tuple[str, str] | None:
    """Return a test's id and status from a line of `tempest run`, None for any other line."""
    match = re.match(r"\{\d+\} (?P<name>.+?)(?:\[[^\]]*\])*(?: \[[\d.]+s\])? \.\.\. (?P<status>\w+)", line.strip())
    return (match["name"].strip(), match["status"]) if match else None
