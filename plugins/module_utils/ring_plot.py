"""The picture of a ring's balance: devices from left to right by zone, their partitions before and after, in SVG.

Lengths are in SVG's user units, pixels at the natural size. A device is a bar of what it has now; the line across it
is what its weight stands for, the hollow bar behind it what it had before. Bars get narrower with their number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils.diagram import COLORS, PAPER
from ansible_collections.brume.cloud.plugins.module_utils.run_timeline import clean

LEFT, RIGHT, TOP, BOTTOM = 70, 24, 64, 44
HEIGHT = 260
WIDEST, NARROWEST = 24.0, 1.2
"""Widths of a device's bar."""

PLOT = 1100
"""Width that the bars share; more devices than fit make the picture wider."""

GAP = 14
"""Between zones."""

NOW, HIGH = "management", "storage"
"""Colors of the diagram: of a bar, and of one that is more than ODD percent off."""

ODD = 5.0
LETTER = 6.6


def svg(ring: Mapping[str, Any]) -> str:
    """Return the picture of what the module `swift_ring` reports of a ring; of one that was not computed, no text."""
    after, before = ring.get("after") or {}, ring.get("before") or {}
    if not after:
        return ""
    old = before.get("devices") or {}
    rows = [
        {"key": key, "zone": (one["region"], one["zone"]), "now": after["devices"].get(key), "old": old.get(key)}
        for key, one in {**old, **after["devices"]}.items()
    ]
    rows.sort(key=lambda row: (row["zone"], row["key"]))
    zones = [(zone, list(members)) for zone, members in groupby(rows, key=lambda row: row["zone"])]
    step = max(NARROWEST, min(WIDEST, (PLOT - GAP * len(zones)) / max(1, len(rows))))
    heads = [f"region {zone[0]} zone {zone[1]}" for zone, _members in zones]
    widths = [max(len(members) * step, len(head) * LETTER) for head, (_zone, members) in zip(heads, zones, strict=True)]
    said = f"Ring {ring['name']}: {_words(before, after, ring)}"
    width = round(LEFT + max(sum(widths) + GAP * len(zones), len(said) * LETTER) + RIGHT)
    highest = max([_most(row) for row in rows] + [1.0])
    scale = HEIGHT / highest
    parts = []
    left = float(LEFT)
    for head, (_zone, members), room in zip(heads, zones, widths, strict=True):
        parts.append(f'<text class="small" x="{left:.1f}" y="{TOP + HEIGHT + 20}">{clean(head)}</text>')
        for place, row in enumerate(members):
            parts.append(_bar(row, left + place * step, step, scale))
        left += room + GAP
    height = TOP + HEIGHT + BOTTOM
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" class="ring" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" role="img">',
        f"<title>{clean(said)}</title>",
        f"<style>\n{_style()}\n</style>",
        f'<rect class="ground" x="0" y="0" width="{width}" height="{height}" rx="10"/>',
        f'<text class="heading" x="{LEFT}" y="26">{clean(said)}</text>',
        f'<text class="small" x="{LEFT}" y="46">partitions of each device: bar now, hollow before, line wanted</text>',
        *_axis(highest, scale, width),
        *parts,
        "</svg>",
    ]) + "\n"  # fmt: skip


def _words(before: Mapping[str, Any], after: Mapping[str, Any], ring: Mapping[str, Any]) -> str:
    balance = f"balance {after['balance']:.2f} %, dispersion {after['dispersion']:.2f} %"
    if not before:
        return f"new, {balance}"
    return (
        f"balance {before['balance']:.2f} → {after['balance']:.2f} %, dispersion {before['dispersion']:.2f} → "
        f"{after['dispersion']:.2f} %, {ring['moved']:,} partitions moved ({100 * ring['moved_share']:.2f} %)"
    )


def _most(row: Mapping[str, Any]) -> float:
    states = [one for one in (row["now"], row["old"]) if one]
    return max(float(one[name]) for one in states for name in ("parts", "wanted"))


def _bar(row: Mapping[str, Any], left: float, step: float, scale: float) -> str:
    """Return a device: title, hollow bar of before, bar of now, line of what is wanted."""
    now, old = row["now"], row["old"]
    base, width = TOP + HEIGHT, step * (0.8 if step > 2 else 1.0)  # noqa: PLR2004  # narrow bars touch each other
    history = f"{old['parts']} before" if old else "new"
    state = f"{now['parts']} now, {now['wanted']:g} wanted, balance {now['balance']:.2f} %" if now else "removed"
    shapes = []
    if old and (now is None or old["parts"] != now["parts"]):
        shapes.append(_rect("before", left, base, width, old["parts"] * scale))
    if now:
        shapes.append(_rect("odd" if abs(now["balance"]) > ODD else "now", left, base, width, now["parts"] * scale))
        level = base - now["wanted"] * scale
        shapes.append(f'<path class="wanted" d="M{left:.1f} {level:.1f}h{width:.1f}"/>')
    return f"<g><title>{clean(row['key'])}: {clean(history)}, {clean(state)}</title>{''.join(shapes)}</g>"


def _rect(kind: str, left: float, base: int, width: float, height: float) -> str:
    return (
        f'<rect class="{kind}" x="{left:.1f}" y="{base - height:.1f}" width="{width:.1f}" height="{height:.1f}"/>'
    )


def _axis(highest: float, scale: float, width: int) -> Sequence[str]:
    """Return lines at about four round numbers of partitions."""
    unit = 10 ** (len(str(int(highest))) - 1)
    step = next(one for one in (unit // 5, unit // 2, unit, 2 * unit, 5 * unit) if one and highest / one <= 5)  # noqa: PLR2004  # lines
    lines = []
    for value in range(0, int(highest) + 1, step):
        level = TOP + HEIGHT - value * scale
        lines.append(f'<path class="grid" d="M{LEFT} {level:.1f}H{width - RIGHT}"/>')
        lines.append(f'<text class="small tick" x="{LEFT - 8}" y="{level + 4:.1f}">{value:,}</text>')
    return lines


def _style() -> str:
    """Return the style sheet, for a light ground and, where the reader's is dark, for a dark one."""

    def colors(dark: bool) -> list[str]:
        paper = {key: pair[dark] for key, pair in PAPER.items()}
        return [
            f".ring .ground{{fill:{paper['ground']}}}",
            f".ring .heading{{fill:{paper['text']}}}",
            f".ring .small{{fill:{paper['small']}}}",
            f".ring .grid{{stroke:{paper['edge']}}}",
            f".ring .now{{fill:{COLORS[NOW][dark]}}}",
            f".ring .odd{{fill:{COLORS[HIGH][dark]}}}",
            f".ring .before,.ring .wanted{{stroke:{paper['text']}}}",
        ]

    return "\n".join([
        ".ring text{font:12px system-ui,-apple-system,'Segoe UI','DejaVu Sans',sans-serif}",
        ".ring .heading{font-weight:600}",
        ".ring .tick{text-anchor:end}",
        ".ring .grid{stroke-width:1;opacity:.6}",
        ".ring .before{fill:none;stroke-width:.6;stroke-dasharray:2 1}",
        ".ring .wanted{stroke-width:1.2;fill:none}",
        *colors(False),
        "@media (prefers-color-scheme:dark){",
        *colors(True),
        "}",
    ])  # fmt: skip
