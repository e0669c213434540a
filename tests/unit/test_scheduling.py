"""Previews of scheduling against Nova's own classes at the pinned release, on generated cases."""

from __future__ import annotations

import collections
import json
import random
import subprocess
import uuid
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.brume.cloud.plugins.module_utils import scheduling_filters
from ansible_collections.brume.cloud.plugins.module_utils.schedule_preview import (
    schedule,
)
from ansible_collections.brume.cloud.plugins.module_utils.scheduling import (
    ALL_WEIGHERS,
    MULTIPLIERS,
    POLICIES,
    Aggregate,
    Flavor,
    Group,
    Host,
    Inventory,
    Request,
    SchedulingError,
    Settings,
)
from ansible_collections.brume.cloud.plugins.module_utils.scheduling_filters import DISABLED_TRAIT, FILTERS, PLACEMENT

from .nova_environment import nova_python

CASES = 1000
SEED = 20261
COMPARATOR = Path(__file__).with_name("nova_scheduler.py")
BEFORE_FILTERS = {PLACEMENT, "ignore_hosts", "requested_destination"}
Case = tuple[list[Host], list[Aggregate], Request, Settings]


def aggregates_of(dice: random.Random) -> list[Aggregate]:
    """Return aggregates with what filters, weighers and Placement read of them."""
    values: dict[str, list[str]] = {
        "ssd": ["true", "false", "true,false"],
        "size": ["4", "16"],
        "filter_tenant_id": ["red", "blue", "red, blue"],
        "filter_tenant_id_more": ["red", "green"],
        "instance_type": ["m1, m2", "m3"],
        "max_instances_per_host": ["3", "20", "many"],
        "max_io_ops_per_host": ["1", "6"],
        "hw_architecture": ["x86_64", "aarch64"],
        "os_distro": ["debian", "plan9"],
        "trait:CUSTOM_FAST": ["required"],
        "ram_weight_multiplier": ["-1.5", "3", "heavy"],
        "build_failure_weight_multiplier": ["2"],
        "soft_anti_affinity_weight_multiplier": ["7.5"],
        "metrics_weight_multiplier": ["0", "2"],
    }
    often = ["os_distro", "instance_type"] if dice.random() < 0.3 else []
    made = [
        Aggregate(
            f"aggregate{number}",
            {
                key: dice.choice(values[key])
                for key in [*dice.sample(sorted(values), dice.choice([0, 1, 2, 4])), *often]
            },
        )
        for number in range(dice.randint(0, 3))
    ]
    return made + [Aggregate(f"zone-{zone}", {"availability_zone": zone}) for zone in ("east", "west")]


