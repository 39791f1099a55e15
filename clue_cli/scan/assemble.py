"""From what the steps found to the typed records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from clue_cli.evidence.item import VIDEO_FRAME, Photo, Unreadable
from clue_cli.plain_words import composed
from clue_cli.records import (
    Answer,
    BoundingBox,
    ErrorRates,
    FailureRecord,
    Finding,
    ImageRecord,
    MatchingPlace,
    ModelInfo,
    NotExamined,
    Origin,
    OutputPaths,
    Question,
    Region,
    Seconds,
    Tiles,
    Verdict,
    Weight,
)
from clue_cli.results.groups import NOT_A_PHOTOGRAPH
from clue_cli.results.perceptual_hash import perceptual_hash
from clue_cli.scan.calibration_file import OwnCalibration
from clue_cli.terminal import printable
from model.calibration import Calibration
from model.predictor import Prediction
from model.preset import TileSpec
from model.query import NOT_MEASURED, Query
from model.verdict import FoundRegion, Judgment

if TYPE_CHECKING:
    from clue_cli.evidence.hash_lists import HashList
    from clue_cli.scan.synthetic import SecondAnswer


_MOSTLY_THERE = 0.9
"""Share of the rows that must be there for a perceptual hash."""

_NO_NAMES = OutputPaths(mask="", heatmap=None, verdict="")


def image_record(
    photo: Photo,
    prediction: Prediction[Any],
    judgment: Judgment,
    *,
    model: ModelInfo,
    calibration: Calibration,
    own: OwnCalibration | None = None,
    tile: TileSpec,
    missing: Sequence[str] = (),
    query: Query | None = None,
    seconds_write: float,
    synthetic: SecondAnswer | None = None,
    error_rates: Mapping[Question, ErrorRates] | None = None,
) -> ImageRecord:
    """The record of one judged image, before the store adds what only it knows: names of files, run, digest.

    Args:
        calibration: as used.
        own: the calibration file that it came from, if it is not the model's.
        missing: which panels could not be made, in words.
        query: what was asked, if anything.
        synthetic: the answer to the second question; None: it was not asked.
        error_rates: of the run, for the plain words.
    """
    height, width = photo.displayed(photo.pixels).shape[:2]
    left, top = (0, 0) if photo.rows is None else photo.box_of_rows(*photo.rows)[:2]
    examined = judgment.mask.size
    megapixels = examined / 1e6
    calibration = calibration.of(prediction.features)
    record = ImageRecord(
        locator=photo.locator,
        page=photo.page,
        page_count=photo.page_count,
        file=photo.file,
        width=width,
        height=height,
        verdicts={
            Question.LOCALIZATION: Answer(
                verdict=Verdict(judgment.verdict),
                reason=judgment.reason,
                score=judgment.score,
                confidence=judgment.confidence,
                score_threshold=calibration.score_threshold,
                no_evidence_below=calibration.no_evidence_below,
                p_value=own.p_value(judgment.score) if own and calibration.knows_size(megapixels) else None,
            )
        }
        | ({} if synthetic is None else {Question.SYNTHETIC: synthetic.answer}),
        findings=sorted(
            [
                *pixel_findings(judgment, left, top, "the picture" if photo.rows is None else "what was examined"),
                *_query_finding(query),
                *_size_finding(megapixels, calibration),
                *(() if synthetic is None else synthetic.findings),
                *photo.findings,
                *(Finding(kind="panel_not_made", source=Origin.PIXELS, statement=text) for text in missing),
            ],
            key=lambda finding: finding.weight is Weight.INFORMATION,
        ),
        not_examined=[
            NotExamined(rows=list(rows), box=_box(*photo.box_of_rows(*rows)), reason=photo.missing)
            for rows in photo.not_examined
        ],
        forged_area_ratio=judgment.forged_area_ratio,
        threshold=calibration.pixel_threshold,
        regions=[
            Region(
                box=_box(left + region.x, top + region.y, region.width, region.height),
                area=region.area,
                area_ratio=region.area / examined,
                mean_probability=region.mean_probability,
                peak_probability=region.peak_probability,
                matching_place=_matching_place(region, left, top),
            )
            for region in judgment.regions
        ],
        region_count=judgment.region_count,
        outputs=_NO_NAMES,
        model=model.model_copy(update={"seed": prediction.seed}),
        perceptual_hash=_hash(photo),
        tiles=Tiles(size=tile.size, overlap=tile.overlap, count=prediction.tile_count),
        exif=photo.exif,
        decoding=list(photo.decoding),
        seconds=Seconds(
            read=photo.seconds_read, decode=photo.seconds_decode, predict=prediction.seconds, write=seconds_write
        ),
    )
    return record.model_copy(update={"plain_words": composed(record, error_rates or {})})


def _hash(photo: Photo) -> str | None:
    """The perceptual hash; None for a picture of which much is missing: what stands there would make it look alike."""
    if len(photo.examined) < _MOSTLY_THERE * len(photo.pixels):
        return None
    return perceptual_hash(photo.pixels, photo.orientation)


def _box(x: int, y: int, width: int, height: int) -> BoundingBox:
    return BoundingBox(x=x, y=y, width=width, height=height)


def doubt_of(photo: Photo, learned: str = "the model") -> str | None:
    """Why no verdict but inconclusive can be given on what is there of a picture, in words; None: one can.

    Args:
        learned: what judges it, in words.
    """
    if any(finding.kind == VIDEO_FRAME for finding in photo.findings):
        return f"it is a frame of a video, and {learned} did not learn from videos"
    return photo.doubt


def doubted(judgment: Judgment, photo: Photo, query: Query | None = None) -> Judgment:
    """The judgment, or an inconclusive one: the file is in doubt, it is a frame of a video, or a query was asked."""
    doubt = doubt_of(photo)
    if query is not None:
        doubt = NOT_MEASURED if doubt is None else f"{doubt}; {NOT_MEASURED}"
    elif judgment.verdict == "inconclusive":
        return judgment
    if doubt is None:
        return judgment
    return replace(judgment, verdict="inconclusive", reason=f"{doubt} ({judgment.reason})", confidence=None)


def _matching_place(region: FoundRegion, left: int, top: int) -> MatchingPlace | None:
    place = region.matching_place
    if place is None:
        return None
    return MatchingPlace(
        box=_box(left + place.x, top + place.y, place.width, place.height),
        likeness=round(place.likeness, 3),
        scale=round(place.scale, 2),
        turned=round(place.turned, 1),
        mirrored=place.mirrored,
    )


def uncalibrated(calibration: Calibration) -> list[str]:
    """The warning about a model without a calibration, if it has none."""
    if calibration.fitted_on:
        return []
    return [
        f"The model's score is not calibrated: forged means above {calibration.score_threshold:g}, which was fitted on "
        "nothing, and no confidence is given. clue calibrate sets a threshold from photos of your own."
    ]


def pixel_findings(judgment: Judgment, left: int = 0, top: int = 0, of: str = "the picture") -> list[Finding]:
    """What the pixels say, in plain words: regions, their matching places, the kind of picture.

    Args:
        left, top: where in the image as displayed what was examined begins.
        of: what was examined, in words.
    """
    found = []
    if judgment.region_count:
        count = judgment.region_count
        marked = "One region is" if count == 1 else f"{count} regions are"
        found.append(
            Finding(
                kind="marked_regions",
                source=Origin.PIXELS,
                statement=f"{marked} marked, {judgment.forged_area_ratio:.2%} of {of}.",
                data={"regions": count, "area_ratio": judgment.forged_area_ratio},
                weight=Weight.SUPPORTS_EDIT if judgment.verdict == "forged" else Weight.INFORMATION,
            )
        )
    for number, region in enumerate(judgment.regions, 1):
        if place := region.matching_place:
            found.append(
                Finding(
                    kind="matching_place",
                    source=Origin.PIXELS,
                    statement=f"Region {number} matches another place of the picture, {place.width}×{place.height} "
                    f"pixels at {left + place.x}, {top + place.y}. Repeated structures match without an edit.",
                    data={"region": number, "likeness": round(place.likeness, 3)},
                )
            )
    if judgment.screen:
        statement = "The picture is taken for a screen, a drawing or a page, not for a photograph."
        found.append(Finding(kind=NOT_A_PHOTOGRAPH, source=Origin.PIXELS, statement=statement))
    return found


def query_warnings(query: Query) -> list[str]:
    """What a reader of the run should know about its query."""
    asked = f"Experimental: the scan asks about “{printable(query.text)}”. No verdict is more than inconclusive."
    return [asked, *map(printable, query.notes)]


def _query_finding(query: Query | None) -> list[Finding]:
    if query is None:
        return []
    return [
        Finding(
            kind="query",
            source=Origin.PIXELS,
            statement=f"The model was asked about “{printable(query.text)}”, an experimental use for which its error "
            "rates are not measured.",
            data={"query": printable(query.text), "embedding_sha256": query.digest},
        )
    ]


def _size_finding(megapixels: float, calibration: Calibration) -> list[Finding]:
    smallest, largest = calibration.fitted_megapixels
    if not largest or calibration.knows_size(megapixels):
        return []
    statement = (
        f"The score threshold was fitted on images of {smallest:.2g} to {largest:.2g} megapixels; this one has "
        f"{megapixels:.2g}."
    )
    if megapixels > largest:
        statement += " Larger images have larger scores by chance: false alarms are more frequent."
    return [
        Finding(
            kind="size_not_calibrated",
            source=Origin.PIXELS,
            statement=statement,
            data={"megapixels": round(megapixels, 3), "smallest": smallest, "largest": largest},
        )
    ]


_ALERT = "on_alert_list"


def alert_finding(alert: HashList) -> Finding:
    """The finding about a file that is on the list of `--alert`."""
    return Finding(
        kind=_ALERT,
        source=Origin.FILE,
        statement=f"The file is on the alert list {printable(alert.path.name)}.",
        data={"list_sha256": alert.sha256},
    )


def says_alert(records: Sequence[ImageRecord | FailureRecord], flagged: bool) -> bool:
    """Whether the records of a file say this about the list of `--alert`; failures have no findings to say it with."""
    return all(
        isinstance(record, FailureRecord) or any(finding.kind == _ALERT for finding in record.findings) == flagged
        for record in records
    )


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
