"""From what the steps found to the typed records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from clue_cli.evidence.item import Photo, Unreadable
from clue_cli.scan.calibration_file import OwnCalibration
from clue_cli.scan.records import (
    BoundingBox,
    FailureCode,
    FailureRecord,
    ImageRecord,
    MatchingPlace,
    ModelInfo,
    OutputPaths,
    Region,
    Seconds,
    Step,
    Tiles,
    Verdict,
)
from model.calibration import Calibration
from model.prediction import Prediction
from model.presets.spec import TileSpec
from model.verdict import Finding, FoundRegion


def image_record(
    photo: Photo,
    prediction: Prediction[Any],
    finding: Finding,
    *,
    outputs: OutputPaths,
    model: ModelInfo,
    calibration: Calibration,
    own: OwnCalibration | None = None,
    tile: TileSpec,
    missing: Sequence[str] = (),
    seconds_write: float,
) -> ImageRecord:
    """The record of one judged image, before the store adds what only it knows.

    Args:
        calibration: as used.
        own: the calibration file that it came from, if it is not the model's.
        missing: which panels could not be made, in words.
    """
    height, width = finding.mask.shape
    calibration = calibration.of(prediction.features)
    return ImageRecord(
        locator=photo.locator,
        page=photo.page,
        page_count=photo.page_count,
        file=photo.file,
        width=width,
        height=height,
        verdict=Verdict(finding.verdict),
        reason=finding.reason,
        forged_area_ratio=finding.forged_area_ratio,
        score=finding.score,
        confidence=finding.confidence,
        threshold=calibration.pixel_threshold,
        score_threshold=calibration.score_threshold,
        no_evidence_below=calibration.no_evidence_below,
        p_value=own.p_value(finding.score) if own and calibration.knows_size(width * height / 1e6) else None,
        regions=[
            Region(
                box=BoundingBox(x=region.x, y=region.y, width=region.width, height=region.height),
                area=region.area,
                area_ratio=region.area / (width * height),
                mean_probability=region.mean_probability,
                peak_probability=region.peak_probability,
                matching_place=_matching_place(region),
            )
            for region in finding.regions
        ],
        region_count=finding.region_count,
        outputs=outputs,
        model=model.model_copy(update={"seed": prediction.seed}),
        tiles=Tiles(size=tile.size, overlap=tile.overlap, count=prediction.tile_count),
        exif=photo.exif,
        decoding=list(photo.decoding),
        warnings=[*photo.warnings, *_size_warning(width * height / 1e6, calibration), *missing],
        seconds=Seconds(
            read=photo.seconds_read, decode=photo.seconds_decode, predict=prediction.seconds, write=seconds_write
        ),
    )


def _matching_place(region: FoundRegion) -> MatchingPlace | None:
    place = region.matching_place
    if place is None:
        return None
    return MatchingPlace(
        box=BoundingBox(x=place.x, y=place.y, width=place.width, height=place.height),
        likeness=round(place.likeness, 3),
        scale=round(place.scale, 2),
        turned=round(place.turned, 1),
        mirrored=place.mirrored,
    )


def uncalibrated(calibration: Calibration) -> list[str]:
    """What is to be said of a run whose model brings no calibration, in words."""
    if calibration.fitted_on:
        return []
    return [
        f"The model's score is not calibrated: forged means above {calibration.score_threshold:g}, which was fitted on "
        "nothing, and no confidence is given. clue calibrate sets a threshold from photos of your own."
    ]


def _size_warning(megapixels: float, calibration: Calibration) -> list[str]:
    smallest, largest = calibration.fitted_megapixels
    if not largest or calibration.knows_size(megapixels):
        return []
    return [
        f"The score threshold was fitted on images of {smallest:.2g} to {largest:.2g} megapixels; this one has "
        f"{megapixels:.2g}. Larger images have larger scores by chance: false alarms are more frequent."
    ]


def failure_record(what: Unreadable, other_pages: int = 0) -> FailureRecord:
    """The record of something that could not be read.

    Args:
        other_pages: how many pages of the file have records of their own.
    """
    return FailureRecord(
        locator=what.locator,
        page=what.page,
        page_count=what.page_count,
        other_pages=other_pages if what.page is None else None,
        step=what.step,
        code=what.code,
        message=what.message,
        advice=what.advice,
        file=what.file,
    )


def photo_failure(
    photo: Photo, step: Step, code: FailureCode, message: str, advice: str | None = None
) -> FailureRecord:
    """The record of an image that was read but could not be judged."""
    return FailureRecord(
        locator=photo.locator,
        page=photo.page,
        page_count=photo.page_count,
        step=step,
        code=code,
        message=message,
        advice=advice,
        file=photo.file,
    )