def host_of(dice: random.Random, name: str, aggregates: list[Aggregate]) -> Host:
    """Return a host; what nova-compute says of its use and what Placement holds agree roughly, as in clouds."""
    vcpus, ram, disk = dice.choice([4, 16]), dice.choice([8192, 32768]), dice.choice([50, 200])
    ratio = dice.choice([1.0, 1.5, 4.0])
    used = dice.random() * 0.8
    instances = frozenset(f"old{number}-{name}" for number in range(dice.randint(0, 4)))
    zone = dice.choice(["east", "west", ""])
    disabled = dice.random() < 0.1
    traits = {trait for trait in ("CUSTOM_FAST", "HW_CPU_X86_AVX2") if dice.random() < 0.6}
    if disabled and dice.random() < 0.5:
        traits.add(DISABLED_TRAIT)
    inventories = {
        "VCPU": Inventory(vcpus, int(vcpus * ratio * used), allocation_ratio=ratio, max_unit=vcpus),
        "MEMORY_MB": Inventory(ram, int(ram * used), reserved=512, max_unit=ram),
        "DISK_GB": Inventory(disk, int(disk * used), max_unit=disk),
    }
    if dice.random() < 0.3:
        inventories["CUSTOM_GPU"] = Inventory(8, dice.randint(0, 8), step_size=2, max_unit=4)
    return Host(
        name,
        inventories,
        frozenset(traits),
        tuple(
            one
            for one in aggregates
            if (one.name == f"zone-{zone}" if one.name.startswith("zone-") else dice.random() < 0.4)
        ),
        cell="cell1",
        disabled=disabled,
        disabled_reason=dice.choice(["", "broken"]) if disabled else "",
        up=dice.random() < 0.93,
        vcpus_total=vcpus,
        vcpus_used=int(vcpus * ratio * used),
        cpu_allocation_ratio=ratio,
        total_usable_ram_mb=ram,
        free_ram_mb=dice.choice([int(ram * (1 - used)), 4096, -512]),
        total_usable_disk_gb=disk,
        disk_mb_used=int(disk * used) * 1024,
        free_disk_mb=dice.choice([int(disk * (1 - used)), 30]) * 1024,
        num_instances=dice.choice([len(instances), 60]) if dice.random() < 0.2 else len(instances),
        num_io_ops=dice.choice([0, 0, 1, 5, 9]),
        failed_builds=dice.choice([0, 0, 0, 1, 3]),
        metrics={metric: dice.randint(1, 90) for metric in ("cpu.idle.time", "cpu.frequency") if dice.random() < 0.9},
        instances=instances,
        hypervisor_hostname=f"{name}.example",
        hypervisor_type="QEMU",
        hypervisor_version=dice.choice([8002002, 10000013]),
        host_ip="192.0.2.7",
        cpu_info=dice.choice([
            json.dumps(
                {"arch": "x86_64", "features": ["avx", "sse"], "maxphysaddr": {"bits": 46}, "topology": {"cores": 4}}
            ),
            json.dumps({"arch": "aarch64", "features": [], "topology": {"cores": 64}}),
            "broken",
        ]),
        supported_instances=dice.choice([
            (("x86_64", "kvm", "hvm"), ("i686", "qemu", "hvm")), (("x86_64", "kvm", "hvm"), ("aarch64", "qemu", "hvm")),
            (("x86_64", "kvm", "hvm"),), (("aarch64", "qemu", "hvm"),), (),
        ]),
        stats=dice.choice([{}, {"rack": "7", "topo": '{"level": "3"}'}]),
    )  # fmt: skip


SPECS = {
    "capabilities:hypervisor_version": [">= 9000000", "< 9", "== 8002002", "!= new"],
    "capabilities:hypervisor_type": ["QEMU", "s== QEMU", "s!= QEMU", "<or> xen <or> QEMU", "<in> QE", ">= 3"],
    "capabilities:cpu_info:arch": ["x86_64", "<or> aarch64 <or> riscv"],
    "capabilities:cpu_info:features": ["<in> avx", "<all-in> avx sse"],
    "capabilities:cpu_info:topology:cores": ["<= 8", "!= 64", "= 5"],
    "capabilities:rack": ["7", "s< 8", "s>= 7", "s<= 1", "s> 6", "s=="],
    "capabilities:topo:level": ["3"],
    "capabilities:nothing:at:all": ["1"],
    "hw:maxphysaddr_bits": ["40", "48"],
    "free_ram_mb": [">= 4096"],
    "rack": ["7"],
    "ssd": ["true"],
    "hw:watchdog_action": ["reset"],
    "aggregate_instance_extra_specs:ssd": ["true", "s!= true", "<or> true <or> false"],
    "aggregate_instance_extra_specs:size": ["> 3", ">= 8"],
    "aggregate_instance_extra_specs:no:thing": ["1"],
    "trait:CUSTOM_FAST": ["required", "forbidden", "wanted"],
    "trait:HW_CPU_X86_AVX2": ["required", "forbidden"],
    "resources:CUSTOM_GPU": ["1", "2", "4", "6"],
    "resources:VCPU": ["0", "1"],
    "resources:DISK_GB": ["0"],
}
PROPERTIES = {
    "hw_architecture": ["x86_64", "aarch64", "i686"],
    "img_hv_type": ["kvm", "qemu"],
    "hw_vm_mode": ["hvm", "xen"],
    "img_hv_requested_version": [">=9.0", "<9", ">=8.2,!=8.2.2", "==10.0.13"],
    "os_distro": ["debian"],
    "traits_required": [["CUSTOM_FAST"]],
}


def some(dice: random.Random, values: dict[str, list[Any]], chance: float) -> dict[str, Any]:
    """Return none, one or two of the values."""
    if dice.random() > chance:
        return {}
    return {
        key: dice.choice(values[key]) for key in dice.sample(sorted(values), min(len(values), dice.choice([1, 1, 2])))
    }


