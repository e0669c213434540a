"""The picture of a run: seconds from left to right; plays, hosts, APIs and pinged addresses as lanes, in SVG.

Lengths are in SVG's user units, pixels at the natural size. What is shorter than a pixel is drawn with its neighbors,
so that the picture's size does not grow with the run. Every mark says as its title what it stands for; failures
differ from the rest by their shape too.
"""

from __future__ import annotations

import html
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from ansible_collections.brume.cloud.plugins.module_utils.api_probe import Call, figures
from ansible_collections.brume.cloud.plugins.module_utils.diagram import PAPER
from ansible_collections.brume.cloud.plugins.module_utils.progress import count, natural
from ansible_collections.brume.cloud.plugins.module_utils.run_lines import FAILED, UNFINISHED, Play, Report, Span

T = TypeVar("T")

LABELS, PLOT, MARGIN = 190, 1000, 24
"""Widths: of the lanes' names, of the seconds, of the edge."""

LANE, HEADING, AXIS, CURVE = 20, 30, 24, 60
"""Heights: of a lane, of the name of a group of them, of the line of seconds, of the curve of hosts."""

LETTER = 6.6
"""Width of a character, on the large side of what browsers choose."""

MOST_LANES = 40
"""More hosts are a curve of how many work, with lanes of those that failed or worked the longest; of more addresses
those that lost most have a lane."""

SLOW = 1.0
"""Seconds from which a call is slow and a gap is drawn."""

JOINED = 4
"""Marks closer to each other than this are one."""

TICKS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400)
"""Seconds between two ticks, of which the smallest is taken with which MOST_TICKS suffice."""

MOST_TICKS = 20

CROSS = "\N{MULTIPLICATION X}"

COLORS = (
    ("#0969da", "#58a6ff"),
    ("#1a7f37", "#3fb950"),
    ("#8250df", "#bc8cff"),
    ("#9a6700", "#d29922"),
    ("#1b7c83", "#39c5cf"),
    ("#bf3989", "#f778ba"),
)
"""Colors of plays in turn, on a light and on a dark ground."""

STATES = {"bad": ("#cf222e", "#ff7b72"), "slow": ("#bc4c00", "#f0883e")}
"""Colors of failures, and of what is slow."""


_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")
"""What a document must not contain (https://www.w3.org/TR/xml/#charsets), and DEL."""


def clean(value: object) -> str:
    """Return a value as text for HTML and SVG, also within an attribute."""
    return html.escape(_CONTROL.sub("\N{REPLACEMENT CHARACTER}", str(value)))


@dataclass(frozen=True)
class Scale:
    """Where a moment is."""

    seconds: float

    def x(self, moment: float) -> float:
        """Return the place of a moment, within the plot."""
        return round(MARGIN + LABELS + PLOT * min(max(moment, 0.0), self.seconds) / self.seconds, 1)

    @property
    def pixel(self) -> float:
        """Return how many seconds a pixel is."""
        return self.seconds / PLOT


def color(play: int) -> str:
    """Return the class of a play's color."""
    return f"play{play % len(COLORS)}"


def style() -> str:
    """Return the style sheet, for a light ground and, where the reader's is dark, for a dark one."""

    def colors(dark: bool) -> list[str]:
        paper = {key: pair[dark] for key, pair in PAPER.items()}
        rules = [
            f".lane{{fill:{paper['box']}}}",
            f".label{{fill:{paper['text']}}}",
            f".on{{fill:{paper['ground']}}}",
            f".tick{{fill:{paper['small']}}}",
            f".grid,.baseline{{stroke:{paper['edge']}}}",
            f".part{{stroke:{paper['box']}}}",
            f".curve{{fill:{COLORS[0][dark]}}}",
        ]
        rules += [f".play{number}{{fill:{pair[dark]}}}" for number, pair in enumerate(COLORS)]
        for name, pair in STATES.items():
            rules += [f".{name}{{fill:{pair[dark]}}}", f".line-{name}{{stroke:{pair[dark]}}}"]
        return rules

    return "\n".join(
        [
            ".timeline text{font:12px system-ui,-apple-system,'Segoe UI','DejaVu Sans',sans-serif}",
            ".timeline .heading{font-weight:600}",
            ".grid,.baseline{stroke-width:1}",
            ".grid{opacity:.6;pointer-events:none}",
            ".part{stroke-width:.5}",
            ".line-bad{stroke-width:2.5;fill:none}",
            ".gap{stroke-width:1.5;stroke-dasharray:3 2;fill:none}",
            *colors(False),
            "@media (prefers-color-scheme:dark){",
            *colors(True),
            "}",
        ]
    )


