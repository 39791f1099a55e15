"""The one record every output is a view of.

`ImageRecord` and `FailureRecord` are what `clue scan` knows about one image, or about one thing it could not read.
The verdict JSON, the line in `records.jsonl`, the row in `summary.csv` and the HTML page are all written from them,
and `clue schema` prints the JSON Schema generated from these types. Every field carries its meaning and its unit
in its description, because the description is what ends up in the schema and in the documentation.

Raising `SCHEMA_VERSION`: the first number for a change that breaks a reader, the second for an added field.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, computed_field, model_validator

SCHEMA_VERSION = "2.3"
VERSION_PATTERN = "^[0-9]{1,6}[.][0-9]{1,6}$"
_LAST_PAGE = 2**31


def is_newer(schema_version: str, than: str = SCHEMA_VERSION) -> bool:
    """Whether one version of the schema came after another; raises ValueError if one of the two is no version."""
    for version in (schema_version, than):
        if re.fullmatch(VERSION_PATTERN, version) is None:
            raise ValueError(f"no version of a schema: {version[:100]!r}")
    one, other = (tuple(map(int, version.split("."))) for version in (schema_version, than))
    return one > other


class Model(BaseModel):
    """Base of all records: no unknown keys, no mutation, plain JSON types."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Verdict(StrEnum):
    """What the tool found. There is no `authentic`: not finding a trace does not prove that there is none."""

    FORGED = "forged"
    GENERATED = "generated"
    NO_EVIDENCE = "no_evidence"
    INCONCLUSIVE = "inconclusive"


class Question(StrEnum):
    """What a model was asked about an image."""

    LOCALIZATION = "localization"
    """Was a part of the picture edited, and where?"""
    SYNTHETIC = "synthetic"
    """Was the whole picture generated? Asked with `--also synthetic`."""


class Answer(Model):
    """The verdict on one question, and the numbers behind it. The answers to two questions are never mixed."""

    verdict: Verdict = Field(
        description="`forged` (`localization` alone), `generated` (`synthetic` alone), `inconclusive` or `no_evidence`."
    )
    reason: str = Field(
        description="Why this verdict, in one sentence; it begins with `screen or drawing` where the picture is taken "
        "for one, or for a page."
    )
    score: float | None = Field(
        ge=0,
        le=1,
        description="Raw image-level score, 0 to 1: larger, more evidence of an edit (`localization`) or that the "
        "picture was generated (`synthetic`). Where it was fitted, as that of `mini`: from what the network found, "
        "before the heatmap was drawn along edges. Null only for `synthetic`, where the method could not judge the "
        "picture.",
    )
    confidence: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Calibrated probability that the verdict is right, for evidence like that of the calibration "
        "(described in `run.json`); null if inconclusive, or if the image is of another size than those.",
    )
    score_threshold: float = Field(
        ge=0,
        le=1,
        description="`localization`: the verdict is `forged` if `score` is above this and a pixel is marked; screens "
        "and drawings, and small photographs, can have one of their own. `synthetic`: the verdict is `generated` if "
        "`score` is above this and nothing casts doubt on it.",
    )
    no_evidence_below: float = Field(
        ge=0, le=1, description="The verdict is `no_evidence` if `score` is not above this; in between, `inconclusive`."
    )
    p_value: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Conformal p-value among the authentic photos of `--calibration`: the share of them, this image "
        "counted in, that scores at least as high. Null for the model's own calibration, and for images of another "
        "size than those photos.",
    )
    method: str | None = Field(
        default=None,
        description="Name of the method that answered `synthetic`; null for `localization`, which `model` answers.",
    )
    method_digest: str | None = Field(
        default=None,
        pattern="^[0-9a-f]{64}$",
        description="SHA-256 over the weights, configuration and base of `method`, hex; null for `localization`.",
    )
    calibration: str | None = Field(
        default=None,
        description="Name of the calibration of `method`; null for `localization`, whose calibration `model` names.",
    )
    parts: dict[str, float] = Field(
        default={}, description="Named values behind the score of `method`; empty if it has none."
    )