def group_of(dice: random.Random, hosts: list[Host]) -> Group:
    """Return a group with members on some of the hosts."""
    everywhere = sorted(one for host in hosts for one in host.instances)
    members = frozenset(dice.sample(everywhere, min(len(everywhere), dice.randint(0, 4))))
    on = frozenset(host.name for host in hosts if host.instances & members)
    return Group("group", dice.choice(POLICIES), "", dice.choice([1, 1, 2]), members, on)


def case_of(seed: int) -> Case:
    """Return one case."""
    dice = random.Random(seed)  # noqa: S311 - no secret
    aggregates = aggregates_of(dice)
    hosts = [host_of(dice, f"compute{number}", aggregates) for number in range(1, dice.randint(3, 9))]
    names = [host.name for host in hosts]
    instances = sorted(one for host in hosts for one in host.instances)
    few = lambda chance, items: dice.sample(items, min(len(items), 2)) if dice.random() < chance else ()  # noqa: E731
    flavor = Flavor(
        dice.choice(["m1", "m2", "m3"]), dice.choice([1, 2, 8]), dice.choice([512, 2048, 9000]),
        dice.choice([0, 10, 40]), dice.choice([0, 0, 5]), dice.choice([0, 0, 1, 1025]), some(dice, SPECS, 0.4),
    )  # fmt: skip
    request = Request(
        flavor,
        count=dice.choice([1, 1, 1, 2, 3, 6]),
        availability_zone=dice.choice(["", "", "", "east", "nova"]),
        image_properties={**some(dice, PROPERTIES, 0.3), **some(dice, {"os_distro": ["debian"]}, 0.3)},
        boot_from_volume=dice.random() < 0.2,
        group=group_of(dice, hosts) if dice.random() < 0.5 else None,
        project_id=dice.choice(["red", "blue", "gray"]),
        image_id=dice.choice(["image", "secret", ""]),
        requested_host=dice.choice(names) if dice.random() < 0.08 else "",
        ignore_hosts=[name.upper() for name in few(0.1, names)],
        same_host=few(0.1, instances),
        different_host=few(0.15, instances),
    )
    default = Settings().enabled_filters
    more = [name for name in FILTERS if name not in default and dice.random() < 0.25]
    filters = [*default, *more]
    if dice.random() < 0.7:
        dice.shuffle(filters)
    weighers = (ALL_WEIGHERS,) if dice.random() < 0.8 else ("nova.scheduler.weights.ram.RAMWeigher",)
    settings = Settings(
        enabled_filters=tuple(filters if dice.random() < 0.8 else default),
        weight_classes=weighers,
        multipliers={
            name: abs(dice.choice([value, 1.5, -2.0, 0.0])) if name.startswith(("soft", "pci"))
            else value if name.startswith("image") else dice.choice([value, value, 1.5, -2.0])
            for name, value in MULTIPLIERS.items()
        },
        max_io_ops_per_host=dice.choice([8, 2]),
        max_instances_per_host=dice.choice([50, 3]),
        image_properties_default_architecture=dice.choice(["", "", "", "", "x86_64"]),
        isolated_images=dice.choice([(), ("secret",)]),
        isolated_hosts=dice.choice([(), ("compute1", "compute2")]),
        restrict_isolated_hosts_to_isolated_images=dice.random() < 0.5,
        aggregate_image_properties_isolation_namespace=dice.choice(["", "", "os"]),
        aggregate_image_properties_isolation_separator="_",
        limit_tenants_to_placement_aggregate=dice.random() < 0.1,
        placement_aggregate_required_for_tenants=dice.random() < 0.3,
        enable_isolated_aggregate_filtering=dice.random() < 0.3,
        weight_setting=dice.choice([(), (), ("cpu.idle.time=1.0", "cpu.frequency=-0.5", "nonsense")]),
        required=dice.random() < 0.3,
    )  # fmt: skip
    return hosts, aggregates, request, settings


def as_json(case: Case) -> dict[str, Any]:
    """Return a case as Nova's side reads it: with ids, and lists in place of sets."""
    hosts, aggregates, request, settings = case

    def numbered(one: Aggregate) -> dict[str, Any]:
        return {"uuid": str(uuid.uuid5(uuid.NAMESPACE_OID, one.name)), **asdict(one)}

    return {
        "hosts": [
            {**asdict(one), "uuid": str(uuid.uuid5(uuid.NAMESPACE_OID, one.name)),
             "traits": sorted(one.traits), "instances": sorted(one.instances),
             "aggregates": [numbered(aggregate) for aggregate in one.aggregates]}
            for one in hosts
        ],
        "aggregates": [numbered(one) for one in aggregates],
        "request": {
            **asdict(request),
            "names": [f"instance-{number}" for number in range(1, request.count + 1)],
            "group": request.group and {
                **asdict(request.group), "members": sorted(request.group.members), "hosts": sorted(request.group.hosts)
            },
        },
        "settings": asdict(settings),
    }  # fmt: skip


