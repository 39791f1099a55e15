"""Seconds and memory of writing a manifest and of `clue verify`.

    python scripts/bench_verify.py [--records 10000]

Makes a results folder of so many records, with real pictures of 96×64; each figure is of a process of its own. Prints
one JSON object a line.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))


def measured(action: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """Run in a fresh process: what the action returns, with seconds and the largest memory, MiB."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measured, (action, arguments))


def _measured(action: Callable[..., dict[str, Any]], arguments: tuple[Any, ...]) -> dict[str, Any]:
    said = action(*arguments)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return said | {"peak_mib": round(peak / (1 << 20 if sys.platform == "darwin" else 1 << 10))}


def write_results(out: Path, count: int) -> dict[str, Any]:
    """A results folder as of a scan of `count` photos; the manifest is timed by itself."""
    import numpy as np

    from clue_cli.custody.manifest import write_manifest
    from clue_cli.custody.observed import Observed
    from clue_cli.records import Counts, FileIdentity
    from clue_cli.report import report
    from clue_cli.results.pictures import encode_heatmap, encode_mask, encode_previews
    from tests.clue_cli.results.made import image, open_store, run

    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (64, 96, 3), dtype=np.uint8)
    heatmaps = [random.random((64, 96), dtype=np.float32) for _ in range(50)]
    made = [
        {"mask": encode_mask(map_ > 0.9), "heatmap": encode_heatmap(map_), **encode_previews(pixels, map_, map_ > 0.9)}
        for map_ in heatmaps
    ]
    with Observed() as observed, open_store(out) as store:
        started, seeing = time.perf_counter(), 0.0
        for number in range(count):
            locator = f"evidence/{number // 1000:04d}/IMG_{number:07d}.jpg"
            digest = hashlib.sha256(locator.encode()).hexdigest()
            identity = FileIdentity(sha256=digest, byte_size=9, sniffed_type="jpeg", claimed_type="jpeg")
            store.write_image(image(locator, file=identity, width=96, height=64), made[number % len(made)])
            before = time.perf_counter()
            observed.saw(locator, identity)
            observed.saw_again(locator, identity, identity)
            seeing += time.perf_counter() - before
        writing = time.perf_counter() - started
        with report(out) as pages:
            final = store.finish(run(status="finished", counts=Counts(images=count)), pages.add)
            pages.write(final)
        started = time.perf_counter()
        write_manifest(store, observed, final)
        manifest = time.perf_counter() - started
    sizes = {path.name: path.stat().st_size for path in out.iterdir() if path.suffix in (".hashdeep", ".dfxml")}
    return {
        "what": "manifest",
        "records": count,
        "seconds_writing_results": round(writing, 2),
        "seconds_noting_evidence": round(seeing, 2),
        "seconds_manifest": round(manifest, 2),
        "manifest_bytes": sizes,
    }


def verify_results(folder: Path) -> dict[str, Any]:
    """`clue verify` of an untouched folder, whose files are in the cache of the system."""
    from clue_cli.custody.findings import Findings
    from clue_cli.custody.verify import verify

    started = time.perf_counter()
    with Findings() as findings:
        verified = verify(folder, findings)
    seconds = time.perf_counter() - started
    if findings.differences:
        raise RuntimeError(f"{findings.differences} differences in an untouched folder")
    return {
        "what": "verify",
        "files": verified.files,
        "mib": round(verified.bytes / (1 << 20), 1),
        "seconds": round(seconds, 2),
        "files_per_second": round(verified.files / seconds),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=10_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(temporary) / "results"
        print(json.dumps(measured(write_results, out, arguments.records)), flush=True)
        print(json.dumps(measured(verify_results, out)), flush=True)


if __name__ == "__main__":
    main()
