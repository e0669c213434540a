"""The bench of rings: both ways end alike."""

from __future__ import annotations

import pytest

from tools.bench_parts import rings


def test_both_ways_to_a_ring_end_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"add": rings.ADDED, "weigh": rings.WEIGHED, "drain": rings.DRAINED}
    _wanted, changes = rings.after(rings.before())
    assert {verb: len(items) for verb, items in changes.items()} == sizes
    assert len(rings.before()) == 1000
    for name, count in (("ADDED", 2), ("WEIGHED", 2), ("DRAINED", 1)):
        monkeypatch.setattr(rings, name, count)
    figures = {figure.name: figure for figure in rings.compared(8, rings.before(3, 1, 4))}
    assert figures["swift-ring-builder, build"].note.startswith("14 calls; ")
    assert figures["swift-ring-builder, change"].note.startswith("7 calls; ")
    ends = [figures[f"{way}, change"].note.rpartition("; ")[2] for way in ("swift_ring", "swift-ring-builder")]
    assert [float(end.split()[1]) < 10 for end in ends] == [True, True], ends
    assert figures["how many times faster, both"].value > 1
