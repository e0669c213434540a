"""Runs the checks of a deployed cloud in the controller process, and prints each one's line as it ends.

An action and not a module: a module's output is shown when all of it is over, and this takes minutes.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import netaddr
from ansible.plugins.action import ActionBase
from ansible_collections.brume.cloud.plugins.module_utils import cloud_checks, run, verification, volume_checks
from ansible_collections.brume.cloud.plugins.module_utils.api_objects import present, texts
from ansible_collections.brume.cloud.plugins.module_utils.cloud_run import PREFIX, Expected, Run, Settings
from ansible_collections.brume.cloud.plugins.module_utils.plan import Plan, PlanError
from ansible_collections.brume.cloud.plugins.module_utils.volume_types import TRUE_SPEC, types_of

SPEC: dict[str, Any] = {
    "clouds_file": {"type": "path", "required": True},
    "cloud": {"type": "str", "required": True},
    "checks": {"type": "list", "elements": "str", "default": []},
    "hosts": {"type": "list", "elements": "str", "default": []},
    "image_name": {"type": "str", "required": True},
    "image_path": {"type": "path", "required": True},
    "flavor": {
        "type": "dict",
        "required": True,
        "options": {name: {"type": "int", "required": True} for name in ("vcpus", "ram", "disk")},
    },
    "external_network": {"type": "str", "required": True},
    "physical_network": {"type": "str", "required": True},
    "tenant_cidr": {"type": "str", "required": True},
    "ssh_user": {"type": "str", "required": True},
    "timeouts": {
        "type": "dict",
        "required": True,
        "options": {
            name: {"type": "float", "required": True}
            for name in (
                "services",
                "image",
                "router",
                "active",
                "console",
                "security_group",
                "ssh",
                "stop",
                "reboot",
                "snapshot",
                "volume",
                "backup",
                "delete",
            )
        },
    },
    "keep": {"type": "bool", "default": False},
}
CINDER = "cinder"
_COLORS = {"ok": "green", "FAILED": "red", "not run": "cyan"}


def expected(plan: Plan, hosts: Sequence[str] = ()) -> Expected:
    """Return what the plan says the cloud has; `hosts` are those whose services and agents are judged, if not all."""
    external = plan.cloud.networks.get("external")
    return Expected(
        region=plan.cloud.region,
        endpoints={one.type: one.url for one in plan.cloud.endpoints if one.interface == "public"},
        compute_hosts=tuple(host for host, _address in plan.cloud.members["compute"]),
        agents=network_agents(plan),
        cidr=external.cidr if external else None,
        gateway=external.gateway if external else None,
        allocation_pool=external.allocation_pool if external else (),
        hosts=tuple(hosts),
        **volumes(plan),
    )


def volumes(plan: Plan) -> dict[str, Any]:
    """Return what the plan says of Cinder, by field of `Expected`; nothing for a cloud without it."""
    instances = [(one, host.name) for host in plan.hosts.values() for one in host.instances]
    units = [(one.component, host) for one, host in instances if one.service == CINDER]
    if not units:
        return {}
    variables = plan.hosts[plan.cloud.members["control"][0][0]].variables
    backends = variables["cinder_backends"]
    found = [
        one
        for one in types_of(backends, variables["cinder_volume_types"])
        if present(one) and one.get("is_public") is not False and one.get("projects") is None
    ]
    specs = {one["name"]: texts(one.get("extra_specs")) or {} for one in found}
    shared = [name for name, one in specs.items() if one.get("multiattach") == TRUE_SPEC]
    types = {
        name: one["volume_backend_name"]
        for name, one in specs.items()
        if "volume_backend_name" in one and name not in shared
    }
    features = {
        volume_checks.BACKUP: bool(variables["cinder_backup_driver"]),
        volume_checks.BACKENDS: len(set(types.values())) > 1,
        volume_checks.MULTIATTACH: bool(shared),
    }
    return {
        "volume_services": tuple(
            (f"{CINDER}-{name}", host) for name, host in units if name in ("scheduler", "volume", "backup")
        ),
        "volume_backends": tuple(backends),
        "volume_types": types,
        "multiattach_type": next(iter(shared), ""),
        "features": frozenset(name for name, there in features.items() if there),
    }


def network_agents(plan: Plan) -> tuple[tuple[str, str], ...]:
    """Return binary and host of what Neutron lists as agents: its own, and each controller of OVN."""
    return tuple(
        (name, host.name)
        for host in plan.hosts.values()
        for one in host.instances
        for name in [one.unit.removesuffix(".service")]
        if (one.service == "neutron" and name.endswith("-agent")) or name == "ovn-controller"
    )


def settings(args: dict[str, Any]) -> Settings:
    """Return the typed choices; raises ValueError naming the option that makes no sense."""
    if args["image_name"].startswith(PREFIX):
        raise ValueError(f"image_name: names with {PREFIX} are removed at the end; use another")
    try:
        cidr = netaddr.IPNetwork(args["tenant_cidr"])
    except netaddr.AddrFormatError as error:
        given = args["tenant_cidr"]
        raise ValueError(f"tenant_cidr: `{given}` is no network, write for example 192.0.2.0/24") from error
    return Settings(
        image_name=args["image_name"],
        image_path=Path(args["image_path"]),
        flavor=args["flavor"],
        external_network=args["external_network"],
        physical_network=args["physical_network"],
        tenant_cidr=cidr,
        ssh_user=args["ssh_user"],
        timeouts=args["timeouts"],
        keep=args["keep"],
    )


def connect(clouds_file: str, cloud: str) -> Any:
    """Return a connection as clouds.yaml says, and nothing of the environment; raises ValueError with the remedy."""
    try:
        import openstack  # noqa: PLC0415  # deploying needs no SDK, only verifying does
        from openstack.config import OpenStackConfig  # noqa: PLC0415
    except ImportError as error:
        raise ValueError("openstacksdk is missing on the deploy host: install requirements.lock") from error
    if not Path(clouds_file).is_file():
        raise ValueError(f"clouds_file: there is no {clouds_file}; site.yml writes it at brume_clouds_file")
    for name in ("keystoneauth", "openstack", "urllib3"):
        logging.getLogger(name).addHandler(logging.NullHandler())  # else warnings land between the table's lines
    config = OpenStackConfig(config_files=[clouds_file], load_envvars=False)
    try:
        return openstack.connection.Connection(config=config.get_one(cloud=cloud))
    except openstack.exceptions.ConfigException as error:
        raise ValueError(f"{clouds_file}: {error}") from error


class ActionModule(ActionBase):
    """See the documentation of the module cloud_verification."""

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the checks; fails by name."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        _validation, args = self.validate_argument_spec(SPEC)
        try:
            plan = run.current(task_vars or {})
            wanted = expected(plan, args["hosts"])
            types = (one.type for one in plan.cloud.endpoints)
            there = verification.of_cloud(cloud_checks.CHECKS, (*types, *wanted.features))
            checks = verification.chosen(there, args["checks"])
            choices = settings(args)
            connection = connect(args["clouds_file"], args["cloud"])
        except (PlanError, ValueError) as error:
            return {**result, "failed": True, "msg": str(error)}
        directory = Path(tempfile.mkdtemp(prefix=f"{PREFIX}-"))  # 0700: it holds the private key
        context = Run(connection, choices, wanted, directory)

        def report(one: verification.Result) -> None:
            self._display.display(verification.row(one, checks), color=_COLORS[one.outcome])
            if one.outcome == "FAILED":
                for line in cloud_checks.diagnostics(context):
                    self._display.display(f"    {line}", color="red")

        self._display.display(verification.header(checks))
        try:
            results = verification.run_checks(checks, context, report, check_mode=self._task.check_mode)
        finally:
            if choices.keep and context.key_path.name:
                self._display.display(f"The instance's key stays: {context.key_path}")
            else:
                shutil.rmtree(directory)
            connection.close()
        line = verification.summary(results)
        self._display.display(line)
        result.update(changed=bool(context.lasting), actions=[f"make {one}" for one in context.lasting], msg=line)
        if any(one.outcome == "FAILED" for one in results):
            return {**result, "failed": True}
        return {**result, "checks": [vars(one) for one in results]}
