"""Inpainters and re-synthesis: only the region changes, texture is continued, models are loaded safely."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from model.data.filling import ToolError, bottleneck, load_autoencoder, load_inpainter, opencv_inpaint, patch_inpaint


def stripes(height: int, width: int) -> np.ndarray:
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, np.arange(width) // 4 % 2 == 0] = 200
    return pixels


def region(height: int, width: int, top: int, left: int, rows: int, columns: int) -> np.ndarray:
    mask = np.zeros((height, width), bool)
    mask[top : top + rows, left : left + columns] = True
    return mask


def test_patches_continue_stripes_where_fast_marching_smears() -> None:
    pixels, mask = stripes(120, 160), region(120, 160, 50, 60, 20, 24)
    hole = np.where(mask[..., None], np.uint8(90), pixels)
    errors = [
        np.abs(made[mask].astype(int) - pixels[mask]).mean()
        for made in (patch_inpaint(hole, mask), opencv_inpaint(hole, mask, telea=True))
    ]
    assert errors[0] < 5 < errors[1]


@pytest.mark.parametrize(
    ("size", "hole"),
    [
        ((120, 160), (50, 60, 20, 24)),
        ((120, 160), (0, 0, 30, 30)),
        ((121, 163), (100, 140, 21, 23)),
        ((400, 500), (100, 100, 200, 230)),
        ((40, 40), (0, 0, 40, 39)),
        ((12, 12), (1, 1, 10, 10)),
        ((8, 8), (2, 2, 3, 3)),
    ],
)
def test_patches_change_the_region_alone_whatever_its_place_and_size(
    size: tuple[int, int], hole: tuple[int, int, int, int]
) -> None:
    pixels = np.random.default_rng(0).integers(0, 200, (*size, 3), dtype=np.uint8)
    mask = region(*size, *hole)
    marked = np.where(mask[..., None], np.uint8(255), pixels)
    made = patch_inpaint(marked, mask)
    assert np.array_equal(made[~mask], pixels[~mask])
    assert not (made[mask] == 255).all()
    assert np.array_equal(made, patch_inpaint(marked, mask))


def test_large_regions_are_filled_with_pixels_of_the_photo() -> None:
    """Compared in a reduced picture, copied in the full one: the texture is not reduced."""
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 256, (500, 500, 3), dtype=np.uint8)
    mask = region(500, 500, 150, 150, 200, 200)
    made = patch_inpaint(np.where(mask[..., None], np.uint8(0), pixels), mask)
    assert made[mask].std() == pytest.approx(pixels.std(), rel=0.1)


@pytest.mark.parametrize("size", [(8, 8), (37, 51), (64, 96), (1, 3)])
def test_the_bottleneck_keeps_the_picture_and_not_its_detail(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    smooth = np.asarray(cv2.resize(rng.integers(60, 190, (3, 4, 3), dtype=np.uint8), size[::-1]))
    back = bottleneck(smooth, np.random.default_rng(1))
    assert back.shape == smooth.shape
    assert back.dtype == np.uint8
    if min(size) > 8:
        assert np.abs(back.astype(int) - smooth).mean() < 6
        noise = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        again = bottleneck(noise, np.random.default_rng(1))
        assert np.corrcoef(again.ravel(), noise.ravel())[0, 1] < 0.6
        assert again.std() > 0.2 * noise.std()
    assert np.array_equal(back, bottleneck(smooth, np.random.default_rng(1)))


@pytest.mark.parametrize("load", [load_inpainter, load_autoencoder])
@pytest.mark.parametrize("content", [None, "empty", "nonsense"])
def test_a_path_without_a_model_is_refused(load: Any, content: str | None, tmp_path: Path) -> None:
    folder = tmp_path / "given"
    if content:
        folder.mkdir()
    if content == "nonsense":
        (folder / "model_index.json").write_text("[]")
        (folder / "config.json").write_text("{")
    with pytest.raises(ToolError, match="given is not a"):
        load(folder)


def test_an_autoencoder_of_the_user(tmp_path: Path) -> None:
    import torch
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    network = AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=4,
    )
    network.save_pretrained(tmp_path / "ae")
    load = load_autoencoder(tmp_path / "ae")
    pixels = np.random.default_rng(0).integers(0, 256, (21, 34, 3), dtype=np.uint8)
    made = load(pixels)
    assert made.shape == pixels.shape
    assert made.dtype == np.uint8
    assert np.array_equal(made, load(pixels))


class StandIn:
    """Answers like a diffusers pipeline: everything white, with the seed's noise in one pixel."""

    asked: dict[str, Any]

    def to(self, device: str) -> StandIn:
        return self

    def set_progress_bar_config(self, disable: bool) -> None:
        assert disable

    def __call__(self, **asked: Any) -> Any:
        from types import SimpleNamespace

        self.asked = asked
        assert asked["image"].size == asked["mask_image"].size == (asked["width"], asked["height"])
        return SimpleNamespace(images=[asked["image"].point(lambda _: 255)])


def test_an_inpainting_pipeline_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import diffusers

    pipeline, words = StandIn(), {}

    def from_pretrained(path: str, **options: Any) -> StandIn:
        words.update(options, path=path)
        return pipeline

    monkeypatch.setattr(diffusers.AutoPipelineForInpainting, "from_pretrained", from_pretrained)
    inpaint = load_inpainter(tmp_path, side=64)
    assert words == {"path": str(tmp_path.resolve()), "local_files_only": True, "use_safetensors": True}
    pixels, mask = stripes(90, 120), region(90, 120, 5, 90, 30, 30)
    made = inpaint(pixels, mask, 5)
    assert pipeline.asked["generator"].initial_seed() == 5
    assert (made[mask] == 255).all()
    assert np.array_equal(made[~mask], pixels[~mask])
