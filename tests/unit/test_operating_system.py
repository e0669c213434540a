"""Another release of Debian in place: sources, what is in the way, who goes together, and in what order."""

from __future__ import annotations

import importlib
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.brume.cloud.plugins.action import update_order
from ansible_collections.brume.cloud.plugins.module_utils import (
    apt,
    apt_suite,
    host_updates,
    operating_system,
    plan,
    run,
    sources,
)
from ansible_collections.brume.cloud.plugins.module_utils.operating_system import Reading, Source

from tools.lab_parts import layout

from .inventories import AIO, inventory
from .playbooks import KEY, ROOT, one_host, playbook
from .test_cluster_start import Task
from .test_host_modules import PACKAGE, Call, converges, program
from .test_host_modules import call as call  # noqa: PLC0414  # a fixture
from .test_host_updates import NOTHING, ask, decide, slice_of
from .test_host_updates import cluster as cluster  # noqa: PLC0414  # a fixture
from .test_membership import THREE, answers

DEBIAN = "http://archive.example.org/debian"
OWN = {DEBIAN, "http://archive.example.org/debian-security"}

STANZAS = f"""# bookworm
Types: deb deb-src
URIs: {DEBIAN}/
Suites: bookworm bookworm-updates
 bookworm-backports
# Suites: bookworm
Components: main
Signed-By: /usr/share/keyrings/bookworm.gpg

Types: deb
URIs: http://archive.example.org/debian-security
Suites: bookworm-security
Components: main

Types: deb
URIs: https://mirror.example/mariadb
Suites: bookworm
Components: main

Enabled: no
Types: deb
URIs: https://off.example/
Suites: bookworm
"""
LINES = f"""deb [signed-by=/x] {DEBIAN} bookworm main contrib
 deb-src {DEBIAN}/ bookworm-updates main
# deb {DEBIAN} bookworm main
deb https://mirror.example/mariadb bookworm main
deb {DEBIAN} sid main
"""


def test_debian_s_own_suites_move_and_nothing_else() -> None:
    text = operating_system.rewrite(STANZAS, OWN, "bookworm", "trixie")
    first = "Suites: bookworm bookworm-updates\n bookworm-backports"
    expected = STANZAS.replace(first, first.replace("bookworm", "trixie"))
    assert text == expected.replace("Suites: bookworm-security", "Suites: trixie-security")
    assert operating_system.rewrite(text, OWN, "bookworm", "trixie") == text
    moved = operating_system.rewrite(LINES, OWN, "bookworm", "trixie")
    assert moved.splitlines() == [
        f"deb [signed-by=/x] {DEBIAN} trixie main contrib",
        f" deb-src {DEBIAN}/ trixie-updates main",
        *LINES.splitlines()[2:],
    ]


def test_a_stanza_that_is_partly_anothers_stays() -> None:
    text = f"Types: deb\nURIs: {DEBIAN} https://mirror.example/\nSuites: bookworm\nComponents: main\n"
    assert operating_system.rewrite(text, OWN, "bookworm", "trixie") == text


def test_what_still_names_the_former_suite_is_anothers() -> None:
    texts = {
        path: operating_system.rewrite(text, OWN, "bookworm", "trixie")
        for path, text in (
            ("a.sources", STANZAS),
            ("b.list", LINES),
            ("c.list", "deb https://x.example/bookworm/ ./\n"),
        )
    }
    assert operating_system.foreign(texts, "bookworm") == [
        Source("a.sources", "https://mirror.example/mariadb", "bookworm"),
        Source("b.list", "https://mirror.example/mariadb", "bookworm"),
        Source("c.list", "https://x.example/bookworm/", "./"),
    ], "but for what is disabled"
    assert operating_system.foreign(texts, "") == []


def test_who_a_source_is_says_its_release_file() -> None:
    text = f"{DEBIAN}/\tDebian\nhttp://b/\tDebian Backports\nhttps://mirror.example/mariadb/\tMariaDB\nhttp://new/\t\n"
    assert operating_system.parse_targets(text) == {DEBIAN, "http://b"}


def test_systems_are_the_same_everywhere() -> None:
    assert layout.SUITES == operating_system.SUITES
    assert operating_system.FORMER.items() <= {(new, old) for new in layout.SUITES for old in layout.SUITES}


