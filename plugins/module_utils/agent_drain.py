"""Takes networks and routers from Neutron's DHCP and L3 agents, so that their hosts can be maintained. One session.

A network or router gets its next agent, which is waited for, before it leaves this one; only a router without HA cannot
be on two. Everything is read anew at each pass, so that a run goes on where a killed one ended. `compare` is pure but
for the callables it hands out. Rules are those of neutron.db.agentschedulers_db and l3_agentschedulers_db at 2026.1,
paths those of the Networking API (https://docs.openstack.org/api-ref/network/v2/).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import quote, urlencode

from ansible_collections.brume.cloud.plugins.module_utils.api_session import NOT_FOUND, ApiError, Record, Request, pages
from ansible_collections.brume.cloud.plugins.module_utils.convergence import (
    SIDE_BY_SIDE,
    Action,
    ConvergenceError,
    report,
    side_by_side,
    values,
)

DHCP, L3 = "DHCP agent", "L3 agent"
OVN_GATEWAY = "OVN Controller Gateway agent"
CENTRAL = ("legacy", "dvr_snat")
"""Modes of L3 agents that routers are bound to; the others forward for their own host's instances alone."""

MARK = "brume: drained"
"""How the description of an agent begins that a drain disabled; what was there follows after a semicolon."""

POLL = 1.0
READY = 90
"""Looks at a port that a new agent has to bring up; its agent may be busy with others."""
PASSES = 5

REPAIR, MOVE, DISABLE = 1000, 2000, 3000
CONFLICT = 409


@dataclass(frozen=True)
class Wish:
    """What is wanted, as the module's options."""

    hosts: tuple[str, ...]
    enabled: bool = False
    accept_stuck: bool = False
    dhcp_agents_per_network: int = 1
    max_l3_agents_per_router: int = 3


@dataclass
class Actual:
    """What Neutron tells."""

    agents: dict[str, Record] = field(default_factory=dict)
    """DHCP and central L3 agents by id."""
    bound: dict[str, dict[str, Record]] = field(default_factory=dict)
    """By agent: its networks or routers by id."""
    unhosted: list[Record] = field(default_factory=list)
    """Routers without HA that are connected to something and have no agent."""


@dataclass
class Plan:
    """What a pass comes to."""

    actions: list[Action] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def _path(*parts: str) -> str:
    return "/v2.0/" + "/".join(quote(one, safe="") for one in parts)


def known_hosts(network: Request) -> set[str]:
    """Return the hosts of all of Neutron's agents. Raises ApiError."""
    return {one["host"] for one in pages(network, _path("agents"), "agents")}


# --- reading ----------------------------------------------------------------------------------------------------------


def fetch(wish: Wish, network: Request) -> Actual:
    """Read agents and what is bound to them. Raises ConvergenceError, for hosts with OVN's gateways too."""
    listed = pages(network, _path("agents"), "agents")
    gateways = sorted({one["host"] for one in listed if one["agent_type"] == OVN_GATEWAY and one["host"] in wish.hosts})
    if gateways and not wish.enabled:
        raise ConvergenceError(
            f"drain_hosts: {', '.join(gateways)}: gateways of OVN are not drained by this playbook\n"
            "  next: on the host `ovs-vsctl remove open_vswitch . external_ids ovn-cms-options`, which makes Neutron "
            "give its routers to other gateways; when `openstack network agent list` shows it as no gateway, drain "
            "what else is on it; site.yml makes it a gateway again"
        )
    agents = {one["id"]: one for one in listed if _is_central(one)}
    actual = Actual(agents)
    if wish.enabled or not any(one["host"] in wish.hosts for one in agents.values()):
        return actual
    lists = {number: partial(_bound, network, one) for number, one in agents.items()}
    actual.bound = values(side_by_side(lists))
    if any(one["agent_type"] == L3 and one["host"] in wish.hosts for one in agents.values()):
        actual.unhosted = _unhosted(network, {uuid for found in actual.bound.values() for uuid in found})
    return actual


