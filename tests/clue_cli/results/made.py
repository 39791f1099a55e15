"""Records and stores as the tests of this folder need them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clue_cli.records import (
    Answer,
    FailureCode,
    FailureRecord,
    FileIdentity,
    ImageRecord,
    ModelInfo,
    OutputPaths,
    Question,
    RunRecord,
    Seconds,
    Step,
    Tiles,
    Verdict,
)
from clue_cli.remote import Url
from clue_cli.results.pictures import encode_heatmap, encode_mask, encode_overlay, encode_previews
from clue_cli.results.record_log import Stamp
from clue_cli.results.scan_store import ResultStore
from clue_cli.scan import ScanOptions

Pixels = NDArray[np.uint8]
SHA = "a" * 64
OTHER_SHA = "b" * 64
MODEL = "c" * 64
HEIGHT, WIDTH = 4, 6


def mask() -> NDArray[np.bool_]:
    return np.equal(np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) % 3, 0)


def heatmap() -> NDArray[np.float32]:
    return np.linspace(0, 1, HEIGHT * WIDTH, dtype=np.float32).reshape(HEIGHT, WIDTH)


def pixels() -> NDArray[np.uint8]:
    return np.full((HEIGHT, WIDTH, 3), 90, dtype=np.uint8)


def identity(sha256: str = SHA, sniffed: str = "jpeg") -> FileIdentity:
    return FileIdentity(sha256=sha256, byte_size=100, sniffed_type=sniffed, claimed_type="jpeg")


def answer(**changes: Any) -> Answer:
    fields: dict[str, Any] = {
        "verdict": Verdict.FORGED,
        "reason": "One region.",
        "score": 0.75,
        "score_threshold": 0.5,
        "no_evidence_below": 0.4,
    }
    return Answer(**{**fields, **changes})


def image(locator: str = "evidence/a.jpg", page: int = 0, page_count: int = 1, **changes: Any) -> ImageRecord:
    """A record; what belongs to its answer goes there."""
    own = {name: changes.pop(name) for name in Answer.model_fields if name in changes}
    fields: dict[str, Any] = {
        "locator": locator,
        "page": page,
        "page_count": page_count,
        "file": identity(),
        "width": WIDTH,
        "height": HEIGHT,
        "verdicts": {Question.LOCALIZATION: answer(**own)},
        "forged_area_ratio": 0.25,
        "threshold": 0.5,
        "regions": [],
        "region_count": 0,
        "outputs": OutputPaths(mask="masks/m.png", heatmap=None, verdict="verdicts/v.json"),
        "model": ModelInfo(
            name="mini",
            digest=MODEL,
            device="cpu",
            dtype="float32",
            noise_schedule="rf",
            noise_levels=[0.1],
            seed=1,
        ),
        "tiles": Tiles(size=256, overlap=32, count=1),
        "seconds": Seconds(read=0.1, decode=0.2, predict=0.3, write=0.4),
    }
    return ImageRecord(**{**fields, **changes})


def first_schema(record: ImageRecord | FailureRecord, version: str = "1.2") -> dict[str, Any]:
    """A record as clue 0.1.0 wrote it: the answer's fields beside the others, findings as `warnings`."""
    content = record.model_dump(mode="json")
    answers, findings = content.pop("verdicts", None), content.pop("findings", None)
    if answers is not None and findings is not None:
        content |= answers["localization"] | {"warnings": [finding["statement"] for finding in findings]}
    return content | {"schema_version": version}


def failure(locator: str = "evidence/broken.jpg", **changes: Any) -> FailureRecord:
    fields: dict[str, Any] = {
        "locator": locator,
        "step": Step.DECODE,
        "code": FailureCode.CORRUPT_IMAGE,
        "message": "It is cut short.",
        "file": identity(),
        "other_pages": 0,
    }
    return FailureRecord(**{**fields, **changes})


def run(**changes: Any) -> RunRecord:
    fields: dict[str, Any] = {
        "version": "1",
        "command_line": ["clue", "scan"],
        "status": "running",
        "started": "2026-01-01T00:00:00+00:00",
        "evidence": ["evidence"],
        "model": {"name": "mini", "device": "cpu"},
        "settings": {},
        "settings_digest": "",
        "machine": {},
    }
    return RunRecord(**{**fields, **changes})


def stamp(model: str = MODEL, dtype: str = "float32", **options: Any) -> Stamp:
    return ScanOptions(**options).stamp(model, dtype)


def open_store(out: Path | Url, *, overwrite: bool = False, model: str = MODEL, **options: Any) -> ResultStore:
    """A store in which a run has begun."""
    store = ResultStore(out)
    store.begin(run(), stamp(model, **options), overwrite=overwrite)
    return store


def put(store: ResultStore, record: ImageRecord, *, synthetic: bool = False) -> ImageRecord:
    """Write an image with all its files, as the pipeline does."""
    made = {"mask": encode_mask(mask()), "heatmap": encode_heatmap(heatmap())}
    if synthetic:
        made |= {"synthetic_heatmap": encode_heatmap(heatmap()), "synthetic_overlay": encode_overlay(heatmap())}
    return store.write_image(record, made | encode_previews(pixels(), heatmap(), mask()))


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
