"""The report of one run as one HTML file that needs nothing else: no script, no link, no font.

It is well-formed XML too, so that any tool can read it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from ansible_collections.brume.cloud.plugins.module_utils import run_lines, run_timeline
from ansible_collections.brume.cloud.plugins.module_utils.api_probe import figures
from ansible_collections.brume.cloud.plugins.module_utils.convergence import atomic_write
from ansible_collections.brume.cloud.plugins.module_utils.diagram import PAPER
from ansible_collections.brume.cloud.plugins.module_utils.progress import duration, fold, natural
from ansible_collections.brume.cloud.plugins.module_utils.run_lines import FAILED, NO_CALL, NO_PING, UNFINISHED, Report
from ansible_collections.brume.cloud.plugins.module_utils.run_timeline import clean, color

SHOWN = 50
"""How many failed calls, and how many failed tasks, are listed in words."""

CONTENT_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
"""What a browser may load for the file: nothing but the style within it."""


def html(report: Report) -> str:
    """Return the HTML of a report."""
    began = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(report.started_at))
    about = [
        *report.facts.items(),
        ("began", began),
        ("seconds", f"{report.seconds:.0f} ({duration(report.seconds)})"),
        ("hosts", str(len(report.work))),
        ("outcome", outcome(report)),
    ]
    sections = [
        _table("Summary", (), about, heads=True),
        *(f'<p class="note">{clean(note)}</p>' for note in notes(report)),
        _table("API calls", ("API", "calls", "failed", "longest gap", "longest call"), _calls(report)),
        _paragraph(_gap_words(report)),
        _table("Pings", ("address", "host at the beginning", "pings", "lost"), _pings(report)),
        f'<section><h2>Timeline</h2><div class="wide">{run_timeline.svg(report)}</div></section>',
        _table("Plays", ("", "play", "begins at", "seconds", "hosts", "tasks"), _plays(report), raw_first=True),
        _table("Failed tasks", ("at", "host", "outcome", "task", "play"), _failures(report)),
        _table("Failed calls", ("at", "API", "seconds", "problem"), _failed_calls(report)),
    ]
    body = "\n".join(one for one in sections if one)
    title = clean(" ".join((report.what, *_releases(report))))
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8"/>\n'
        f'<meta http-equiv="Content-Security-Policy" content="{CONTENT_POLICY}"/>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>\n'
        '<meta name="color-scheme" content="light dark"/>\n'
        f"<title>{title}</title>\n<style>\n{_style()}\n{run_timeline.style()}\n</style>\n</head>\n"
        f"<body>\n<h1>{title}</h1>\n{body}\n</body>\n</html>\n"
    )


def page(path: Path) -> Path:
    """Return where the HTML of a report's lines is."""
    return path.with_suffix(".html")


def write(path: Path) -> Path:
    """Write the HTML of a report's lines beside them; return where. Raises OSError."""
    target = page(path)
    atomic_write(str(target), html(run_lines.read(path)))
    return target


def outcome(report: Report) -> str:
    """Return in words how a run ended."""
    if report.failed is None:
        return "was cut off"
    return f"stopped by {fold(report.failed)}" if report.failed else "ended well"


def sentence(report: Report) -> str:
    """Return the figures of calls and pings in a sentence."""
    found = figures(report.calls)
    words = [f"{len(report.calls)} calls, {sum(one.failed for one in found.values())} failed"]
    words += [f"{kind}: longest gap {one.gap_seconds:.1f} s" for kind, one in found.items()]
    lost = sum(len(moments) for moments in report.lost.values())
    return "; ".join([*words, f"{report.rounds * len(report.addresses)} pings, {lost} lost"])


def notes(report: Report) -> list[str]:
    """Return what a reader must know of the figures: what was noted, and what was not looked at."""
    said = list(dict.fromkeys(report.notes))
    missing = [text for text, there in ((NO_CALL, report.calls), (NO_PING, report.rounds)) if not there]
    return [*said, *(f"{text}." for text in missing if not any(one.startswith(text) for one in said))]


def _releases(report: Report) -> list[str]:
    known = [report.facts[key] for key in ("from", "to") if key in report.facts]
    return ["from", known[0], "to", known[1]] if len(known) > 1 else []


def _gap_words(report: Report) -> str:
    """Return what the gaps mean."""
    if not report.calls or not report.rate:
        return ""
    between = len(report.apis) / report.rate
    return (
        f"A gap is the time between two answers without a failure. Each API was called every {between:.1f} s, which "
        "is the gap where nothing failed or waited; no outage that was met is longer than its gap."
    )


def _calls(report: Report) -> list[tuple[str, ...]]:
    rows = []
    for kind, one in figures(report.calls).items():
        gap = f"{one.gap_seconds:.1f} s at {one.gap[0]:.1f} s"
        rows.append((kind, str(one.calls), str(one.failed), gap, f"{one.longest:.1f} s"))
    calls, failed = len(report.calls), sum(bool(one.problem) for one in report.calls)
    return [*rows, ("all", str(calls), str(failed), "", "")] if rows else []