def _is_central(agent: Record) -> bool:
    if agent["agent_type"] == L3:
        return (agent.get("configurations") or {}).get("agent_mode", CENTRAL[0]) in CENTRAL
    return bool(agent["agent_type"] == DHCP)


def _kind(agent: Record) -> tuple[str, str]:
    """Return the path below an agent and the name of one of its objects in a request's body."""
    return ("dhcp-networks", "network_id") if agent["agent_type"] == DHCP else ("l3-routers", "router_id")


def _bound(network: Request, agent: Record) -> dict[str, Record]:
    body = network("GET", _path("agents", agent["id"], _kind(agent)[0]))
    return {one["id"]: one for found in body.values() for one in found}


def _unhosted(network: Request, hosted: Collection[str]) -> list[Record]:
    """Return the routers that a kill between leaving one agent and joining the next has left with none."""
    routers = [
        one
        for one in pages(network, _path("routers"), "routers")
        if not one.get("ha") and one["admin_state_up"] and one["id"] not in hosted
    ]
    if not routers:
        return []
    ports = pages(network, _path("ports"), "ports", device_owner="network:router_interface")
    connected = {one["device_id"] for one in ports}
    return [one for one in routers if one.get("external_gateway_info") or one["id"] in connected]


# --- comparing --------------------------------------------------------------------------------------------------------


def compare(wish: Wish, actual: Actual, network: Request, sleep: Callable[[float], None]) -> Plan:
    """Return what is left to do."""
    plan = Plan()
    own = [one for one in actual.agents.values() if one["host"] in wish.hosts]
    if wish.enabled:
        for agent in own:
            plan.actions += _enabling(agent, network, plan.notes)
        return plan
    usable = [one for one in actual.agents.values() if one["host"] not in wish.hosts and _serves(one)]
    bound = {number: set(found) for number, found in actual.bound.items()}
    for router in actual.unhosted:
        target = _target(router, L3, usable, bound)
        if target is None:
            continue  # as it was before
        bound[target["id"]].add(router["id"])
        name = f"{router['name']} ({router['id']}) to {target['host']}, because it has no agent"
        after = {"l3_agents": [target["host"]]}
        apply = partial(_add, network, target, router["id"])
        plan.actions.append(Action("router", "update", name, {"l3_agents": []}, after, apply, REPAIR))
    for agent in own:
        left = len(plan.stuck)
        for record in actual.bound[agent["id"]].values():
            plan.actions += _leaving(wish, actual, agent, record, usable, bound, network, sleep, plan.stuck)
        if len(plan.stuck) > left:
            plan.notes.append(f"{agent['agent_type']} of {agent['host']} stays enabled for what cannot leave it")
        else:
            plan.actions += _disabling(agent, network, plan.notes)
    plan.actions.sort(key=lambda one: one.step)
    return plan


def _serves(agent: Record) -> bool:
    return bool(agent["alive"] and agent["admin_state_up"])


def _target(
    record: Record, agent_type: str, usable: Iterable[Record], bound: Mapping[str, Collection[str]]
) -> Record | None:
    """Return the agent that has least to do, one of the object's zones first; None where none can take it."""
    hints = record.get("availability_zone_hints") or ()
    fits = [
        one
        for one in usable
        if one["agent_type"] == agent_type
        and record["id"] not in bound[one["id"]]
        and not (record.get("distributed") and (one.get("configurations") or {}).get("agent_mode") != "dvr_snat")
    ]
    return min(
        fits,
        key=lambda one: (
            bool(hints) and one.get("availability_zone") not in hints, len(bound[one["id"]]), one["host"]
        ),
        default=None,
    )  # fmt: skip