def svg(report: Report) -> str:
    """Return the picture, an element to put into HTML beside `style`."""
    # A run of moments has no length to divide by.
    last = max([report.seconds, *(call.began + call.seconds for call in report.calls), 1.0])
    scale = Scale(last)
    groups = [
        ("Plays", [_play_lane(report.plays, scale)] if report.plays else []),
        *_host_groups(report, scale),
        (f"APIs: {CROSS} failed calls, ▬ slow calls (from {SLOW:.0f} s), ┄ longest gap", _api_lanes(report, scale)),
        ("; ".join(filter(None, (f"Pings: {CROSS} lost", rest(report)))), _address_lanes(report, scale)),
    ]
    top, drawn = MARGIN + AXIS, []
    for name, lanes in groups:
        if not lanes:
            continue
        drawn.append(_text("label heading", MARGIN, top + HEADING - 10, name))
        top += HEADING
        for lane in lanes:
            drawn += lane.draw(top)
            top += lane.height + 2
    height, width = top + MARGIN, 2 * MARGIN + LABELS + PLOT
    said = f"Timeline of {report.what}: {report.seconds:.0f} seconds, {count(len(report.work), 'host')}"
    return "\n".join(
        [
            f'<svg class="timeline" width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="group">',
            f"<title>{clean(said)}</title>",
            *drawn,
            *_axis(scale, MARGIN + AXIS, top),
            "</svg>",
        ]
    )


@dataclass(frozen=True)
class _Lane:
    """A lane: its name, and what draws its parts when it is known where the lane is."""

    name: str
    parts: Callable[[float], Iterable[str]]
    height: int = LANE

    def draw(self, top: float) -> Iterator[str]:
        yield f'<rect class="lane" x="{MARGIN + LABELS}" y="{top}" width="{PLOT}" height="{self.height}"/>'
        room = int((LABELS - 8) / LETTER)
        short = self.name if len(self.name) <= room else f"{self.name[: room - 1]}…"
        yield _text("label", MARGIN, top + self.height / 2 + 4, short, self.name if short != self.name else "")
        yield from self.parts(top)