def answer_of(case: Case) -> dict[str, Any]:
    """Return what Brume says of a case in the words of Nova's side."""
    hosts, aggregates, request, settings = case
    answer: dict[str, Any] = {"candidates": [], "refused": [], "weighed": [], "chosen": [], "error": ""}
    try:
        asked = scheduling_filters.query(request, aggregates, settings)
        answer["query"] = {
            "resources": dict(asked.resources), "required": sorted(asked.required), "forbidden": sorted(asked.forbidden)
        }  # fmt: skip
        answer["candidates"] = [one.name for one in hosts if not scheduling_filters.placement_refusal(one, asked)]
        preview = schedule(hosts, request, settings, aggregates)
    except SchedulingError:
        return {**answer, "error": "SchedulingError"}
    for placing in preview.placings:
        if not placing.refused and not placing.order:
            break
        first = {name: found[0].filter for name, found in placing.refused.items()}
        answer["refused"].append({name: one for name, one in first.items() if one not in BEFORE_FILTERS})
        answer["weighed"].append([[one.host.name, one.weight] for one in placing.order])
        answer["chosen"] += [placing.host] if placing.host else []
    answer["error"] = "" if preview.fits else "NoValidHost"
    return answer


@pytest.fixture(scope="module")
def answers() -> list[tuple[Case, dict[str, Any], dict[str, Any]]]:
    """Return cases, what Nova says of them, and what Brume says; fails where Nova cannot be installed."""
    cases = [case_of(SEED + number) for number in range(CASES)]
    asked = json.dumps([as_json(case) for case in cases])
    done = subprocess.run(
        [nova_python(), "-I", str(COMPARATOR)], input=asked, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return list(zip(cases, json.loads(done.stdout), map(answer_of, cases), strict=True))


FAILURES = {"ValueError", "ComputeHostMetricNotFound", "RequestFilterFailed", "SchedulingError", "IndexError"}


def compared(nova: dict[str, Any], brume: dict[str, Any]) -> list[str]:
    """Return in what two answers differ; where Nova fails, how far it came before does not count."""
    if nova["error"] in FAILURES or brume["error"] in FAILURES:
        return [] if nova["error"] in FAILURES and brume["error"] in FAILURES else ["error"]
    found = [key for key in ("query", "candidates", "chosen", "error") if nova[key] != brume[key]]
    # Without a candidate Nova does not get to its filters, and without hosts not to its weighers.
    found += ["refused"] if nova["candidates"] and nova["refused"] != brume["refused"] else []
    for mine, theirs in zip(brume["weighed"], nova["weighed"], strict=False):
        passed = {name for name, _ in mine}
        kept = [one for one in theirs if one[0] in passed]
        if [name for name, _ in mine] != [name for name, _ in kept]:
            found.append("order")
        elif [weight for _, weight in mine] != pytest.approx([weight for _, weight in kept]):
            found.append("weights")
    return found


def test_previews_say_what_nova_does(answers: list[tuple[Case, dict[str, Any], dict[str, Any]]]) -> None:
    different = {
        SEED + number: (found, nova, brume)
        for number, (_, nova, brume) in enumerate(answers)
        if (found := compared(nova, brume))
    }
    assert len(answers) >= 500
    assert different == {}


def test_the_cases_try_everything(answers: list[tuple[Case, dict[str, Any], dict[str, Any]]]) -> None:
    refusals = collections.Counter(name for _, nova, _ in answers for one in nova["refused"] for name in one.values())
    silent = {"AllHostsFilter", "JsonFilter", "NUMATopologyFilter", "PciPassthroughFilter", "SimpleCIDRAffinityFilter"}
    assert {name for name in FILTERS if refusals[name] < 3} == silent
    errors = collections.Counter(nova["error"] for _, nova, _ in answers)
    assert min(errors[name] for name in ("NoValidHost", "ValueError", "RequestFilterFailed")) >= 2
    assert errors[""] > CASES / 4
    assert sum(len(nova["chosen"]) > 1 for _, nova, _ in answers) > CASES / 20