def _leaving(
    wish: Wish,
    actual: Actual,
    agent: Record,
    record: Record,
    usable: list[Record],
    bound: dict[str, set[str]],
    network: Request,
    sleep: Callable[[float], None],
    stuck: list[str],
) -> Iterator[Action]:
    """Yield the change that takes an object from an agent, and note it in `bound`; or add the object to `stuck`."""
    dhcp = agent["agent_type"] == DHCP
    kind, attribute = ("network", "dhcp_agents") if dhcp else ("router", "l3_agents")
    before = sorted(actual.agents[number]["host"] for number, found in bound.items() if record["id"] in found)
    others = [one for one in usable if record["id"] in bound[one["id"]]]
    spare = len([one for one in usable if one["agent_type"] == agent["agent_type"]])
    limit = wish.dhcp_agents_per_network if dhcp else wish.max_l3_agents_per_router or spare
    enough = len(others) >= (limit if dhcp or record.get("ha") else 1)
    target = None if enough else _target(record, agent["agent_type"], usable, bound)
    label = f"{record['name']} ({record['id']})"
    if target is None and not others:
        stuck.append(
            f"{kind} {label} on the {agent['agent_type']} of {agent['host']}: no other agent can take it\n"
            f"  next: start or enable another {agent['agent_type']}, or drain fewer hosts at once"
        )
        return
    having = sorted(one["host"] for one in others)
    has = "has" if len(having) == 1 else "have"
    to = f"to {target['host']}" if target else f"since {', '.join(having)} {has} it too"
    bound[agent["id"]].remove(record["id"])
    if target is not None:
        bound[target["id"]].add(record["id"])
    after = sorted(actual.agents[number]["host"] for number, found in bound.items() if record["id"] in found)
    apply = partial(_move, network, agent, record, target, sleep)
    name = f"{label} from {agent['host']} {to}"
    yield Action(kind, "update", name, {attribute: before}, {attribute: after}, apply, MOVE)


def _disabling(agent: Record, network: Request, notes: list[str]) -> Iterator[Action]:
    former = agent.get("description") or ""
    name = f"{agent['agent_type']} of {agent['host']}"
    if agent["admin_state_up"]:
        after = {"admin_state_up": False, "description": f"{MARK}; {former}" if former else MARK}
        yield _change(agent, after, network)
    elif not former.startswith(MARK):
        notes.append(f"{name}: was disabled before, and will not be enabled by undrain.yml; its description: {former}")


def _enabling(agent: Record, network: Request, notes: list[str]) -> Iterator[Action]:
    text = agent.get("description") or ""
    if not agent["admin_state_up"] and text.startswith(MARK):
        former = text.removeprefix(MARK).removeprefix("; ")
        yield _change(agent, {"admin_state_up": True, "description": former}, network)
    elif not agent["admin_state_up"]:
        notes.append(f"{agent['agent_type']} of {agent['host']}: stays disabled; its description: {text or 'none'}")


def _change(agent: Record, after: Mapping[str, Any], network: Request) -> Action:
    before = {"admin_state_up": agent["admin_state_up"], "description": agent.get("description") or ""}
    apply = partial(network, "PUT", _path("agents", agent["id"]), {"agent": dict(after)})
    return Action("agent", "update", f"{agent['agent_type']} of {agent['host']}", before, after, apply, DISABLE)


def nothing_left(wish: Wish, actual: Actual) -> list[str]:
    """Return which kind of agents would be left on no host at all, although some of these now serve."""
    found = []
    for kind in (DHCP, L3):
        serving = {one["host"] for one in actual.agents.values() if one["agent_type"] == kind and _serves(one)}
        if serving and serving <= set(wish.hosts):
            found.append(
                f"drain_hosts: without {', '.join(sorted(serving))} no {kind} is left\n"
                f"  next: start or enable another {kind}, or drain fewer hosts at once"
            )
    return found


# --- doing ------------------------------------------------------------------------------------------------------------