def _pings(report: Report) -> list[tuple[str, ...]]:
    if not report.rounds:
        return []
    shown: list[tuple[str, ...]] = [
        (address, report.addresses[address], str(report.rounds), str(len(report.lost.get(address, ()))))
        for address in run_timeline.worth_a_line(report)
    ]
    more = run_timeline.rest(report)
    return [*shown, (more, "", str(report.rounds), "")] if more else shown


def _plays(report: Report) -> list[tuple[str, ...]]:
    hosts: dict[int, set[str]] = {}
    tasks: dict[int, set[str]] = {}
    for host, spans in report.work.items():
        for span in spans:
            hosts.setdefault(span.play, set()).add(host)
            tasks.setdefault(span.play, set()).add(span.text)
    return [
        (
            f'<svg width="12" height="12" aria-hidden="true"><rect class="{color(play.number)}" width="12" '
            f'height="12"/></svg> {play.number}',
            play.name,
            f"{play.begin:.1f} s",
            f"{play.end - play.begin:.1f}",
            str(len(hosts.get(play.number, ()))),
            str(len(tasks.get(play.number, ()))),
        )
        for play in report.plays
    ]


def _failures(report: Report) -> list[tuple[str, ...]]:
    names = {play.number: play.name for play in report.plays}
    found = sorted(
        (
            (span, host)
            for host, spans in report.work.items()
            for span in spans
            if span.outcome in (*FAILED, UNFINISHED)
        ),
        key=lambda pair: (pair[0].end, natural(pair[1])),
    )
    rows = [
        (f"{span.end:.1f} s", host, span.outcome, span.text, names.get(span.play, "")) for span, host in found[:SHOWN]
    ]
    return _with_rest(rows, len(found))


def _failed_calls(report: Report) -> list[tuple[str, ...]]:
    found = [call for call in report.calls if call.problem]
    rows = [(f"{one.began:.1f} s", one.kind, f"{one.seconds:.1f}", one.problem) for one in found[:SHOWN]]
    return _with_rest(rows, len(found))


def _with_rest(rows: Sequence[tuple[str, ...]], number: int) -> list[tuple[str, ...]]:
    """Return rows with what is left out as the last one."""
    more = number - len(rows)
    return [*rows, (f"and {more} more", *[""] * (len(rows[0]) - 1))] if more > 0 else list(rows)


def _paragraph(text: str) -> str:
    return f"<p>{clean(text)}</p>" if text else ""


def _table(
    name: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    heads: bool = False,
    raw_first: bool = False,
) -> str:
    """Return a section with a table, empty without rows.

    With `heads` the first cell of a row is its heading; with `raw_first` it is markup already.
    """
    lines = []
    for row in rows:
        first = row[0] if raw_first else clean(row[0])
        begin = f'<th scope="row">{first}</th>' if heads else f"<td>{first}</td>"
        lines.append(f"<tr>{begin}{''.join(f'<td>{clean(cell)}</td>' for cell in row[1:])}</tr>")
    if not lines:
        return ""
    head = "".join(f'<th scope="col">{clean(one)}</th>' for one in columns)
    head = f"<thead><tr>{head}</tr></thead>\n" if head else ""
    table = "\n".join([f"<table>{head}<tbody>", *lines, "</tbody></table>"])
    return f'<section><h2>{clean(name)}</h2><div class="wide">{table}</div></section>'


def _style() -> str:
    def colors(dark: bool) -> list[str]:
        paper = {key: pair[dark] for key, pair in PAPER.items()}
        return [
            f"body{{background:{paper['ground']};color:{paper['text']}}}",
            f"td,th{{border-bottom:1px solid {paper['edge']}}}",
            f"thead th{{color:{paper['small']}}}",
            f".note{{border-left:4px solid {run_timeline.STATES['slow'][dark]};background:{paper['box']}}}",
        ]

    return "\n".join(
        [
            "body{font:15px/1.45 system-ui,-apple-system,'Segoe UI','DejaVu Sans',sans-serif;margin:2rem auto;"
            "max-width:1260px;padding:0 1rem}",
            "h1{font-size:1.5rem}",
            "h2{font-size:1.1rem;margin:1.6rem 0 .4rem}",
            ".wide{overflow-x:auto}",
            "table{border-collapse:collapse;font-variant-numeric:tabular-nums}",
            "td,th{padding:.25rem 1.2rem .25rem 0;text-align:left;vertical-align:top}",
            ".note{padding:.4rem .8rem}",
            *colors(False),
            "@media (prefers-color-scheme:dark){",
            *colors(True),
            "}",
        ]
    )
