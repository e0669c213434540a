"""The report of a run: what its lines say, and the HTML of them."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from ansible_collections.brume.cloud.plugins.module_utils import run_lines, run_report, run_timeline
from ansible_collections.brume.cloud.plugins.module_utils.api_probe import Call
from ansible_collections.brume.cloud.plugins.module_utils.run_lines import Play, Report, Span


def lines(*events: tuple[float, str, dict[str, Any]]) -> list[str]:
    return [json.dumps({"at": 1000.0 + at, "event": event, **values}) for at, event, values in events]


RUN = [
    (0.0, "report", {"what": "Upgrade", "facts": {"from": "2025.1", "to": "2026.1", "empty": ""}}),
    (0.5, "play", {"play": 1, "name": "Report"}),
    (1.0, "probe", {"pid": 1, "user": "u", "rate": 10.0, "apis": ["token"], "addresses": {"203.0.113.5": "compute1"}}),
    (2.0, "play", {"play": 2, "name": "Roll out"}),
    (2.0, "task", {"task": 7, "name": "Restart"}),
    (2.1, "begin", {"host": "one", "task": 7}),
    (2.2, "begin", {"host": "two", "task": 7}),
    (2.3, "begin", {"host": "six", "task": 7}),
    (2.4, "end", {"host": "six", "task": 7, "outcome": "skipped"}),
    (2.5, "end", {"host": "one", "task": 7, "outcome": "changed"}),
    (3.0, "call", {"kind": "token", "seconds": 0.2, "problem": ""}),
    (2.9, "call", {"kind": "token", "seconds": 9.1, "problem": "HTTP 503"}),
    (3.0, "ping", {"lost": []}),
    (4.0, "ping", {"lost": ["203.0.113.5"]}),
    (5.0, "note", {"text": "told"}),
]


def test_lines_become_a_report() -> None:
    found = run_lines.parse(lines(*RUN, (6.0, "run end", {"failed": ["two"]})))
    assert found == Report(
        started_at=1000.0,
        what="Upgrade",
        facts={"from": "2025.1", "to": "2026.1"},
        seconds=6.0,
        failed=["two"],
        plays=[Play(1, "Report", 0.5, 2.0), Play(2, "Roll out", 2.0, 6.0)],
        work={
            "one": [Span(pytest.approx(2.1), 2.5, 2, "Restart", "changed")],  # type: ignore[arg-type]
            "two": [Span(pytest.approx(2.2), 6.0, 2, "Restart", "not ended")],  # type: ignore[arg-type]
        },
        rate=10.0,
        apis=["token"],
        calls=[
            Call("token", pytest.approx(2.9), 9.1, "HTTP 503"),  # type: ignore[arg-type]
            Call("token", 3.0, 0.2, ""),
        ],
        addresses={"203.0.113.5": "compute1"},
        rounds=2,
        lost={"203.0.113.5": [4.0]},
        notes=["told"],
    )


def test_a_run_that_was_cut_off_has_what_was_written_until_then() -> None:
    found = run_lines.parse([*lines(*RUN), '{"at": 1020.0, "event": "ca'])
    assert found.failed is None
    assert found.seconds == pytest.approx(12.0), "the end of the last call"
    assert found.work["two"][-1].outcome == "not ended"
    assert "was cut off" in run_report.html(found)
    assert run_lines.parse([]) == Report()


def test_lines_are_appended_beside_others(tmp_path: Path) -> None:
    one, two = run_lines.Lines(tmp_path / "r"), run_lines.Lines(tmp_path / "r")
    one.write("note", text="one")
    two.write("note", text="two")
    one.write("note", at=12.345, text="three")
    with (tmp_path / "r").open() as stream:
        found = list(run_lines.events(stream))
    assert [line["text"] for line in found] == ["one", "two", "three"]
    assert found[2]["at"] == 12.35 or found[2]["at"] == 12.34
    assert abs(found[0]["at"] - found[1]["at"]) < 5


def made_up(hosts: int = 7, addresses: int = 2, seconds: float = 600.0) -> Report:
    """Return a report of an upgrade with a failed host, failed calls, slow calls and lost pings."""
    plays = [Play(1, "Plan", 0, 20), Play(2, "Install", 20, 200), Play(3, "Roll out", 200, seconds)]
    work = {
        f"compute{number}": [
            Span(play.begin + step * 10, play.begin + step * 10 + 8, play.number, f"Task {step}", "ok")
            for play in plays[1:]
            for step in range(6)
        ]
        for number in range(1, hosts + 1)
    }
    work["compute3"].append(Span(300, 320, 3, "Wait until services are well", "failed"))
    calls = [
        Call(("token", "image")[number % 2], number / 10, 0.1, "HTTP 503" if 3000 <= number < 3020 else "")
        for number in range(int(seconds * 10))
    ]
    calls[4000] = replace(calls[4000], seconds=5.0)
    pinged = {f"203.0.{number // 250}.{number % 250}": f"compute{number}" for number in range(1, addresses + 1)}
    return Report(
        started_at=1.79e9,
        what="Upgrade",
        facts={"from": "2025.1", "to": "2026.1"},
        seconds=seconds,
        failed=["compute3"],
        plays=plays,
        work=work,
        rate=10.0,
        apis=["token", "image"],
        calls=calls,
        addresses=pinged,
        rounds=int(seconds),
        lost={"203.0.0.1": [301.0, 302.0, 303.0]} if addresses else {},
    )


def parsed(text: str) -> ElementTree.Element:
    return ElementTree.fromstring(text)  # noqa: S314  # the test's own


def cells(page: ElementTree.Element, heading: str) -> list[list[str]]:
    """Return the rows of a table by its heading."""
    (section,) = [one for one in page.iter("section") if one.findtext("h2") == heading]
    return [
        ["".join(cell.itertext()).strip() for cell in row if cell.tag in ("td", "th")] for row in section.iter("tr")
    ]


def titles(element: ElementTree.Element) -> list[str]:
    return [one.text or "" for one in element.iter("title")]


def timeline(page: ElementTree.Element) -> ElementTree.Element:
    return next(one for one in page.iter("svg") if one.get("class") == "timeline")


def test_the_html_tells_what_was_seen() -> None:
    page = parsed(run_report.html(made_up()))
    assert page.findtext("head/title") == "Upgrade from 2025.1 to 2026.1"
    assert cells(page, "Summary") == [
        ["from", "2025.1"],
        ["to", "2026.1"],
        ["began", "2026-09-21 14:13:20 UTC"],
        ["seconds", "600 (10:00)"],
        ["hosts", "7"],
        ["outcome", "stopped by compute3"],
    ]
    assert cells(page, "API calls")[1:] == [
        ["token", "3000", "10", "2.2 s at 299.9 s", "5.0 s"],
        ["image", "3000", "10", "2.2 s at 300.0 s", "0.1 s"],
        ["all", "6000", "20", "", ""],
    ]
    assert cells(page, "Pings")[1:] == [
        ["203.0.0.1", "compute1", "600", "3"],
        ["203.0.0.2", "compute2", "600", "0"],
    ]
    assert cells(page, "Plays")[1:] == [
        ["1", "Plan", "0.0 s", "20.0", "0", "0"],
        ["2", "Install", "20.0 s", "180.0", "7", "6"],
        ["3", "Roll out", "200.0 s", "400.0", "7", "7"],
    ]
    assert cells(page, "Failed tasks")[1:] == [
        ["320.0 s", "compute3", "failed", "Wait until services are well", "Roll out"]
    ]
    assert len(cells(page, "Failed calls")) == 1 + 20
    assert not [one for one in page.iter("p") if one.get("class") == "note"]


def test_what_was_not_looked_at_is_said() -> None:
    notes = ["No credentials yet.", "No credentials yet.", "Nothing was pinged: no reason."]
    bare = replace(made_up(), calls=[], rounds=0, addresses={}, notes=notes)
    page = parsed(run_report.html(bare))
    assert [one.text for one in page.iter("p") if one.get("class") == "note"] == [
        "No credentials yet.",
        "Nothing was pinged: no reason.",
        "No API call was made.",
    ]
    assert [one.findtext("h2") for one in page.iter("section")] == ["Summary", "Timeline", "Plays", "Failed tasks"]
    assert parsed(run_report.html(Report())).findtext("body/h1") == "Run"


def test_the_file_needs_nothing_else() -> None:
    text = run_report.html(made_up())
    assert "://" not in text
    assert not re.search(r"<(script|link|img|iframe|object)\b|\bon\w+=|url\(|@import|href|src=", text)


EVIL = "<script>alert(1)</script>&\"'\x1b]0;"


def test_values_are_no_markup() -> None:
    report = made_up()
    report.what = EVIL
    report.facts = {EVIL: EVIL}
    report.notes = [EVIL]
    report.plays[1] = replace(report.plays[1], name=EVIL)
    report.work[EVIL] = [Span(1, 600, 2, EVIL, "failed")]
    report.calls[0] = Call(EVIL, 0.0, 9.0, EVIL)
    report.addresses = {EVIL: EVIL}
    report.lost = {EVIL: [3.0]}
    report.failed = [EVIL]
    text = run_report.html(report)
    assert "<script" not in text
    assert "\x1b" not in text
    page = parsed(text)
    assert page.findtext("body/h1") == EVIL.replace("\x1b", "�")


def lanes(picture: ElementTree.Element) -> list[str]:
    return [one.text or "" for one in picture.iter("text") if one.get("class") == "label"]


def number(element: ElementTree.Element, name: str) -> float:
    return float(element.get(name) or "nan")


def test_the_timeline_has_a_lane_for_everything() -> None:
    picture = timeline(parsed(run_report.html(made_up())))
    assert lanes(picture) == [
        "numbers as in the table",
        *(f"compute{one}" for one in range(1, 8)),
        "token",
        "image",
        "203.0.0.1 compute1",
        "203.0.0.2 compute2",
    ]
    said = titles(picture)
    assert "20.0 to 200.0 s: play 2: Install" in said
    assert "compute1, 20.0 to 28.0 s: Task 0 (play 2)" in said
    assert "compute3, 300.0 to 320.0 s: Wait until services are well: failed (play 3)" in said
    assert "token, 300.0 to 301.8 s: 10 failed calls: HTTP 503" in said
    assert "token, 400.0 to 405.0 s: 1 slow call, the longest 5.0 s" in said
    assert "token, 299.9 to 302.1 s: no successful answer for 2.2 s, the longest gap" in said
    assert "203.0.0.1, 301.0 to 303.0 s: 3 lost pings" in said


def test_moments_are_where_the_axis_says() -> None:
    picture = timeline(parsed(run_report.html(made_up())))
    ticks = {one.text: number(one, "x") for one in picture.iter("text") if one.get("class") == "tick"}
    assert list(ticks)[:3] == ["0 s", "30 s", "60 s"]
    assert list(ticks)[-1] == "600 s"
    (bar,) = [one for one in picture.iter("rect") if "20.0 to 200.0 s: play 2: Install" in titles(one)]
    second = (ticks["600 s"] - ticks["0 s"]) / 600
    assert {number(one, "x") for one in picture.iter("rect") if one.get("class") == "lane"} == {ticks["0 s"]}
    assert number(bar, "x") == pytest.approx(ticks["0 s"] + 20 * second, abs=0.2)
    assert number(bar, "width") == pytest.approx(180 * second, abs=0.2)
    width, height = number(picture, "width"), number(picture, "height")
    for one in picture.iter("rect"):
        assert 0 <= number(one, "x") <= number(one, "x") + number(one, "width") <= width
        assert 0 <= number(one, "y") <= number(one, "y") + number(one, "height") <= height


def test_labels_do_not_leave_their_bars() -> None:
    report = made_up()
    report.plays.insert(0, Play(9, "A name that is too long for its play", 0, 8))
    picture = timeline(parsed(run_report.html(report)))
    names = [one.text for one in picture.iter("text") if one.get("class") == "on"]
    assert names == ["9", "1", "2 Install", "3 Roll out"]


def overlaps(rects: Iterable[ElementTree.Element]) -> bool:
    found = sorted((number(one, "y"), number(one, "height")) for one in rects)
    return any(top + height > after for (top, height), (after, _height) in itertools.pairwise(found))


def test_lanes_lie_below_each_other() -> None:
    picture = timeline(parsed(run_report.html(made_up())))
    assert not overlaps(one for one in picture.iter("rect") if one.get("class") == "lane")


def test_many_hosts_are_a_curve_and_the_lanes_worth_a_look() -> None:
    report = made_up(hosts=500, addresses=500, seconds=7200.0)
    report.work["compute499"].append(Span(1000, 7000, 3, "Work", "ok"))
    report.work["compute3"] = [Span(300, 301, 3, "Wait until services are well", "failed")]
    text = run_report.html(report)
    picture = timeline(parsed(text))
    found = lanes(picture)
    assert "hosts at work, of 500" in found
    assert {"compute3", "compute499"} <= set(found)
    assert len([one for one in found if re.fullmatch(r"compute\d+", one)]) == run_timeline.MOST_LANES
    assert [one for one in found if one.startswith("203")] == ["203.0.0.1 compute1"]
    assert "at most 499 of 500 hosts work at the same time" in titles(picture)
    headings = [one.text or "" for one in picture.iter("text") if one.get("class") == "label heading"]
    assert any("460 more are in the curve alone" in one for one in headings)
    assert any("499 more addresses lost 0 in all" in one for one in headings)
    assert cells(parsed(text), "Pings")[-1] == ["499 more addresses lost 0 in all", "", "7200", ""]
    assert len(text) < 200_000


def test_the_picture_does_not_grow_with_the_tasks_of_a_host() -> None:
    few, many = made_up(hosts=3), made_up(hosts=3)
    many.work["compute1"] = [Span(at / 10, at / 10 + 0.05, 3, "Task", "ok") for at in range(6000)]
    assert len(run_timeline.svg(many)) < 2 * len(run_timeline.svg(few))
    assert "s: 6000 tasks, the last one Task (play 3)" in run_timeline.svg(many)


def test_long_lists_say_what_they_leave_out() -> None:
    report = made_up()
    report.calls = [replace(one, problem="refused") for one in report.calls]
    page = parsed(run_report.html(report))
    assert cells(page, "Failed calls")[-1] == ["and 5950 more", "", "", ""]


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colors (https://www.w3.org/TR/WCAG21/#dfn-contrast-ratio)."""

    def light(color: str) -> float:
        parts = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    low, high = sorted((light(one), light(other)))
    return (high + 0.05) / (low + 0.05)


def test_names_of_plays_can_be_read_in_both_themes() -> None:
    for pair in run_timeline.COLORS:
        for dark in (False, True):
            assert contrast(pair[dark], run_timeline.PAPER["ground"][dark]) >= 4.5


def test_both_themes_style_the_same() -> None:
    light, _, dark = run_timeline.style().partition("@media (prefers-color-scheme:dark){")
    rules = re.findall(r"^\.(\S+)\{(?:fill|stroke):#", dark, re.MULTILINE)
    assert len(rules) > 10
    assert set(rules) <= set(re.findall(r"^\.(\S+)\{(?:fill|stroke):#", light, re.MULTILINE))