def step(
    wish: Wish,
    network: Request,
    lines: list[str],
    *,
    begun: bool,
    check_mode: bool,
    until: float,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> dict[str, Any]:
    """Do as much as there is time for `until` (of `clock`), and return what to say: `done`, `lines`, `resume`.

    The call that is not `begun` also returns `changed`, `actions` and `diff` for all of it, and changes nothing when
    something cannot leave. Raises ConvergenceError for that and ApiError.
    """
    result: dict[str, Any] = {"changed": False}
    for _pass in range(PASSES):
        actual = fetch(wish, network)
        plan = compare(wish, actual, network, sleep)
        if not begun:
            begun = True
            result = {**report(plan.actions), "stuck": plan.stuck}
            lines += plan.notes
            problems = [] if wish.accept_stuck or wish.enabled else [*plan.stuck, *nothing_left(wish, actual)]
            if problems:
                insist = """next: or take the rest away with -e '{"drain_accept_stuck": true}'"""
                raise ConvergenceError("\n".join(["nothing was changed", *problems, insist]))
            if check_mode:
                break
        if not plan.actions:
            break
        if not _apply(plan.actions, lines, until, clock):
            return {**result, "done": False, "lines": lines, "resume": {"begun": True}}
        if wish.enabled:
            break
    else:
        raise ConvergenceError("networks or routers come back to the agents\n  next: see who adds them, and run again")
    return {**result, "done": True, "lines": lines}


def _apply(actions: list[Action], lines: list[str], until: float, clock: Callable[[], float]) -> bool:
    """Apply actions in the order of their steps, some side by side; return whether all were within time."""
    for number in sorted({action.step for action in actions}):
        now = [action for action in actions if action.step == number]
        for begin in range(0, len(now), SIDE_BY_SIDE):
            if clock() >= until and (begin or number != min(one.step for one in actions)):
                return False
            some = now[begin : begin + SIDE_BY_SIDE]
            values(side_by_side({str(action): action.apply for action in some}))
            lines += [str(action) for action in some]
    return True


def _add(network: Request, agent: Record, uuid: str) -> None:
    """Give an agent an object; one that has it already is no mistake."""
    path, name = _kind(agent)
    try:
        network("POST", _path("agents", agent["id"], path), {name: uuid})
    except ApiError as error:
        if error.status != CONFLICT or uuid not in _bound(network, agent):
            raise


def _remove(network: Request, agent: Record, uuid: str) -> None:
    try:
        network("DELETE", _path("agents", agent["id"], _kind(agent)[0], uuid))
    except ApiError as error:
        if error.status not in (NOT_FOUND, CONFLICT) or uuid in _bound(network, agent):
            raise


def _move(
    network: Request, agent: Record, record: Record, target: Record | None, sleep: Callable[[float], None]
) -> None:
    """Take an object from an agent, after its next one serves it where it can be on both."""
    uuid = record["id"]
    if agent["agent_type"] == L3 and not record.get("ha"):
        _remove(network, agent, uuid)  # nothing forwards from here on
        if target is not None:
            _add(network, target, uuid)
        return
    if target is not None:
        _add(network, target, uuid)
        if _is_served(network, agent, uuid):  # there is none for a network without DHCP, for example
            _wait(network, target, uuid, sleep)
    _remove(network, agent, uuid)


def _is_served(network: Request, agent: Record, uuid: str) -> bool:
    """Return whether an agent has brought up its port.

    The state that Neutron tells of a HA router's new agent is `standby` from the first moment on, and proves nothing.
    """
    dhcp = agent["agent_type"] == DHCP
    owner, of = ("network:dhcp", "network_id") if dhcp else ("network:router_ha_interface", "device_id")
    query = {"device_owner": owner, of: uuid, "binding:host_id": agent["host"]}
    return any(one["status"] == "ACTIVE" for one in network("GET", f"{_path('ports')}?{urlencode(query)}")["ports"])


def _wait(network: Request, target: Record, uuid: str, sleep: Callable[[float], None]) -> None:
    """Wait until an agent has brought up its port. Raises ConvergenceError."""
    for attempt in range(READY):
        if attempt:
            sleep(POLL)
        if _is_served(network, target, uuid):
            return
    raise ConvergenceError(
        f"the {target['agent_type']} of {target['host']} has not brought up its port in {READY * POLL:.0f} s; the one "
        f"that is drained serves on\n  next: see the agent's journal on {target['host']}, and run again"
    )
