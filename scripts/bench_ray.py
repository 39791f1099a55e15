"""The figures of `bench_cluster` that need Ray: pictures a second, and records after nodes were killed."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil
from bench_records import Bench, Watch
from bench_scan import crops, write_folder
from PIL import Image

from clue_cli.networks import Engine
from clue_cli.records import RECORD, ImageRecord
from clue_cli.results import record_log
from clue_cli.results.reader import LOG
from clue_cli.scan.pipeline import scan

ENGINES: dict[str, dict[str, Any]] = {
    "local": {},
    "ray_1": {"engine": Engine.RAY, "ray_workers": 1},
    "ray_2": {"engine": Engine.RAY, "ray_workers": 2},
}
RATIOS = {"ray_2_over_ray_1": ("ray_2", "ray_1"), "ray_2_over_local": ("ray_2", "local")}
TARGETS = {"ray_2_over_ray_1": 1.7, "ray_2_over_local": 0.9}
WARM = 10
"""One in so many pictures is left out at the start, until all workers compute."""
PAGES = 3
STORE = 100 << 20


# ----------------------------------------------------------------------------------------------------- throughput


@dataclass
class Clock(Watch):
    """Notes when records come, and the processor time of all processes of the scan at the first and last that count.

    Args:
        skip: records before the first that counts.
        count: records of the scan.
    """

    skip: int = 0
    count: int = 0
    workers: int = 0
    times: list[float] = field(default_factory=list)
    spent: list[dict[str, float]] = field(default_factory=list)
    peak: dict[str, int] = field(default_factory=dict)

    def result(self, record: Any) -> None:
        """One more."""
        super().result(record)
        self.times.append(time.perf_counter() - self.began)
        if len(self.times) == self.skip:
            self.workers = pin_workers()
        if len(self.times) in (self.skip, self.count):
            self.spent.append(processor_time())
        if len(self.times) == self.count:
            self.peak = peaks()


def _processes() -> Iterator[tuple[str, psutil.Process]]:
    """The processes of this scan by what they do: this one, those of Ray, workers, and decoders."""
    own = psutil.Process()
    yield "driver", own
    names: dict[int, str] = {}
    for process in own.children(recursive=True):  # parents come before their children
        try:
            command = " ".join(process.cmdline())
            under = names.get(process.ppid())
        except psutil.NoSuchProcess:
            continue
        if under in ("workers", "decoders"):
            names[process.pid] = "decoders"
        elif command.startswith("ray::Worker"):
            names[process.pid] = "workers"
        elif "ray" in Path(command.split(" ")[0]).name or "/ray/" in command or command.startswith("ray::"):
            names[process.pid] = "ray"
        else:
            names[process.pid] = "decoders"
        yield names[process.pid], process


def pin_workers() -> int:
    """Keep each worker, with its decoders, to a core of its own, as `--ray-cores 1` says of it; returns how many.

    One worker would have a share of a second core that is idle otherwise: its threads compute and finish at once.
    """
    if not hasattr(os, "sched_setaffinity"):
        raise SystemExit("The figure throughput needs Linux, which keeps a process to a core.")
    cores = sorted(os.sched_getaffinity(0))
    found = [process for name, process in _processes() if name == "workers"]
    for number, worker in enumerate(found):
        for process in (worker, *worker.children(recursive=True)):
            for thread in process.threads():
                os.sched_setaffinity(thread.id, {cores[number % len(cores)]})
    return len(found)


def processor_time() -> dict[str, float]:
    """Seconds of processor time of the processes of this scan, by what they do."""
    spent: Counter[str] = Counter()
    for name, process in _processes():
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        spent[name] += times.user + times.system  # type: ignore[assignment]
    return dict(spent)


def peaks() -> dict[str, int]:
    """The largest peak of resident memory (MiB) of one process, by what it does; Linux tells."""
    found: dict[str, int] = {}
    for name, process in _processes():
        try:
            lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        except OSError:
            continue
        peak = next((int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)
        found[name] = max(found.get(name, 0), peak >> 10)
    return found


def turn(bench: Bench, engine: str, evidence: Path, out: Path, count: int) -> dict[str, Any]:
    """One scan of a folder of `count` pictures, in a process that has done nothing before."""
    clock = Clock(skip=max(1, count // WARM), count=count)
    scan([evidence], out, replace(bench.options(), **ENGINES[engine]), clock)
    if len(clock.times) != count:
        raise SystemExit(f"{len(clock.times)} of {count} records with {engine}: {clock.warnings}")
    if clock.workers != ENGINES[engine].get("ray_workers", 0):
        raise SystemExit(f"{clock.workers} workers ran with {engine}: {clock.warnings}")
    counted = count - clock.skip
    before, after = clock.spent
    seconds, cpu = clock.times[-1] - clock.times[clock.skip - 1], sum(after.values()) - sum(before.values())
    return {
        "rate": counted / seconds,
        "cores_busy": cpu / seconds,
        "seconds_to_first_record": clock.times[0],
        "seconds": time.perf_counter() - clock.began,
        "cpu": {name: (after[name] - before.get(name, 0.0)) / counted for name in after},
        "peak_mib": clock.peak,
    }


def throughput(bench: Bench) -> dict[str, Any]:
    """Pictures a second, from the first record that counts to the last: start-up and loading are before it.

    The engines take turns over the same pictures; a ratio is of two scans of one round. With one worker only a part of
    the pictures is scanned. Each worker has a core of its own; the driver, as the local engine, may use all.
    """
    each, runs = bench.images // bench.rounds, dict[str, list[dict[str, Any]]]()
    for number in range(bench.rounds):
        evidence = bench.work / f"pictures-{number}"
        write_folder(evidence, each, seed=1000 + number)
        few = bench.work / f"few-{number}"
        few.mkdir()
        for file in sorted(evidence.iterdir())[: max(2, round(each * bench.share_of_one))]:
            os.link(file, few / file.name)
        order = list(ENGINES)[number % 3 :] + list(ENGINES)[: number % 3]
        for engine in order:
            folder = few if engine == "ray_1" else evidence
            count, out = len(list(folder.iterdir())), bench.work / f"{engine}-{number}"
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
                found = process.submit(turn, bench, engine, folder, out, count).result()
            shutil.rmtree(out)
            runs.setdefault(engine, []).append(found | {"pictures": count})
            bench.say(
                f"  round {number + 1} of {bench.rounds}, {engine}: {count} pictures, {found['rate']:.2f} a second"
            )
    return {engine: _summary(runs[engine]) for engine in ENGINES} | {name: _ratio(runs, name) for name in RATIOS}


def _summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    roles = sorted({role for run in runs for role in run["cpu"]})
    return {
        "pictures": sum(run["pictures"] for run in runs),
        "pictures_a_second": round(statistics.median(run["rate"] for run in runs), 2),
        "rounds": [round(run["rate"], 2) for run in runs],
        "seconds_to_first_record": [round(run["seconds_to_first_record"], 1) for run in runs],
        "seconds": [round(run["seconds"], 1) for run in runs],
        "cores_busy": [round(run["cores_busy"], 2) for run in runs],
        "cpu_seconds_a_picture": {
            role: round(statistics.median(run["cpu"].get(role, 0.0) for run in runs), 4) for role in roles
        },
        "cpu_seconds_a_picture_in_all": round(statistics.median(sum(run["cpu"].values()) for run in runs), 4),
        "peak_mib_of_one_process": {role: max(run["peak_mib"].get(role, 0) for run in runs) for role in roles},
    }


def _ratio(runs: dict[str, list[dict[str, Any]]], name: str) -> dict[str, Any]:
    above, below = RATIOS[name]
    found = [one["rate"] / other["rate"] for one, other in zip(runs[above], runs[below], strict=True)]
    middle = statistics.median(found)
    target = TARGETS[name]
    return {
        "median": round(middle, 3),
        "rounds": [round(ratio, 3) for ratio in found],
        "target": target,
        "met": middle >= target,
    }


# ---------------------------------------------------------------------------------------------------------- kills


def write_kinds(folder: Path, count: int) -> set[tuple[str, int | None]]:
    """Write JPEGs, with a TIFF of three pages for each ten, and a damaged file for each fifty; returns what is to be
    recorded, by locator and page."""
    write_folder(folder, count, seed=77)
    expected: set[tuple[str, int | None]] = {(f"{folder.name}/{file.name}", 0) for file in folder.iterdir()}
    pictures = crops(192, 128, seed=78)
    for number in range(count // 10):
        pages = [Image.fromarray(next(pictures)) for _ in range(PAGES)]
        name = f"pages-{number:04}.tif"
        pages[0].save(folder / name, save_all=True, append_images=pages[1:])
        expected |= {(f"{folder.name}/{name}", page) for page in range(PAGES)}
    whole = (folder / "00000.jpg").read_bytes()
    for number in range(count // 50):
        (folder / f"cut-{number:04}.jpg").write_bytes(whole[: 300 + number])
        expected.add((f"{folder.name}/cut-{number:04}.jpg", None))
    return expected


def _scan_on(bench: Bench, evidence: Path, out: Path, address: str) -> list[str]:
    """A scan on a cluster; returns its warnings."""
    watch = Watch()
    scan([evidence], out, replace(bench.options(), engine=Engine.RAY, ray_address=address), watch)
    return watch.warnings


def kills(bench: Bench) -> dict[str, Any]:
    """Records lost and doubled when a node of two is killed at random moments, and a new one joins after each."""
    from ray.cluster_utils import Cluster

    evidence, out = bench.work / "killed", bench.work / "killed-results"
    expected = write_kinds(evidence, bench.kill_images)
    draw = random.Random(bench.seed)
    moments = sorted(draw.sample(range(1, len(expected) * 9 // 10), bench.kills))
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    folder = tempfile.mkdtemp(prefix="clue-ray-", dir="/tmp")  # the names of Ray's sockets must be short
    head: dict[str, Any] = {"num_cpus": 0, "object_store_memory": STORE, "include_dashboard": False, "temp_dir": folder}
    head["_system_config"] = {"worker_niceness": 0}
    cluster, killed = Cluster(initialize_head=True, head_node_args=head), list[int]()
    try:
        nodes = [cluster.add_node(num_cpus=1, object_store_memory=STORE) for _ in range(2)]
        began = time.perf_counter()
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            run = process.submit(_scan_on, bench, evidence, out, cluster.address)
            for moment in moments:
                while not run.done() and _lines(out / LOG) < moment:
                    time.sleep(0.02)
                time.sleep(draw.random() / 2)  # anywhere in the work on a picture
                if run.done():
                    break
                cluster.remove_node(nodes.pop(draw.randrange(len(nodes))), allow_graceful=False)
                killed.append(_lines(out / LOG))
                nodes.append(cluster.add_node(num_cpus=1, object_store_memory=STORE, wait=False))
                bench.say(f"  node {len(killed)} of {bench.kills} killed after {killed[-1]} records")
            warnings = run.result()
        seconds = time.perf_counter() - began
    finally:
        cluster.shutdown()  # type: ignore[no-untyped-call]
        shutil.rmtree(folder, ignore_errors=True)
    return {
        "nodes_killed": len(killed),
        "after_records": killed,
        "workers_lost": sum("was lost with its node" in text for text in warnings),
        **compared(out, expected),
        "seconds": round(seconds, 1),
    }


def _lines(log: Path) -> int:
    return log.read_bytes().count(b"\n") if log.exists() else 0


def compared(out: Path, expected: set[tuple[str, int | None]]) -> dict[str, int]:
    """A results folder against what is to be recorded, by locator and page."""
    found: Counter[tuple[str, int | None]] = Counter()
    missing = failed = 0
    paths: set[str] = set()
    for line in (out / LOG).read_bytes().splitlines():
        record = RECORD.validate_json(line)
        found[record.locator, record.page] += 1
        if isinstance(record, ImageRecord):
            named = record_log.pictures(record.outputs)
            missing += sum(not (out / path).is_file() or not (out / path).stat().st_size for path in named)
            missing += sum(path in paths for path in named)  # two records share it
            paths.update(named)
        else:
            failed += 1
    images = [key for key in expected if key[1] is not None]
    return {
        "records_expected": len(expected),
        "records": found.total(),
        "records_lost": len(expected - found.keys()),
        "records_doubled": sum(count - 1 for count in found.values()),
        "records_unexpected": len(found.keys() - expected),
        "failures": failed,
        "failures_expected": len(expected) - len(images),
        "pictures": len(paths),
        "pictures_missing": missing,
    }