class Origin(StrEnum):
    """Where a finding comes from."""

    PIXELS = "pixels"
    METADATA = "metadata"
    CONTAINER = "container"
    FILE = "file"


class Weight(StrEnum):
    """Which way a finding points."""

    SUPPORTS_EDIT = "supports_edit"
    SPEAKS_AGAINST = "speaks_against"
    INFORMATION = "information"


class Finding(Model):
    """One thing that was found in an image, its file or its container."""

    kind: str = Field(
        pattern="^[a-z0-9_]{1,60}$", description="What it is, as a stable name, e.g. `marked_regions`, `type_mismatch`."
    )
    source: Origin = Field(
        description="Where it comes from; metadata are the file's own claims, which anybody can set."
    )
    statement: str = Field(description="What was found, in plain words.")
    data: dict[str, str | int | float | bool | None] = Field(default={}, description="The values behind the statement.")
    weight: Weight = Field(
        default=Weight.INFORMATION,
        description="Whether it supports an edit, speaks against one, or is there for information.",
    )


class FailureCode(StrEnum):
    """Why something could not be read or judged. Stable names, for scripts."""

    UNREADABLE = "unreadable"
    EMPTY_FILE = "empty_file"
    NOT_AN_IMAGE = "not_an_image"
    UNSUPPORTED_FORMAT = "unsupported_format"
    MISSING_EXTRA = "missing_extra"
    CORRUPT_IMAGE = "corrupt_image"
    TOO_MANY_PIXELS = "too_many_pixels"
    TOO_MANY_PAGES = "too_many_pages"
    FILE_TOO_LARGE = "file_too_large"
    DECODER_CRASHED = "decoder_crashed"
    DECODER_TIMEOUT = "decoder_timeout"
    ARCHIVE_CORRUPT = "archive_corrupt"
    ARCHIVE_ENCRYPTED = "archive_encrypted"
    ARCHIVE_TOO_DEEP = "archive_too_deep"
    ARCHIVE_LIMIT = "archive_limit"
    LINK_LOOP = "link_loop"
    CHANGED_DURING_SCAN = "changed_during_scan"
    OUT_OF_MEMORY = "out_of_memory"
    NOT_FINITE = "not_finite"
    INTERNAL_ERROR = "internal_error"


class Step(StrEnum):
    """The step of the walk at which something failed."""

    WALK = "walk"
    ARCHIVE = "archive"
    READ = "read"
    DECODE = "decode"
    PREDICT = "predict"
    WRITE = "write"


class BoundingBox(Model):
    """A rectangle in pixels of the image as displayed; the origin is the top left corner."""

    x: int = Field(ge=0, description="Left edge, pixels from the left border of the image as displayed.")
    y: int = Field(ge=0, description="Top edge, pixels from the top border of the image as displayed.")
    width: int = Field(gt=0, description="Width in pixels.")
    height: int = Field(gt=0, description="Height in pixels.")


class MatchingPlace(Model):
    """Another place of the same image that a region matches, as a copy matches its source.

    Repeated structures, such as windows, match without an edit. It is looked for in the five largest regions of an
    image whose verdict is not `no_evidence`.
    """

    box: BoundingBox = Field(description="The rectangle around that place.")
    likeness: float = Field(ge=0, le=1, description="Share of the region's textured 8×8 cells that match it, 0 to 1.")
    scale: float = Field(gt=0, description="The region's size over that of this place.")
    turned: float = Field(ge=-180, le=180, description="Degrees by which the region is turned against it.")
    mirrored: bool = Field(description="Whether the region is its mirror image.")