GOOD = Reading(codename="bookworm")


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({}, ""),
        ({"codename": "trixie"}, ""),
        ({"codename": "sid"}, "it runs sid, and bookworm or trixie is expected"),
        ({"left": "update.yml"}, "update.yml was cut off here\n  next: run update.yml again"),
        ({"foreign": (Source("/x.list", "http://x", "bookworm"),)}, "/x.list names bookworm of http://x"),
        ({"own": False}, "apt knows no source of Debian's that leads to trixie"),
        ({"held": tuple("abcdefgh")}, "held: a, b, c, d, e, f and 2 more"),
        ({"pinned": ("/etc/apt/preferences",)}, "/etc/apt/preferences names bookworm"),
        ({"lost": ("nginx",)}, "apt would remove nginx"),
        ({"old_ssh": "1:9.2p1-2"}, "openssh-server 1:9.2p1-2 takes no new connection"),
        ({"space": {"/usr": (2 * 10**9, 10**9)}}, "/usr has 1.0 GB free, and 2.0 are needed"),
        ({"space": {"/usr": (10**9, 10**9)}}, ""),
        ({"releases": ("2025.1",)}, "environments of 2025.1 are here"),
    ],
)
def test_all_that_is_in_the_way_is_said_with_the_next_step(said: dict[str, Any], words: str) -> None:
    found = operating_system.findings(replace(GOOD, **said), "bookworm", "trixie")
    assert [one.startswith(words) and "\n  next: " in one for one in found] == [True] * bool(words)


def test_findings_are_said_at_once() -> None:
    said = replace(GOOD, held=("a",), own=False, lost=("b",))
    assert len(operating_system.findings(said, "bookworm", "trixie")) == 3


def test_nothing_leads_back() -> None:
    (text,) = operating_system.findings(replace(GOOD, codename="trixie"), "", "bookworm")
    assert text.startswith("it runs trixie, and bookworm is expected")


def test_libraries_go_and_what_somebody_wants_does_not() -> None:
    sections = {"libdb5.3": "libs", "libx": "contrib/libs", "nginx": "httpd", "python3-distutils": "python"}
    manual = {"libdb5.3", "libx", "nginx"}
    removed = ["libdb5.3", "libx", "nginx", "python3-distutils"]
    assert operating_system.lost(removed, manual, sections, []) == ["nginx"]
    assert operating_system.lost(removed, manual, sections, ["libdb5.3"]) == ["libdb5.3", "nginx"]


def test_sizes_are_added_up() -> None:
    text = "'http://a/x_1.deb' x_1.deb 100 MD5Sum:0\n'http://a/y_1.deb' y_1.deb 20 SHA256:0\nW: odd\n"
    assert operating_system.fetched_bytes(text) == 120


BROKER = {"rabbitmq-server": ["3.10.8-1.1+deb12u1", "4.0.5-6"]}
DATABASE = {"mariadb-server": ["1:10.11.14-0+deb12u2", "1:11.8.3-0+deb13u1"]}


@pytest.mark.parametrize(
    ("updates", "groups", "refused"),
    [
        (BROKER, ["messaging"], 0),
        (DATABASE, ["database"], 0),
        ({"rabbitmq-server": ["4.0.5-6", "4.1.0-1"]}, [], 0),
        ({"mariadb-server": ["1:10.11.1-1", "1:11.4.1-1"]}, [], 0),
        ({"rabbitmq-server": ["4.0.5-6", "3.10.8-1"]}, [], 1),
        ({"rabbitmq-server": ["odd", "4.0.5-6"]}, [], 1),
        ({"mariadb-server": ["1:11.8.3-1", "1:10.11.1-1"]}, ["database"], 1),
        ({"rabbitmq-server": ["", "4.0.5-6"], "nano": ["1", "2"]}, [], 0),
    ],
)
def test_series_that_cannot_be_reached_member_by_member_go_at_once(
    updates: dict[str, list[str]], groups: list[str], refused: int
) -> None:
    assert operating_system.together(updates) == groups
    assert len(operating_system.refusals(updates)) == refused


