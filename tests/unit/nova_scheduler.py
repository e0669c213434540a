"""What Nova's own scheduler answers: reads cases as JSON from standard input, prints an answer for each.

Runs with the Python of Nova's environment, which knows nothing of Brume; tests/unit/test_scheduling.py calls it. Nova's
classes and SchedulerManager._schedule are used as they are; only databases, Placement's answers and the clock of
services are replaced. Placement is a few lines here, written from its API's description, not from Brume's.
"""

from __future__ import annotations

import collections
import datetime
import json
import logging
import math
import random
import sys
import warnings
from typing import Any
from unittest import mock

import nova.conf
from nova import context, exception, objects
from nova.scheduler import filters, host_manager, manager, request_filter, utils, weights

CONF = nova.conf.CONF
LONG_AGO = datetime.datetime(2001, 1, 1, tzinfo=datetime.UTC)
GROUPS = {"weight_setting": "metrics", "required": "metrics", "weight_of_unavailable": "metrics"}


def override(settings: dict[str, Any]) -> None:
    """Set Nova's options."""
    values = {**settings.pop("multipliers"), **settings}
    for name, value in values.items():
        if name in ("default_availability_zone", "default_schedule_zone", "max_placement_results"):
            continue
        if name == "metrics_weight_multiplier":
            group, name = "metrics", "weight_multiplier"  # noqa: PLW2901
        elif name in GROUPS:
            group = GROUPS[name]
        else:
            group = "filter_scheduler" if name in CONF.filter_scheduler else "scheduler"
        CONF.set_override(name, value or None if name == "image_properties_default_architecture" else value, group)


def host_state(host: dict[str, Any]) -> host_manager.HostState:
    """Return Nova's view of a host."""
    specs = [objects.HVSpec.from_list(list(one)) for one in host["supported_instances"]]
    metrics = [
        {"name": name, "value": value, "timestamp": "2026-01-01T00:00:00.000000", "source": "test"}
        for name, value in host["metrics"].items()
    ]
    node = objects.ComputeNode(
        uuid=host["uuid"],
        host=host["name"],
        hypervisor_hostname=host["hypervisor_hostname"],
        memory_mb=host["total_usable_ram_mb"],
        free_ram_mb=host["free_ram_mb"],
        local_gb=host["total_usable_disk_gb"],
        local_gb_used=host["disk_mb_used"] // 1024,
        free_disk_gb=host["free_disk_mb"] // 1024,
        disk_available_least=None,
        vcpus=host["vcpus_total"],
        vcpus_used=host["vcpus_used"],
        updated_at=None,
        numa_topology=None,
        pci_device_pools=None,
        host_ip=host["host_ip"],
        hypervisor_type=host["hypervisor_type"],
        hypervisor_version=host["hypervisor_version"],
        cpu_info=host["cpu_info"],
        supported_hv_specs=specs,
        stats={
            **host["stats"],
            "num_instances": str(host["num_instances"]),
            "io_workload": str(host["num_io_ops"]),
            "failed_builds": str(host["failed_builds"]),
        },
        metrics=json.dumps(metrics),
        cpu_allocation_ratio=host["cpu_allocation_ratio"],
        ram_allocation_ratio=host["ram_allocation_ratio"],
        disk_allocation_ratio=host["disk_allocation_ratio"],
    )
    state = host_manager.HostState(host["name"], host["hypervisor_hostname"], host["cell"])
    service = {"disabled": host["disabled"], "disabled_reason": host["disabled_reason"], "up": host["up"]}
    instances = {uuid: objects.Instance(uuid=uuid) for uuid in host["instances"]}
    state.update(node, service, [aggregate(one) for one in host["aggregates"]], instances)
    return state


def aggregate(one: dict[str, Any]) -> objects.Aggregate:
    """Return an aggregate, whose id is its name."""
    return objects.Aggregate(uuid=one["uuid"], name=one["name"], metadata=dict(one["metadata"]))


