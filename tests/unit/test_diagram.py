"""The picture of a plan: what is in it, that nothing is cut off, and that those in the documentation are today's."""

from __future__ import annotations

import functools
import itertools
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from ansible_collections.brume.cloud.plugins.module_utils import diagram, sources
from ansible_collections.brume.cloud.plugins.module_utils.inventory_data import Inventory
from ansible_collections.brume.cloud.plugins.module_utils.plan import Plan, plan

from .inventories import AIO, IPV6, committed, inventory
from .test_external import ALL
from .test_plan import IPV6_GROUPS, IPV6_HOSTS

IMAGES = Path(__file__).resolve().parents[2] / "docs/images"
PICTURES = ("aio", "three_node", "ha", "ha_split")
SVG = "{http://www.w3.org/2000/svg}"


def draw(found: Plan) -> str:
    return diagram.svg(found, sources.load().services)


LONG: dict[str, Any] = {"brume_addresses": {"management": "2001:db8:1111:2222:3333:4444:5555:6666"}}
OWN: dict[str, Any] = {
    "brume_addresses": {"management": "192.0.2.11"},
    "brume_interfaces": {"external": "enp65s0f0np1"},
}


def with_network(name: str, **keys: str) -> dict[str, Any]:
    """Return the variables of one host with another network."""
    return AIO | {"brume_networks": AIO["brume_networks"] | {name: keys}}


INVENTORIES: dict[str, Callable[[], Inventory]] = {
    **{name: functools.partial(committed, name) for name in PICTURES},
    "ipv6": lambda: inventory(IPV6, hosts=IPV6_HOSTS, groups=IPV6_GROUPS),
    "long addresses": lambda: inventory(
        with_network("management", cidr="2001:db8:1111:2222::/64", interface="enp65s0f0np1"), hosts={"aio": LONG}
    ),
    "external": lambda: inventory(AIO | {"brume_external": ALL}, groups=dict.fromkeys(ALL)),
    "an interface of its own": lambda: inventory(AIO, hosts={"aio": OWN}),
    "a network of the operator's": lambda: inventory(with_network("backup", cidr="203.0.113.0/24", interface="e")),
}
"""All that a picture has to show."""


@functools.cache
def planned(kind: str) -> Plan:
    return plan(INVENTORIES[kind](), sources.load())


def texts(picture: str) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(picture).iter(f"{SVG}text"))  # noqa: S314  # it was made here


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_in_the_documentation_are_of_the_plan(name: str) -> None:
    """Compares with docs/images; BRUME_GOLDEN=write makes them anew."""
    picture = draw(plan(committed(name), sources.load()))
    path = IMAGES / f"{name}.svg"
    if os.environ.get("BRUME_GOLDEN") == "write":
        path.write_text(picture, encoding="utf-8")
    assert picture == path.read_text(encoding="utf-8")


def test_every_picture_has_its_page() -> None:
    assert {one.stem for one in IMAGES.glob("*.svg")} == set(PICTURES)
    pages = IMAGES.parent / "topologies"
    assert {one.stem for one in pages.glob("*.md")} == set(PICTURES)
    for name in PICTURES:
        page = (pages / f"{name}.md").read_text(encoding="utf-8")
        assert f"(../images/{name}.svg)" in page
        assert f"inventories/{name}" in page


@pytest.mark.parametrize("kind", INVENTORIES)
def test_hosts_addresses_and_vips_are_in_it(kind: str) -> None:
    found = planned(kind)
    shown = [one.text or "" for one in texts(draw(found))]
    for host in found.hosts.values():
        assert host.name in shown
        for role, address in host.addresses.items():
            if found.cloud.networks[role].name == role:
                assert str(address) in [text.split(" ")[0] for text in shown]
    for role, network in found.cloud.networks.items():
        if network.name == role:
            assert role in shown
            assert str(network.cidr) in shown
            assert network.vip is None or str(network.vip) in shown


@pytest.mark.parametrize("kind", INVENTORIES)
def test_every_component_of_one_group_is_in_it(kind: str) -> None:
    found, services = planned(kind), sources.load().services
    words = {word.strip(",") for one in texts(draw(found)) for word in (one.text or "").split(" ")}
    wanted = {
        word
        for host in found.hosts.values()
        for one in host.instances
        if "all" not in services[one.service].components[one.component].groups
        for word in (one.service, one.component)
    }
    assert wanted <= words


@pytest.mark.parametrize("kind", INVENTORIES)
def test_nothing_is_cut_off_or_on_top_of_another(kind: str) -> None:
    """Widths are estimated: 6.1 a character of small text, 7.25 of an address, as with DejaVu Sans."""
    picture = draw(planned(kind))
    root = ElementTree.fromstring(picture)  # noqa: S314  # it was made here
    width, height = float(root.get("width", "")), float(root.get("height", ""))
    rows: dict[float, list[tuple[float, float, str]]] = {}
    for one in texts(picture):
        classes = (one.get("class") or "").split()
        letter = {"address": 7.25, "host": 8.4, "service": 7.0, "network": 9.2}.get(classes[0], 6.1)
        left, base = float(one.get("x", "")), float(one.get("y", ""))
        assert base < height - 5
        if classes[0] != "title":  # it has a ground of its own
            rows.setdefault(base, []).append((left, left + letter * len(one.text or ""), one.text or ""))
    for found in rows.values():
        found.sort()
        assert found[-1][1] <= width - 5, found[-1]
        for (_start, end, text), (start, _end, other) in itertools.pairwise(found):
            assert end <= start, (text, other)


def test_a_line_ends_at_its_last_host() -> None:
    found = plan(committed("three_node"), sources.load())
    picture = draw(found)
    rows = {one.text: float(one.get("y", "")) - 5 for one in texts(picture)}
    ends: dict[str, float] = {}
    for color, end in re.findall(r'class="line of-(\w+)" d="M\d+ \d+V(\d+)"', picture):
        ends[color] = max(ends.get(color, 0), float(end))
    assert ends == {
        "api": rows["controller1"],
        "management": rows["compute1"],
        "tunnel": rows["compute1"],
        "external": rows["network1"],
    }


def test_the_same_plan_gives_the_same_picture() -> None:
    assert draw(plan(committed("ha"), sources.load())) == draw(plan(committed("ha"), sources.load()))


def test_names_cannot_break_the_picture() -> None:
    variables = with_network("a<b&c", cidr="203.0.113.0/24", interface="e")
    shown = [one.text for one in texts(draw(plan(inventory(variables), sources.load())))]
    assert "a<b&c" in shown
