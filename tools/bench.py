#!/usr/bin/env python3
"""Measures Brume, shows the figures beside their aims, and keeps them in `.lab/bench.json`.

An aim that is missed is no error. The parts `deploy` and `cold` DESTROY the lab of the inventory and make it anew.
`again`, `option`, `memory` and `catalog` use what is deployed; `scale` and `rings` need no host.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / ".collections")]

from tools.bench_parts import catalog, cloud, rings, scale  # noqa: E402
from tools.bench_parts.figures import Figure, Part, merged, table  # noqa: E402
from tools.bench_parts.runs import Context, NotMeasured  # noqa: E402

PARTS: dict[str, Callable[[Context], Iterator[Figure]]] = {
    "cold": cloud.cold,
    "deploy": cloud.deploy,
    "again": cloud.again,
    "option": cloud.option,
    "memory": cloud.memory,
    "catalog": catalog.measure,
    "scale": scale.measure,
    "rings": rings.measure,
}
DEFAULT = tuple(name for name in PARTS if name != "cold")
"""`cold` downloads more than a gigabyte, and so is measured only when it is named."""


def circumstances(context: Context) -> dict[str, Any]:
    """Return when, with what, and on what kind of machine is measured."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "inventory": Path(context.inventory).name,
        "ansible-core": version("ansible-core"),
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
    }


def measure(name: str, context: Context) -> Part:
    """Run a part; what failed is in the result, with the figures that were there before."""
    print(f"\n{name}", flush=True)
    around = circumstances(context)
    figures: list[Figure] = []
    problem = ""
    try:
        for figure in PARTS[name](context):
            figures.append(figure)
    except (NotMeasured, OSError) as error:
        problem = str(error)
        print(f"  not measured: {problem}", file=sys.stderr, flush=True)
    return Part(name, tuple(figures), problem.strip().splitlines()[0] if problem else "", around)


def keep(path: Path, parts: Sequence[Part]) -> None:
    """Put the parts of this run into the JSON file, beside those of earlier runs."""
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        known = None
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(merged(known, parts), indent=1) + "\n", encoding="utf-8")


def chosen(text: str) -> list[str]:
    """Return the parts of a list with commas, in the order in which they run; raises ArgumentTypeError."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in PARTS]
    if unknown or not names:
        raise argparse.ArgumentTypeError(f"no part `{', '.join(unknown)}`; there are {', '.join(PARTS)}")
    return [name for name in PARTS if name in names]


def main(arguments: Sequence[str]) -> int:
    """Measure; returns 1 when a part could not be measured, whatever the figures are otherwise."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("inventory", nargs="?", default="inventories/aio")
    names = f"of {', '.join(PARTS)}; default: all but cold"
    parser.add_argument("--only", type=chosen, default=list(DEFAULT), metavar="PART,...", help=names)
    parser.add_argument("--check", action="store_true", help="again, option in check mode; deploy, cold not at all")
    options = parser.parse_args(arguments)
    os.chdir(ROOT)
    context = Context(options.inventory, options.check)
    destroying = [name for name in options.only if name in ("cold", "deploy")]
    if destroying and not options.check:
        print(f"{' and '.join(destroying)}: the lab of {options.inventory} will be destroyed and made anew")
    parts = []
    for name in options.only:
        parts.append(measure(name, context))
        keep(ROOT / ".lab/bench.json", parts[-1:])  # at once: a later part may be interrupted
    print()
    print("\n".join(table(parts)))
    print("\nKept in .lab/bench.json")
    return 1 if any(part.problem for part in parts) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
