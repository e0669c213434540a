"""A Nova and a Placement in memory that move instances: each look at a server carries its operation a step further."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from ansible_collections.brume.cloud.plugins.module_utils.api_session import ApiError

RAM = 8192
SIZES = {"m1": (1, 1024, 10), "m4": (2, 4096, 20)}
LIVE_STEPS, COLD_STEPS = 3, 2


class Killed(BaseException):
    """The run is killed at this request."""


class Nova:
    """`calls` holds every change in order; with `kill` the run dies at a request, before or after it arrived."""

    def __init__(self, hosts: int = 4, ram: int = RAM) -> None:
        """Make hosts without instances."""
        self.services = {
            f"compute{number}": {
                "id": f"service{number}",
                "host": f"compute{number}",
                "binary": "nova-compute",
                "status": "enabled",
                "state": "up",
                "disabled_reason": None,
            }
            for number in range(1, hosts + 1)
        }
        self.ram = ram
        self.servers: dict[str, dict[str, Any]] = {}
        self.jobs: dict[str, dict[str, Any]] = {}
        self.migrations: list[dict[str, Any]] = []
        self.allocations: dict[str, tuple[str, int]] = {}
        """Consumer -> host and memory."""
        self.groups: list[dict[str, Any]] = []
        self.actions: dict[str, list[tuple[str, str]]] = {}
        self.refusing: dict[str, int] = {}
        """By destination: how many live migrations to it fail."""
        self.hanging: set[str] = set()
        self.calls: list[str] = []
        self.asked: list[str] = []
        self.most: dict[str, int] = {}
        """By host: most instances on their way from it at once."""
        self.numbers = itertools.count(1)
        self.kill: tuple[int, bool] | None = None
        self.requests = 0
        self.lock = threading.RLock()

    def server(self, name: str, host: str, state: str = "active", size: str = "m1", **more: Any) -> str:
        """Make an instance and return its id."""
        uuid = f"uuid-{name}"
        vcpus, ram, disk = SIZES[size]
        flavor = {"original_name": size, "vcpus": vcpus, "ram": ram, "disk": disk, "ephemeral": 0, "swap": 0}
        self.servers[uuid] = {
            "id": uuid,
            "name": name,
            "tenant_id": "project",
            "status": state.upper(),
            "flavor": {**flavor, "extra_specs": more.pop("extra_specs", {})},
            "image": {"id": "image", "properties": more.pop("properties", {})},
            "pinned_availability_zone": None,
            "OS-EXT-SRV-ATTR:host": host,
            "OS-EXT-STS:vm_state": state,
            "OS-EXT-STS:task_state": more.pop("task", None),
            **more,
        }
        self.allocations[uuid] = (host, ram)
        return uuid

    def host_of(self, uuid: str) -> str:
        """Return where an instance is."""
        return str(self.servers[uuid]["OS-EXT-SRV-ATTR:host"])

    def state_of(self, uuid: str) -> tuple[str, str | None]:
        """Return an instance's state and task."""
        server = self.servers[uuid]
        return server["OS-EXT-STS:vm_state"], server["OS-EXT-STS:task_state"]

    def on(self, host: str) -> list[str]:
        """Return the names of a host's instances."""
        return sorted(one["name"] for one in self.servers.values() if one["OS-EXT-SRV-ATTR:host"] == host)

    # --- requests ---

    def request(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Answer one request of Nova's."""
        return self._dying(lambda: self._answer(method, path, body or {}))

    def placement(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Answer one request of Placement's."""
        assert method == "GET", "Placement is only read"
        return self._dying(lambda: self._provider(path.strip("/").split("/")))

    def _dying(self, answer: Any) -> dict[str, Any]:
        with self.lock:
            self.requests += 1
            if self.kill is not None and self.requests > self.kill[0]:
                raise Killed
            dies = self.kill is not None and self.requests == self.kill[0]
            if dies and not self.kill[1]:
                raise Killed
            result: dict[str, Any] = json.loads(json.dumps(answer()))
            if dies:
                raise Killed
            return result

    def _answer(self, method: str, path: str, body: Mapping[str, Any]) -> Any:
        address = urlsplit(path)
        query = {name: value[0] for name, value in parse_qs(address.query).items()}
        parts = [unquote(part) for part in address.path.strip("/").split("/")]
        if method == "GET":
            self.asked.append(path)
            return self._read(parts, query)
        self.calls.append(f"{method} {address.path} {json.dumps(body, sort_keys=True)}")
        if parts[0] == "os-services":
            service = next(one for one in self.services.values() if one["id"] == parts[1])
            service |= {"status": body["status"], "disabled_reason": body.get("disabled_reason")}
            return {"service": service}
        assert parts[0] == "servers" and parts[2] == "action"
        return self._act(self._found(parts[1]), *next(iter(body.items())))

    def _found(self, uuid: str) -> dict[str, Any]:
        if uuid not in self.servers:
            raise ApiError("Instance could not be found. (HTTP 404)", 404)
        return self.servers[uuid]

    def _read(self, parts: list[str], query: dict[str, str]) -> Any:  # noqa: PLR0911 - one per path
        if parts == ["os-services"]:
            return {"services": list(self.services.values())}
        if parts == ["servers", "detail"]:
            assert query["all_tenants"] == "true"
            found = list(self.servers.values())
            if "host" in query:
                found = [one for one in found if one["OS-EXT-SRV-ATTR:host"] == query["host"]]
            return {"servers": [one for one in found if query.get("status", one["status"]) == one["status"]]}
        if parts == ["os-migrations"]:
            ends = ("source_compute", "dest_compute")
            return {"migrations": [one for one in self.migrations[::-1] if query["host"] in [one[end] for end in ends]]}
        if parts[0] == "servers" and len(parts) == 2:
            self._found(parts[1])
            self._tick(parts[1])
            return {"server": self._found(parts[1])}
        if parts[0] == "servers" and parts[2] == "migrations":
            job = self.jobs.get(parts[1])
            left = job["left"] if job else 0
            return {"migrations": [{"id": 1, "status": "running", "memory_remaining_bytes": left}] if job else []}
        if parts[0] == "servers" and len(parts) == 3:
            found = [{"request_id": str(number)} for number in range(len(self.actions.get(parts[1], ())))]
            return {"instanceActions": found[::-1]}
        if parts[0] == "servers":
            event, trace = self.actions[parts[1]][int(parts[3])]
            return {"instanceAction": {"events": [{"event": event, "result": "Error", "traceback": trace}]}}
        if parts[0] == "os-hypervisors":
            return {"hypervisors": [self._hypervisor(host) for host, one in self.services.items() if "id" in one]}
        return {
            "os-aggregates": {"aggregates": []},
            "flavors": {"flavors": []},
            "os-server-groups": {"server_groups": self.groups if query.get("offset") == "0" else []},
        }[parts[0]]

    def _hypervisor(self, host: str) -> dict[str, Any]:
        service = self.services[host]
        servers = [{"uuid": one["id"]} for one in self.servers.values() if one["OS-EXT-SRV-ATTR:host"] == host]
        numbers = {"vcpus": 16, "memory_mb": self.ram, "free_ram_mb": self.ram, "local_gb": 500, "free_disk_gb": 500}
        return {
            "id": f"node-{host}",
            "hypervisor_hostname": f"{host}.example",
            "hypervisor_type": "QEMU",
            "hypervisor_version": 1,
            "host_ip": "192.0.2.1",
            "status": service["status"],
            "state": service["state"],
            "service": {"host": host, "disabled_reason": service["disabled_reason"]},
            "servers": servers,
            "running_vms": len(servers),
            "vcpus_used": 0,
            "local_gb_used": 0,
            "disk_available_least": None,
            **numbers,
        }

    def _provider(self, parts: list[str]) -> Any:
        if len(parts) == 1:
            return {"resource_providers": []}
        host = parts[1].removeprefix("node-")
        consumers = {uuid: ram for uuid, (where, ram) in self.allocations.items() if where == host}
        rest = {"reserved": 0, "min_unit": 1, "step_size": 1, "allocation_ratio": 1.0}
        inventory = {"VCPU": 64, "MEMORY_MB": self.ram, "DISK_GB": 500}
        return {
            "inventories": {"inventories": {k: {"total": v, "max_unit": v, **rest} for k, v in inventory.items()}},
            "usages": {"usages": {"VCPU": 0, "MEMORY_MB": sum(consumers.values()), "DISK_GB": 0}},
            "traits": {"traits": []},
            "allocations": {"allocations": {uuid: {} for uuid in consumers}},
        }[parts[2]]

    # --- operations ---

    def _refuse(self, server: dict[str, Any], states: tuple[str, ...]) -> None:
        state, task = server["OS-EXT-STS:vm_state"], server["OS-EXT-STS:task_state"]
        if state not in states or task:
            raise ApiError(f"Cannot do it while it is in {state}, {task} (HTTP 409)", 409)

    def _act(self, server: dict[str, Any], action: str, given: Any) -> dict[str, Any]:
        uuid = server["id"]
        if action == "confirmResize":
            self._refuse(server, ("resized",))
            found = [one for one in self.migrations if one["instance_uuid"] == uuid and one["status"] == "finished"]
            if not found:
                raise ApiError("Instance has not been resized. (HTTP 400)", 400)
            found[0]["status"] = "confirming"
            self.jobs[uuid] = {"kind": "confirm", "left": 1, "migration": found[0]}
            return {}
        source = server["OS-EXT-SRV-ATTR:host"]
        if action == "shelveOffload":
            self._refuse(server, ("shelved",))
            server["OS-EXT-STS:task_state"] = "shelving_offloading"
            self.jobs[uuid] = {"kind": "offload", "left": 1}
            return {}
        live = action == "os-migrateLive"
        self._refuse(server, ("active", "paused") if live else ("active", "stopped"))
        assert "force" not in given
        if live:
            assert given["block_migration"] == "auto"
        self.start(uuid, given["host"], live)
        going = [one for one in self.jobs if self.jobs[one].get("source") == source]
        self.most[source] = max(self.most.get(source, 0), len(going))
        return {}

    def start(self, uuid: str, destination: str, live: bool, kind: str = "migration") -> dict[str, Any]:
        """Begin a migration as Nova's API does it."""
        server = self.servers[uuid]
        source = server["OS-EXT-SRV-ATTR:host"]
        migration = {
            "id": next(self.numbers),
            "uuid": f"migration-{uuid}-{len(self.migrations)}",
            "instance_uuid": uuid,
            "source_compute": source,
            "dest_compute": destination,
            "status": "running" if live else "migrating",
            "migration_type": "live-migration" if live else kind,
        }
        self.migrations.append(migration)
        server["OS-EXT-STS:task_state"] = "migrating" if live else "resize_prep"
        steps = LIVE_STEPS if live else COLD_STEPS
        job = {"kind": "live" if live else "cold", "left": steps, "migration": migration, "source": source}
        self.jobs[uuid] = job
        return job

    def _tick(self, uuid: str) -> None:
        """Carry an instance's operation one step further."""
        job, server = self.jobs.get(uuid), self.servers[uuid]
        if job is None or uuid in self.hanging:
            return
        job["left"] -= 1
        if job["left"] > 0:
            return
        del self.jobs[uuid]
        getattr(self, f"_end_{job['kind']}")(server, job)

    def _arrive(self, server: dict[str, Any], job: dict[str, Any]) -> bool:
        """Judge the destination as the scheduler does; return whether the instance is there now."""
        uuid, migration = server["id"], job["migration"]
        target = migration["dest_compute"]
        used = sum(ram for where, ram in self.allocations.values() if where == target)
        group = next((one for one in self.groups if uuid in one["members"]), {"members": []})
        why = ""
        if job["kind"] == "live" and self.refusing.get(target, 0):
            self.refusing[target] -= 1
            why = "qemu said no"
        elif (
            self.services[target]["status"] == "disabled"
            or used + server["flavor"]["ram"] > self.ram
            or any(self.host_of(one) == target for one in group["members"] if one != uuid)
        ):
            why = "No valid host was found."
        server["OS-EXT-STS:task_state"] = None
        if why:
            migration["status"] = "error"
            self.actions.setdefault(uuid, []).append(("compute_live_migration", f"Traceback\n  Error: {why}"))
            return False
        server["OS-EXT-SRV-ATTR:host"] = target
        return True

    def _end_live(self, server: dict[str, Any], job: dict[str, Any]) -> None:
        if self._arrive(server, job):
            job["migration"]["status"] = "completed"
            self.allocations[server["id"]] = (job["migration"]["dest_compute"], server["flavor"]["ram"])

    def _end_cold(self, server: dict[str, Any], job: dict[str, Any]) -> None:
        former = server["OS-EXT-STS:vm_state"]
        if self._arrive(server, job):
            migration = job["migration"]
            self.allocations[migration["uuid"]] = self.allocations[server["id"]]
            self.allocations[server["id"]] = (migration["dest_compute"], server["flavor"]["ram"])
            migration |= {"status": "finished", "former": former}
            server |= {"OS-EXT-STS:vm_state": "resized", "status": "VERIFY_RESIZE"}

    def _end_confirm(self, server: dict[str, Any], job: dict[str, Any]) -> None:
        migration = job["migration"]
        del self.allocations[migration["uuid"]]
        migration["status"] = "confirmed"
        server |= {"OS-EXT-STS:vm_state": migration["former"], "status": migration["former"].upper()}

    def _end_offload(self, server: dict[str, Any], _job: dict[str, Any]) -> None:
        del self.allocations[server["id"]]
        server |= {"OS-EXT-STS:vm_state": "shelved_offloaded", "OS-EXT-STS:task_state": None}
        server["OS-EXT-SRV-ATTR:host"] = None

    def finish(self, uuid: str) -> None:
        """Let an operation end without anybody looking."""
        while uuid in self.jobs:
            self._tick(uuid)
