"""A picture of the plan: hosts as rows, networks as lines that run down through them, in SVG 1.1 and CSS alone.

Deterministic, so that a committed picture can be compared with what the plan gives today. Lengths are in SVG's user
units, which are pixels at the natural size.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from ansible_collections.brume.cloud.plugins.module_utils.description import Service
from ansible_collections.brume.cloud.plugins.module_utils.plan import Cloud, Host, Network, Plan, bridge

ORDER = ("api", "management", "tunnel", "external", "storage", "replication")
"""Networks from left to right; others follow by name."""

COLORS: Mapping[str, tuple[str, str]] = {
    "api": ("#1a7f37", "#3fb950"),
    "management": ("#0969da", "#58a6ff"),
    "tunnel": ("#8250df", "#bc8cff"),
    "external": ("#bc4c00", "#f0883e"),
    "storage": ("#7d4e00", "#e3b341"),
    "replication": ("#bf3989", "#f778ba"),
}
OTHER = ("#57606a", "#9ea7b3")
"""Colors of lines on a light and on a dark ground."""

PAPER: Mapping[str, tuple[str, str]] = {
    "ground": ("#ffffff", "#0d1117"),
    "box": ("#f6f8fa", "#161b22"),
    "row": ("#ffffff", "#0d1117"),
    "edge": ("#d0d7de", "#3d444d"),
    "text": ("#1f2328", "#f0f6fc"),
    "small": ("#59636e", "#9ea7b3"),
}

MARGIN, GAP = 20, 14
NAME, TITLE, ROW, LINE = 30, 30, 34, 16
"""Heights: of a network's name, of a box's title, of a host, of a line of small text."""

LETTER, DIGIT = 6.4, 7.3
"""Widths of a character of small text and of an address, on the large side of what browsers choose."""

SERVICES, COMPONENTS = 92, 250
"""Widths of the columns of services and of their components."""


BRIDGE = "bridge"
"""Where an interface has no address, because it is a port of a bridge."""


@dataclass(frozen=True)
class _Box:
    """Hosts that are in the same groups and run the same components."""

    groups: tuple[str, ...]
    hosts: tuple[Host, ...]
    components: tuple[tuple[str, str], ...]
    """Lines of service and components; the service is empty where the line goes on."""


@dataclass(frozen=True)
class _Meeting:
    """Where a network's line meets a host's row, or that of the shared addresses."""

    middle: int
    text: str
    shared: bool


@dataclass
class _Column:
    """A network's line, the room to the next one, and its hosts from top to bottom."""

    network: Network
    left: int
    room: int
    meets: list[_Meeting]