def request_spec(request: dict[str, Any]) -> objects.RequestSpec:
    """Return Nova's view of a request."""
    flavor = request["flavor"]
    group = request["group"]
    properties = dict(request["image_properties"])
    traits = properties.pop("traits_required", [])
    image = objects.ImageMeta(
        properties=objects.ImageMetaProps.from_dict({**properties, **{f"trait:{one}": "required" for one in traits}})
    )
    if request["image_id"]:
        image.id = request["image_id"]
    hints = {name: list(request[name]) for name in ("same_host", "different_host") if request[name]}
    instance_group = None
    if group:
        rules = {"max_server_per_host": str(group["max_server_per_host"])} if group["policy"] == "anti-affinity" else {}
        instance_group = objects.InstanceGroup(
            uuid=group["uuid"], policy=group["policy"], _rules=rules, policies=[group["policy"]],
            members=[*group["members"], *request["names"]], hosts=list(group["hosts"]),
        )  # fmt: skip
    destination = objects.Destination(host=request["requested_host"], node=None) if request["requested_host"] else None
    return objects.RequestSpec(
        flavor=objects.Flavor(
            name=flavor["name"], vcpus=flavor["vcpus"], memory_mb=flavor["ram"], root_gb=flavor["disk"],
            ephemeral_gb=flavor["ephemeral"], swap=flavor["swap"], extra_specs=dict(flavor["extra_specs"]),
        ),
        image=image,
        numa_topology=None,
        pci_requests=None,
        instance_group=instance_group,
        project_id=request["project_id"],
        availability_zone=request["availability_zone"] or None,
        ignore_hosts=list(request["ignore_hosts"]) or None,
        force_hosts=None,
        force_nodes=None,
        requested_destination=destination,
        scheduler_hints=hints,
        num_instances=request["count"],
        instance_uuid=request["names"][0],
        requested_resources=[],
        requested_networks=objects.NetworkRequestList(objects=[]),
        request_level_params=objects.RequestLevelParams(),
        is_bfv=request["boot_from_volume"],
        limits=objects.SchedulerLimits(),
    )  # fmt: skip


class Placement:
    """The hosts' providers, and what is allocated of them."""

    def __init__(self, hosts: list[dict[str, Any]], asked: utils.ResourceRequest) -> None:
        """Read the request that Nova would send."""
        group = asked.get_request_group(None)
        self.resources = dict(group.resources)
        self.required = set(group.required_traits) | set(asked._root_required)
        self.forbidden = set(group.forbidden_traits) | set(asked._root_forbidden)
        self.member_of = [set(one) for one in group.aggregates or []]
        self.not_member_of = set(group.forbidden_aggregates or ())
        self.hosts = {one["name"]: one for one in hosts}

    def has_room(self, name: str) -> bool:
        """Return whether the resources can be allocated of a host."""
        for resource, amount in self.resources.items():
            one = self.hosts[name]["inventories"].get(resource)
            if one is None or amount % one["step_size"] or not one["min_unit"] <= amount <= one["max_unit"]:
                return False
            if one["used"] + amount > (one["total"] - one["reserved"]) * one["allocation_ratio"]:
                return False
        return True

    def offers(self, name: str) -> bool:
        """Return whether a host is an allocation candidate."""
        host = self.hosts[name]
        traits, aggregates = set(host["traits"]), {one["uuid"] for one in host["aggregates"]}
        return (
            self.has_room(name)
            and self.required <= traits
            and not self.forbidden & traits
            and all(one & aggregates for one in self.member_of)
            and not self.not_member_of & aggregates
        )

    def claim(self, ctxt: Any, client: Any, spec: Any, uuid: str, candidate: dict[str, Any], **more: Any) -> bool:
        """Allocate, in place of nova.scheduler.utils.claim_resources."""
        name = candidate["host"]
        if not self.has_room(name):
            return False
        for resource, amount in self.resources.items():
            self.hosts[name]["inventories"][resource]["used"] += amount
        return True


def by_metadata(aggregates: list[dict[str, Any]]) -> Any:
    """Return what stands for AggregateList.get_by_metadata."""

    def get(ctxt: Any, key: str | None = None, value: str | None = None) -> list[objects.Aggregate]:
        return [
            aggregate(one)
            for one in aggregates
            if any(key in (None, k) and value in (None, v) for k, v in one["metadata"].items())
        ]

    return get


def not_matching(aggregates: list[dict[str, Any]]) -> Any:
    """Return what stands for AggregateList.get_non_matching_by_metadata_keys."""

    def get(ctxt: Any, ignored: list[str], prefix: str, value: str) -> list[objects.Aggregate]:
        return [
            aggregate(one)
            for one in aggregates
            if any(k.startswith(prefix) and k not in ignored and v == value for k, v in one["metadata"].items())
        ]

    return get