class Region(Model):
    """One connected group of marked pixels (8-connected)."""

    box: BoundingBox = Field(description="The smallest rectangle around the region.")
    area: int = Field(gt=0, description="Number of marked pixels in the region.")
    area_ratio: float = Field(ge=0, le=1, description="Area of the region / all examined pixels of the image, 0 to 1.")
    mean_probability: float = Field(ge=0, le=1, description="Mean of the heatmap over the region, 0 to 1.")
    peak_probability: float = Field(ge=0, le=1, description="Largest heatmap value in the region, 0 to 1.")
    matching_place: MatchingPlace | None = Field(
        default=None,
        description="Another place of the image that the region matches; null: none known.",
    )


class NotExamined(Model):
    """A band of an image that was not examined, since the file does not hold it whole."""

    rows: list[int] = Field(
        min_length=2, max_length=2, description="First and last row, from 0, of the image as stored."
    )
    box: BoundingBox = Field(description="The band in the image as displayed.")
    reason: str = Field(description="Why, in words.")


class ExifBrief(Model):
    """A few EXIF fields, as the file claims them. EXIF is easily changed: these are statements, not facts.

    Strings are the file's own, cut to 200 characters, control characters replaced by U+FFFD.
    """

    camera_make: str | None = Field(default=None, description="EXIF Make.")
    camera_model: str | None = Field(default=None, description="EXIF Model.")
    software: str | None = Field(default=None, description="EXIF Software: the last program that said its name.")
    date_time_original: str | None = Field(default=None, description="EXIF DateTimeOriginal, as written (no zone).")
    date_time_digitized: str | None = Field(default=None, description="EXIF DateTimeDigitized, as written.")
    date_time_modified: str | None = Field(default=None, description="EXIF DateTime: the last change, as written.")
    gps_present: bool = Field(default=False, description="Whether GPS fields exist. The position is not copied here.")
    thumbnail_present: bool = Field(default=False, description="Whether an embedded EXIF thumbnail exists.")


class FileIdentity(Model):
    """Which bytes were judged."""

    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="SHA-256 of the file's or member's bytes, hex.")
    md5: str | None = Field(default=None, pattern="^[0-9a-f]{32}$", description="MD5, hex, if `--hash` asked for it.")
    sha1: str | None = Field(
        default=None, pattern="^[0-9a-f]{40}$", description="SHA-1, hex, if `--hash` asked for it."
    )
    byte_size: int = Field(ge=0, description="Size of the file or member in bytes.")
    modified: str | None = Field(
        default=None,
        description="When the content of the file on disk was last changed, as its file system said before the file "
        "was read: ISO 8601 in UTC. Null for a member of an archive and for an object of a store.",
    )
    sniffed_type: str = Field(description="Type by content, e.g. `jpeg`, `png`, `tiff`, `webp`.")
    claimed_type: str | None = Field(description="Type by file-name extension, null if the extension says nothing.")


class ModelInfo(Model):
    """Which model said it, and how it was run."""

    name: str = Field(description="Name of the model, e.g. `mini`.")
    digest: str = Field(pattern="^[0-9a-f]{64}$", description="SHA-256 over the weights and configuration, hex.")
    device: str = Field(description="Device the network ran on, e.g. `cpu`, `cuda:0`.")
    dtype: str = Field(description="Number format of the network, e.g. `float32`.")
    noise_schedule: str = Field(description="`rf` (rectified flow), `ddpm` or `none`.")
    noise_levels: list[float] = Field(description="Noise levels t after the shift, 0 (clean) to 1 (pure noise).")
    seed: int = Field(ge=0, description="Seed of the noise, taken from the pixels; unsigned 64-bit.")
    calibration: str | None = Field(
        default=None, description="Name of the calibration behind the thresholds and `confidence`."
    )
    calibration_sha256: str | None = Field(
        default=None,
        pattern="^[0-9a-f]{64}$",
        description="SHA-256, hex, of the file given with `--calibration`; null for the model's own calibration.",
    )


