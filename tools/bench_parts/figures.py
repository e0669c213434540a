"""Figures, their aims, and how they are shown and kept. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any, Literal

Better = Literal["less", "more"]


@dataclass(frozen=True)
class Figure:
    """One measured value: `unit` is a word (s, MiB, times), `aim` what is hoped for, `better` in which direction."""

    name: str
    value: float
    unit: str = "s"
    aim: float | None = None
    better: Better = "less"
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the aim is met; None without one."""
        if self.aim is None:
            return None
        return self.value <= self.aim if self.better == "less" else self.value >= self.aim


@dataclass(frozen=True)
class Part:
    """What one part of a run came to. `problem` says why it could not be measured to its end."""

    name: str
    figures: tuple[Figure, ...] = ()
    problem: str = ""
    circumstances: Mapping[str, Any] = field(default_factory=dict)
    """When, with what, and on what kind of machine it was measured."""


def number(value: float) -> str:
    """Return a value as people read it: three digits or more, thousands apart."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"  # noqa: PLR2004


def _aim(figure: Figure) -> str:
    if figure.aim is None:
        return ""
    return f"{'≤' if figure.better == 'less' else '≥'} {figure.aim:,.0f} {figure.unit}"


def table(parts: Iterable[Part]) -> list[str]:
    """Return lines: part, figure, what was measured beside its aim, whether that is met, and notes."""
    head = ("part", "figure", "measured", "aim", "", "note")
    rows = [head]
    for part in parts:
        rows += [
            (
                part.name,
                one.name,
                f"{number(one.value)} {one.unit}",
                _aim(one),
                {True: "met", False: "missed", None: ""}[one.met],
                one.note,
            )
            for one in part.figures
        ]
        if part.problem:
            rows.append((part.name, "not measured", "", "", "", part.problem))
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    right = 2
    return [
        "  ".join(
            text.rjust(width) if column == right else text.ljust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def data(part: Part) -> dict[str, Any]:
    """Return a part as JSON types."""
    return {
        **part.circumstances,
        "figures": [{**asdict(one), "met": one.met} for one in part.figures],
        "problem": part.problem,
    }


def merged(known: Any, parts: Sequence[Part]) -> dict[str, Any]:
    """Return an earlier content of the JSON file with the parts of this run in place of their earlier ones.

    A part that could not be measured leaves an earlier one that could. What is no such content is dropped.
    """
    before = known.get("parts") if isinstance(known, dict) else None
    result: dict[str, Any] = dict(before) if isinstance(before, dict) else {}
    for part in parts:
        if part.figures or part.name not in result:
            result[part.name] = data(part)
    return {"parts": result}


def growth(sizes: Sequence[tuple[int, float]]) -> list[tuple[int, int, float]]:
    """Return, from (size, seconds) in ascending order, (smaller, larger, factor) of each step.

    The factor is how much more one unit of size costs at the larger one: 1 is linear growth, 2 twice as bad.
    """
    return [
        (small, large, (slow / large) / (quick / small))
        for (small, quick), (large, slow) in pairwise(sizes)
    ]