class Watched(host_manager.HostManager):
    """The host manager without databases, which notes what every filter and weigher says."""

    def __init__(self, answer: dict[str, Any]) -> None:
        """Take the filters and weighers that Nova's options enable."""
        self.filter_handler = filters.HostFilterHandler()
        classes = self.filter_handler.get_matching_classes(CONF.filter_scheduler.available_filters)
        self.filter_cls_map = {one.__name__: one for one in classes}
        self.filter_obj_map = {}
        self.enabled_filters = self._choose_host_filters(self._load_filters())
        for one in self.enabled_filters:
            self._watch(one)
        self.weight_handler = weights.HostWeightHandler()
        # Nova's order is the folder's, which is any; a fixed one makes sums of floats the same everywhere.
        found = self.weight_handler.get_matching_classes(CONF.filter_scheduler.weight_classes)
        self.weighers = [one() for one in sorted(found, key=lambda one: one.__name__)]
        self.answer = answer

    def _watch(self, one: Any) -> None:
        kept = one.filter_all

        def filter_all(hosts: Any, spec: Any) -> list[Any]:
            before = list(hosts)
            after = list(kept(before, spec))
            for host in before:
                if host not in after:
                    self.answer["refused"][-1][host.host] = type(one).__name__
            return after

        one.filter_all = filter_all

    def get_filtered_hosts(self, hosts: Any, spec_obj: Any, index: int = 0) -> list[Any]:
        """Filter as Nova does."""
        self.answer["refused"].append({})
        return list(super().get_filtered_hosts(hosts, spec_obj, index))

    def get_weighed_hosts(self, hosts: Any, spec_obj: Any) -> list[Any]:
        """Weigh as Nova does."""
        weighed = super().get_weighed_hosts(hosts, spec_obj)
        self.answer["weighed"].append([[one.obj.host, one.weight] for one in weighed])
        return list(weighed)


def judge(case: dict[str, Any]) -> dict[str, Any]:
    """Return what Nova does with one case."""
    answer: dict[str, Any] = {"candidates": [], "refused": [], "weighed": [], "chosen": [], "error": ""}
    override(case["settings"])
    hosts, aggregates = case["hosts"], case["aggregates"]
    spec, ctxt = request_spec(case["request"]), context.get_admin_context()
    lists = objects.AggregateList
    with (
        mock.patch.object(lists, "get_by_metadata", by_metadata(aggregates)),
        mock.patch.object(lists, "get_non_matching_by_metadata_keys", not_matching(aggregates)),
    ):
        try:
            request_filter.process_reqspec(ctxt, spec)
        except exception.RequestFilterFailed as error:
            return {**answer, "error": type(error).__name__}
        finder = mock.Mock()
        finder.get_compute_nodes_by_host_or_node.return_value = [objects.ComputeNode(), objects.ComputeNode()]
        asked = utils.resources_from_request_spec(ctxt, spec, finder)
    placement = Placement(hosts, asked)
    answer["query"] = {
        "resources": placement.resources,
        "required": sorted(placement.required),
        "forbidden": sorted(placement.forbidden),
    }
    answer["candidates"] = [one["name"] for one in hosts if placement.offers(one["name"])]
    states = [host_state(one) for one in hosts if one["name"] in answer["candidates"]]
    scheduler = manager.SchedulerManager.__new__(manager.SchedulerManager)
    candidates: dict[str, Any] = collections.defaultdict(list)
    candidates.update({one.uuid: [{"host": one.host, "mappings": {}}] for one in states})
    kept = manager.SchedulerManager._consume_selected_host

    def consume(host: Any, *rest: Any, **more: Any) -> None:
        answer["chosen"].append(host.host)
        kept(host, *rest, **more)

    with (
        mock.patch.object(scheduler, "_get_all_host_states", lambda *_: iter(states)),
        mock.patch.object(scheduler, "_consume_selected_host", consume),
        mock.patch.object(scheduler, "_cleanup_allocations", lambda *_: None),
        mock.patch.object(scheduler, "_placement_client", None, create=True),
        mock.patch.object(manager.SchedulerManager, "placement_client", None),
        mock.patch.object(utils, "claim_resources", placement.claim),
        mock.patch("nova.servicegroup.API") as services,
        mock.patch.object(random, "choice", lambda some: some[0]),
    ):
        services.return_value.service_is_up = lambda service: service["up"]
        try:
            scheduler.host_manager = Watched(answer)
            scheduler._schedule(ctxt, spec, case["request"]["names"], candidates, {}, "1.36", False)
        except exception.NoValidHost:
            answer["error"] = "NoValidHost"
        except (ValueError, exception.ComputeHostMetricNotFound) as error:
            answer["error"] = type(error).__name__
    return answer


def main() -> None:
    """Answer every case."""
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")  # ids in cases are names that a person can read
    CONF([], project="nova", default_config_files=[], default_config_dirs=[])
    objects.register_all()
    assert math.isclose(CONF.filter_scheduler.ram_weight_multiplier, 1.0)
    answers = [judge(case) for case in json.load(sys.stdin)]
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