class Tiles(Model):
    """How the image was cut."""

    size: int = Field(
        gt=0,
        description="Largest side of a tile in pixels; a larger image is cut into equal tiles, no larger than needed.",
    )
    overlap: int = Field(ge=0, description="Least overlap of neighbouring tiles in pixels.")
    count: int = Field(gt=0, description="Number of tiles the image was cut into.")


class OutputPaths(Model):
    """Where the pictures of this record are: paths relative to the results folder, `/` as separator."""

    mask: str = Field(description="Mask PNG: one channel, 0 or 255, the size of the image as displayed.")
    heatmap: str | None = Field(description="Heatmap PNG: one channel, 16 bit, value / 65535 = probability.")
    verdict: str = Field(description="This record as a JSON file of its own.")
    preview: str | None = Field(default=None, description="The image as a browser can show it, possibly smaller.")
    heat_overlay: str | None = Field(default=None, description="The heatmap in colour, transparent where it is low.")
    outline: str | None = Field(default=None, description="The outline of the mask, transparent elsewhere.")
    thumbnail: str | None = Field(default=None, description="A small picture for the table.")
    synthetic_heatmap: str | None = Field(
        default=None,
        description="Where the evidence lies that the picture was generated: a PNG like the heatmap. Null if the "
        "method has none.",
    )
    synthetic_overlay: str | None = Field(default=None, description="The same in colour, transparent where it is low.")
    embedded_thumbnail: str | None = Field(
        default=None, description="The thumbnail that the file itself holds, as displayed, if it shows something else."
    )
    error_level_analysis: str | None = Field(
        default=None, description="With `--panels`: map of error level analysis, an aid and no verdict."
    )
    jpeg_ghosts: str | None = Field(
        default=None, description="With `--panels`: map of JPEG ghosts, an aid and no verdict."
    )
    noise_inconsistency: str | None = Field(
        default=None, description="With `--panels`: map of noise inconsistency, an aid and no verdict."
    )


class WrittenFile(Model):
    """A file of the results as it was written."""

    output: str = Field(description="Its name in `outputs`, e.g. `mask`.")
    byte_size: int = Field(ge=0, description="Size in bytes.")
    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="SHA-256, hex.")


class Seconds(Model):
    """Wall-clock seconds this image spent in each step. Steps of different images overlap."""

    read: float = Field(ge=0, description="Reading and hashing.")
    decode: float = Field(ge=0, description="Decoding to pixels and reading EXIF.")
    predict: float = Field(
        ge=0,
        description="The model: this image's share of the time it took. Images overlap, so one may have next to none.",
    )
    write: float = Field(ge=0, description="Blending, verdict, and writing the pictures.")


