"""Measure what a large results folder costs: resuming, memory, page, queries, tables.

    resume    clue scan with one new picture, into a folder of finished records: seconds to that picture, and to the end
    driver    memory of the process that lists as many files, most of them finished, some failing, some left out
    page      index.html of the records: seconds to write, bytes, and seconds in headless Chromium
    query     seconds of clue query over the folder and over a Parquet export
    tables    size and time of Parquet against JSON lines, for records that all differ

The records are those of a real scan of a few small pictures, with another locator, hash, score and seed for each; the
listing is a real folder of hard links. Each figure is measured in a process of its own. Prints a table on stderr and
JSON on stdout.

    python scripts/bench_cluster.py                                     all, a million records: an hour, 10 GB
    python scripts/bench_cluster.py --records 2000 --table-records 500  a quick look
    python scripts/bench_cluster.py --only resume --only driver         some figures
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from bench_scan import machine, write_folder
from PIL import Image
from rich.console import Console
from rich.table import Table

from clue_cli.app import run as clue
from clue_cli.records import RECORD, BoundingBox, FailureRecord, ImageRecord, OutputPaths, Question, Region, RunRecord
from clue_cli.report import write_report
from clue_cli.results import names, record_log
from clue_cli.results.reader import LOG, RUN, ResultsReader
from clue_cli.scan import ScanOptions
from clue_cli.scan.pipeline import scan
from model.reporter import Reporter

QUERY = "select verdict, count(*), avg(score), max(len(regions)) from images where score > 0.5 group by all"
LINKS = 30_000
"""Hard links to one file; file systems allow 65,000 or fewer."""
FOLDER = 1000
"""Files in one folder of the listing: 960 recorded pictures, 10 failures, 20 that are no pictures, 10 hidden."""


@dataclass(frozen=True, slots=True)
class Bench:
    """Where to work, and how large.

    Attributes:
        work: a folder for temporary files.
        records: how many files and records.
        table_records: how many records of the figure `tables`.
        model: name or folder of the model.
    """

    work: Path
    records: int
    table_records: int
    model: str

    @property
    def results(self) -> Path:
        """The results folder of the simulated records."""
        return self.work / "results"

    @property
    def listing(self) -> Path:
        """The evidence of the simulated records."""
        return self.work / "listing"

    def options(self) -> ScanOptions:
        """Of all scans."""
        return ScanOptions(model=self.model, device="cpu", command_line=("clue", "scan"))


# ------------------------------------------------------------------------------------------------ simulated records


def locator_of(number: int) -> str:
    """Of one file of the listing, in the order of the walk."""
    within = number % FOLDER
    if within < 970:
        return f"listing/{number // FOLDER:05}/IMG_{number:08}.jpg"
    return f"listing/{number // FOLDER:05}/" + (f"notes_{number:08}.txt" if within < 990 else f".{number:08}.jpg")


def records(
    bench: Bench, templates: list[ImageRecord], failure: FailureRecord
) -> Iterator[ImageRecord | FailureRecord]:
    """What a scan of the listing has recorded: a record for each picture, and for half of the failures."""
    draw = random.Random(bench.records)
    contents = [json.loads(line) for line in (bench.work / "contents.jsonl").read_text().splitlines()]
    for number in range(bench.records):
        within, locator = number % FOLDER, locator_of(number)
        if 960 <= within < 965:
            yield failure.model_copy(update={"locator": locator})
        elif within < 960:
            template = templates[number % len(templates)]
            identity = template.file.model_copy(update=contents[number // LINKS])
            yield _drawn(template, draw, locator).model_copy(update={"file": identity})


def _drawn(template: ImageRecord, draw: random.Random, locator: str) -> ImageRecord:
    """A record as the template's, of another picture."""
    found = template.localization
    score = draw.random()
    verdict = "forged" if score > 0.98 else "inconclusive" if score > 0.9 else "no_evidence"
    answer = found.model_copy(update={"score": score, "verdict": type(found.verdict)(verdict)})
    return template.model_copy(
        update={
            "locator": locator,
            "verdicts": template.verdicts | {Question.LOCALIZATION: answer},
            "outputs": outputs_of(template.outputs, template.locator, locator),
            "model": template.model.model_copy(update={"seed": draw.getrandbits(64)}),
        }
    )


