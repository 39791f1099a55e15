"""Measure `clue scan` as a person runs it: the real console script, every output, in one go.

    folder   a folder of small JPEGs: images a second
    large    single large photographs: seconds a megapixel
    resume   the same command again over finished files: its time against the first run's
    memory   a very large photograph: peak memory above that of a run on one small image

The evidence is made from the photographs of `clue sample`: random crops with a little noise, so that no two are
equal. Times are given twice: `seconds` as run.json states them, and `wall`, which adds the start of the interpreter.
Prints a table and writes everything as JSON; with --check the exit code is 1 if a target is missed.

    python scripts/bench_scan.py                                     everything; tens of minutes on two cores
    python scripts/bench_scan.py --parts folder large --images 50    a quick look
    python scripts/bench_scan.py --parts memory -- --device cpu      what follows -- goes to clue scan
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table

from clue_cli import __version__
from clue_cli.errors import ExitCode
from clue_cli.sample import pictures

SMALL = (384, 256)  # width, height: the size of CASIA's images, the usual test set of the field
PATCH = 240  # side in pixels of the patches of a large photograph
NOISE = 3  # largest change of a grey level: no two crops have the same bytes, and none is free of noise
SAMPLES_A_SECOND = 10  # of the memory

TARGETS: dict[str, tuple[str, float]] = {
    "images a second": (">=", 6.0),
    "seconds a megapixel": ("<=", 1.0),
    "second run / first run": ("<", 0.03),
    "GB above a small image": ("<=", 3.0),
}


@dataclass(frozen=True, slots=True)
class Run:
    """One run of `clue scan`: seconds with the interpreter's start, seconds by run.json, peak memory in bytes."""

    wall: float
    seconds: float
    images: int
    resumed: int
    peak_bytes: int


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number, with what it was measured on."""

    part: str
    what: str
    name: str
    value: float
    value_wall: float | None
    met: bool


def figure(part: str, what: str, name: str, value: float, value_wall: float | None = None) -> Figure:
    """A figure held against the target of its name."""
    sign, target = TARGETS[name]
    met = {">=": value >= target, "<=": value <= target, "<": value < target}[sign]
    return Figure(part, what, name, value, value_wall, met)


# --------------------------------------------------------------------------------------------------------- evidence


def crops(width: int, height: int, seed: int) -> Iterator[NDArray[np.uint8]]:
    """Random crops (height×width×3) of the sample's photographs, turned, mirrored and with a little noise."""
    generator = np.random.default_rng(seed)
    photographs = [picture.pixels for picture in pictures().values() if picture.mask is None]
    fitting = [pixels for pixels in photographs if min(pixels.shape[:2]) >= max(width, height)]
    fitting = fitting or [pixels for pixels in photographs if pixels.shape[0] >= height and pixels.shape[1] >= width]
    while True:
        pixels = fitting[generator.integers(len(fitting))]
        top = generator.integers(pixels.shape[0] - height + 1)
        left = generator.integers(pixels.shape[1] - width + 1)
        crop = pixels[top : top + height, left : left + width, :: generator.choice((-1, 1))]
        crop = crop[:, :: generator.choice((-1, 1))]
        noise = generator.integers(-NOISE, NOISE + 1, crop.shape, dtype=np.int16)
        yield np.clip(crop + noise, 0, 255).astype(np.uint8)


def write_folder(folder: Path, count: int, seed: int) -> None:
    """Write `count` small JPEGs of several qualities into a new folder."""
    folder.mkdir(parents=True)
    qualities = np.random.default_rng(seed).integers(60, 96, count)
    for number, (pixels, quality) in enumerate(zip(crops(*SMALL, seed), qualities, strict=False)):
        Image.fromarray(pixels).save(folder / f"{number:05}.jpg", quality=int(quality))


def write_large(folder: Path, megapixels: float, seed: int) -> float:
    """Write one 3:2 JPEG into a new folder, a mosaic of crops; returns its size in megapixels."""
    folder.mkdir(parents=True)
    height = round(math.sqrt(megapixels * 1e6 / 1.5))
    width = round(height * 1.5)
    pixels = np.empty((height, width, 3), np.uint8)
    patches = crops(PATCH, PATCH, seed)
    for top in range(0, height, PATCH):
        for left in range(0, width, PATCH):
            space = pixels[top : top + PATCH, left : left + PATCH]
            space[:] = next(patches)[: space.shape[0], : space.shape[1]]
    Image.fromarray(pixels).save(folder / f"{megapixels:g}.jpg", quality=92)
    return width * height / 1e6


# -------------------------------------------------------------------------------------------------------- measuring


def _memory(process: psutil.Process) -> int:
    """Bytes that a process and its children hold; memory that they share is counted once where Linux tells (PSS)."""
    total = 0
    for member in (process, *process.children(recursive=True)):
        total += getattr(member.memory_full_info(), "pss", 0) or member.memory_info().rss
    return total


def _peak_memory(process: subprocess.Popen[str]) -> int:
    """Wait for the process to end; returns the largest memory that was seen on the way."""
    peak, watched = 0, psutil.Process(process.pid)
    while process.poll() is None:
        try:
            peak = max(peak, _memory(watched))
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue  # a process ended between being listed and being read; poll() decides whether it was this one
        time.sleep(1 / SAMPLES_A_SECOND)
    return peak