class ImageRecord(Model):
    """One image (one page of a multi-page file) that was judged."""

    kind: Literal["image"] = Field(default="image", description="Tells an image's record from a failure's.")
    schema_version: str = Field(default=SCHEMA_VERSION, description="Version of this record's schema.")
    locator: str = Field(
        description="Where it is: path below the evidence root, `!/` between an archive and its member, e.g. "
        "`case7.zip!/dcim/1.jpg`. Bytes that are not UTF-8 and control characters are shown escaped."
    )
    page: int = Field(default=0, ge=0, le=_LAST_PAGE, description="Page or frame number, from 0.")
    page_count: int = Field(default=1, ge=1, description="How many pages or frames the file holds.")
    file: FileIdentity
    width: int = Field(gt=0, description="Width in pixels, as displayed (EXIF orientation applied).")
    height: int = Field(gt=0, description="Height in pixels, as displayed (EXIF orientation applied).")
    verdicts: dict[Question, Answer] = Field(
        min_length=1,
        description="The answer to each question, by its name; `localization` is always there. `not_asked` lists the "
        "questions that are not.",
    )
    findings: list[Finding] = Field(default=[], description="What was found in the pixels, the file and its container.")
    not_examined: list[NotExamined] = Field(
        default=[],
        description="Parts of a cut or damaged picture that were not examined. Mask and heatmap are 0 there, and every "
        "share of area is one of what was examined.",
    )
    forged_area_ratio: float = Field(ge=0, le=1, description="Marked pixels / all examined pixels, 0 to 1.")
    threshold: float = Field(
        ge=0,
        le=1,
        description="A pixel is marked if its probability is above this, and those of 63 others connected to it.",
    )
    regions: list[Region] = Field(description="Marked regions, largest first, at most 100.")
    region_count: int = Field(ge=0, description="How many regions there are, the unlisted ones included.")
    outputs: OutputPaths
    written: list[WrittenFile] = Field(
        default=[],
        description="Size and hash of each file in `outputs` but `verdict`: a file cannot hold its own hash, and that "
        "one is in the manifest.",
    )
    model: ModelInfo
    tiles: Tiles
    perceptual_hash: str | None = Field(
        default=None,
        pattern="^[0-9a-f]{16}$",
        description="64-bit perceptual hash of the image as displayed, hex: pictures that look alike differ in few "
        "bits. Null for an image with too little in it to be told apart, or with more than a tenth missing.",
    )
    plain_words: list[str] = Field(
        default=[],
        description="What was found, in plain words, composed of the values of this record; empty if the answers are "
        "all `no_evidence`.",
    )
    exif: ExifBrief = ExifBrief()
    decoding: list[str] = Field(default=[], description="What was done to get from the file to 8-bit RGB pixels.")
    seconds: Seconds
    run_id: str = Field(default="", description="The run that wrote this record: `run_id` in run.json or runs/.")
    settings_digest: str = Field(
        default="", description="SHA-256 over version, model and settings this record depends on; resuming compares it."
    )

    @model_validator(mode="before")
    @classmethod
    def _from_json(cls, values: Any) -> Any:
        return _without_computed(_of_first_schema(values)) if isinstance(values, dict) else values

    @model_validator(mode="after")
    def _answers_fit_their_questions(self) -> ImageRecord:
        if Question.LOCALIZATION not in self.verdicts:
            raise ValueError("there is no answer to the question localization")
        for question, answer in self.verdicts.items():
            if answer.verdict in _FOREIGN[question]:
                raise ValueError(f"{answer.verdict.value} is no answer to the question {question.value}")
        if self.localization.score is None:
            raise ValueError("the answer to the question localization has no score")
        if self.synthetic is not None and None in (self.synthetic.method, self.synthetic.method_digest):
            raise ValueError("the answer to the question synthetic does not name its method")
        return self

    @property
    def localization(self) -> Answer:
        """Was a part of the picture edited?"""
        return self.verdicts[Question.LOCALIZATION]

    @property
    def synthetic(self) -> Answer | None:
        """Was the whole picture generated? None: that was not asked."""
        return self.verdicts.get(Question.SYNTHETIC)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def verdict(self) -> Verdict:
        """The verdict on `localization` alone: `no_evidence` is no evidence of an edited region. Whether the whole
        picture was generated is the answer to `synthetic` in `verdicts`."""
        return self.localization.verdict

    @computed_field  # type: ignore[prop-decorator]
    @property
    def reason(self) -> str:
        """`reason` of the answer to `localization`."""
        return self.localization.reason

    @computed_field  # type: ignore[prop-decorator]
    @property
    def score(self) -> float:
        """`score` of the answer to `localization`."""
        return self.localization.score or 0.0

    @computed_field  # type: ignore[prop-decorator]
    @property
    def confidence(self) -> float | None:
        """`confidence` of the answer to `localization`."""
        return self.localization.confidence

    @computed_field  # type: ignore[prop-decorator]
    @property
    def not_asked(self) -> list[Question]:
        """The questions that were not asked: nothing in this record is an answer to them."""
        return [question for question in Question if question not in self.verdicts]


_FOREIGN = {Question.LOCALIZATION: {Verdict.GENERATED}, Question.SYNTHETIC: {Verdict.FORGED}}
"""Verdicts that are no answer to a question."""


