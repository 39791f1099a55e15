"""How the cost of a scan grows with pixels, files and cores; for `bench_scan.py --growth FOLDER`.

    pixels   one photograph of each size: seconds, processor seconds, and peak memory
    files    so many JPEGs of 64x64, as small as a picture gets: what a file costs besides its pixels; and the same
             command again, which reads and hashes each file and finds its record
    cores    a folder of small JPEGs on each number of cores: images a second

Each plot has the line of proportionality: through the largest measurement, or for cores through the first. growth.json
is written again after each measurement, so that what a run has measured until it is stopped is kept.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from clue_cli.eval.plots import Curve, log_chart

TINY = (64, 64)

Row = dict[str, Any]


def pixels(bench: Any) -> Iterator[Row]:
    """One photograph of each size; `bench` is a `bench_scan.Bench`."""
    for number, asked in enumerate(bench.options.growth_megapixels):
        name, size = bench.photograph(asked, seed=30 + number)
        yield {"megapixels": size, **asdict(bench.run(name, watch_memory=True))}


def files(bench: Any) -> Iterator[Row]:
    """Folders of tiny pictures, and each again."""
    for number, count in enumerate(bench.options.growth_files):
        name = bench.small(f"tiny-{count}", count, 50 + number, TINY)
        first, again = bench.run(name), bench.run(name)
        if again.resumed < first.images:
            raise SystemExit(f"only {again.resumed} of {first.images} images were resumed")
        yield {"files": count, **asdict(first), "again": asdict(again)}


def cores(bench: Any) -> Iterator[Row]:
    """The same folder on each number of cores; raises SystemExit if there are not so many."""
    name = bench.small("folder", bench.options.images, 1)
    for count in bench.options.growth_cores:
        with limited(count):
            yield {"cores": count, **asdict(bench.run(name, f"cores-{count}"))}


@contextmanager
def limited(count: int) -> Iterator[None]:
    """Only so many cores for this process and those it starts; raises SystemExit if there are not so many."""
    allowed = os.sched_getaffinity(0)
    if count > len(allowed):
        raise SystemExit(f"{count} cores are asked for, and there are {len(allowed)}")
    os.sched_setaffinity(0, set(sorted(allowed)[:count]))
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


MEASURED: dict[str, Callable[[Any], Iterator[Row]]] = {"pixels": pixels, "files": files, "cores": cores}


def grow(bench: Any, folder: Path, machine: Row) -> int:
    """Measure, write growth.json and draw; returns the exit code."""
    talk, document = Console(stderr=True), {"machine": machine, "scan_options": bench.options.scan_options}
    folder.mkdir(parents=True, exist_ok=True)
    for what, measure in MEASURED.items():
        rows: list[Row] = []
        for row in measure(bench):
            rows.append(row)
            talk.print({key: value for key, value in row.items() if key != "again"})
            document[what] = rows
            (folder / "growth.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
        if rows:
            (folder / f"{what}.svg").write_text(drawn(what, rows), encoding="utf-8")
    return 0


def drawn(what: str, rows: Sequence[Row]) -> str:
    """The plot of a quantity as SVG."""
    if what == "pixels":
        curves = [_curve("seconds", rows, "megapixels", "seconds"), _curve("processor seconds", rows, "megapixels")]
        return log_chart("A photograph", "megapixels", "seconds", [*curves, _proportional(curves[1], -1)])
    if what == "files":
        again = [{"files": row["files"], **row["again"]} for row in rows]
        curves = [_curve("first run, processor seconds", rows, "files"), _curve("the same again", again, "files")]
        lines = [_proportional(curve, -1) for curve in curves]
        return log_chart("Files of 64×64 pixels", "files", "processor seconds", [*curves, *lines])
    rates = [{"cores": row["cores"], "rate": row["images"] / row["seconds"]} for row in rows]
    curve = _curve("images a second", rates, "cores", "rate")
    return log_chart("A folder of small pictures", "cores", "images a second", [curve, _proportional(curve, 0)])


def _curve(name: str, rows: Sequence[Row], x: str, y: str = "processor") -> Curve:
    return Curve(name, [(float(row[x]), float(row[y])) for row in rows], marked=True)


def _proportional(curve: Curve, through: int) -> Curve:
    x, y = curve.points[through]
    return Curve(f"in proportion: {curve.name}", [(at, y * at / x) for at, _ in curve.points])
