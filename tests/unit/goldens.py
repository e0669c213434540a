"""Golden files: what a person reads, compared with what the code says."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

GOLDEN = Path(__file__).parent / "golden"


def golden(name: str, text: str) -> None:
    """Compare with a golden file; BRUME_GOLDEN=write makes it anew."""
    path = GOLDEN / name
    if os.environ.get("BRUME_GOLDEN") == "write":
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def sections(name: str) -> dict[str, str]:
    """Return a golden file's parts by heading."""
    path = GOLDEN / name
    parts = path.read_text(encoding="utf-8").split("## ")[1:] if path.exists() else []
    return {heading: text.strip("\n") for heading, _line, text in (part.partition("\n") for part in parts)}


def golden_section(name: str, kind: str, text: str, kinds: Iterable[str]) -> None:
    """Compare with the part of a golden file that a kind heads; `kinds` gives the order when it is made anew."""
    text = text.strip("\n")
    if os.environ.get("BRUME_GOLDEN") == "write":
        found = sections(name) | {kind: text}
        parts = [f"## {one}\n{found[one]}\n" for one in kinds if one in found]
        (GOLDEN / name).write_text("\n".join(parts), encoding="utf-8")
    assert text == sections(name).get(kind)