_COMPUTED = frozenset(ImageRecord.model_computed_fields)


def _without_computed(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in _COMPUTED}


def _of_first_schema(values: dict[str, Any]) -> dict[str, Any]:
    """The content of a record of schema 1.x under the names of today; any other as it is."""
    if not _is_of_first_schema(values):
        return values
    rest = dict(values)
    answer = {name: rest.pop(name) for name in Answer.model_fields if name in rest}
    if not isinstance(warnings := rest.pop("warnings", []), list):
        return values
    findings = [{"kind": "note", "source": Origin.FILE, "statement": text} for text in warnings]
    return rest | {
        "schema_version": SCHEMA_VERSION,
        "verdicts": {Question.LOCALIZATION: answer},
        "findings": findings,
    }


def _is_of_first_schema(values: dict[str, Any]) -> bool:
    return str(values.get("schema_version", "")).startswith("1.")


class FailureRecord(Model):
    """Something that could not be read or judged: what, where, why, and what to do about it."""

    kind: Literal["failure"] = Field(default="failure", description="Tells a failure's record from an image's.")
    schema_version: str = Field(default=SCHEMA_VERSION, description="Version of this record's schema.")
    locator: str = Field(description="Where it is, as in an image's record.")
    page: int | None = Field(
        default=None, ge=0, le=_LAST_PAGE, description="Page or frame number from 0, null for the whole file."
    )
    page_count: int | None = Field(default=None, ge=1, description="How many pages the file holds, if that is known.")
    other_pages: int | None = Field(
        default=None,
        ge=0,
        description="For a failure of the whole file: how many of its pages were read all the same, and have records "
        "of their own. Null if unknown; then a resumed scan reads the file again.",
    )
    step: Step = Field(description="The step at which it failed.")
    code: FailureCode = Field(description="Why, as a stable name.")
    message: str = Field(description="Why, in words.")
    advice: str | None = Field(default=None, description="What can be done about it, e.g. the option to use.")
    file: FileIdentity | None = Field(default=None, description="Which bytes, if they could be read at all.")
    run_id: str = Field(default="", description="The run that wrote this record: `run_id` in run.json or runs/.")
    settings_digest: str = Field(
        default="", description="SHA-256 over version, model and settings this record depends on; resuming compares it."
    )

    @model_validator(mode="before")
    @classmethod
    def _from_json(cls, values: Any) -> Any:
        if isinstance(values, dict) and _is_of_first_schema(values):
            return values | {"schema_version": SCHEMA_VERSION}
        return values


Record = Annotated[ImageRecord | FailureRecord, Field(discriminator="kind")]
RECORD: TypeAdapter[ImageRecord | FailureRecord] = TypeAdapter(Record)


class Counts(Model):
    """What a run met. files = pictures (by file) + not_pictures + files that failed before their type was known + those
    on the list of `--known`."""

    files: int = Field(default=0, ge=0, description="Files and archive members met (archives themselves not counted).")
    archives: int = Field(default=0, ge=0, description="Archives opened.")
    not_pictures: int = Field(default=0, ge=0, description="Files that are no pictures and do not claim to be.")
    images: int = Field(default=0, ge=0, description="Images with a verdict (pages counted singly).")
    forged: int = Field(default=0, ge=0, description="Images with verdict `forged`.")
    no_evidence: int = Field(
        default=0, ge=0, description="Images with verdict `no_evidence`: no evidence of an edited region."
    )
    inconclusive: int = Field(default=0, ge=0, description="Images with verdict `inconclusive`.")
    generated: int = Field(default=0, ge=0, description="Images with the answer `generated` to `synthetic`.")
    synthetic_inconclusive: int = Field(
        default=0, ge=0, description="Images with the answer `inconclusive` to `synthetic`."
    )
    synthetic_no_evidence: int = Field(
        default=0, ge=0, description="Images with the answer `no_evidence` to `synthetic`."
    )
    synthetic_not_asked: int = Field(
        default=0, ge=0, description="Images of which it was not asked whether they were generated as a whole."
    )
    failures: int = Field(default=0, ge=0, description="Failure records.")
    resumed: int = Field(default=0, ge=0, description="Records taken over from an earlier run, not computed again.")
    not_met: int = Field(
        default=0,
        ge=0,
        description="Records of earlier runs whose evidence this run did not meet (moved, deleted, not among its "
        "paths, or the run was interrupted before). They stay in the outputs and are in none of the other counts.",
    )