def svg(plan: Plan, services: Mapping[str, Service]) -> str:
    """Return the picture of a plan; `services` are the descriptions of its services."""
    cloud = plan.cloud
    networks = _networks(cloud)
    names = max(_width(host.name, LETTER + 1.2) for host in plan.hosts.values())
    columns = _columns(plan, networks, MARGIN + GAP + max(int(names) + 40, 106))
    right = columns[-1].left + columns[-1].room
    width = right + GAP + SERVICES + COMPONENTS + GAP + MARGIN
    top = MARGIN + NAME + LINE * max(len(_facts(cloud, network)) for network in networks) + GAP
    heads = [part for column in columns for part in _head(cloud, column)]
    boxes, rows = [], []
    for box in _boxes(plan, services):
        vips = _vips(cloud) if "loadbalancer" in box.groups else {}
        listed = [("VIP", vips), *((host.name, _places(host, networks)) for host in box.hosts)][0 if vips else 1 :]
        height = TITLE + max(len(listed) * ROW, len(box.components) * LINE + 4) + 10
        boxes.append(_rect("box", MARGIN, top, width - 2 * MARGIN, height, 8))
        rows.append(_text("title", MARGIN + GAP, top + 20, " · ".join(box.groups)))
        for number, (name, places) in enumerate(listed):
            middle = top + TITLE + number * ROW + ROW // 2
            shared = places is vips
            if not shared:
                rows.append(_rect("row", MARGIN + GAP, middle - ROW // 2 + 2, right - MARGIN - GAP, ROW - 4, 5))
            rows.append(_text("host shared" if shared else "host", MARGIN + GAP + 8, middle + 5, name))
            for column in columns:
                if column.network.name in places:
                    column.meets.append(_Meeting(middle, places[column.network.name], shared))
        rows += _listed(box.components, right + GAP, top + TITLE + 11, SERVICES)
        top += height + GAP
    outside = _outside(cloud)
    if outside:
        height = TITLE + len(outside) * LINE + 6
        boxes.append(_rect("box outside", MARGIN, top, width - 2 * MARGIN, height, 8))
        rows.append(_text("title", MARGIN + GAP, top + 20, "external infrastructure"))
        rows += _listed(outside, MARGIN + GAP + 8, top + TITLE + 9, SERVICES)
        top += height + GAP
    lines = [_line(column, MARGIN, column.meets[-1].middle) for column in columns if column.meets]
    said = f"Hosts, networks and components of a cloud of release {cloud.release}"
    height = top - GAP + MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" role="img">',
        f"<title>{escape(said)}</title>",
        f"<style>\n{_style(networks)}\n</style>",
        _rect("ground", 0, 0, width, height, 10),
        *boxes,
        *lines,
        *heads,
        *rows,
        *(part for column in columns for part in _marks(column)),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _networks(cloud: Cloud) -> list[Network]:
    """Return the networks that are not others' by fall-back, from left to right."""
    own = [one for role, one in cloud.networks.items() if one.name == role]
    return sorted(own, key=lambda one: (ORDER.index(one.name) if one.name in ORDER else len(ORDER), one.name))


def _guests(cloud: Cloud, network: Network) -> list[str]:
    """Return the roles that have no network of their own and use this one; those of storage nobody asked for."""
    return [role for role in ("api", "tunnel") if role != network.name and cloud.networks[role].name == network.name]


def _columns(plan: Plan, networks: Sequence[Network], left: int) -> list[_Column]:
    result = []
    for network in networks:
        addresses = [_places(host, [network]).get(network.name, "") for host in plan.hosts.values()]
        addresses.append(_vips(plan.cloud).get(network.name, ""))
        room = max(
            110.0,
            *(_width(text, DIGIT) for text in [*addresses, str(network.cidr)]),
            *(_width(text, LETTER) for text in _facts(plan.cloud, network)[1:]),
        )
        result.append(_Column(network, left, int(room) + 34, []))
        left += int(room) + 34
    return result


def _facts(cloud: Cloud, network: Network) -> list[str]:
    """Return what the head of a network says below its name."""
    guests = ", ".join(_guests(cloud, network))
    return [
        str(network.cidr),
        f"{network.interface}, MTU {network.mtu}",
        *([f"gateway {network.gateway}"] if network.gateway is not None else []),
        *([network.fqdn] if network.fqdn else []),
        *([f"also {guests}"] if guests else []),
    ]


def _places(host: Host, networks: Iterable[Network]) -> dict[str, str]:
    """Return a host's addresses by network, with the interface where it has another name than elsewhere."""
    found = {}
    for network in networks:
        interface = host.interfaces.get(network.name, network.interface)
        other = f" {interface}" if interface != network.interface else ""
        if network.name in host.addresses:
            found[network.name] = f"{host.addresses[network.name]}{other}"
        elif network.name == "external" and host.external_bridge:
            found[network.name] = f"{BRIDGE}{other}"
    return found


def _vips(cloud: Cloud) -> dict[str, str]:
    return {name: str(one.vip) for name, one in cloud.networks.items() if one.name == name and one.vip is not None}


def _boxes(plan: Plan, services: Mapping[str, Service]) -> list[_Box]:
    """Return the hosts by what they are for, in the plan's order."""
    found: dict[tuple[tuple[str, ...], tuple[tuple[str, str], ...]], list[Host]] = {}
    for host in plan.hosts.values():
        found.setdefault((host.groups, tuple(_components(host, services))), []).append(host)
    return [_Box(groups, tuple(hosts), components) for (groups, components), hosts in found.items()]


def _components(host: Host, services: Mapping[str, Service]) -> list[tuple[str, str]]:
    """Return lines of service and components; what all hosts have is left out."""
    names: dict[str, dict[str, None]] = {}
    for one in host.instances:
        if "all" not in services[one.service].components[one.component].groups:
            names.setdefault(one.service, {})[f"{one.component} {one.cell}".strip()] = None
    lines: list[tuple[str, str]] = []
    for service, components in names.items():
        text = ""
        first = service
        for component in components:
            if text and _width(f"{text}, {component},", LETTER) > COMPONENTS:
                lines.append((first, f"{text},"))
                first, text = "", ""
            text = f"{text}, {component}" if text else component
        lines.append((first, text))
    return lines


def _outside(cloud: Cloud) -> list[tuple[str, str]]:
    """Return name and place of what is external."""
    external = cloud.external
    lines = [
        (group, ", ".join(f"{bridge(host)}:{server.port}" for host in server.hosts))
        for group, server in (("database", external.database), ("messaging", external.messaging))
        if server is not None
    ]
    if external.loadbalancer is not None:
        text = f"internal {external.loadbalancer.internal}, public {external.loadbalancer.public}"
        lines.append(("load balancer", text))
    if external.identity is not None:
        lines.append(("Keystone", f"internal {external.identity.internal}, public {external.identity.public}"))
    return lines


def _listed(lines: Iterable[tuple[str, str]], left: int, base: int, room: int) -> list[str]:
    """Return lines of names and what belongs to them."""
    parts = []
    for number, (name, text) in enumerate(lines):
        parts += [_text("service", left, base + number * LINE, name)] if name else []
        parts.append(_text("small", left + room, base + number * LINE, text))
    return parts


def _marks(column: _Column) -> list[str]:
    """Return the points at which a line meets rows; it passes behind those that it does not meet."""
    parts = []
    for meeting in column.meets:
        middle, last = meeting.middle, meeting is column.meets[-1]
        parts.append(_line(column, middle - ROW // 2, middle + (0 if last else ROW // 2)))
        bare = meeting.text.startswith(BRIDGE)
        if meeting.shared:
            shape = f'<path class="mark {_color(column.network)}" d="M{column.left - 7} {middle}l7 -7l7 7l-7 7z"/>'
        else:
            kind = "hollow" if bare else "mark"
            shape = f'<circle class="{kind} {_color(column.network)}" cx="{column.left}" cy="{middle}" r="5"/>'
        parts += [shape, _text("small" if bare else "address", column.left + 12, middle + 4, meeting.text)]
    return parts


def _line(column: _Column, start: int, end: int) -> str:
    return f'<path class="line {_color(column.network)}" d="M{column.left} {start}V{end}"/>'


def _head(cloud: Cloud, column: _Column) -> list[str]:
    left = column.left + 12
    return [
        _text(f"network {_color(column.network)}", left, MARGIN + 12, column.network.name),
        *(
            _text("address" if number == 0 else "small", left, MARGIN + NAME + number * LINE, line)
            for number, line in enumerate(_facts(cloud, column.network))
        ),
    ]


def _color(network: Network) -> str:
    return f"of-{network.name}" if network.name in COLORS else "of-other"


def _style(networks: Sequence[Network]) -> str:
    """Return the style sheet, for a light ground and, where the reader's is dark, for a dark one."""
    names = [one.name for one in networks if one.name in COLORS] + ["other"] * any(
        one.name not in COLORS for one in networks
    )

    def colors(dark: bool) -> str:
        paper = {key: pair[dark] for key, pair in PAPER.items()}
        rules = [
            f".ground{{fill:{paper['ground']}}}",
            f".box{{fill:{paper['box']};stroke:{paper['edge']}}}",
            f".row{{fill:{paper['row']};stroke:{paper['edge']}}}",
            f".host,.service,.address{{fill:{paper['text']}}}",
            f".title,.small{{fill:{paper['small']}}}",
            f".title{{stroke:{paper['box']}}}",
            f".hollow{{fill:{paper['row']}}}",
        ]
        for name in names:
            color = COLORS.get(name, OTHER)[dark]
            rules.append(f".line.of-{name},.hollow.of-{name}{{stroke:{color}}}")
            rules.append(f".mark.of-{name},.network.of-{name}{{fill:{color}}}")
        return "\n".join(rules)

    return "\n".join(
        [
            "text{font-family:system-ui,-apple-system,'Segoe UI','DejaVu Sans',sans-serif;font-size:12px}",
            ".title{font-weight:600;paint-order:stroke;stroke-width:8px;stroke-linejoin:round}",
            ".host{font-weight:600;font-size:13px}",
            ".shared{font-style:italic}",
            ".service{font-weight:600;font-size:11px}",
            ".small{font-size:11px}",
            ".address{font-family:ui-monospace,'DejaVu Sans Mono',monospace}",
            ".network{font-weight:700;font-size:14px}",
            ".line{fill:none;stroke-width:4}",
            ".hollow{stroke-width:3}",
            ".outside{stroke-dasharray:6 4}",
            colors(dark=False),
            "@media (prefers-color-scheme:dark){",
            colors(dark=True),
            "}",
        ]
    )


def _rect(kind: str, left: int, top: int, width: int, height: int, radius: int) -> str:
    return f'<rect class="{kind}" x="{left}" y="{top}" width="{width}" height="{height}" rx="{radius}"/>'


def _text(kind: str, left: int, base: int, text: str) -> str:
    return f'<text class="{kind}" x="{left}" y="{base}">{escape(text)}</text>'


def _width(text: str, letter: float) -> float:
    return len(text) * letter
