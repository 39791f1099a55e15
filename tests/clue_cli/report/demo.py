"""A results folder as a scan leaves it, drawn without a model: pictures of all shapes, hostile names and strings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clue_cli.records import (
    Answer,
    BoundingBox,
    Counts,
    ExifBrief,
    FailureCode,
    FailureRecord,
    FileIdentity,
    Finding,
    ImageRecord,
    MatchingPlace,
    ModelInfo,
    Origin,
    OutputPaths,
    Question,
    Region,
    RunRecord,
    Seconds,
    Step,
    Tiles,
    Verdict,
)
from clue_cli.report import write_report
from clue_cli.results.pictures import encode_previews

ATTACK = '"><img src=x onerror="document.title=\'owned\'">'

HOSTILE = [
    f"{ATTACK}.jpg",
    "</script><script>document.title='owned'</script>.png",
    "<!--<script>.jpg",
    "a 100 % #1? 'q' \"r\" & co;+,=!.jpg",
    "%2e%2e%2fup.jpg",
    "invoice\u202egpj.exe",
    "line\u2028sep\u2029.jpg",
    "javascript:alert(1)",
    "case.zip!/dcim/ümlaut 写真.jpg",
    "not-utf8-\udce9.jpg",
    "{{ 7 * 7 }}{% raw %}.jpg",
]


_IN_TURN = (Verdict.FORGED, Verdict.NO_EVIDENCE, Verdict.INCONCLUSIVE)


@dataclass(frozen=True)
class Shape:
    """One image of the demonstration: name, size, verdict, score, and the forged rectangles as shares of the image."""

    locator: str
    width: int
    height: int
    verdict: Verdict
    score: float
    boxes: tuple[tuple[float, float, float, float], ...] = ()
    page: int = 0
    page_count: int = 1


SHAPES = [
    Shape("case7/DSC_0412.jpg", 1200, 800, Verdict.FORGED, 0.9731, ((0.55, 0.4, 0.25, 0.35), (0.1, 0.7, 0.08, 0.1))),
    Shape("case7/DSC_0413.jpg", 1200, 800, Verdict.NO_EVIDENCE, 0.0412),
    Shape("case7/portrait.png", 600, 900, Verdict.FORGED, 0.8123, ((0.3, 0.1, 0.4, 0.25),)),
    Shape("case7/panorama.jpg", 3000, 125, Verdict.FORGED, 0.6402, ((0.7, 0.3, 0.05, 0.6),)),
    Shape("case7/strip.jpg", 60, 2400, Verdict.NO_EVIDENCE, 0.2204),
    Shape("case7/icon.png", 16, 16, Verdict.INCONCLUSIVE, 0.5),
    Shape("case7/tiny-forged.png", 64, 48, Verdict.FORGED, 0.5521, ((0.5, 0.25, 0.4, 0.4),)),
    Shape("case7/scan.tif", 700, 990, Verdict.NO_EVIDENCE, 0.1, (), 0, 2),
    Shape("case7/scan.tif", 700, 990, Verdict.FORGED, 0.7777, ((0.2, 0.5, 0.3, 0.05),), 1, 2),
    *(
        Shape(name, 320, 240, _IN_TURN[i % 3], 0.3 + i / 20, ((0.1, 0.1, 0.3, 0.3),) if i % 3 == 0 else ())
        for i, name in enumerate(HOSTILE)
    ),
]


PREVIEWS = {"preview": "preview.jpg", "heat_overlay": "heat.png", "outline": "outline.png", "thumbnail": "thumb.jpg"}


def preview(stem: str, name: str) -> str:
    """The path of one of an image's small pictures below the results folder."""
    return f"previews/{stem}.{PREVIEWS[name]}"


def with_answer(record: ImageRecord, **changes: Any) -> ImageRecord:
    """The record with another answer to what was edited, and where."""
    answer = record.verdicts[Question.LOCALIZATION].model_copy(update=changes)
    return record.model_copy(update={"verdicts": {Question.LOCALIZATION: answer}})


def with_second(record: ImageRecord, said: tuple[Verdict, float | None] | None) -> ImageRecord:
    """The record with an answer to the second question and, if it says generated, the name of an overlay."""
    if said is None:
        return record
    answer = Answer(
        verdict=said[0],
        reason="As the method says.",
        score=said[1],
        score_threshold=0.8,
        no_evidence_below=0.3,
        method="traces <i>",
        method_digest="7e" * 32,
    )
    overlay = "previews/a.second.png" if said[0] is Verdict.GENERATED else None
    outputs = record.outputs.model_copy(update={"synthetic_overlay": overlay})
    verdicts = record.verdicts | {Question.SYNTHETIC: answer}
    return record.model_copy(update={"verdicts": verdicts, "outputs": outputs})