class MethodInfo(Model):
    """The method that answered whether whole pictures were generated (`--also synthetic`)."""

    name: str = Field(description="`traces`, `reconstruction`, or the folder of the method.")
    kind: str = Field(description="Kind of the method, e.g. `traces`, `bi-lora`.")
    digest: str = Field(pattern="^[0-9a-f]{64}$", description="SHA-256 over weights, configuration and base, hex.")
    base: str = Field(description="Name or path of the base weights that it stands on; empty: none.")
    calibration: str = Field(description="Name of its calibration.")
    calibration_sha256: str = Field(
        pattern="^[0-9a-f]{64}$", description="SHA-256, hex, over all values of its calibration."
    )
    fitted_on: str = Field(description="What the calibration was fitted on, in words; empty: nothing.")
    fitted_megapixels: list[float] = Field(
        min_length=2, max_length=2, description="Smallest and largest image of the calibration, megapixels."
    )
    score_threshold: float = Field(ge=0, le=1, description="`generated` if the score is above this.")
    no_evidence_below: float = Field(
        ge=0, le=1, description="`no_evidence` if the score is not above this; in between, `inconclusive`."
    )
    figures: dict[str, float] = Field(description="Error rates and other figures of the calibration, by name.")
    calibration_promise: str | None = Field(
        default=None, description="What the file of `--calibration` promises, in words; null: none was given for it."
    )
    calibration_file_sha256: str | None = Field(default=None, description="SHA-256 of that file, hex.")
    generators: list[str] = Field(description="The generators whose pictures it learned from.")
    limits: list[str] = Field(description="What a reader must know of it, in sentences.")


class MeasuredRate(Model):
    """How many untouched pictures of one kind were called `forged` (or `generated`) and `inconclusive`, as counted."""

    kind: str = Field(
        pattern="^[a-z0-9_]{1,60}$",
        description="The kind of picture, as a stable name, e.g. `camera`, `web`, `screen`.",
    )
    pictures: str = Field(description="What the pictures were, in words.")
    n: int = Field(gt=0, description="Number of pictures.")
    flagged: int = Field(ge=0, description="How many of them were called `forged`, for `synthetic` `generated`.")
    flagged_interval: list[float] = Field(
        min_length=2, max_length=2, description="95 % interval of that share, 0 to 1 (Clopper and Pearson)."
    )
    inconclusive: int = Field(ge=0, description="How many of them were called `inconclusive`.")
    inconclusive_interval: list[float] = Field(
        min_length=2, max_length=2, description="95 % interval of that share, 0 to 1."
    )


class PromisedRate(Model):
    """What the file of `--calibration` promises of new authentic photos like its own."""

    n: int = Field(gt=0, description="Number of authentic photos behind the promise.")
    flagged: float = Field(
        ge=0, le=1, description="At most this share is called `forged` (`generated`), on average over calibrations."
    )
    bound: float = Field(ge=0, le=1, description="Upper bound of the share for this calibration, with 95 % confidence.")


