"""Seconds and memory of `clue report --pdf`.

    python scripts/bench_pdf.py [--images 500]

Makes results with pictures of their own, each with a photograph that scikit-image
ships, cut at random, and a list of many more images. The peak memory is that of the command, and of the process that
sets the pages, which is another one.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

_LISTED = 10_000


def pdf(images: int) -> dict[str, Any]:
    """Figures of a report with a page for each of `images`, and of one that only lists 10,000."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "results"
        _results(folder, images, pictures=True)
        pages = _timed(folder, Path(temporary) / "pages.pdf")
        listed = Path(temporary) / "listed"
        _results(listed, _LISTED, pictures=False)
        rows = _timed(listed, Path(temporary) / "list.pdf", "--only", "failure")
        return {"images": images, "pages": pages, "listed": _LISTED, "list": rows}


def _timed(folder: Path, target: Path, *options: str) -> dict[str, float]:
    """Seconds, peak memory and size of one report; the command runs in a process of its own."""
    code = (
        "import json, resource, sys; from clue_cli.app import run\n"
        "try: run()\n"
        "finally:\n"
        "    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]\n"
        "    print(json.dumps([[one.ru_maxrss, one.ru_utime + one.ru_stime] for one in used]))\n"
    )
    start = time.perf_counter()
    command = [sys.executable, "-c", code, "report", str(folder), "--pdf", str(target), *options]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    (own, seconds_own), (typesetting, seconds_typesetting) = json.loads(done.stdout.splitlines()[-1])
    volumes = sorted(target.parent.glob(f"{target.stem}*.pdf"))
    return {
        "seconds": round(seconds, 1),
        "processor_seconds": round(seconds_own + seconds_typesetting, 1),
        "command_mb": round(own / 1024, 0),
        "typesetting_mb": round(typesetting / 1024, 0),
        "megabytes": round(sum(volume.stat().st_size for volume in volumes) / 1e6, 1),
        "volumes": len(volumes),
    }


def _results(folder: Path, images: int, *, pictures: bool) -> None:
    """A results folder of so many images, drawn without a model."""
    from skimage import data

    from clue_cli.results.pictures import encode_mask, encode_previews

    for name in ("masks", "previews"):
        (folder / name).mkdir(parents=True)
    photos = [getattr(data, name)() for name in ("astronaut", "chelsea", "coffee", "rocket")]
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:1160, 0:1160]
    with (folder / "records.jsonl").open("w") as log:
        for number in range(images):
            outputs = {"mask": f"masks/{number}.png", "heatmap": None, "verdict": f"verdicts/{number}.json"}
            centres = rng.integers(100, 1060, (3, 2)).tolist()
            if pictures:
                photo = photos[number % len(photos)]
                top, left = (int(rng.integers(0, side - 290)) for side in photo.shape[:2])
                cut = photo[top : top + 290, left : left + 290]
                pixels = np.ascontiguousarray(cut.repeat(4, 0).repeat(4, 1))
                heat = np.max([np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 9000) for cy, cx in centres], axis=0)
                heatmap = heat.astype(np.float32)
                (folder / "masks" / f"{number}.png").write_bytes(encode_mask(heatmap > 0.5))
                for name, content in encode_previews(pixels, heatmap, heatmap > 0.5).items():
                    outputs[name] = f"previews/{number}.{name}"
                    (folder / "previews" / f"{number}.{name}").write_bytes(content)
            log.write(json.dumps(_record(number, outputs, centres), separators=(",", ":")) + "\n")
    (folder / "run.json").write_text(json.dumps(_run(images)))


def _record(number: int, outputs: dict[str, str | None], centres: list[list[int]]) -> dict[str, Any]:
    regions = [
        {
            "box": {"x": x - 79, "y": y - 79, "width": 158, "height": 158},
            "area": 19600,
            "area_ratio": 0.0146,
            "mean_probability": 0.72,
            "peak_probability": 0.99,
        }
        for y, x in centres
    ]
    answer = {"verdict": "forged", "reason": "score 0.900 is above the threshold 0.846", "score": 0.9}
    return {
        "kind": "image",
        "schema_version": "2.2",
        "locator": f"evidence/batch {number % 40:02d}/IMG_{number:06d}.jpg",
        "file": {
            "sha256": hashlib.sha256(str(number).encode()).hexdigest(),
            "byte_size": 200_000,
            "sniffed_type": "jpeg",
            "claimed_type": "jpeg",
        },
        "width": 1160,
        "height": 1160,
        "verdicts": {
            "localization": answer | {"confidence": 0.87, "score_threshold": 0.846, "no_evidence_below": 0.64}
        },
        "findings": [
            {"kind": "note", "source": "file", "statement": f"Finding {n}, which says a little of the file."}
            for n in range(4)
        ],
        "forged_area_ratio": 0.0438,
        "threshold": 0.5,
        "regions": regions,
        "region_count": 3,
        "outputs": outputs,
        "model": {
            "name": "mini",
            "digest": "5e" * 32,
            "device": "cpu",
            "dtype": "float32",
            "noise_schedule": "rf",
            "noise_levels": [0.03],
            "seed": number,
        },
        "tiles": {"size": 512, "overlap": 64, "count": 9},
        "seconds": {"read": 0.1, "decode": 0.1, "predict": 0.1, "write": 0.1},
    }


def _run(images: int) -> dict[str, Any]:
    return {
        "schema_version": "2.2",
        "run_id": "20260101T000000Z-bench",
        "version": "0.2.0",
        "command_line": ["clue", "scan", "evidence"],
        "status": "finished",
        "started": "2026-01-01T00:00:00+00:00",
        "evidence": ["evidence"],
        "model": {"name": "mini", "digest": "5e" * 32},
        "settings": {},
        "settings_digest": "c0" * 32,
        "machine": {},
        "counts": {"files": images, "images": images, "forged": images},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=500, help="images with a page of their own (default: 500)")
    options = parser.parse_args()
    print(json.dumps(pdf(options.images)))


if __name__ == "__main__":
    main()
