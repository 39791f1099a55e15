"""Findings about JPEG compression: whose tables, and whether it was compressed before."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from clue_cli.evidence.compression import GAIN, compression_findings, earlier_compression
from clue_cli.records import Finding, Weight
from tests.faults import pictures


def opened(data: bytes) -> list[Finding]:
    with Image.open(io.BytesIO(data)) as image:
        return compression_findings(image, image.convert("RGB"))


def textured(side: int = 320) -> Image.Image:
    """Noise of all scales, as a photograph has it."""
    rng = np.random.default_rng(3)
    layers = [
        np.kron(rng.normal(0, 14, (side // size, side // size, 3)), np.ones((size, size, 1)))
        for size in (1, 2, 4, 16, 64)
    ]
    smooth = Image.fromarray(np.clip(128 + sum(layers), 0, 255).astype(np.uint8)).resize((side * 2 // 3,) * 2)
    return smooth.resize((side, side), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("quality", [1, 49, 50, 75, 92, 100])
def test_standard_tables_are_named_by_their_quality(quality: int) -> None:
    found = opened(pictures.jpeg(quality=quality, subsampling="4:2:2"))[0]
    assert found.data["quality"] == quality
    assert found.data["subsampling"] == "4:2:2"
    assert f"at quality {quality}, colour 4:2:2" in found.statement


def test_tables_of_photoshop_are_named() -> None:
    found = opened(pictures.encoded(pictures.photo(), "JPEG", quality="web_high"))[0]
    assert found.data["program"] == "Photoshop, Save for Web, high"
    assert found.weight is Weight.INFORMATION
    with Image.open(io.BytesIO(pictures.encoded(pictures.photo(), "JPEG", quality="web_high"))) as image:
        named = compression_findings(image, image.convert("RGB"), camera=True)[0]
    assert named.weight is Weight.SUPPORTS_EDIT, "a camera does not write them"


def test_other_tables_are_described_and_grey_pictures_have_one() -> None:
    tables = [[step + 3 for step in range(64)], [step + 5 for step in range(64)]]
    found = opened(pictures.encoded(pictures.photo(), "JPEG", qtables=tables))[0]
    assert "not the standard ones" in found.statement
    assert found.data["luma_mean"] == 34.5
    grey = opened(pictures.encoded(pictures.photo(mode="L"), "JPEG", quality=80))[0]
    assert grey.data == {"luma_mean": grey.data["luma_mean"], "chroma_mean": None, "subsampling": "", "quality": 80}


@pytest.mark.parametrize(
    ("first", "second", "found"), [(60, 85, True), (75, 92, True), (None, 85, False), (None, 60, False)]
)
def test_an_earlier_coarser_compression_shows(first: int | None, second: int, found: bool) -> None:
    picture = textured()
    if first:
        with Image.open(io.BytesIO(pictures.encoded(picture, "JPEG", quality=first))) as image:
            picture = image.convert("RGB")
    kinds = [finding.kind for finding in opened(pictures.encoded(picture, "JPEG", quality=second))]
    assert ("compressed_twice" in kinds) == found


def test_flat_and_small_pictures_say_nothing() -> None:
    assert earlier_compression(np.full((256, 256, 3), 90, np.uint8), (4,) * 64) is None
    assert earlier_compression(np.zeros((16, 300, 3), np.uint8), (4,) * 64) is None
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    found = earlier_compression(noise, (16,) * 64)
    assert found is None or found.gain <= GAIN
    assert len(opened(pictures.jpeg(width=9, height=9))) == 1