@pytest.mark.parametrize(
    ("begun", "joint", "order", "sizes"),
    [
        ([], [], ["n1", "p1", "c1", "c2"], [1, 1, 1, 1]),
        (["c2"], [], ["c2", "n1", "p1", "c1"], [1, 1, 1, 1]),
        ([], ["c1", "c2"], ["n1", "p1", "c1", "c2"], [1, 1, 2]),
        (["p1"], ["c1", "c2"], ["p1", "n1", "c1", "c2"], [1, 1, 2]),
        (["c1"], ["c1", "c2"], ["c1", "c2", "n1", "p1"], [2, 1, 1]),
    ],
)
def test_members_of_clusters_come_last_and_who_was_left_first(
    begun: list[str], joint: list[str], order: list[str], sizes: list[int]
) -> None:
    hosts = ["c1", "c2", "n1", "p1"]
    assert operating_system.batches(hosts, begun, {"c1", "c2"}, set(joint)) == (order, sizes)


def going(*names: str, **more: Any) -> dict[str, dict[str, Any]]:
    return {name: {"updates": {**BROKER, **DATABASE}, "begun": {}, **more} for name in names}


MEMBERS = {"database": ["c1", "c2", "c3"], "messaging": ["c1", "c2", "c3"]}


def test_clusters_stop_only_when_that_is_accepted_and_all_are_named() -> None:
    judge = operating_system.joint_problems
    joint, problems = judge(MEMBERS, going("c1", "c2", "c3"), [], outage=False)
    assert joint == {"c1", "c2", "c3"}
    assert [one.partition(":")[0] for one in problems] == ["database", "messaging"]
    assert all("next: -e operating_system_outage=true" in one for one in problems)
    assert judge(MEMBERS, going("c1", "c2", "c3"), [], outage=True) == (joint, [])
    _joint, problems = judge(MEMBERS, going("c1", "c2"), [], outage=True)
    assert all("missing is c3\n  next: name all of them" in one for one in problems)
    assert len(problems) == 2
    rest = going("c2", "c3", updates={}, begun={"together": True})
    assert judge(MEMBERS, rest, ["c1"], outage=True) == ({"c2", "c3"}, []), "one has ended, and others were cut off"
    alone = {group: ["c1"] for group in MEMBERS}
    assert judge(alone, going("c1"), [], outage=False) == (set(), []), "a single one goes as it is"
    assert judge(MEMBERS, going("n1"), [], outage=False) == (set(), [])


# --- actions ----------------------------------------------------------------------------------------------------------

CROSSING = {
    "codename": "bookworm",
    "suite": "trixie",
    "deploys": True,
    "updates": {"libc6": ["1", "2"]},
    "removed": ["libdb5.3"],
    "units": ["nova-compute.service"],
}


