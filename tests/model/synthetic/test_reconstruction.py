"""`reconstruction`: the score follows the trace of a known autoencoder, not the content; end to end on a tiny SD3."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from model import registry
from model.synthetic import MethodError, describe, load, reconstruction
from model.synthetic.reconstruction import Reconstruction, band_errors, without_trace
from model.synthetic.verdict import judge_synthetic
from tests.base_layouts import SMALL, register_small

SIDE = 192


class Known:
    """An autoencoder that blurs: 8 pixels in a row become their mean. On its own results it loses nothing."""

    def reconstruct(self, pixels: NDArray[np.uint8], change: Any = None) -> NDArray[np.uint8]:
        height, width = pixels.shape[:2]
        wide = np.pad(pixels, ((0, 0), (0, -width % 8), (0, 0)), mode="symmetric").astype(np.float32)
        means = wide.reshape(height, -1, 8, 3).mean(2).repeat(8, 1)[:, :width]
        return np.asarray(means + 0.5, np.uint8)


KNOWN: Any = Known()
METHOD = Reconstruction(KNOWN, None, (0.0,))


def photo(seed: int, plain: float) -> NDArray[np.uint8]:
    """Texture, of which the upper part is a plain background."""
    texture = np.random.default_rng(seed).normal(128, 30, (SIDE, SIDE, 3))
    texture[: int(SIDE * plain)] = 128
    return np.asarray(texture.clip(0, 255), np.uint8)


def generated(seed: int, plain: float) -> NDArray[np.uint8]:
    """The same through the autoencoder, then the noise of a later compression."""
    made = KNOWN.reconstruct(photo(seed, plain)) + np.random.default_rng(seed + 1).normal(0, 6, (SIDE, SIDE, 3))
    made[: int(SIDE * plain)] = 128
    return np.asarray(made.clip(0, 255), np.uint8)


def test_the_score_follows_the_trace_and_not_the_content() -> None:
    shares = (0.0, 0.3, 0.6, 0.9)
    photos = [METHOD.detect(photo(1, plain)) for plain in shares]
    fakes = [METHOD.detect(generated(1, plain)) for plain in shares]
    errors = [d.parts["error_0"] for d in photos]
    # The bias: a plain photo is reconstructed better than a busy one, and better than a busy generated picture.
    assert errors[0] > 5 * errors[-1]
    assert errors[-1] < fakes[0].parts["error_0"]
    scores = [d.score for d in photos]
    assert max(scores) - min(scores) < 0.06
    assert min(d.score for d in fakes) > max(scores) + 0.1
    for detection in (*photos, *fakes):
        ratio = detection.parts["error_0"] / detection.parts["biased_error_0"]
        assert detection.parts["ratio_0"] == pytest.approx(ratio)
        assert detection.score == pytest.approx(1 / (1 + ratio))


def test_the_heatmap_shows_where() -> None:
    half = photo(1, 0)
    half[:, SIDE // 2 :] = generated(1, 0)[:, SIDE // 2 :]
    heatmap = METHOD.detect(half).heatmap
    assert heatmap is not None
    assert heatmap.shape == (SIDE, SIDE)
    assert heatmap.dtype == np.float32
    assert 0 <= heatmap.min() <= heatmap.max() <= 1
    inner = 24  # beyond the window of the heatmap
    assert heatmap[:, SIDE // 2 + inner :].min() > heatmap[:, : SIDE // 2 - inner].max()


@pytest.mark.parametrize("size", [(64, 64), (100, 131), (65, 72)])
def test_the_version_begins_off_the_grid_and_turned(size: tuple[int, int]) -> None:
    # One row and one column on the grid: wherever they are in the version, they are half a cell off its grid.
    pixels = np.zeros((*size, 3), np.uint8)
    pixels[:, 48] = 255
    turned = without_trace(pixels)
    assert turned.shape[1] == size[0] - 4
    assert size[1] - 7 <= turned.shape[0] <= size[1]
    line = int(turned[:, 0, 0].argmax())
    assert (line + 1) % 8 == 4  # its left edge has become the lower one
    pixels = np.zeros((*size, 3), np.uint8)
    pixels[48] = 255
    assert without_trace(pixels)[0, :, 0].argmax() == 44


def test_errors_are_means_of_bands_whatever_the_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    pixels, made = (rng.integers(0, 256, (203, 91, 3), dtype=np.uint8) for _ in range(2))
    whole = band_errors(pixels, made)
    version = without_trace(pixels)
    monkeypatch.setattr(reconstruction, "_STRIP", 64)
    assert whole.shape == (3, 26, 12)
    assert np.allclose(band_errors(pixels, made), whole, rtol=1e-4)
    assert np.abs(without_trace(pixels).astype(int) - version).max() <= 1
    # A brighter picture differs in no band.
    assert band_errors(np.full((64, 64, 3), 90, np.uint8), np.full((64, 64, 3), 100, np.uint8)).max() < 1e-3
    # White noise of standard deviation s loses little to σ = 4: the bands' energies sum up to nearly all of it.
    flat = np.full((256, 256, 3), 128, np.uint8)
    noisy = (128 + rng.normal(0, 10, flat.shape)).astype(np.uint8)
    errors = band_errors(flat, noisy).mean((1, 2))
    assert errors[0] > errors[1] > errors[2] > 0.5


def test_small_pictures_are_refused() -> None:
    with pytest.raises(ValueError, match="63×200 pixels; reconstruction needs at least 64×64"):
        METHOD.detect(np.zeros((200, 63, 3), np.uint8))


def test_end_to_end(tmp_path: Path, config: Path) -> None:
    base = register_small(tmp_path)
    method = describe("reconstruction@small-sd3")
    assert (method.kind, method.base, method.folder) == ("reconstruction", "small-sd3", None)
    assert any("No calibration" in limit for limit in method.limits)
    pixels = photo(3, 0.2)[:150, :170]
    detection = load(method, "cpu", torch.float32).detect(pixels)
    assert set(detection.parts) == {f"{k}_{t}" for k in ("error", "biased_error", "ratio") for t in ("0", "0.1", "0.3")}
    assert detection.parts["error_0"] != detection.parts["error_0.1"] != detection.parts["error_0.3"]
    mean = np.exp(np.mean([np.log(detection.parts[f"ratio_{t}"]) for t in ("0", "0.1", "0.3")]))
    assert detection.score == pytest.approx(1 / (1 + mean))
    assert judge_synthetic(detection.score, method.calibration, 0.03).verdict == "inconclusive"
    again = load(method, "cpu", torch.float32).detect(pixels[:, ::-1][:, ::-1])
    assert again.score == detection.score
    assert np.array_equal(again.heatmap, detection.heatmap)  # type: ignore[arg-type]
    alone = describe("reconstruction-vae@small-sd3")
    assert load(alone, "cpu", torch.float32).detect(pixels).parts.keys() == {"error_0", "biased_error_0", "ratio_0"}
    assert alone.digest != method.digest
    changed = (dataclasses.replace(base.parts["transformer"][0], sha256="0" * 64),)
    registry.put(dataclasses.replace(base, parts=base.parts | {"transformer": changed}))
    assert describe("reconstruction@small-sd3").digest != method.digest
    assert describe("reconstruction-vae@small-sd3").digest == alone.digest


def test_the_usual_base_is_the_first_that_is_registered(tmp_path: Path, config: Path) -> None:
    with pytest.raises(MethodError, match=r"needs the autoencoder .* sd3-medium are not registered") as caught:
        describe("reconstruction")
    assert "clue models add" in str(caught.value.advice)
    for name in ("reconstruction@mini", "reconstruction-vae@mini"):
        with pytest.raises(MethodError, match="the VAE of mini has no decoder"):
            describe(name)
    with pytest.raises(MethodError, match="there is no method 'reconstruction-all'"):
        reconstruction.describe("reconstruction-all")
    register_small(tmp_path, dataclasses.replace(SMALL, name="sd3.5-medium"))
    assert describe("reconstruction").base == "sd3.5-medium"
