"""Measure Parquet against JSON lines: size, records a second, time of queries, and memory, for simulated records.

Locators, digests, seeds, scores and regions are random, as those of different pictures; one record in a hundred is a
failure. Prints JSON: the bytes of `records.jsonl`, alone and in zstd, and of the export in one file and partitioned;
the seconds of each export, and of a query over the results folder and over the exports; and the peak of resident memory
(MiB) of this process after each step.

    python scripts/bench_tables.py --records 20000
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from clue_cli import __version__
from clue_cli.app import run
from clue_cli.records import RECORD, BoundingBox, FailureRecord, ImageRecord, Region

QUERY = "select verdict, count(*), avg(score), max(len(regions)) from images where score > 0.5 group by all"


def records(count: int) -> Iterator[ImageRecord | FailureRecord]:
    """Simulated records of one run, the same for the same count."""
    draw = random.Random(count)
    identity = {"byte_size": 0, "sniffed_type": "jpeg", "claimed_type": "jpeg"}
    run_id = "20260131T120000.000000Z-abcdef"
    model = {"name": "mini", "digest": "c" * 64, "device": "cpu", "dtype": "bfloat16", "noise_schedule": "rf"}
    for number in range(count):
        locator = f"2026/{number // 1000:05}/IMG_{draw.randrange(10**8):08}.jpg"
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
                    name: f"{name}/{locator}.{'json' if name == 'verdict' else 'png'}"
                    for name in ("mask", "heatmap", "verdict", "preview", "heat_overlay", "outline", "thumbnail")
                },
                "model": model | {"noise_levels": [0.1], "seed": draw.getrandbits(64)},
                "tiles": {"size": 512, "overlap": 64, "count": 48},
                "exif": {"camera_make": "Canon", "camera_model": "EOS R5", "date_time_original": "2026:01:30 08:15:00"},
                "seconds": {name: draw.random() for name in ("read", "decode", "predict", "write")},
            }
        )


def _region(draw: random.Random) -> Region:
    box = {"x": draw.randrange(3000), "y": draw.randrange(2000), "width": 500, "height": draw.randrange(64, 900)}
    area = draw.randrange(64, 10**5)
    shares = {"area_ratio": area / 12e6, "mean_probability": draw.random(), "peak_probability": draw.random()}
    return Region(box=BoundingBox(**box), area=area, **shares)


def measure(folder: Path, count: int) -> dict[str, Any]:
    """All figures, with `folder` for the files."""
    results, one, many = folder / "results", folder / "one.parquet", folder / "many"
    results.mkdir()
    log = results / "records.jsonl"
    with log.open("wb") as stream, pa.CompressedOutputStream(str(folder / "log.zst"), "zstd") as compressed:
        for record in records(count):
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
    seconds, peak = {}, {"before": _peak()}
    stdout, sys.stdout = sys.stdout, sys.stderr  # the answers
    try:
        for name, words in steps.items():
            began = time.perf_counter()
            if run(words):
                raise SystemExit(f"clue {words[0]} failed")
            seconds[name], peak[name] = time.perf_counter() - began, _peak()
    finally:
        sys.stdout = stdout
    sizes = {
        "jsonl": log.stat().st_size,
        "jsonl_zstd": (folder / "log.zst").stat().st_size,
        "parquet": one.stat().st_size,
        "parquet_partitioned": sum(path.stat().st_size for path in many.rglob("*.parquet")),
    }
    return {
        "clue": __version__,
        "pyarrow": pa.__version__,
        "python": platform.python_version(),
        "records": count,
        "bytes": sizes,
        "jsonl_over_parquet": round(sizes["jsonl"] / sizes["parquet"], 2),
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
        "exported_per_second": round(count / seconds["export"]),
        "peak_mib": peak,
    }


def _peak() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak >> (20 if sys.platform == "darwin" else 10)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=20_000)
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(Path(folder), parser.parse_args().records), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