@pytest.mark.usefixtures("cluster")
def test_a_host_says_what_it_is_to_become(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ask(monkeypatch, "controller1", CROSSING, system=True, in_place=True, packages=["nano"])["asked"]
    assert "packages" not in asked, "all of them change"
    assert (asked["former_suite"], asked["suite"]) == ("bookworm", "trixie")
    assert asked["broker_data"] == "/var/lib/rabbitmq/mnesia"
    assert "mariadb-server" in asked["planned_packages"]
    assert any("/nova/" in path for path in asked["environments"])
    assert asked["together"] is False
    assert ask(monkeypatch, "controller1", CROSSING, system=True, together=True)["asked"]["together"] is True
    compute = ask(monkeypatch, "compute1", CROSSING, system=True, in_place=True)["asked"]
    assert "broker_data" not in compute
    assert compute["together"] is True, "it is in no cluster"
    assert (compute["keep_units"], compute["keep_packages"]) == ([], []), "the switch has no place in the new system"
    assert "suite" not in ask(monkeypatch, "controller1", {})["asked"]


@pytest.mark.usefixtures("cluster")
def test_a_host_is_emptied_for_another_system(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("work", "pending", "leaves", "empties", "gives_back")
    done = ask(monkeypatch, "compute1", CROSSING, system=True)
    assert {name for name in names if done[name]} == set(names)
    left = {**CROSSING, "updates": {}, "removed": [], "units": [], "begun": {"suite": "trixie", "empties": True}}
    done = ask(monkeypatch, "compute1", left, system=True)
    assert {name for name in names if done[name]} == {"pending", "leaves", "empties", "gives_back"}
    current = {"codename": "trixie", "suite": "trixie", "reboot": ["kernel"]}
    done = ask(monkeypatch, "compute1", current, system=True, reboot=True)
    assert {name for name in names if done[name]} == set(), "it has its system, and is not rebooted for that"


@pytest.mark.usefixtures("cluster")
def test_hosts_go_in_the_order_of_what_they_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    found: dict[str, Any] = {name: {**CROSSING, "updates": {**BROKER, **DATABASE}} for name in THREE}
    found |= {"compute1": CROSSING, "network1": {"codename": "trixie", "suite": "trixie"}}
    done = decide(monkeypatch, found, system=True, outage=True)
    assert (done["hosts"], done["sizes"], done["joint"]) == (["compute1", *THREE], [1, 3], list(THREE))
    assert done["moving"] == ["compute1"]
    found["controller2"]["begun"] = {"suite": "trixie", "together": True}
    left = decide(monkeypatch, found, system=True, outage=True)
    assert (left["hosts"], left["sizes"]) == (["controller2", "controller1", "controller3", "compute1"], [3, 1])
    assert left["moving"] == [], "there may be no Nova to ask"
    for words in (
        "compute1: bookworm -> trixie; apt removes 1 packages: libdb5.3; 1 packages; stops 1 units; is emptied",
        "RabbitMQ 3.10.8-1.1+deb12u1 -> 4.0.5-6, whose data is made anew: messages in flight are lost",
        "MariaDB 1:10.11.14-0+deb12u2 -> 1:11.8.3-0+deb13u1, from which only a backup leads back",
        "nothing newer: network1",
    ):
        assert words in done["shown"]


@pytest.mark.usefixtures("cluster")
def test_what_a_new_broker_means_for_others_is_said_before(monkeypatch: pytest.MonkeyPatch) -> None:
    found: dict[str, Any] = {name: {**CROSSING, "updates": {**BROKER, **DATABASE}} for name in THREE}
    every = decide(monkeypatch, found, system=True, outage=True)
    assert every["left"] == []
    words = "units that speak to the broker start anew, host by host: network1, network2, compute1, compute2"
    assert words in every["shown"]
    limited = decide(monkeypatch, found, in_play=[*THREE, "compute1"], system=True, outage=True)
    assert limited["left"] == ["network1", "network2", "compute2"]
    assert "host by host: compute1\nnot in this run" in limited["shown"]
    words = "what they know of the broker before: network1, network2, compute2\n  next: "
    assert words in limited["shown"]
    left = {name: {"begun": {"suite": "trixie", "together": True, "renew": True, "renewed": True}} for name in THREE}
    assert decide(monkeypatch, left, system=True, outage=True, in_play=list(THREE))["left"] != [], "after a kill too"
    assert decide(monkeypatch, {"compute1": CROSSING}, system=True, in_play=["compute1"])["left"] == []
    end = update_order.ActionModule.__new__(update_order.ActionModule)
    shown: list[str] = []
    end._task = end._templar = Task()
    end._task.args = {"stage": "end", "system": True}
    end._display = type("Display", (), {"display": staticmethod(shown.append)})()
    hostvars = {name: {"__update_order": {"left": limited["left"]}} for name in THREE}
    known = {"inventory_hostname": THREE[0], "brume_master_key": KEY}
    end.run(None, {**known, "hostvars": hostvars, "ansible_play_hosts_all": THREE})
    assert words in shown[0], "and once more at the end"


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize(
    ("found", "args", "words"),
    [
        ({"compute1": {**CROSSING, "findings": ["held: nano\n  next: x"]}}, {}, "compute1: held: nano\n  next: "),
        ({"controller1": {**CROSSING, "updates": BROKER}}, {"outage": True}, "missing are controller2, controller3"),
        ({name: {**CROSSING, "updates": DATABASE} for name in THREE}, {"in_place": True}, "system_outage=true"),
        ({"compute1": {**CROSSING, "updates": {"rabbitmq-server": ["4.0.5-6", "3.1-1"]}}}, {}, "do not go back"),
    ],
)
def test_what_is_in_the_way_is_said_before_the_first_host(
    monkeypatch: pytest.MonkeyPatch, found: dict[str, Any], args: dict[str, Any], words: str
) -> None:
    done = decide(monkeypatch, found, system=True, **args)
    assert done["failed"]
    assert words in done["msg"]


@pytest.mark.usefixtures("cluster")
def test_a_member_that_keeps_its_system_holds_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    found: dict[str, Any] = {name: {**CROSSING, "updates": DATABASE} for name in THREE[:2]}
    found[THREE[2]] = {"codename": "bookworm", "suite": "bookworm"}
    assert "missing is controller3" in decide(monkeypatch, found, system=True, outage=True)["msg"]


@pytest.mark.usefixtures("cluster")
def test_clusters_are_whole_before_the_first_host(monkeypatch: pytest.MonkeyPatch) -> None:
    said = answers("controller1", "controller3", counted=THREE)
    assert "controller2 sees 0 of 3 members" in decide(monkeypatch, {"compute1": CROSSING}, said, system=True)["msg"]
    current = {"compute1": {"codename": "trixie", "suite": "trixie"}}
    assert decide(monkeypatch, current, said, system=True)["hosts"] == [], "nobody goes"
    left = {"compute1": {**CROSSING, "begun": {"suite": "trixie"}}}
    assert decide(monkeypatch, left, said, system=True)["hosts"] == ["compute1"]


@pytest.mark.usefixtures("cluster")
def test_newer_packages_wait_for_a_host_that_is_on_its_way(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"controller1": {"begun": {"suite": "trixie"}, "findings": ["this host is on the way"]}}
    assert "controller1: this host is on the way" in decide(monkeypatch, found)["msg"]


def test_a_single_controller_is_away_only_where_that_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(run._state, "plan", plan.plan(inventory(AIO), sources.load()))
    piece = slice_of("aio")
    found = {"aio": {**NOTHING, **CROSSING, "updates": {**BROKER, **DATABASE}}}
    said: dict[str, Any] = {"mariadb": {}, "rabbitmq": {}, "ovn": {}}

    def judged(**args: Any) -> tuple[set[str], list[str]]:
        return update_order.system_problems(piece, found, said, ["aio"], ["aio"], args)

    joint, problems = judged(in_place=False)
    assert joint == set()
    assert len(problems) == 2
    assert all("next: -e operating_system_in_place=true" in one for one in problems)
    assert judged(in_place=True) == (set(), [])
    assert host_updates.broker_problem(*BROKER["rabbitmq-server"]), "which update.yml refuses"


# --- module -----------------------------------------------------------------------------------------------------------

HOST = """
echo "${{0##*/}} $*" >> {root}/log
case "${{0##*/}} $*" in
    "apt-get indextargets"*) printf 'http://d/\\tDebian\\n' ;;
    "apt-get "*" update") [ ! -f {root}/lost ] || echo "Err:1 gone" ;;
    "apt-get "*--print-uris*) echo "'http://d/x' x $(cat {root}/size) MD5Sum:0" ;;
    "apt-get -s "*)
        parts={root}/apt/sources.list.d
        for word in "$@"; do case "$word" in Dir::Etc::sourceparts=*) parts=${{word#*=}} ;; esac; done
        [ -f {root}/new ] || ! grep -q trixie $parts/d.sources && exit 0
        [ -f {root}/half-taken ] || echo "Inst rabbitmq-server [3.10.8-1] (4.0.5-6 x)"
        echo "Inst mariadb-server [1:10.11.1-1] (1:11.8.3-1 x)"
        echo "Inst libdb5.3t64 (5.3-2 x)"; echo "Remv libdb5.3 [5.3-1]" ;;
    "apt-get "*--download-only*) ;;
    "apt-get "*dist-upgrade)
        [ -f {root}/on/mariadb.service ] && exit 7
        [ -f {root}/kill ] && {{ rm {root}/kill; touch {root}/half {root}/half-taken; exit 100; }}
        touch {root}/new; echo VERSION_CODENAME=trixie > {root}/os-release ;;
    "apt-mark showhold") cat {root}/held 2>/dev/null ;;
    "apt-mark showmanual") echo libdb5.3 ;;
    "dpkg-query "*Section*) printf 'libdb5.3\\tlibs\\n' ;;
    "dpkg-query "*Eflag*) printf 'installed\\tok\\n'; [ ! -f {root}/half ] || printf 'unpacked\\tok\\n' ;;
    "dpkg --configure"*) exit 1 ;;
    "apt-get "*--no-remove*fix-broken*) exit 100 ;;
    "apt-get "*fix-broken*) rm -f {root}/half ;;
    "systemctl show "*)
        for unit in "$@"; do case "$unit" in *.service)
            if [ -f {root}/on/$unit ]; then echo ActiveState=active; else echo ActiveState=inactive; fi
            echo "Result=$(cat {root}/result 2>/dev/null)"; echo ;;
        esac; done ;;
    "systemctl stop "*) for unit in "$@"; do rm -f {root}/on/$unit; done ;;
esac
"""
SOURCES = "Types: deb\nURIs: http://d\nSuites: bookworm bookworm-security\nComponents: main\n"


@pytest.fixture
def former(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a host of the former suite with a database and a broker that run."""
    module = importlib.import_module(f"{PACKAGE}.host_updates")
    for name in ("dpkg-query", "dpkg", "apt-get", "apt-mark", "systemctl"):
        program(tmp_path / f"bin/{name}", HOST.format(root=tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    held_back, restore, at = apt.held_back, apt.restore_policy, (str(tmp_path / "policy"), str(tmp_path / "saved"))
    monkeypatch.setattr(apt, "held_back", lambda units: held_back(units, *at))
    monkeypatch.setattr(apt, "restore_policy", lambda *given: restore(*(given or at)))
    monkeypatch.setattr(apt.lists_read_aside.__wrapped__, "__defaults__", (str(tmp_path / "lists"),))
    for name, value in (("NOTE", "note"), ("REBOOT", "reboot"), ("KERNEL", "vmlinuz")):
        monkeypatch.setattr(module, name, str(tmp_path / value))
    for name, value in (("FOLDER", "apt"), ("OS_RELEASE", "os-release"), ("ARCHIVES", "apt"), ("PROGRAMS", "apt")):
        monkeypatch.setattr(apt_suite, name, str(tmp_path / value))
    for folder in ("on", "apt/sources.list.d", "lists", "mnesia/rabbit@one"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "apt/sources.list.d/d.sources").write_text(SOURCES)
    (tmp_path / "os-release").write_text("VERSION_CODENAME=bookworm\n")
    (tmp_path / "size").write_text("100")
    for path in ("on/mariadb.service", "on/rabbitmq-server.service", "mnesia/rabbit@one/x", "mnesia/y"):
        (tmp_path / path).touch()
    return tmp_path


def wish(root: Path, **more: Any) -> dict[str, Any]:
    units = ("mariadb.service", "rabbitmq-server.service")
    return {
        "suite": "trixie",
        "former_suite": "bookworm",
        "broker_data": f"{root}/mnesia",
        "together": True,
        "units": {name: {"packages": [], "after": []} for name in units},
        "last": list(units),
        **more,
    }


def test_a_host_gets_another_suite(call: Call, former: Path) -> None:
    """Each call goes on where a run that was cut off has ended."""
    names = former / "apt/sources.list.d/d.sources"
    found = call("host_updates", wish(former, refresh=True))
    assert (found["changed"], found["codename"], found["deploys"], found["findings"]) == (False, "bookworm", True, [])
    assert found["updates"]["rabbitmq-server"] == ["3.10.8-1", "4.0.5-6"]
    assert (found["removed"], found["units"]) == (["libdb5.3"], ["mariadb.service", "rabbitmq-server.service"])
    assert not call("host_updates", wish(former, state="begun"), check=True)["begun"]
    assert not (former / "note").exists()
    begun = call("host_updates", wish(former, state="begun", empties=True))["begun"]
    assert begun == {"suite": "trixie", "together": True, "empties": True}
    fetched = next(line for line in (former / "log").read_text().splitlines() if "--download-only" in line)
    assert "Dir::Etc::sourceparts=" in fetched
    assert names.read_text() == SOURCES, "nothing was changed so far"
    told = call("host_updates", wish(former), check=True)
    assert told["actions"] == converges(call, "host_updates", wish(former, state="updated"))
    assert told["actions"] == [
        "stop mariadb.service",
        "stop rabbitmq-server.service",
        f"let {names} name trixie",
        "take 3 packages of trixie",
        "remove package libdb5.3 5.3-1",
        "make the broker's data anew, which its new series cannot read",
    ]
    assert names.read_text() == SOURCES.replace("bookworm", "trixie")
    assert list((former / "mnesia").iterdir()) == []
    assert "--no-remove" not in (former / "log").read_text()
    after = call("host_updates", wish(former))
    assert (after["updates"], after["deploys"], after["out"]) == ({}, True, True), "its configuration is to follow"
    (former / "mnesia/new").touch()
    assert call("host_updates", wish(former, state="updated"))["actions"] == []
    assert (former / "mnesia/new").exists(), "what the new broker has written stays"
    call("host_updates", wish(former, state="ended"))
    ended = call("host_updates", wish(former, refresh=True))
    assert (ended["codename"], ended["deploys"], ended["begun"], ended["findings"]) == ("trixie", False, {}, [])


def test_a_host_goes_on_after_its_packages_were_cut_off(call: Call, former: Path) -> None:
    call("host_updates", wish(former, state="begun"))
    (former / "kill").touch()
    assert call("host_updates", wish(former, state="updated"))["failed"]
    found = call("host_updates", wish(former, refresh=True))
    assert (found["interrupted"], found["findings"], found["out"]) == (True, [], True)
    done = call("host_updates", wish(former, state="updated"))
    assert done["actions"][0] == "finish the interrupted transaction", "by removing what has no place any more"
    assert "make the broker's data anew" in done["actions"][-1], "though apt tells nothing of it any more"
    assert list((former / "mnesia").iterdir()) == []


@pytest.mark.parametrize(
    ("prepare", "more", "words"),
    [
        ("held", {}, "held: nano"),
        ("size", {}, "GB free"),
        ("half", {}, "an installation of packages was cut off here"),
        ("note", {}, "update.yml was cut off here"),
        ("stop", {}, "mariadb.service does not run"),
        ("", {"planned_packages": ["libdb5.3"]}, "apt would remove libdb5.3"),
        ("", {"suite": "sid", "former_suite": ""}, "it runs bookworm, and sid is expected"),
        ("foreign", {}, "names bookworm of http://x"),
        ("pins", {}, "preferences names bookworm"),
        ("release", {"environments": ["{root}/opt/nova/2026.1-abc"]}, "environments of 2025.1 are here"),
    ],
)
def test_a_host_keeps_its_suite_while_something_is_in_the_way(
    call: Call, former: Path, prepare: str, more: dict[str, Any], words: str
) -> None:
    marker = former / "opt/nova/2025.1-abc/.brume-environment.json"
    marker.parent.mkdir(parents=True)
    (former / "opt/nova/2026.1-abc").mkdir()
    (former / "opt/nova/2026.1-abc" / marker.name).write_text("{}")
    written = {
        "held": (former / "held", "nano\n"),
        "size": (former / "size", "9" * 18),
        "half": (former / "half", ""),
        "note": (former / "note", '{"empties": true}'),
        "foreign": (former / "apt/sources.list.d/x.list", "deb http://x bookworm main\n"),
        "pins": (former / "apt/preferences", "Package: *\nPin: release n=bookworm\n"),
        "release": (marker, "{}"),
    }
    if prepare in written:
        written[prepare][0].write_text(written[prepare][1])
    if prepare == "stop":
        (former / "on/mariadb.service").unlink()
    given = {
        name: [one.format(root=former) for one in value] if isinstance(value, list) else value
        for name, value in more.items()
    }
    (finding,) = call("host_updates", wish(former, **given))["findings"]
    assert words in finding
    assert "2026.1" not in finding, "which is the planned one"
    failed = call("host_updates", wish(former, state="begun", **given))
    assert prepare == "half" or words in failed["msg"]
    assert (former / "apt/sources.list.d/d.sources").read_text() == SOURCES


def test_members_that_go_together_are_not_taken_alone(call: Call, former: Path) -> None:
    failed = call("host_updates", wish(former, state="updated", together=False))
    assert "messaging: its members cannot go one after the other\n  next: " in failed["msg"]
    assert (former / "on/mariadb.service").exists()


def test_a_database_that_did_not_end_in_order_keeps_its_version(call: Call, former: Path) -> None:
    (former / "result").write_text("signal")
    failed = call("host_updates", wish(former, state="updated"))
    assert "mariadb.service did not end in order (signal)" in failed["msg"]
    assert not (former / "new").exists()
    assert (former / "apt/sources.list.d/d.sources").read_text() == SOURCES


def test_a_host_that_gets_nothing_is_not_of_its_suite(call: Call, former: Path) -> None:
    (former / "new").touch()
    failed = call("host_updates", wish(former, state="updated"))
    assert "apt has no more for this host, and it is still bookworm\n  next: " in failed["msg"]
    assert (former / "mnesia/y").exists()


def test_newer_packages_are_not_taken_on_the_way(call: Call, former: Path) -> None:
    call("host_updates", wish(former, state="begun"))
    found = call("host_updates", {})
    assert "on the way to another suite of Debian\n  next: operating_system.yml" in found["findings"][0]
    assert "on the way" in call("host_updates", {"state": "begun"})["msg"]


# --- playbook ---------------------------------------------------------------------------------------------------------


def test_the_walk_is_the_one_of_updates() -> None:
    first, *_reconnects, last = yaml.safe_load((ROOT / "playbooks/operating_system.yml").read_text(encoding="utf-8"))
    assert first["ansible.builtin.import_playbook"] == "update.yml"
    assert first["vars"]["update_system"] is True
    assert last["ansible.builtin.import_playbook"] == "verify.yml"
    text = (ROOT / "playbooks/update.yml").read_text(encoding="utf-8")
    assert [name for name in first["vars"] if name not in text] == []


def test_all_that_a_former_broker_has_told_starts_anew_before_it_is_judged() -> None:
    """Controllers one after the other, out of the load balancers, and then the others; also what no walk was about."""
    parts = yaml.safe_load((ROOT / "playbooks/operating_system.yml").read_text(encoding="utf-8"))
    _first, control, others, _last = parts
    assert (control["hosts"], control["serial"]) == ("control", 1)
    assert others["hosts"] == "network:compute:block:object:!control"
    for play in (control, others):
        assert play["any_errors_fatal"] and play["max_fail_percentage"] == 0
        (role,) = play["roles"]
        assert (role["role"], role["phase_rollout_stage"]) == ("brume.cloud.phase_rollout", "reconnect")
        assert role["phase_rollout_wave"] == "", "of all waves"
    assert control["roles"][0]["phase_rollout_drain"] is True


def test_whoever_starts_units_knows_the_broker() -> None:
    """It is asked in the same role, or a start would be recorded with none."""
    for role in ("phase_start", "phase_rollout"):
        tasks = yaml.safe_load((ROOT / f"roles/{role}/tasks/main.yml").read_text(encoding="utf-8"))
        (asks,) = [place for place, task in enumerate(tasks) if "brume.cloud.message_broker" in task]
        starts = [place for place, task in enumerate(tasks) if "brume.cloud.unit_rollout" in task]
        assert asks < min(starts)
        given = [tasks[place]["brume.cloud.unit_rollout"]["broker"] for place in starts]
        assert all(text.startswith("{{ __message_broker.broker") for text in given)
        assert tasks[asks]["run_once"] and "groups['messaging']" in tasks[asks]["delegate_to"], "also with a limit"
    (vhosts,) = [
        task
        for task in yaml.safe_load((ROOT / "roles/phase_messaging/tasks/main.yml").read_text(encoding="utf-8"))
        if "brume.cloud.message_vhosts" in task
    ]
    assert vhosts["register"] == "__phase_messaging_result", "where the action message_broker looks"


def test_a_host_takes_the_phases_of_a_deployment() -> None:
    """But for what is the whole cloud's; a broker's accounts come before what takes long, since other hosts wait."""
    tasks = yaml.safe_load((ROOT / "roles/host_walk/tasks/deploy.yml").read_text(encoding="utf-8"))
    included = [task.get("ansible.builtin.include_role", {}).get("name", "") for task in tasks]
    names = [name.removeprefix("brume.cloud.") for name in included]
    (loop,) = [task["loop"] for task in tasks if "loop" in task]
    site = (ROOT / "playbooks/site.yml").read_text(encoding="utf-8")
    phases = [name for name in names if name.startswith("phase_")]
    assert phases == [
        *("phase_configure", "phase_start", "phase_rollout"),
        *("phase_messaging", "phase_install", "phase_configure"),
    ]
    assert all(name in site for name in phases)
    assert loop == [[name, wave] for wave in ("identity", "core") for name in ("phase_start", "phase_rollout")]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["-e", '{"operating_system_hosts": ["two"]}'], "operating_system_hosts: two is no host of the plan"),
        (["--check"], "UNREACHABLE"),
    ],
)
def test_no_host_is_asked_before_it_is_meant(options: list[str], words: str, tmp_path: Any) -> None:
    done = playbook(one_host(tmp_path / "inventory"), "operating_system.yml", *options)
    assert words in done.stdout, done.stdout + done.stderr
    assert ("UNREACHABLE" in done.stdout) is (words == "UNREACHABLE")
    assert done.returncode
