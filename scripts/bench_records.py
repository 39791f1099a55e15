"""The records and the evidence that `bench_cluster` measures on: those of a scan of a few small pictures, with another
locator, hash, score and seed for each, and a listing of hard links."""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from bench_scan import write_folder
from PIL import Image

from clue_cli.records import RECORD, BoundingBox, FailureRecord, ImageRecord, OutputPaths, Question, Region, RunRecord
from clue_cli.results import names
from clue_cli.results.reader import LOG, RUN
from clue_cli.scan import ScanOptions
from clue_cli.scan.pipeline import scan
from model.reporter import Reporter

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
        images, rounds: pictures of the figure `throughput`, and in how many rounds they are scanned.
        share_of_one: the share of them that is scanned with one worker.
        kills, kill_images: how many nodes the figure `kills` kills, and during a scan of how many JPEGs.
        seed: of when and which.
    """

    work: Path
    records: int
    table_records: int
    model: str
    images: int = 2000
    rounds: int = 3
    share_of_one: float = 0.5
    kills: int = 10
    kill_images: int = 300
    seed: int = 16

    @property
    def results(self) -> Path:
        """The results folder of the simulated records."""
        return self.work / "results"

    @property
    def listing(self) -> Path:
        """The evidence of the simulated records."""
        return self.work / "listing"

    def say(self, text: str) -> None:
        """Progress within a figure."""
        print(text, file=sys.stderr, flush=True)

    def options(self) -> ScanOptions:
        """Of all scans."""
        return ScanOptions(model=self.model, device="cpu", command_line=("clue", "scan"))


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
