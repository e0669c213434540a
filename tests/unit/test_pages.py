"""Every playbook has its page, and what the pages lead to is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .playbooks import ROOT

PLAYBOOKS = sorted((ROOT / "playbooks").glob("*.yml"))
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
HEADINGS = ["What it does", "How long it takes", "What is interrupted", "How to undo it"]
NAME = re.compile(r"`([a-z]+_\w+)`")
BLOCK = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
NAMED = re.compile(r"\bdocs/[\w./-]+[\w/](?:#[\w-]+)?")
VARIABLE = re.compile(r"(?<![\w.])([a-z]+_\w+)(?: \| default\(| is (?:not )?defined)")
"""What a playbook can do without: its options."""


def prose(page: Path) -> str:
    """Return a page's text without its blocks of code."""
    return BLOCK.sub("", page.read_text(encoding="utf-8"))


def headings(page: Path) -> list[str]:
    """Return the headings of the second level."""
    return re.findall(r"^## (.+)$", prose(page), re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """Return what links to headings of a page end with, as GitHub makes it of their text."""
    found: set[str] = set()
    for text in re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE):
        plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text)
        name = re.sub(r"[^\w -]", "", plain.lower()).replace(" ", "-")
        same = sum(1 for one in found if re.fullmatch(rf"{re.escape(name)}(-\d+)?", one))
        found.add(f"{name}-{same}" if same else name)
    return found


def broken(target: str, page: Path) -> bool:
    """Return whether a link of a page, relative to its folder, leads to no file or to no heading."""
    path, _, anchor = target.partition("#")
    place = (page.parent / path).resolve() if path else page
    return not place.exists() or (bool(anchor) and anchor not in anchors(place))


@pytest.mark.parametrize("playbook", PLAYBOOKS, ids=lambda path: path.stem)
def test_every_playbook_has_its_page(playbook: Path) -> None:
    page = ROOT / "docs/operations" / f"{playbook.stem}.md"
    assert headings(page) == HEADINGS
    text = page.read_text(encoding="utf-8")
    assert f"playbooks/{playbook.name}" in text.partition("## ")[0]
    variables = set(VARIABLE.findall(playbook.read_text(encoding="utf-8"))) - {"ansible_limit"}
    assert [name for name in sorted(variables) if not re.search(rf"\b{name}\b", text)] == []
    # what its table names is there
    files = [*PLAYBOOKS, *(ROOT / "roles").glob("*/meta/argument_specs.yml")]
    known = "\n".join(path.read_text(encoding="utf-8") for path in files)
    rows = re.findall(r"^\| (.*?) \|", text.partition("## ")[0], re.MULTILINE)
    said = [name for row in rows for name in NAME.findall(row)]
    assert [name for name in said if not re.search(rf"\b{name}\b", known)] == []


def test_every_page_of_a_verb_is_of_a_playbook_and_in_the_index() -> None:
    pages = {path.name for path in (ROOT / "docs/operations").glob("*.md")}
    assert pages == {f"{path.stem}.md" for path in PLAYBOOKS}
    links = LINK.findall(prose(ROOT / "docs/operations.md"))
    assert [name for name in sorted(pages) if f"operations/{name}" not in links] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    links = [one for one in LINK.findall(prose(page)) if "://" not in one]
    assert [one for one in links if broken(one, page)] == []


def test_pages_that_messages_and_comments_name_are_there() -> None:
    folders = ("inventories", "molecule", "playbooks", "plugins", "roles", "tests", "tools")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in {".py", ".yml"}]
    named = {
        (str(path.relative_to(ROOT)), name)
        for path in [ROOT / "Makefile", *files]
        for name in re.findall(rf"(?<![\w./]){NAMED.pattern}", path.read_text(encoding="utf-8"))
    }
    assert len(named) > len(PLAYBOOKS)
    # a decision is named by its number
    whole = {(path, re.sub(r"^(docs/adr/\d{4})$", r"\1-*", name)) for path, name in named}
    odd = [one for one in whole if "*" not in one[1] and broken(one[1], ROOT / "README.md")]
    odd += [one for one in whole if "*" in one[1] and not list(ROOT.glob(one[1]))]
    assert sorted(odd) == []
