"""Measure `clue scan` as a person runs it: the real console script, every output, in one go.

    folder   a folder of small JPEGs: images a second
    large    single large photographs: seconds a megapixel
    resume   the same command again over finished files: its time against the first run's
    memory   a very large photograph: peak memory above that of a run on one small image
    start    processor seconds, user and system, of clue and its decoders before the first picture: those of a run over
             one small JPEG, less what each of sixteen costs more
    parts    processor seconds by part (scan_parts.py), of small JPEGs and of the first of --megapixels

The evidence is made from the photographs of `clue sample`: random crops with a little noise, so that no two are
equal. Times are given twice: `seconds` as run.json states them, and `wall`, which adds the start of the interpreter.
--cores limits all runs to so many cores. --without-bfloat16 stands for a machine without instructions for bfloat16: it
tells oneDNN and torch to do without, like a processor of 2020 with AVX-512 but for clock and cache, and computes in
int8, as `auto` does there (another version, which may not know it, in float32). --against measures another tree or
installation by turns, and prints the ratios with their range (scan_against.py). --growth draws how costs grow with
pixels, files and cores (scan_growth.py). Neither of the two measures anything else.
Prints a table and writes everything as JSON; with --check the exit code is 1 if a target is missed.

    python scripts/bench_scan.py                                     the first four; tens of minutes on two cores
    python scripts/bench_scan.py --parts folder large --images 50    a quick look
    python scripts/bench_scan.py --parts memory -- --device cpu      what follows -- goes to clue scan
    python scripts/bench_scan.py --parts start parts --cores 2 --without-bfloat16
    python scripts/bench_scan.py --against ../clue-0.1.0 --rounds 3  images a second, and so on, of both
    python scripts/bench_scan.py --growth scripts/growth                three plots and growth.json
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import resource
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
GROWTH_MEGAPIXELS = [1.0, 4.0, 12.0, 24.0, 50.0, 100.0, 200.0, 400.0]
GROWTH_FILES = [10, 100, 1000, 10_000]
MORE = 16  # small JPEGs of the part start, besides the first
WITHOUT_BFLOAT16 = {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_VNNI", "ATEN_CPU_CAPABILITY": "avx512"}
"""What keeps the libraries from instructions for bfloat16 that the processor has."""

TARGETS: dict[str, tuple[str, float]] = {
    "images a second": (">=", 6.0),
    "seconds a megapixel": ("<=", 1.0),
    "second run / first run": ("<", 0.03),
    "GB above a small image": ("<=", 3.0),
    "processor seconds": ("<=", 3.0),
}


@dataclass(frozen=True, slots=True)
class Run:
    """One run of `clue scan`.

    Attributes:
        wall: seconds with the interpreter's start.
        seconds: by run.json.
        peak_bytes: of memory; 0 if it was not watched.
        processor: seconds, user and system, of the process and its children.
    """

    wall: float
    seconds: float
    images: int
    resumed: int
    peak_bytes: int
    processor: float


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


def write_folder(folder: Path, count: int, seed: int, size: tuple[int, int] = SMALL) -> None:
    """Write `count` small JPEGs of several qualities into a new folder."""
    folder.mkdir(parents=True)
    qualities = np.random.default_rng(seed).integers(60, 96, count)
    for number, (pixels, quality) in enumerate(zip(crops(*size, seed), qualities, strict=False)):
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


def scan(
    clue: list[str],
    evidence: Path,
    out: Path,
    options: list[str],
    watch_memory: bool = False,
    environment: dict[str, str] | None = None,
) -> Run:
    """Run `clue scan` once; `environment` is added to that of this process.

    Raises:
        SystemExit: it did not end with exit code 0.
    """
    command = [*clue, "scan", str(evidence), "--out", str(out), "--quiet", *options]
    with tempfile.TemporaryFile("w+") as talk:
        started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        environ = os.environ | (environment or {})
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=talk, stderr=talk, text=True, env=environ)
        peak = _peak_memory(process) if watch_memory else 0
        code = process.wait()
        wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
        if code != ExitCode.OK:
            talk.seek(0)
            raise SystemExit(f"{' '.join(command)}\nended with exit code {code}:\n{talk.read()}")
    run: dict[str, Any] = json.loads((out / "run.json").read_text(encoding="utf-8"))
    counts = run["counts"]
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Run(wall, float(run["seconds"]), counts["images"], counts["resumed"], peak, processor)


@dataclass(frozen=True, slots=True)
class Bench:
    """What the parts need: how to call clue and in which environment, where to work, and what was asked for."""

    clue: list[str]
    work: Path
    options: argparse.Namespace
    environment: dict[str, str]

    def run(self, name: str, out: str | None = None, watch_memory: bool = False) -> Run:
        """Scan the evidence of this name; `out` names the results folder if it is not the same."""
        evidence, results = self.work / name, self.work / f"{out or name}-results"
        options = self.options.scan_options
        return scan(self.clue, evidence, results, options, watch_memory, self.environment)

    def small(self, name: str, count: int, seed: int, size: tuple[int, int] = SMALL) -> str:
        """The name of evidence of so many small JPEGs, written unless it is there; size: width and height."""
        if not (self.work / name).exists():
            write_folder(self.work / name, count, seed, size)
        return name

    def photograph(self, megapixels: float, seed: int) -> tuple[str, float]:
        """The name of evidence of one photograph, written unless it is there, and its size in megapixels."""
        name = f"large-{megapixels:g}"
        if (self.work / name).exists():
            (path,) = (self.work / name).iterdir()
            with Image.open(path) as image:
                return name, image.width * image.height / 1e6
        return name, write_large(self.work / name, megapixels, seed)

    def folder(self) -> Iterator[tuple[Figure, list[Run]]]:
        """A folder of small JPEGs."""
        count = self.options.images
        run = self.run(self.small("folder", count, seed=1))
        what = f"{count} JPEGs of {SMALL[0]}x{SMALL[1]}"
        yield figure("folder", what, "images a second", run.images / run.seconds, run.images / run.wall), [run]

    def large(self) -> Iterator[tuple[Figure, list[Run]]]:
        """Single large photographs."""
        for number, asked in enumerate(self.options.megapixels):
            name, size = self.photograph(asked, seed=10 + number)
            run = self.run(name)
            what = f"one JPEG of {size:.1f} megapixels"
            yield figure("large", what, "seconds a megapixel", run.seconds / size, run.wall / size), [run]

    def resume(self) -> Iterator[tuple[Figure, list[Run]]]:
        """The same command again over finished files."""
        count = self.options.resume_files
        name = self.small("resume", count, seed=2)
        first, second = self.run(name), self.run(name)
        if second.resumed < first.images:
            raise SystemExit(f"only {second.resumed} of {first.images} images were resumed")
        ratios = second.seconds / first.seconds, second.wall / first.wall
        yield figure("resume", f"{count} finished files", "second run / first run", *ratios), [first, second]

    def memory(self) -> Iterator[tuple[Figure, list[Run]]]:
        """A very large photograph, against one small image."""
        name, size = self.photograph(self.options.memory_megapixels, seed=4)
        small = self.run(self.small("small", 1, seed=3), watch_memory=True)
        huge = self.run(name, watch_memory=True)
        above = (huge.peak_bytes - small.peak_bytes) / 1e9
        what = f"one JPEG of {size:.1f} megapixels; peak {huge.peak_bytes / 1e9:.2f} GB"
        yield figure("memory", what, "GB above a small image", above), [small, huge]

    def start(self) -> Iterator[tuple[Figure, list[Run]]]:
        """One small JPEG, less the work on it; the least of several runs, since others can only add to it."""
        one, several = self.one_and_several()
        runs = [(self.run(one, f"one-{n}"), self.run(several, f"several-{n}")) for n in range(self.options.repeats)]
        least, most = (min(side, key=lambda run: run.processor) for side in zip(*runs, strict=True))
        seconds = self.start_of(least, most)
        what = f"imports, network, decoders; {self.options.repeats} runs"
        yield figure("start", what, "processor seconds", seconds), [run for pair in runs for run in pair]

    def parts(self) -> Iterator[tuple[Figure, list[Run]]]:
        """Prints the seconds by part; there is no target for them. The least of several runs, part by part."""
        large, size = self.photograph(self.options.megapixels[0], seed=10)
        folder = self.small("folder", self.options.images, seed=1)
        for name, count, unit in ((folder, self.options.images, "image"), (large, size, "megapixel")):
            seconds = [self._by_part(name, f"{name}-parts-{number}") for number in range(self.options.repeats)]
            least = {part: min(one[part] for one in seconds) for part in seconds[0]}
            table = Table("part", "processor seconds", f"ms per {unit}", "share", title=f"{count:.4g} {unit}s")
            for part, value in least.items():
                each = "" if part == "start" else f"{value / count * 1e3:.1f}"
                table.add_row(part, f"{value:.2f}", each, f"{value / sum(least.values()):.0%}")
            Console().print(table)
            self.options.by_part[f"{count:.4g} {unit}s"] = least
        yield from ()

    def _by_part(self, name: str, out: str) -> dict[str, float]:
        figures = self.work / "figures.json"
        timed = [*self.python(), str(Path(__file__).with_name("scan_parts.py")), str(figures)]
        options = self.options.scan_options
        scan(timed, self.work / name, self.work / out, options, environment=self.environment)
        found = json.loads(figures.read_text(encoding="utf-8"))
        if found["missing"]:
            Console(stderr=True).print(f"not in this version, and counted with what calls it: {found['missing']}")
        by_part: dict[str, float] = found["seconds"]
        return by_part

    def one_and_several(self) -> tuple[str, str]:
        """Evidence of one small JPEG, and of `MORE` more."""
        return self.small("small", 1, seed=3), self.small("several", 1 + MORE, seed=5)

    def of(self, against: Path) -> Bench:
        """The same, with the clue of another checkout, a folder, or of another Python, its executable.

        `-P`: the current folder, which may be this checkout, is not where its modules are looked for.
        """
        environment = self.environment
        if against.is_dir():
            environment, python = environment | {"PYTHONPATH": str(against.resolve())}, sys.executable
        else:
            python = str(against)
        options = argparse.Namespace(**vars(self.options))
        options.scan_options = ["float32" if option == "int8" else option for option in options.scan_options]
        return Bench([python, "-P", "-m", "clue_cli"], self.work, options, environment)

    def start_of(self, one: Run, several: Run) -> float:
        """Processor seconds before the first picture, of runs over one picture and over `MORE` more."""
        return one.processor - (several.processor - one.processor) / MORE

    def python(self) -> list[str]:
        """The interpreter that runs clue: of `python -m clue_cli`, or beside the console script."""
        return self.clue[:1] if len(self.clue) > 1 else [str(Path(self.clue[0]).with_name("python"))]


PARTS: dict[str, Callable[[Bench], Iterator[tuple[Figure, list[Run]]]]] = {
    "folder": Bench.folder,
    "large": Bench.large,
    "resume": Bench.resume,
    "memory": Bench.memory,
    "start": Bench.start,
    "parts": Bench.parts,
}


USUAL = ["folder", "large", "resume", "memory"]
"""The parts that are measured unless others are named."""


def machine() -> dict[str, str | float]:
    """What the figures were measured on."""
    return {
        "clue": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 0,
        "memory_bytes": psutil.virtual_memory().total,
        "load": os.getloadavg()[0],
    }


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """The command line; `scan_options` is what goes on to clue scan."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    beside = Path(sys.executable).with_name("clue")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=USUAL, help="what to measure")
    parser.add_argument("--images", type=int, default=200, help="images of the part folder")
    parser.add_argument("--megapixels", type=float, nargs="+", default=[12.0, 24.0], help="sizes of photographs")
    parser.add_argument("--resume-files", type=int, default=2000, help="files of the part resume")
    parser.add_argument("--memory-megapixels", type=float, default=100.0, help="size of the part memory")
    parser.add_argument("--cores", type=int, help="limit all runs to this many cores")
    parser.add_argument("--without-bfloat16", action="store_true", help="as on a processor without bfloat16")
    parser.add_argument("--against", type=Path, metavar="TREE_OR_PYTHON", help="another clue, measured by turns")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of --against")
    parser.add_argument("--repeats", type=int, default=5, help="runs of the parts start and parts")
    parser.add_argument("--growth", type=Path, metavar="FOLDER", help="draw how costs grow into this folder")
    parser.add_argument("--growth-megapixels", type=float, nargs="+", default=GROWTH_MEGAPIXELS)
    parser.add_argument("--growth-files", type=int, nargs="+", default=GROWTH_FILES)
    parser.add_argument("--growth-cores", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--clue", default=str(beside), help="the console script to measure")
    parser.add_argument("--json", type=Path, default=Path("bench_scan.json"), help="where the figures are written")
    parser.add_argument("--check", action="store_true", help="exit code 1 if a target is missed")
    own = sys.argv[1:] if argv is None else argv
    split = own.index("--") if "--" in own else len(own)
    options = parser.parse_args(own[:split])
    options.scan_options = own[split + 1 :]
    if options.without_bfloat16 and "--dtype" not in options.scan_options:
        options.scan_options += ["--dtype", "int8"]
    options.by_part = {}
    return options


def main(argv: list[str] | None = None) -> int:
    """Measure, print, write; returns the exit code."""
    options = arguments(argv)
    if options.cores is not None:
        os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[: options.cores]))
    talk, figures, runs = Console(stderr=True), [], {}
    compared_with = None
    with tempfile.TemporaryDirectory(prefix="clue-bench-") as work:
        bench = Bench([options.clue], Path(work), options, WITHOUT_BFLOAT16 if options.without_bfloat16 else {})
        if options.growth is not None:
            from scan_growth import grow

            return grow(bench, options.growth, machine())
        if options.against is not None:
            from scan_against import comparison

            options.parts = []
            compared_with = comparison(bench, bench.of(options.against))
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
    if figures:
        Console().print(table)
    document = {
        "machine": machine(),
        "figures": [asdict(found) for found in figures],
        "runs": runs,
        "seconds_by_part": options.by_part,
        "against": compared_with,
    }
    options.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return 1 if options.check and not all(found.met for found in figures) else 0


if __name__ == "__main__":
    sys.exit(main())
