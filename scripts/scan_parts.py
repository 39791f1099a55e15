"""Run `clue` with its parts timed: `python scan_parts.py FIGURES.json scan EVIDENCE --out DIR …`; for `bench_scan.py`.

Writes processor seconds, user and system, by part as JSON. A part is a list of functions of clue; the seconds are those
of the threads that call them, without what other parts inside them take. So that they are complete, nothing may compute
in threads of a library: call it with OMP_NUM_THREADS=1, or find that time in `other`. A function that this version of
clue does not have is listed in `missing`, and its time is in the part around it.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import json
import resource
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

PARTS: dict[str, tuple[str, ...]] = {
    "start": ("clue_cli.networks.local:load_predictor",),
    "decode": ("clue_cli.evidence.sandbox.pool:DecodePool.decode",),
    "search for copies": ("model.predictor:self_match",),
    "early view": ("model.forensic_view:ForensicView.forward",),
    "VAE": ("model.branches.sd3_network:SD3Network.encode",),
    "MM-DiT": ("model.branches.sd3_network:SD3Network.forward",),
    "SAM": ("model.branches.sam_network:SamNetwork.forward",),
    "fusion and head": ("model.clue:CLUE.forward",),
    "tiles": ("model.predictor:Predictor.compute", "model.predictor:Predictor._run", "model.predictor:Blend.add"),
    "edges and features": ("model.predictor:image_features", "model.predictor:complete"),
    "matching places": ("model.verdict:matching_places", "model.verdict:_with_matching_places"),
    "judge": ("clue_cli.scan.part:judge",),
    "drawing": ("clue_cli.scan.part:ScanPart._pictures",),
    "writing": (
        "clue_cli.results.scan_store:ResultStore.write_image",
        "clue_cli.results.scan_store:ResultStore.write_failure",
        "clue_cli.results.scan_store:ResultStore.finish",
    ),
}
"""Where each part begins: module and name, by which it is called there."""


class Clock:
    """Seconds of parts; one of them inside another is not counted twice."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._inner = threading.local()
        self._lock = threading.Lock()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count the processor time of this thread, but for parts inside."""
        outer = getattr(self._inner, "seconds", 0.0)
        self._inner.seconds, started = 0.0, time.thread_time()
        try:
            yield
        finally:
            took = time.thread_time() - started
            with self._lock:
                self.seconds[name] += took - self._inner.seconds
            self._inner.seconds = outer + took

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, counted; of a generator each step."""
        if inspect.isgeneratorfunction(function):

            @functools.wraps(function)
            def steps(*arguments: Any, **options: Any) -> Iterator[Any]:
                running = function(*arguments, **options)
                try:
                    while True:
                        with self.part(name):
                            try:
                                step = next(running)
                            except StopIteration:
                                return
                        yield step
                finally:
                    running.close()

            return steps

        @functools.wraps(function)
        def call(*arguments: Any, **options: Any) -> Any:
            with self.part(name):
                return function(*arguments, **options)

        return call

    def attach(self) -> list[str]:
        """Replace the functions of all parts; returns those that are not there."""
        missing = []
        for name, places in PARTS.items():
            for place in places:
                module, _, path = place.partition(":")
                *owners, last = path.split(".")
                try:
                    owner = functools.reduce(getattr, owners, importlib.import_module(module))
                    setattr(owner, last, self.timed(name, getattr(owner, last)))
                except (ImportError, AttributeError):
                    missing.append(place)
        return missing


def _children() -> float:
    """Seconds of the processes that this one has started and that still run."""
    total = 0.0
    for child in psutil.Process().children(recursive=True):
        times = child.cpu_times()
        total += times.user + times.system
    return total


def main() -> int:
    """Run the command line; returns its exit code."""
    from clue_cli.app import run
    from clue_cli.evidence.sandbox.pool import DecodePool

    clock, at_start = Clock(), [0.0]
    opened = DecodePool.__enter__

    def enter(pool: DecodePool) -> DecodePool:
        ready = opened(pool)
        at_start[0] += _children()
        return ready

    setattr(DecodePool, "__enter__", enter)  # noqa: B010 - a method, to a type checker
    missing = clock.attach()
    imported = time.process_time()
    code = run(sys.argv[2:])
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    total = own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
    seconds = {name: clock.seconds[name] for name in PARTS}
    seconds["start"] += imported + at_start[0]
    seconds["decode"] += children.ru_utime + children.ru_stime - at_start[0]
    seconds["other"] = total - sum(seconds.values())
    figures = {"seconds": seconds, "total": total, "missing": missing}
    Path(sys.argv[1]).write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return code


if __name__ == "__main__":
    sys.exit(main())
