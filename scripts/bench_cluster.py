"""Measure a run on many machines, and what a large results folder costs.

    throughput  pictures a second: the local engine, and Ray with one and with two workers of one core each
    kills       records lost or doubled when a node of two is killed ten times during a scan
    resume      clue scan with one new picture, into a folder of finished records: seconds to it, and to the end
    driver      memory of the process that lists as many files, most of them finished, some failing, some left out
    page        index.html of the records: seconds to write, bytes, and seconds in headless Chromium
    query       seconds of clue query over the folder and over a Parquet export
    tables      size and time of Parquet against JSON lines, for records that all differ

The pictures of throughput and kills are crops of the photographs of `clue sample`, all different. The records of the
others are those of a real scan of a few small pictures, with another locator, hash, score and seed for each; the
listing is a real folder of hard links. Each figure, and each scan of throughput, is measured in a process of its own.
Prints a table on stderr, and JSON on stdout or to the file of --json, which is written after each figure.

    python scripts/bench_cluster.py --json FILE                         all, in full: up to two hours, 10 GB
    python scripts/bench_cluster.py --quick                             all, small: does it run?
    python scripts/bench_cluster.py --only resume --only driver         some figures
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import psutil
from bench_ray import kills, throughput
from bench_records import Bench, Watch, differing, prepare
from bench_scan import machine, write_folder
from rich.console import Console
from rich.table import Table

from clue_cli.app import run as clue
from clue_cli.report import write_report
from clue_cli.results import record_log
from clue_cli.results.reader import LOG, RUN, ResultsReader
from clue_cli.scan.pipeline import scan

QUERY = "select verdict, count(*), avg(score), max(len(regions)) from images where score > 0.5 group by all"


# -------------------------------------------------------------------------------------------------------- figures


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


# ----------------------------------------------------------------------------------------------------------- the run

FIGURES: dict[str, Callable[[Bench], dict[str, Any]]] = {
    "throughput": throughput,
    "kills": kills,
    "resume": resume,
    "driver": driver,
    "page": page,
    "query": query,
    "tables": tables,
}
_ON_RECORDS = {"resume", "driver", "page", "query"}
"""Figures on the simulated records."""


def measure(bench: Bench, wanted: list[str], keep: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """The figures by name, each measured in a new process; `keep` gets those that there are after each."""
    talk, found = Console(stderr=True, soft_wrap=True), dict[str, Any]()
    steps = {"prepare": prepare} if _ON_RECORDS.intersection(wanted) else {}
    for name, step in (steps | {name: FIGURES[name] for name in FIGURES if name in wanted}).items():
        talk.print(f"{time.strftime('%H:%M:%S')} {name} …")
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            found[name] = process.submit(step, bench).result()
        talk.print(json.dumps(found[name]), highlight=False)
        keep(found)  # should a later one be interrupted
    return found


def _rows(figures: dict[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    for name, value in figures.items():
        if isinstance(value, dict):
            yield from _rows(value, f"{above}{name} ")
        else:
            yield f"{above}{name}", f"{value:,}" if type(value) in (int, float) else str(value)


def main(argv: list[str] | None = None) -> int:
    """Measure and print; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=FIGURES, metavar="NAME", help=f"one of {', '.join(FIGURES)}")
    parser.add_argument("--quick", action="store_true", help="small sizes where no other is given")
    sizes = {
        "records": ("files of the listing", 1_000_000, 2000),
        "table_records": ("records of the figure tables", 20_000, 500),
        "images": ("pictures of the figure throughput, for each engine", 2000, 12),
        "rounds": ("rounds in which they are scanned, by turns", 3, 1),
        "kills": ("nodes that are killed", 10, 2),
        "kill_images": ("pictures of the figure kills", 300, 20),
        "seed": ("of the moments at which nodes are killed", 16, 16),
    }
    for name, (text, full, small) in sizes.items():
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, type=int, metavar="N", help=f"{text} ({full:,}; with --quick {small:,})")
    parser.add_argument("--share-of-one", type=float, default=0.5, help="share of them that one worker of Ray scans")
    parser.add_argument("--model", default="mini", help="name or folder of the model")
    parser.add_argument("--folder", type=Path, help="where temporary files are written")
    parser.add_argument("--json", type=Path, help="where the figures are written")
    options = parser.parse_args(argv)
    chosen = {
        name: next(value for value in (getattr(options, name), small if options.quick else full) if value is not None)
        for name, (_, full, small) in sizes.items()
    }

    def document(figures: dict[str, Any]) -> str:
        sized = chosen | {"share_of_one": options.share_of_one, "model": options.model}
        return json.dumps({"machine": machine(), "sizes": sized, "figures": figures}, indent=2)

    def keep(figures: dict[str, Any]) -> None:
        if options.json is not None:
            options.json.write_text(document(figures) + "\n", encoding="utf-8")

    with tempfile.TemporaryDirectory(prefix="clue-bench-", dir=options.folder) as work:
        bench = Bench(Path(work), model=options.model, share_of_one=options.share_of_one, **chosen)
        figures = measure(bench, options.only or list(FIGURES), keep)
    table = Table("figure", "", "value")
    for figure, values in figures.items():
        for name, value in _rows(values):
            table.add_row(figure, name, value)
    Console(stderr=True).print(table)
    if options.json is None:
        print(document(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
