"""Exports of many made records: seconds and peak memory.

    python scripts/bench_exports.py [--count N] [--format NAME…]

A results folder of N records is made, each with a mask of 512×384 pixels and about 16 regions, and exported by `clue
export` once for each format, each in a process of its own.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path

from clue_cli.results.export import FORMATS

HEIGHT, WIDTH, KINDS = 384, 512, 16


def masks() -> list[bytes]:
    """PNGs of masks, 3 % of which are marked."""
    import numpy as np
    from scipy import ndimage

    from clue_cli.results.pictures import encode_mask

    rng = np.random.default_rng(0)
    smooth = [ndimage.gaussian_filter(rng.random((HEIGHT, WIDTH)), 12) for _ in range(KINDS)]
    return [encode_mask(one > np.quantile(one, 0.97)) for one in smooth]


def make(folder: Path, count: int) -> None:
    from clue_cli.records import ExifBrief, Finding, Origin

    made = import_module("tests.clue_cli.results.made")  # the records that tests are made of

    findings = [
        Finding(kind="marked_regions", source=Origin.PIXELS, statement="Regions are marked."),
        Finding(kind="camera", source=Origin.METADATA, statement="The file names a camera."),
    ]
    encoded = masks()
    with made.open_store(folder) as store:
        for number in range(count):
            record = made.image(
                f"case/{number // 1000:04}/photo {number:07}.jpg",
                width=WIDTH,
                height=HEIGHT,
                exif=ExifBrief(camera_make="Canon", camera_model="EOS 80D"),
                findings=findings,
            )
            store.write_image(record, {"mask": encoded[number % KINDS]})
        store.finish(made.run(status="finished"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--format", nargs="+", choices=FORMATS, default=list(FORMATS), dest="formats")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        results, out = Path(temporary, "results"), Path(temporary, "exported")
        # Linux counts the memory of whoever starts a process as memory of that process: so this one stays small.
        maker = get_context("spawn").Process(target=make, args=(results, options.count))
        maker.start()
        maker.join()
        for form in options.formats:
            command = [sys.executable, "-m", "clue_cli", "export", str(results), "--format", form, "--out", str(out)]
            start = time.perf_counter()
            _, status, used = os.wait4(os.posix_spawn(sys.executable, command, os.environ), 0)
            if status:
                raise SystemExit(f"{form}: {os.waitstatus_to_exitcode(status)}")
            print(
                f"{form}: {options.count} records, {time.perf_counter() - start:.1f} s, "
                f"{used.ru_utime + used.ru_stime:.1f} s of CPU time, {used.ru_maxrss >> 10} MiB of memory, "
                f"{out.stat().st_size / 2**20:.0f} MiB written",
                flush=True,
            )


if __name__ == "__main__":
    main()