def draw(shape: Shape) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.bool_]]:
    """A landscape of soft hills as H×W×3 uint8, its heatmap, H×W float32, and its mask, H×W bool."""
    rng = np.random.default_rng(int(hashlib.sha256(repr(shape).encode()).hexdigest()[:8], 16))
    y, x = np.mgrid[0 : shape.height, 0 : shape.width].astype(np.float32)
    hills = sum(np.sin(x / shape.width * f + phase) for f, phase in zip((5, 9, 14), rng.uniform(0, 6, 3), strict=True))
    ground = y / shape.height > 0.55 + 0.05 * hills
    sky = np.stack([120 + 90 * y / shape.height, 160 + 60 * y / shape.height, 215 + 20 * y / shape.height], -1)
    earth = np.stack([70 + 40 * np.sin(x / 23), 95 + 25 * np.sin(y / 17 + x / 40), 60 + 10 * np.sin(x / 9)], -1)
    pixels = np.where(ground[..., None], earth, sky) + rng.normal(0, 6, (shape.height, shape.width, 3))
    heat = 0.06 + 0.04 * np.sin(x / 60) * np.sin(y / 50)
    for left, top, width, height in shape.boxes:
        cx, cy = (left + width / 2) * shape.width, (top + height / 2) * shape.height
        distance = ((x - cx) / (width * shape.width / 2)) ** 2 + ((y - cy) / (height * shape.height / 2)) ** 2
        heat = np.maximum(heat, np.exp(-0.7 * distance**3) * 0.96)
        pixels = np.where((distance < 0.8)[..., None], np.roll(pixels, shape.width // 5, axis=1) * 0.9 + 20, pixels)
    heatmap = np.clip(heat, 0, 1).astype(np.float32)
    return np.clip(pixels, 0, 255).astype(np.uint8), heatmap, heatmap > 0.5


def _place(shape: Shape) -> MatchingPlace:
    box = BoundingBox(x=shape.width // 12, y=shape.height // 2, width=shape.width // 6, height=shape.height // 5)
    return MatchingPlace(box=box, likeness=0.875, scale=1.2, turned=-30.0, mirrored=True)


def record_of(shape: Shape, stem: str | None = None, regions: list[Region] | None = None) -> ImageRecord:
    """The record of a shape; its pictures are named after `stem`, none of them if that is None."""
    ratio = sum(width * height for _, _, width, height in shape.boxes)
    own = [
        Region(
            box=BoundingBox(
                x=int(left * shape.width),
                y=int(top * shape.height),
                width=max(1, int(width * shape.width)),
                height=max(1, int(height * shape.height)),
            ),
            area=max(1, int(width * height * shape.width * shape.height)),
            area_ratio=width * height,
            mean_probability=0.8125,
            peak_probability=0.9604,
            matching_place=None if number != 1 else _place(shape),
        )
        for number, (left, top, width, height) in enumerate(shape.boxes)
    ]
    listed = own if regions is None else regions
    return ImageRecord(
        locator=shape.locator,
        page=shape.page,
        page_count=shape.page_count,
        file=FileIdentity(
            sha256=hashlib.sha256(shape.locator.encode("utf-8", "surrogatepass")).hexdigest(),
            byte_size=shape.width * shape.height,
            sniffed_type="jpeg",
            claimed_type="png" if shape.locator.endswith(".png") else None,
        ),
        width=shape.width,
        height=shape.height,
        verdicts={
            Question.LOCALIZATION: Answer(
                verdict=shape.verdict,
                reason={
                    Verdict.FORGED: f"The score {shape.score:.3f} is above the threshold 0.500.",
                    Verdict.NO_EVIDENCE: f"The score {shape.score:.3f} is not above the threshold 0.500.",
                    Verdict.INCONCLUSIVE: "The image is smaller than 32 pixels on a side.",
                }[shape.verdict],
                score=shape.score,
                confidence=None if shape.verdict is Verdict.INCONCLUSIVE else 0.5 + abs(shape.score - 0.5),
                score_threshold=0.5,
                no_evidence_below=0.4,
            )
        },
        forged_area_ratio=ratio,
        threshold=0.5,
        regions=listed,
        region_count=len(listed),
        outputs=OutputPaths(
            mask=f"masks/{stem}.png",
            heatmap=f"heatmaps/{stem}.png",
            verdict=f"verdicts/{stem}.json",
            **{name: None if stem is None else preview(stem, name) for name in PREVIEWS},
        ),
        model=ModelInfo(
            name="mini",
            digest="5e" * 32,
            device="cpu",
            dtype="float32",
            noise_schedule="rf",
            noise_levels=[0.25, 0.5, 0.75],
            seed=2**64 - 1,
            calibration="platt-2026",
        ),
        tiles=Tiles(size=512, overlap=64, count=1 + shape.width * shape.height // 512**2),
        exif=ExifBrief(
            camera_make="Example Corp",
            camera_model=f"Model {ATTACK}",
            software="</script><b>Editor</b>",
            date_time_original="2021:03:04 05:06:07",
            gps_present=True,
        ),
        decoding=["EXIF orientation 6 applied", "CMYK converted to RGB"],
        findings=[
            Finding(kind="type_mismatch", source=Origin.FILE, statement=f"The name says {ATTACK}, the content is JPEG.")
        ],
        seconds=Seconds(read=0.0012, decode=0.0123, predict=0.1456, write=0.0301),
    )


def failures() -> list[FailureRecord]:
    """Some failures, one of them with strings of an attacker."""
    return [
        FailureRecord(
            locator="case7/locked.zip",
            step=Step.ARCHIVE,
            code=FailureCode.ARCHIVE_ENCRYPTED,
            message="The archive is encrypted.",
            advice="Unpack it with its password, and scan the folder.",
        ),
        FailureRecord(
            locator=f"case7/{ATTACK}",
            page=2,
            step=Step.DECODE,
            code=FailureCode.CORRUPT_IMAGE,
            message=f"Broken data: {ATTACK}</script>",
            file=FileIdentity(sha256="ab" * 32, byte_size=12, sniffed_type="jpeg", claimed_type="jpeg"),
        ),
    ]


def run_of(images: list[ImageRecord], failed: int, **changes: object) -> RunRecord:
    """The run that made these records."""
    verdicts = [record.verdict for record in images]
    run = RunRecord(
        version="0.1.0",
        command_line=["clue", "scan", "./evidence <b>", "--out", "results/"],
        status="finished",
        started="2026-11-21T04:28:38+01:00",
        finished="2026-11-21T05:31:40+01:00",
        seconds=3782.4,
        exit_code=1,
        evidence=["./evidence <b>", "case7.zip\u202e"],
        model={
            "name": "mini",
            "digest": "5e" * 32,
            "device": "cpu",
            "noise_levels": [0.25, 0.5],
            "calibration": "platt-2026",
            "calibration_fitted_on": "240 made pictures, 50% of them forged",
        },
        settings={"threshold": 0.5, "score_threshold": 0.5, "tile": 512, "hidden": False, "frames": "first"},
        settings_digest="c0" * 32,
        machine={"platform": "Linux", "python": "3.11", "cores": 2},
        counts=Counts(
            files=len(images) + failed + 17,
            archives=2,
            not_pictures=17,
            images=len(images),
            forged=verdicts.count(Verdict.FORGED),
            no_evidence=verdicts.count(Verdict.NO_EVIDENCE),
            inconclusive=verdicts.count(Verdict.INCONCLUSIVE),
            failures=failed,
        ),
        not_pictures_by_type={".txt": 12, ".pdf<i>": 5},
        evidence_unchanged=True,
        warnings=[f"Two files have the name {ATTACK}."],
    )
    return run.model_copy(update=changes)


def many(count: int) -> Iterator[ImageRecord]:
    """Records of different name, verdict and score, without pictures; the first of them the weakest."""
    base = record_of(SHAPES[0], "case7/DSC_0412.jpg")
    for i in range(count):
        verdict = _IN_TURN[i % 3]
        confidence = None if verdict is Verdict.INCONCLUSIVE else 0.5 + i / count / 2
        yield with_answer(base, score=(i + 1) / (count + 1), verdict=verdict, confidence=confidence).model_copy(
            update={
                "locator": f"evidence/batch {i % 40:02d}/IMG_{i:06d}.jpg",
                "file": base.file.model_copy(update={"sha256": hashlib.sha256(str(i).encode()).hexdigest()}),
            }
        )


def write_demo(out: Path) -> list[ImageRecord]:
    """Draw all shapes, write their pictures and the page; returns the records."""
    records = []
    for i, shape in enumerate(SHAPES):
        # The names of the pictures are hostile too, as far as a file system takes them.
        stem = f"case 7%23#?&'\"<b>!{i}"
        pixels, heatmap, mask = draw(shape)
        for folder in ("previews", "masks", "heatmaps", "verdicts"):
            (out / folder).mkdir(exist_ok=True)
        for name, content in encode_previews(pixels, heatmap, mask).items():
            (out / preview(stem, name)).write_bytes(content)
        Image.fromarray(mask.astype(np.uint8) * 255).save(out / "masks" / f"{stem}.png")
        Image.fromarray((heatmap * 65535).astype(np.uint16)).save(out / "heatmaps" / f"{stem}.png")
        records.append(record_of(shape, stem))
        (out / "verdicts" / f"{stem}.json").write_text(json.dumps(records[-1].model_dump()))
    write_report(out, run_of(records, len(failures())), [*records, *failures()])
    return records