def outputs_of(outputs: OutputPaths, before: str, locator: str) -> OutputPaths:
    """The paths of one record as those of another locator."""
    old, new = str(names.stem(before)), str(names.stem(locator))
    return outputs.model_copy(update={name: path and path.replace(old, new) for name, path in outputs})


def prepare(bench: Bench) -> dict[str, Any]:
    """Make the listing, and the results folder of a scan of it that was interrupted before its end."""
    links = _write_contents(bench)
    for first in range(0, bench.records, FOLDER):
        (bench.work / locator_of(first)).parent.mkdir(parents=True)
        for number in range(first, min(bench.records, first + FOLDER)):
            within = number % FOLDER
            other = "empty" if 960 <= within < 970 else "text" if 970 <= within < 990 else None
            os.link(bench.work / other if other else links[number // LINKS], bench.work / locator_of(number))
    write_folder(bench.work / "few", 4, seed=1)
    (bench.work / "few" / "empty.jpg").touch()
    watch = Watch()
    scan([bench.work / "few"], bench.work / "few-results", bench.options(), watch)
    few = [RECORD.validate_json(line) for line in (bench.work / "few-results" / LOG).read_bytes().splitlines()]
    templates = [record for record in few if isinstance(record, ImageRecord)]
    failure = next(record for record in few if isinstance(record, FailureRecord))
    bench.results.mkdir()
    run = RunRecord.model_validate_json((bench.work / "few-results" / RUN).read_bytes())
    run = run.model_copy(update={"status": "interrupted", "run_id": failure.run_id})
    (bench.results / RUN).write_text(run.model_dump_json())
    count, drawn = 0, records(bench, templates, failure)
    with (bench.results / LOG).open("wb") as log:
        while lines := [record.model_dump_json().encode() + b"\n" for record in islice(drawn, 8)]:
            log.writelines(reversed(lines))  # several threads write
            count += len(lines)
        log.write(b'{"kind":"image","schema_version"')  # as a crash leaves it
    return {
        "records": count,
        "bytes_a_record": round((bench.results / LOG).stat().st_size / count),
        "seconds_to_first_picture_in_a_new_folder": round(watch.first, 2),
    }


def _write_contents(bench: Bench) -> list[Path]:
    """Small pictures that the files of the listing are links to, an empty file and a text."""
    from clue_cli.evidence.reader import identify

    (bench.work / "empty").touch()
    (bench.work / "text").write_text("Notes.")
    generator, links = np.random.default_rng(0), []
    with (bench.work / "contents.jsonl").open("w") as contents:
        for number in range(-(-bench.records // LINKS)):
            file = bench.work / f"content-{number:04}.jpg"
            Image.fromarray(generator.integers(0, 256, (16, 16, 3), np.uint8)).save(file, quality=75)
            identity = identify(file.read_bytes(), file.name)
            contents.write(identity.model_dump_json(include={"sha256", "byte_size"}) + "\n")
            links.append(file)
    return links


# -------------------------------------------------------------------------------------------------------- figures


@dataclass
class Watch(Reporter):
    """Notes when the first picture was computed, how far the walk is, and what was warned of."""

    began: float = field(default_factory=time.perf_counter)
    first: float = 0.0
    first_cpu: float = 0.0
    met: int = 0
    warnings: list[str] = field(default_factory=list)

    def expect(self, n: int = 0, *, final: bool = False) -> None:
        """One more file was met."""
        self.met += n

    def note(self, text: str, level: Any = "info") -> None:
        """Keep the first warnings."""
        if level == "warning" and len(self.warnings) < 20:
            self.warnings.append(text)

    def result(self, record: Any) -> None:
        """A record: of a new picture, or taken over."""
        if not self.first and isinstance(record, ImageRecord):
            self.first, self.first_cpu = time.perf_counter() - self.began, time.process_time()


def _memory() -> float:
    return psutil.Process().memory_info().rss / 2**20


def _peak() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak >> (20 if sys.platform == "darwin" else 10)


def resume(bench: Bench) -> dict[str, Any]:
    """A scan of a new picture into the folder of finished records."""
    evidence = bench.work / "new"
    write_folder(evidence, 1, seed=99)
    with (bench.results / LOG).open("r+b") as log:  # one line is damaged, on top of the torn one
        log.seek(1000)
        log.write(b"\0")
    watch, cpu = Watch(), time.process_time()
    run = scan([evidence], bench.results, bench.options(), watch)
    return {
        "seconds_to_first_picture": round(watch.first, 1),
        "cpu_seconds_to_first_picture": round(watch.first_cpu - cpu, 1),
        "seconds_to_the_end": round(time.perf_counter() - watch.began, 1),
        "cpu_seconds_to_the_end": round(time.process_time() - cpu, 1),
        "not_met": run.counts.not_met,
        "peak_mib": _peak(),
        "warnings": [text for text in watch.warnings if "damaged" in text or "torn" in text],
    }


def driver(bench: Bench) -> dict[str, Any]:
    """The scan of the listing, over the results folder of most of its files; nothing is computed."""
    watch, samples, done = Watch(), list[tuple[int, float]](), threading.Event()

    def sample() -> None:
        while not done.wait(0.2):
            samples.append((watch.met, _memory()))

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    began, cpu = time.perf_counter(), time.process_time()
    try:
        with _pictures_there():
            run = scan([bench.listing], bench.results, bench.options(), watch)
    finally:
        done.set()
        thread.join()
    walking = [(met, mib) for met, mib in samples if met] or [(watch.met, _memory())]
    start = walking[0][1]
    at = {
        share: next((mib for met, mib in walking if met >= share * watch.met), start)
        for share in (0.1, 0.25, 0.5, 0.75)
    }
    return {
        "files": run.counts.files,
        "hidden": run.skipped.get("hidden", 0),
        "not_pictures": run.counts.not_pictures,
        "failures": run.counts.failures,
        "taken_over": run.counts.resumed,
        "computed": run.counts.images - run.counts.resumed,
        "seconds": round(time.perf_counter() - began, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
        "mib_at_first_file": round(start),
        **{f"mib_at_{share:.0%}": round(mib) for share, mib in at.items()},
        "mib_largest": round(max(mib for _, mib in samples or walking)),
        # By then the model is loaded, for the picture of the record that `resume` damaged.
        "growth_mib_from_10%": round(max(mib for _, mib in walking) - at[0.1]),
    }


@contextmanager
def _pictures_there() -> Iterator[None]:
    """The pictures of all records are taken to be one file that is there: seven million would fill the disk."""
    real = record_log.pictures
    record_log.pictures = lambda outputs: [RUN] * len(real(outputs))
    try:
        yield
    finally:
        record_log.pictures = real


def page(bench: Bench) -> dict[str, Any]:
    """The page of the records, written and opened."""
    began = time.perf_counter()
    with ResultsReader(bench.results) as reader:
        assert reader.run is not None
        opened = time.perf_counter() - began
        cpu = time.process_time()
        first = write_report(bench.results, reader.run, reader.records())
    written, cpu = time.perf_counter(), time.process_time() - cpu
    files = [first, *bench.results.glob("index-*.html")]
    return {
        "seconds_to_read_the_log": round(opened, 1),
        "seconds_to_write": round(written - began - opened, 1),
        "cpu_seconds_to_write": round(cpu, 1),
        "files": len(files),
        "mib": round(sum(file.stat().st_size for file in files) / 2**20),
        "mib_of_index_html": round(first.stat().st_size / 2**20, 1),
        "peak_mib": _peak(),
        **_in_browser(bench, first),
    }


def _in_browser(bench: Bench, page: Path) -> dict[str, Any]:
    chromium, driver = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
    try:
        from selenium import webdriver
    except ImportError:
        return {"browser": "selenium is not installed"}
    if not (chromium.exists() and driver.exists()):
        return {"browser": "chromium is not installed"}
    options = webdriver.ChromeOptions()
    options.binary_location = str(chromium)
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={bench.work / 'profile'}"):
        options.add_argument(argument)
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(driver)))
    try:
        browser.set_page_load_timeout(600)
        browser.set_script_timeout(600)
        browser.get(page.as_uri())
        painted = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? null"
        figures = {
            "ms_to_first_paint": browser.execute_script(f"return {painted}"),
            "ms_to_table": browser.execute_script(
                "return performance.timing.domComplete - performance.timing.navigationStart"
            ),
            "heap_mib": browser.execute_script("return performance.memory.usedJSHeapSize") / 2**20,
        }
        for name, action in {
            "last_page": "document.querySelector('[data-step=last]').click()",
            "filter_by_verdict": "const s = document.querySelector('#filters [name=verdict]'); s.value = 'forged'; "
            "s.dispatchEvent(new Event('input', {bubbles: true}))",
            "filter_by_name": "const q = document.querySelector('#filters [name=q]'); q.value = '77'; "
            "q.dispatchEvent(new Event('input', {bubbles: true}))",
            "sort_by_name": "document.querySelector('[data-sort=name]').click()",
        }.items():
            figures[f"ms_{name}"] = browser.execute_async_script(
                f"const done = arguments[0], began = performance.now(); {action}; "
                "requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now() - began)))"
            )
        figures["shown"] = browser.find_element("id", "shown").text
    finally:
        browser.quit()
    return {name: round(value) if isinstance(value, float) else value for name, value in figures.items()}


def query(bench: Bench) -> dict[str, Any]:
    """One query over the results folder, and over an export of it."""
    export = bench.work / "export.parquet"
    steps = {
        "folder": ["query", str(bench.results), QUERY, "--format", "json"],
        "export": ["export", str(bench.results), "--format", "parquet", "--out", str(export)],
        "parquet": ["query", str(export), QUERY, "--format", "json"],
    }
    seconds, peak = _timed(steps)
    return {"seconds": seconds, "peak_mib": peak, "parquet_mib": round(export.stat().st_size / 2**20)}


def _timed(steps: dict[str, list[str]]) -> tuple[dict[str, float], dict[str, int]]:
    """Seconds of commands of clue, and the peak of memory (MiB) after each."""
    seconds, peak = {}, {}
    with redirect_stdout(sys.stderr):  # the answers
        for name, words in steps.items():
            began = time.perf_counter()
            if clue(words):
                raise SystemExit(f"clue {words[0]} failed")
            seconds[name], peak[name] = round(time.perf_counter() - began, 2), _peak()
    return seconds, peak


def tables(bench: Bench) -> dict[str, Any]:
    """Parquet against JSON lines: bytes of `records.jsonl`, alone and in zstd, and of the exports; seconds of each."""
    import pyarrow as pa

    folder = bench.work / "tables"
    results, one, many = folder / "results", folder / "one.parquet", folder / "many"
    results.mkdir(parents=True)
    log = results / LOG
    with log.open("wb") as stream, pa.CompressedOutputStream(str(folder / "log.zst"), "zstd") as compressed:
        for record in differing(bench.table_records):
            line = record.model_dump_json().encode() + b"\n"
            stream.write(line)
            compressed.write(line)
    export = ["export", str(results), "--format", "parquet", "--out"]
    steps = {
        "export": [*export, str(one)],
        "export_partitioned": [*export, str(many), "--partition"],
        "export_jsonl": ["export", str(results), "--format", "jsonl", "--out", str(folder / "again.jsonl")],
        "query_folder": ["query", str(results), QUERY, "--format", "json"],
        "query_file": ["query", str(one), QUERY, "--format", "json"],
        "query_partitions": ["query", str(many), QUERY, "--format", "json"],
    }
    seconds, peak = _timed(steps)
    sizes = {
        "jsonl": log.stat().st_size,
        "jsonl_zstd": (folder / "log.zst").stat().st_size,
        "parquet": one.stat().st_size,
        "parquet_partitioned": sum(path.stat().st_size for path in many.rglob("*.parquet")),
    }
    return {
        "records": bench.table_records,
        "bytes": sizes,
        "jsonl_over_parquet": round(sizes["jsonl"] / sizes["parquet"], 2),
        "seconds": seconds,
        "peak_mib": peak,
    }


def differing(count: int) -> Iterator[ImageRecord | FailureRecord]:
    """Records of one run whose locators, digests, seeds, scores and regions are random, the same for the same count;
    one in a hundred is a failure."""
    draw = random.Random(count)
    identity = {"byte_size": 0, "sniffed_type": "jpeg", "claimed_type": "jpeg"}
    run_id = "20260131T120000.000000Z-abcdef"
    model = {"name": "mini", "digest": "c" * 64, "device": "cpu", "dtype": "bfloat16", "noise_schedule": "rf"}
    for number in range(count):
        locator = f"2026/{number // 1000:05}/IMG_{number:08}.jpg"
        file = identity | {"sha256": f"{draw.getrandbits(256):064x}", "byte_size": draw.randrange(10**5, 10**7)}
        common: dict[str, Any] = {"locator": locator, "file": file, "run_id": run_id, "settings_digest": "d" * 64}
        if number % 100 == 99:
            message = f"The file ends after {draw.randrange(10**6)} bytes."
            yield FailureRecord(step="decode", code="corrupt_image", message=message, other_pages=0, **common)
            continue
        score = draw.random()
        found = [_region(draw) for _ in range(draw.randrange(1, 6) if score > 0.5 else 0)]
        area = sum(region.area_ratio for region in found)
        verdict = "forged" if score > 0.75 else "inconclusive" if score > 0.5 else "no_evidence"
        reason = f"The score {score:.3f} is compared with the threshold 0.750."
        answer = {"verdict": verdict, "reason": reason, "score": score, "confidence": draw.random()}
        quality = draw.randrange(60, 100)
        note = {"kind": "quantization", "source": "metadata", "statement": f"The tables are of quality {quality}."}
        pictures = {"mask": "masks", "heatmap": "heatmaps", "verdict": "verdicts"}
        yield RECORD.validate_python(
            common
            | {
                "kind": "image",
                "width": 4000,
                "height": 3000,
                "verdicts": {"localization": answer | {"score_threshold": 0.75, "no_evidence_below": 0.5}},
                "findings": [note | {"data": {"quality": quality, "progressive": False}}],
                "forged_area_ratio": min(1.0, area),
                "threshold": 0.5,
                "regions": found,
                "region_count": len(found),
                "outputs": {
                    name: f"{pictures.get(name, 'previews')}/{names.mirrored(locator, suffix=suffix)}"
                    for name, suffix in _SUFFIXES.items()
                },
                "model": model | {"noise_levels": [0.1], "seed": draw.getrandbits(64)},
                "tiles": {"size": 512, "overlap": 64, "count": 48},
                "exif": {"camera_make": "Canon", "camera_model": "EOS R5", "date_time_original": "2026:01:30 08:15:00"},
                "seconds": {name: draw.random() for name in ("read", "decode", "predict", "write")},
            }
        )


_SUFFIXES = {
    "mask": ".png",
    "heatmap": ".png",
    "verdict": ".json",
    "preview": ".preview.jpg",
    "heat_overlay": ".heat.png",
    "outline": ".outline.png",
    "thumbnail": ".thumb.jpg",
}


def _region(draw: random.Random) -> Region:
    box = {"x": draw.randrange(3000), "y": draw.randrange(2000), "width": 500, "height": draw.randrange(64, 900)}
    area = draw.randrange(64, 10**5)
    shares = {"area_ratio": area / 12e6, "mean_probability": draw.random(), "peak_probability": draw.random()}
    return Region(box=BoundingBox(**box), area=area, **shares)


# ----------------------------------------------------------------------------------------------------------- the run

FIGURES: dict[str, Callable[[Bench], dict[str, Any]]] = {
    "resume": resume,
    "driver": driver,
    "page": page,
    "query": query,
    "tables": tables,
}
_ON_RECORDS = {"resume", "driver", "page", "query"}
"""Figures on the simulated records."""


def measure(bench: Bench, wanted: list[str]) -> dict[str, Any]:
    """The figures by name, each measured in a new process."""
    talk, found = Console(stderr=True), {}
    steps = {"prepare": prepare} if _ON_RECORDS.intersection(wanted) else {}
    for name, step in (steps | {name: FIGURES[name] for name in FIGURES if name in wanted}).items():
        talk.print(f"{name} …")
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            found[name] = process.submit(step, bench).result()
        talk.print(json.dumps(found[name]))  # should a later one be interrupted
    return found


def _rows(figures: dict[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    for name, value in figures.items():
        if isinstance(value, dict):
            yield from _rows(value, f"{above}{name} ")
        else:
            yield f"{above}{name}", f"{value:,}" if isinstance(value, int | float) else str(value)


def main(argv: list[str] | None = None) -> int:
    """Measure and print; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=FIGURES, metavar="NAME", help=f"one of {', '.join(FIGURES)}")
    parser.add_argument("--records", type=int, default=1_000_000, help="files of the listing")
    parser.add_argument("--table-records", type=int, default=20_000, help="records of the figure tables")
    parser.add_argument("--model", default="mini", help="name or folder of the model")
    parser.add_argument("--folder", type=Path, help="where temporary files are written")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="clue-bench-", dir=options.folder) as work:
        bench = Bench(Path(work), options.records, options.table_records, options.model)
        figures = measure(bench, options.only or list(FIGURES))
    table = Table("figure", "", "value")
    for figure, values in figures.items():
        for name, value in _rows(values):
            table.add_row(figure, name, value)
    Console(stderr=True).print(table)
    print(json.dumps({"machine": machine(), "files": options.records, "figures": figures}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