def _axis(scale: Scale, top: float, bottom: float) -> Iterator[str]:
    step = next((one for one in TICKS if scale.seconds / one <= MOST_TICKS), TICKS[-1])
    for number in range(int(scale.seconds // step) + 1):
        x = scale.x(number * step)
        yield f'<path class="grid" d="M{x} {top}V{bottom}"/>'
        yield _text("tick", x, top - 8, f"{number * step} s", middle=True)


def _play_lane(plays: Sequence[Play], scale: Scale) -> _Lane:
    def parts(top: float) -> Iterator[str]:
        for play in plays:
            left, right = scale.x(play.begin), scale.x(play.end)
            title = f"{_between(play.begin, play.end)}: play {play.number}: {play.name}"
            yield _rect(f"part {color(play.number)}", left, top, max(right - left, 1.5), LANE + 6, title)
            room = int((right - left - 6) / LETTER)
            text = f"{play.number} {play.name}"
            text = text if len(text) <= room else str(play.number)
            if len(text) <= room:
                yield _text("on", left + 3, top + LANE / 2 + 7, text)

    return _Lane("numbers as in the table", parts, LANE + 6)


def _host_groups(report: Report, scale: Scale) -> list[tuple[str, list[_Lane]]]:
    names = sorted(report.work, key=natural)
    shown = names if len(names) <= MOST_LANES else _chosen(report)
    lanes = [_host_lane(name, report.work[name], scale) for name in shown]
    head = f"Hosts: colors of the plays, {CROSS} failed"
    if len(shown) == len(names):
        return [(head, lanes)]
    left = len(names) - len(shown)
    return [
        (f"{len(names)} hosts: how many work", [_curve_lane(report, scale)]),
        (f"{head}; those that failed or worked the longest, {left} more are in the curve alone", lanes),
    ]


def _chosen(report: Report) -> list[str]:
    """Return the hosts that have a lane where there are many: those that failed, then those with the most work."""

    def rank(name: str) -> tuple[bool, float]:
        spans = report.work[name]
        return not any(one.outcome in (*FAILED, UNFINISHED) for one in spans), -sum(
            one.end - one.begin for one in spans
        )

    return sorted(sorted(report.work, key=rank)[:MOST_LANES], key=natural)


def _host_lane(name: str, spans: Sequence[Span], scale: Scale) -> _Lane:
    def parts(top: float) -> Iterator[str]:
        ordered = sorted(spans, key=lambda one: one.begin)
        for group in _joined(
            ordered,
            lambda one, other: one.play == other.play and other.begin - one.end < scale.pixel,
        ):
            begin, end = group[0].begin, max(one.end for one in group)
            tasks = group[0].text if len(group) == 1 else f"{len(group)} tasks, the last one {group[-1].text}"
            left = scale.x(begin)
            title = f"{name}, {_between(begin, end)}: {tasks} (play {group[0].play})"
            width = max(scale.x(end) - left, 1.0)
            yield _rect(f"part {color(group[0].play)}", left, top + 3, width, LANE - 6, title)
        for one in ordered:
            if one.outcome in (*FAILED, UNFINISHED):
                title = f"{name}, {_between(one.begin, one.end)}: {one.text}: {one.outcome} (play {one.play})"
                yield _failure(scale.x(one.end), scale.x(one.end), top + LANE / 2, title)

    return _Lane(name, parts)


def _curve_lane(report: Report, scale: Scale) -> _Lane:
    """Return how many hosts work in each column of pixels."""
    columns = [0] * (PLOT + 1)
    for spans in report.work.values():
        busy: set[int] = set()
        for one in spans:
            busy.update(range(int(one.begin / scale.pixel), min(int(one.end / scale.pixel), PLOT) + 1))
        for column in busy:
            columns[min(column, PLOT)] += 1

    def parts(top: float) -> Iterator[str]:
        bottom, total = top + CURVE, len(report.work)
        steps, x = [], float(MARGIN + LABELS)
        for number, run in itertools.groupby(columns[:PLOT]):
            x += len(list(run))
            steps.append(f"V{round(bottom - CURVE * number / total, 1)}H{x}")
        title = f"at most {max(columns)} of {total} hosts work at the same time"
        yield f'<path class="curve" d="M{MARGIN + LABELS} {bottom}{"".join(steps)}V{bottom}Z">{_title(title)}</path>'

    return _Lane(f"hosts at work, of {len(report.work)}", parts, CURVE)


def _api_lanes(report: Report, scale: Scale) -> list[_Lane]:
    found = figures(report.calls)
    return [
        _api_lane(kind, [call for call in report.calls if call.kind == kind], found[kind].gap, scale) for kind in found
    ]


def _api_lane(kind: str, calls: Sequence[Call], gap: tuple[float, float], scale: Scale) -> _Lane:
    def parts(top: float) -> Iterator[str]:
        middle = top + LANE / 2
        first, last = scale.x(calls[0].began), scale.x(max(call.began + call.seconds for call in calls))
        yield f'<path class="baseline" d="M{first} {middle}H{last}"/>'
        slow = [call for call in calls if call.seconds >= SLOW]
        for group in _joined(slow, lambda one, other: other.began <= one.began + one.seconds):
            begin, end = group[0].began, max(call.began + call.seconds for call in group)
            longest = max(call.seconds for call in group)
            title = f"{kind}, {_between(begin, end)}: {count(len(group), 'slow call')}, the longest {longest:.1f} s"
            left = scale.x(begin)
            yield _rect("slow", left, middle - 3, max(scale.x(end) - left, 2.0), 6, title)
        if gap[1] - gap[0] >= SLOW:
            title = f"{kind}, {_between(*gap)}: no successful answer for {gap[1] - gap[0]:.1f} s, the longest gap"
            left = scale.x(gap[0])
            yield _rect("gap line-bad", left, top + 1, max(scale.x(gap[1]) - left, 2.0), LANE - 2, title)
        failed = [call for call in calls if call.problem]
        for group in _joined(failed, lambda one, other: scale.x(other.began) - scale.x(one.began) < JOINED):
            where = f"{group[0].began:.1f} s" if len(group) == 1 else _between(group[0].began, group[-1].began)
            title = f"{kind}, {where}: {count(len(group), 'failed call')}: {group[0].problem}"
            yield _failure(scale.x(group[0].began), scale.x(group[-1].began), middle, title)

    return _Lane(kind, parts)


def _address_lanes(report: Report, scale: Scale) -> list[_Lane]:
    if not report.rounds:
        return []
    return [
        _address_lane(address, report.addresses[address], report.lost.get(address, []), scale)
        for address in worth_a_line(report)
    ]


def worth_a_line(report: Report) -> list[str]:
    """Return the addresses that are shown: all, or where there are many those that lost most, in the report's order."""
    if len(report.addresses) <= MOST_LANES:
        return list(report.addresses)
    most = sorted(report.lost, key=lambda one: -len(report.lost[one]))[:MOST_LANES]
    return [one for one in report.addresses if one in most]


def rest(report: Report) -> str:
    """Return in words what became of the addresses that are not shown; empty where all are."""
    hidden = set(report.addresses) - set(worth_a_line(report))
    lost = sum(len(report.lost.get(one, ())) for one in hidden)
    return f"{len(hidden)} more addresses lost {lost} in all" if hidden else ""


def _address_lane(address: str, host: str, lost: Sequence[float], scale: Scale) -> _Lane:
    def parts(top: float) -> Iterator[str]:
        middle = top + LANE / 2
        yield f'<path class="baseline" d="M{MARGIN + LABELS} {middle}H{MARGIN + LABELS + PLOT}"/>'
        for group in _joined(lost, lambda one, other: scale.x(other) - scale.x(one) < JOINED):
            title = f"{address}, {_between(group[0], group[-1])}: {count(len(group), 'lost ping')}"
            yield _failure(scale.x(group[0]), scale.x(group[-1]), middle, title)

    return _Lane(f"{address} {host}".strip(), parts)


def _joined(items: Iterable[T], near: Callable[[T, T], bool]) -> Iterator[list[T]]:
    """Return runs of items of which each is near to the one before."""
    run: list[T] = []
    for one in items:
        if run and not near(run[-1], one):
            yield run
            run = []
        run.append(one)
    if run:
        yield run


def _between(begin: float, end: float) -> str:
    return f"{begin:.1f} to {end:.1f} s"


def _title(text: str) -> str:
    return f"<title>{clean(text)}</title>"


def _rect(kind: str, left: float, top: float, width: float, height: float, title: str) -> str:
    size = f'width="{round(width, 1)}" height="{height}"'
    return f'<rect class="{kind}" x="{left}" y="{top}" {size}>{_title(title)}</rect>'


def _failure(left: float, right: float, y: float, title: str) -> str:
    """Return a cross and, where failures go on, a line from it to the last one."""
    return f'<path class="line-bad" d="M{left - 4} {y - 4}l8 8m0 -8l-8 8M{left} {y}H{right}">{_title(title)}</path>'


def _text(kind: str, left: float, base: float, text: str, title: str = "", middle: bool = False) -> str:
    anchor = ' text-anchor="middle"' if middle else ""
    return f'<text class="{kind}" x="{left}" y="{base}"{anchor}>{_title(title) if title else ""}{clean(text)}</text>'