def scan(clue: list[str], evidence: Path, out: Path, options: list[str], watch_memory: bool = False) -> Run:
    """Run `clue scan` once.

    Raises:
        SystemExit: it did not end with exit code 0.
    """
    command = [*clue, "scan", str(evidence), "--out", str(out), "--quiet", *options]
    with tempfile.TemporaryFile("w+") as talk:
        started = time.perf_counter()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=talk, stderr=talk, text=True)
        peak = _peak_memory(process) if watch_memory else 0
        code = process.wait()
        wall = time.perf_counter() - started
        if code != ExitCode.OK:
            talk.seek(0)
            raise SystemExit(f"{' '.join(command)}\nended with exit code {code}:\n{talk.read()}")
    run: dict[str, Any] = json.loads((out / "run.json").read_text(encoding="utf-8"))
    counts = run["counts"]
    return Run(wall, float(run["seconds"]), counts["images"], counts["resumed"], peak)


@dataclass(frozen=True, slots=True)
class Bench:
    """What the parts need: how to call clue, where to work, and what was asked for."""

    clue: list[str]
    work: Path
    options: argparse.Namespace

    def run(self, name: str, out: str | None = None, watch_memory: bool = False) -> Run:
        """Scan the evidence of this name; `out` names the results folder if it is not the same."""
        evidence, results = self.work / name, self.work / f"{out or name}-results"
        return scan(self.clue, evidence, results, self.options.scan_options, watch_memory)

    def folder(self) -> Iterator[tuple[Figure, list[Run]]]:
        """A folder of small JPEGs."""
        count = self.options.images
        write_folder(self.work / "folder", count, seed=1)
        run = self.run("folder")
        what = f"{count} JPEGs of {SMALL[0]}x{SMALL[1]}"
        yield figure("folder", what, "images a second", run.images / run.seconds, run.images / run.wall), [run]

    def large(self) -> Iterator[tuple[Figure, list[Run]]]:
        """Single large photographs."""
        for number, asked in enumerate(self.options.megapixels):
            name = f"large-{asked:g}"
            size = write_large(self.work / name, asked, seed=10 + number)
            run = self.run(name)
            what = f"one JPEG of {size:.1f} megapixels"
            yield figure("large", what, "seconds a megapixel", run.seconds / size, run.wall / size), [run]

    def resume(self) -> Iterator[tuple[Figure, list[Run]]]:
        """The same command again over finished files."""
        count = self.options.resume_files
        write_folder(self.work / "resume", count, seed=2)
        first, second = self.run("resume"), self.run("resume")
        if second.resumed < first.images:
            raise SystemExit(f"only {second.resumed} of {first.images} images were resumed")
        ratios = second.seconds / first.seconds, second.wall / first.wall
        yield figure("resume", f"{count} finished files", "second run / first run", *ratios), [first, second]

    def memory(self) -> Iterator[tuple[Figure, list[Run]]]:
        """A very large photograph, against one small image."""
        write_folder(self.work / "small", 1, seed=3)
        size = write_large(self.work / "huge", self.options.memory_megapixels, seed=4)
        small, huge = self.run("small", watch_memory=True), self.run("huge", watch_memory=True)
        above = (huge.peak_bytes - small.peak_bytes) / 1e9
        what = f"one JPEG of {size:.1f} megapixels; peak {huge.peak_bytes / 1e9:.2f} GB"
        yield figure("memory", what, "GB above a small image", above), [small, huge]


PARTS: dict[str, Callable[[Bench], Iterator[tuple[Figure, list[Run]]]]] = {
    "folder": Bench.folder,
    "large": Bench.large,
    "resume": Bench.resume,
    "memory": Bench.memory,
}


def machine() -> dict[str, str | int]:
    """What the figures were measured on."""
    return {
        "clue": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 0,
        "memory_bytes": psutil.virtual_memory().total,
    }


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """The command line; `scan_options` is what goes on to clue scan."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    beside = Path(sys.executable).with_name("clue")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="what to measure")
    parser.add_argument("--images", type=int, default=200, help="images of the part folder")
    parser.add_argument("--megapixels", type=float, nargs="+", default=[12.0, 24.0], help="sizes of the part large")
    parser.add_argument("--resume-files", type=int, default=2000, help="files of the part resume")
    parser.add_argument("--memory-megapixels", type=float, default=100.0, help="size of the part memory")
    parser.add_argument("--clue", default=str(beside), help="the console script to measure")
    parser.add_argument("--json", type=Path, default=Path("bench_scan.json"), help="where the figures are written")
    parser.add_argument("--check", action="store_true", help="exit code 1 if a target is missed")
    own = sys.argv[1:] if argv is None else argv
    split = own.index("--") if "--" in own else len(own)
    options = parser.parse_args(own[:split])
    options.scan_options = own[split + 1 :]
    return options


def main(argv: list[str] | None = None) -> int:
    """Measure, print, write; returns the exit code."""
    options = arguments(argv)
    talk, figures, runs = Console(stderr=True), [], {}
    with tempfile.TemporaryDirectory(prefix="clue-bench-") as work:
        bench = Bench([options.clue], Path(work), options)
        for part in options.parts:
            talk.print(f"measuring {part} …")
            for found, its_runs in PARTS[part](bench):
                figures.append(found)
                runs[f"{found.part}: {found.what}"] = [asdict(run) for run in its_runs]

    table = Table("part", "measured on", "figure", "value", "with start", "target", "met")
    for found in figures:
        wall = "" if found.value_wall is None else f"{found.value_wall:.3g}"
        sign, target = TARGETS[found.name]
        cells = (found.part, found.what, found.name, f"{found.value:.3g}", wall, f"{sign} {target:g}")
        table.add_row(*cells, "yes" if found.met else "NO")
    Console().print(table)
    document = {"machine": machine(), "figures": [asdict(found) for found in figures], "runs": runs}
    options.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return 1 if options.check and not all(found.met for found in figures) else 0


if __name__ == "__main__":
    sys.exit(main())