class ErrorRates(Model):
    """How often the verdicts of a run on untouched pictures are wrong, as far as that is known."""

    model_digest: str = Field(pattern="^[0-9a-f]{64}$", description="SHA-256, hex, of the model or method.")
    calibration_sha256: str | None = Field(
        default=None, description="SHA-256, hex, of the file of `--calibration`; null: the thresholds are the model's."
    )
    pixel_threshold: float | None = Field(
        default=None, description="The threshold of the mask for which this holds; null for `synthetic`."
    )
    score_threshold: float | None = Field(
        default=None, description="The threshold for which this holds; null for `localization`, where kinds differ."
    )
    measured: list[MeasuredRate] = Field(
        default=[], description="By kind, as the model card counts them; empty with other thresholds than the model's."
    )
    promised: PromisedRate | None = Field(default=None, description="By the file of `--calibration`.")


class RunRecord(Model):
    """`run.json`: how the results in this folder came about."""

    schema_version: str = Field(default=SCHEMA_VERSION, description="Version of this record's schema.")
    tool: str = Field(default="clue", description="Always `clue`.")
    run_id: str = Field(
        default="", description="Names the run: its start in UTC and a random part; records refer to it."
    )
    version: str = Field(description="Version of clue.")
    command_line: list[str] = Field(description="The command as it was typed.")
    status: Literal["running", "finished", "interrupted", "failed"] = Field(description="How the run ended.")
    started: str = Field(description="Start, ISO 8601 with zone.")
    finished: str | None = Field(default=None, description="End, ISO 8601 with zone.")
    seconds: float | None = Field(default=None, ge=0, description="Wall-clock seconds of the run.")
    exit_code: int | None = Field(default=None, description="Exit code of the command.")
    evidence: list[str] = Field(description="The paths that were scanned, as typed.")
    model: dict[str, str | int | float | bool | list[float] | None] = Field(
        description="Model name, digest, device, dtype, noise levels, parameters."
    )
    synthetic: MethodInfo | None = Field(
        default=None, description="The method that answered `synthetic`; null: that question was not asked."
    )
    error_rates: dict[Question, ErrorRates] = Field(
        default={},
        description="How often verdicts on untouched pictures are wrong, by question. A question that is missing: not "
        "asked, or the run is older than this field.",
    )
    settings: dict[str, str | int | float | bool | None] = Field(
        description="Every option that can change a result or what is scanned. Of a shard also `listed_files` and "
        "`listing_digest`, the number of files of all shards and a digest of their paths and sizes; of a merge "
        "`merged_runs`, the runs that it joins; of a run on a cluster `engine`."
    )
    settings_digest: str = Field(description="SHA-256 over the settings that change a result; resuming compares it.")
    machine: dict[str, str | int | float | None] = Field(description="Platform, Python, torch, cores, memory.")
    counts: Counts = Counts()
    not_pictures_by_type: dict[str, int] = Field(default={}, description="Files that are no pictures, by extension.")
    not_opened: dict[str, int] = Field(
        default={},
        description="Files and archives that were not opened and can hold pictures, by what they are, e.g. `video`.",
    )
    skipped: dict[str, int] = Field(
        default={},
        description="What was left out, by reason, e.g. `hidden`, `trash`, `known`; a folder counts as one.",
    )
    earlier_results: list[str] = Field(
        default=[], description="Folders in the evidence that an earlier run of clue wrote, left out; at most 1000."
    )
    alerts: list[str] = Field(
        default=[], description="Files that are on the list of `--alert`, by locator; at most 1000."
    )
    archives: dict[str, str] = Field(
        default={}, description="SHA-256, hex, of every archive on disk that was opened, by locator."
    )
    evidence_unchanged: bool | None = Field(
        default=None,
        description="Whether every picture file that was read had the same SHA-256 after its results were written, and "
        "every archive at the end of the run; null where that is not known, as for objects of a store, which are read "
        "once, in the version that was listed.",
    )
    evidence_compared: int = Field(
        default=0,
        ge=0,
        description="How many picture files on disk were read again after their results were written, archives not "
        "counted: evidence.dfxml has size, time of the last change and hashes of each, before and after.",
    )
    warnings: list[str] = Field(default=[], description="What a reader should know about the run as a whole.")
