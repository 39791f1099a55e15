"""Two versions of clue over the same evidence, by turns; for `bench_scan.py --against TREE_OR_PYTHON`.

Whatever else the machine does meets both. What a person waits for is given by the clock, and by processor seconds,
which others on the machine disturb less.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from typing import Any

from rich.console import Console
from rich.table import Table

Pairs = list[tuple[float, float]]


def compared(bench: Any, against: Any) -> Iterator[tuple[str, Pairs]]:
    """Each figure as (this, other) for each round; both are a `bench_scan.Bench`."""
    huge = bench.options.memory_megapixels

    def turns(name: str, watch_memory: bool = False) -> list[tuple[Any, Any]]:
        return [
            (bench.run(name, f"{name}-this-{n}", watch_memory), against.run(name, f"{name}-other-{n}", watch_memory))
            for n in range(bench.options.rounds)
        ]

    def each(runs: list[tuple[Any, Any]], value: Callable[[Any], float]) -> Pairs:
        return [(value(this), value(that)) for this, that in runs]

    images = turns(bench.small("folder", bench.options.images, 1))
    yield "images a second", each(images, lambda run: run.images / run.seconds)
    yield "images a processor second", each(images, lambda run: run.images / run.processor)
    name, size = bench.photograph(bench.options.megapixels[0], seed=10)
    photographs = turns(name)
    yield "megapixels a second", each(photographs, lambda run: size / run.seconds)
    yield "megapixels a processor second", each(photographs, lambda run: size / run.processor)
    one, several = (turns(name) for name in bench.one_and_several())
    starts = [
        (bench.start_of(this, these), bench.start_of(that, those))
        for (this, that), (these, those) in zip(one, several, strict=True)
    ]
    yield "processor seconds of the start", starts
    memory = turns(bench.photograph(huge, seed=4)[0], watch_memory=True)
    yield f"GB at {huge:g} megapixels", each(memory, lambda run: run.peak_bytes / 1e9)


def comparison(bench: Any, against: Any) -> dict[str, Any]:
    """Print what `compared` finds with the ratios this / other, median and range; returns it for the JSON."""
    found = {}
    table = Table("figure", "this", "other", "this / other", "range")
    for name, pairs in compared(bench, against):
        ratios = sorted(this / that for this, that in pairs)
        middle = [statistics.median(side) for side in zip(*pairs, strict=True)]
        ratio = statistics.median(ratios)
        found[name] = {"pairs": pairs, "ratio": ratio, "range": [ratios[0], ratios[-1]]}
        table.add_row(name, *(f"{value:.3g}" for value in (*middle, ratio)), f"{ratios[0]:.3g} to {ratios[-1]:.3g}")
    Console().print(table)
    return found
