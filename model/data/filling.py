"""Filling regions: inpainting by OpenCV, by patches or by a pipeline of the user, and re-synthesis by an autoencoder.

Re-synthesis, a region through an autoencoder and back, leaves the trace of AI editing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from model.branches.sd3 import with_decoder
from model.data.history import Pixels
from model.data.shapes import Mask, bounding_box
from model.errors import UserError

PATCH = 9
"""Side in pixels of a patch, at the scale at which patches are compared (Criminisi et al., section III)."""
HOLE = 96
"""Longest side of the hole at that scale: larger ones are shrunk for the comparison, not for the copying."""
CANDIDATES, STEPS = 4000, 600
"""Most patches that are compared in one step, and most steps: what one region may cost."""


class ToolError(UserError, ValueError):
    """A model of the user's cannot be loaded, or does not do what it is for."""


def opencv_inpaint(pixels: Pixels, mask: Mask, telea: bool) -> Pixels:
    """Fast marching (Telea, 2004) or diffusion (Bertalmio et al., 2001), H×W×3 uint8."""
    method = cv2.INPAINT_TELEA if telea else cv2.INPAINT_NS
    return np.asarray(cv2.inpaint(np.ascontiguousarray(pixels), mask.astype(np.uint8), 3, method), np.uint8)


def patch_inpaint(pixels: Pixels, mask: Mask) -> Pixels:
    """Fill a region with patches of its surroundings, the strongest continuing edges first.

    Criminisi, Pérez, Toyama, *Region Filling and Object Removal by Exemplar-Based Image Inpainting*, 2004. Where the
    region is large, patches are compared in a reduced picture and copied in the full one, so that the texture stays
    that of the photo and the time bounded.

    Args:
        pixels: H×W×3 uint8.
        mask: H×W bool, not empty, True where to fill.

    Returns:
        H×W×3 uint8, changed inside of the mask only.
    """
    box = bounding_box(mask)
    side = max(box[2] - box[0], box[3] - box[1])
    shrink = -(-side // HOLE)
    reach = max(side // 2, 2 * PATCH * shrink)
    top, left = max(0, box[0] - reach), max(0, box[1] - reach)
    rows, columns = (min(pixels.shape[0], box[2] + reach) - top), (min(pixels.shape[1], box[3] + reach) - left)
    window = np.s_[top : top + rows, left : left + columns]
    small_size = (-(-columns // shrink), -(-rows // shrink))
    part, hole = np.array(pixels[window]), mask[window]
    # Whole cells of shrink × shrink pixels: beyond the edge the picture is mirrored, and nothing is copied from there.
    grown = ((0, small_size[1] * shrink - rows), (0, small_size[0] * shrink - columns))
    part, hole = np.pad(part, (*grown, (0, 0)), mode="edge"), np.pad(hole, grown)
    small = np.asarray(cv2.resize(part, small_size, interpolation=cv2.INTER_AREA), np.uint8)
    small_hole = np.asarray(hole.reshape(small_size[1], shrink, small_size[0], shrink).any((1, 3)), np.bool_)
    filled = (
        opencv_inpaint(part, hole, telea=True)
        if min(small_size) <= PATCH
        else _copied(part, hole, shrink, _copies(small, small_hole))
    )
    result = np.array(pixels)
    result[window] = np.where(mask[window][..., None], filled[:rows, :columns], pixels[window])
    return result


@dataclass(frozen=True, slots=True)
class _Copy:
    """Copy the pixels of a patch that are unknown: target and source are top left corners (y, x)."""

    target: tuple[int, int]
    source: tuple[int, int]


def _copies(pixels: Pixels, hole: Mask) -> list[_Copy]:
    """What to copy from where, in order. Ends early where no patch is wholly known."""
    half = PATCH // 2
    work, unknown = pixels.astype(np.float32), hole.copy()
    height, width = hole.shape
    windows = np.lib.stride_tricks.sliding_window_view(work.copy(), (PATCH, PATCH), (0, 1))
    whole = np.lib.stride_tricks.sliding_window_view(~hole, (PATCH, PATCH)).all((2, 3))
    corners = np.argwhere(whole)
    corners = corners[:: -(-len(corners) // CANDIDATES) or 1]
    if not len(corners):
        return []
    patches = windows[corners[:, 0], corners[:, 1]].transpose(0, 2, 3, 1).reshape(len(corners), -1)
    squares = patches**2
    confidence = (~hole).astype(np.float32)
    copies: list[_Copy] = []
    while unknown.any() and len(copies) < STEPS:
        priority, trust = _priority(work, unknown, confidence)
        y, x = np.unravel_index(int(priority.argmax()), priority.shape)
        ty, tx = int(np.clip(y - half, 0, height - PATCH)), int(np.clip(x - half, 0, width - PATCH))
        target = np.s_[ty : ty + PATCH, tx : tx + PATCH]
        known = np.repeat(~unknown[target].ravel(), 3).astype(np.float32)
        wanted = work[target].ravel() * known
        error = squares @ known - 2 * (patches @ wanted)  # the squared distance, less what is the same for all
        sy, sx = (int(v) for v in corners[int(error.argmin())])
        copies.append(_Copy((ty, tx), (sy, sx)))
        missing = unknown[target]
        work[target][missing] = work[sy : sy + PATCH, sx : sx + PATCH][missing]
        confidence[target][missing] = trust[y, x]
        unknown[target] = False
    return copies


def _priority(
    pixels: NDArray[np.float32], unknown: Mask, confidence: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Criminisi's priority on the rim of the hole (-1 elsewhere), and the confidence term, both H×W."""
    inside = unknown.astype(np.uint8)
    rim = unknown & (np.asarray(cv2.erode(inside, np.ones((3, 3), np.uint8), borderValue=1)) == 0)
    trusted = cv2.boxFilter(confidence * ~unknown, -1, (PATCH, PATCH), borderType=cv2.BORDER_CONSTANT)
    trust = np.asarray(trusted, np.float32)
    grey = np.where(unknown, 0, pixels.mean(2)).astype(np.float32)
    clean = np.asarray(cv2.dilate(inside, np.ones((3, 3), np.uint8))) == 0  # where no derivative reaches the hole
    dx, dy = (np.asarray(cv2.Sobel(grey, cv2.CV_32F, *order)) * clean for order in ((1, 0), (0, 1)))
    spread = np.ones((5, 5), np.uint8)  # the strongest gradient beside the rim
    dx, dy = np.asarray(cv2.dilate(np.abs(dx), spread)), np.asarray(cv2.dilate(np.abs(dy), spread))
    nx, ny = (np.abs(np.asarray(cv2.Sobel(inside, cv2.CV_32F, *order))) for order in ((1, 0), (0, 1)))
    norm = np.maximum(np.hypot(nx, ny), 1e-6)
    data = (dy * nx + dx * ny) / norm / 255  # the isophote is perpendicular to the gradient
    # Their product starves regions without edges and lets errors grow; Cheng et al. (2005) add the two instead.
    return np.where(rim, trust + 0.3 * data, -1).astype(np.float32), trust


def _copied(pixels: Pixels, hole: Mask, shrink: int, copies: list[_Copy]) -> Pixels:
    """Do the copies in the full picture; what they leave is filled by fast marching."""
    filled, unknown, side = np.array(pixels), hole.copy(), PATCH * shrink
    for copy in copies:
        (ty, tx), (sy, sx) = ((v * shrink for v in corner) for corner in (copy.target, copy.source))
        missing = unknown[ty : ty + side, tx : tx + side]
        filled[ty : ty + side, tx : tx + side][missing] = filled[sy : sy + side, sx : sx + side][missing]
        unknown[ty : ty + side, tx : tx + side] = False
    return opencv_inpaint(filled, unknown, telea=True) if unknown.any() else filled


def load_inpainter(path: Path, device: str = "cpu", side: int = 512) -> Callable[[Pixels, Mask, int], Pixels]:
    """A diffusers inpainting pipeline from a local folder, as a function (pixels, mask, seed) → pixels.

    Nothing is downloaded, and only safetensors are read.

    Args:
        path: the folder, as `save_pretrained` writes it.
        device: where it runs.
        side: size in pixels that the surroundings of the region are brought to.

    Raises:
        ToolError: it cannot be loaded; says why.
    """
    pipeline = load_diffusers("AutoPipelineForInpainting", path, "inpainting pipeline")
    pipeline.set_progress_bar_config(disable=True)
    return _Pipeline(pipeline.to(device), side)


class _Pipeline:
    def __init__(self, pipeline: Any, side: int) -> None:
        self._pipeline, self._side = pipeline, side

    def __call__(self, pixels: Pixels, mask: Mask, seed: int) -> Pixels:
        import torch
        from PIL import Image

        box = bounding_box(mask)
        reach = max(32, (max(box[2] - box[0], box[3] - box[1])) // 2)
        top, left = max(0, box[0] - reach), max(0, box[1] - reach)
        window = np.s_[top : box[2] + reach, left : box[3] + reach]
        part, hole = Image.fromarray(np.ascontiguousarray(pixels[window])), Image.fromarray(mask[window])
        size = (self._side, self._side)
        painted = self._pipeline(
            prompt="",
            image=part.resize(size, Image.Resampling.LANCZOS),
            mask_image=hole.convert("L").resize(size, Image.Resampling.NEAREST),
            height=self._side,
            width=self._side,
            num_inference_steps=20,
            generator=torch.Generator().manual_seed(seed),
        ).images[0]
        back = np.asarray(painted.convert("RGB").resize(part.size, Image.Resampling.LANCZOS))
        result = np.array(pixels)
        result[window] = np.where(mask[window][..., None], back, pixels[window])
        return result


def load_diffusers(kind: str, path: Path, what: str) -> Any:
    """A model of the user's: nothing is downloaded, and only safetensors are read.

    Args:
        kind: diffusers' class.
        path: a folder; anything else would be taken for the name of a model on the network.
        what: what it should be, in words.

    Raises:
        ToolError: it cannot be loaded; says why.
    """
    if not path.is_dir():
        raise ToolError(f"{path} is not a folder; expected a model as diffusers' save_pretrained writes it")
    try:
        import diffusers

        load: Any = getattr(diffusers, kind).from_pretrained
        return load(str(path.resolve()), local_files_only=True, use_safetensors=True)
    except Exception as error:  # the user's folder: anything can be wrong with it
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)[:300]
        raise ToolError(f"{path} is not an {what} that diffusers can load: {reason}") from error


CELL = 8
"""Side in pixels of the cell that one latent vector stands for, as in the autoencoders of latent diffusion."""
LUMA, CHROMA = 4, 2
"""Coefficients of index u + v below these are kept: 10 of luma and 2×3 of chroma make 16, as SD3's latent has."""


class Fillers:
    """One of several autoencoders, chosen by the pixels; loaded by the process that first needs it.

    Args:
        folders: of diffusers models.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self.folders = list(folders)
        self._loaded: dict[Path, Callable[[Pixels], Pixels]] = {}

    def __call__(self, pixels: Pixels) -> Pixels:
        """H×W×3 uint8 through the encoder and its decoder."""
        folder = self.folders[int(pixels.sum(dtype=np.int64)) % len(self.folders)]
        if folder not in self._loaded:
            self._loaded[folder] = load_autoencoder(folder)
        return self._loaded[folder](pixels)

    def __reduce__(self) -> tuple[type[Fillers], tuple[list[Path]]]:
        return type(self), (self.folders,)


class Registered:
    """The autoencoder of registered base weights; loaded, in float32, by the process that first needs it.

    Args:
        name: of the base weights, such as `sd3-medium`.
        device: where it runs.

    Attributes:
        digest: SHA-256 of its file, hex.

    Raises:
        BasesError: not registered, changed, or without a decoder.
    """

    def __init__(self, name: str, device: str = "cpu") -> None:
        self.name, self._device = name, device
        self.digest = with_decoder(name).digests()["vae"]
        self._reconstruct: Callable[[Pixels], Pixels] | None = None

    def __call__(self, pixels: Pixels) -> Pixels:
        """H×W×3 uint8, of any size, through the encoder and its decoder."""
        if self._reconstruct is None:
            import torch

            from model.synthetic.autoencoder import load_autoencoder

            self._reconstruct = load_autoencoder(self.name, self._device, torch.float32).reconstruct
        return self._reconstruct(np.array(pixels))  # torch warns of photos, which are read-only

    def __reduce__(self) -> tuple[type[Registered], tuple[str, str]]:
        return type(self), (self.name, self._device)


def _dct_matrix() -> NDArray[np.float32]:
    index = np.arange(CELL)
    matrix = np.cos(np.pi * (2 * index[None] + 1) * index[:, None] / (2 * CELL)) * np.sqrt(2 / CELL)
    matrix[0] /= np.sqrt(2)
    return np.asarray(matrix, np.float32)


_DCT = _dct_matrix()
_FREQUENCY = np.add.outer(np.arange(CELL), np.arange(CELL))


def bottleneck(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """A fixed stand-in for an autoencoder, no network: a local spectrum kept in part, the rest random.

    Of each 8×8 cell 16 DCT coefficients are kept, with a little noise; the others keep their size, weakened, but
    their signs are drawn at random, as a decoder invents detail of the right strength that was not there. Done on
    two grids half a cell apart and averaged, so that no block edges show.

    Args:
        pixels: H×W×3 uint8.

    Returns:
        H×W×3 uint8.
    """
    height, width = pixels.shape[:2]
    rows, columns = (-(-side // CELL) * CELL + 2 * CELL for side in (height, width))
    half = CELL // 2
    padded = cv2.copyMakeBorder(
        np.ascontiguousarray(pixels), half, rows - height - half, half, columns - width - half, cv2.BORDER_REFLECT
    )
    ycc = np.asarray(cv2.cvtColor(padded.astype(np.float32), cv2.COLOR_RGB2YCrCb), np.float32)
    strength = float(rng.uniform(0.5, 0.9))
    total = np.zeros_like(ycc)
    for shift in (0, half):
        view = ycc[shift : shift + rows - CELL, shift : shift + columns - CELL]
        total[shift : shift + rows - CELL, shift : shift + columns - CELL] += _round_trip(view, rng, strength) / 2
    # The inner part, which both grids cover.
    inner = np.s_[half : half + height, half : half + width]
    rgb = np.asarray(cv2.cvtColor(np.ascontiguousarray(total[inner]), cv2.COLOR_YCrCb2RGB))
    return (rgb + 0.5).clip(0, 255).astype(np.uint8)


def _round_trip(ycc: NDArray[np.float32], rng: np.random.Generator, strength: float) -> NDArray[np.float32]:
    height, width = ycc.shape[:2]
    cells = ycc.reshape(height // CELL, CELL, width // CELL, CELL, 3).transpose(0, 2, 4, 1, 3)
    spectrum = _DCT @ cells @ _DCT.T
    signs = rng.integers(0, 2, spectrum.shape, dtype=np.int8).astype(np.float32) * 2 - 1
    invented = np.abs(spectrum) * signs * strength
    kept = np.stack([_FREQUENCY < LUMA, _FREQUENCY < CHROMA, _FREQUENCY < CHROMA])
    latent = spectrum + rng.standard_normal(spectrum.shape, dtype=np.float32)
    back = _DCT.T @ np.where(kept, latent, invented) @ _DCT
    return np.asarray(back.transpose(0, 3, 1, 4, 2).reshape(height, width, 3), np.float32)


def load_autoencoder(path: Path, device: str = "cpu") -> Callable[[Pixels], Pixels]:
    """A diffusers AutoencoderKL from a local folder, as a function pixels → pixels of the same size.

    Nothing is downloaded, and only safetensors are read.

    Raises:
        ToolError: it cannot be loaded; says why.
    """
    network = load_diffusers("AutoencoderKL", path, "AutoencoderKL")
    return _Autoencoder(network.to(device).eval(), device)


class _Autoencoder:
    def __init__(self, network: Any, device: str) -> None:
        self._network, self._device = network, device
        self._cell = 2 ** (len(network.config.block_out_channels) - 1)

    def __call__(self, pixels: Pixels) -> Pixels:
        import torch

        height, width = pixels.shape[:2]
        bottom, right = -height % self._cell, -width % self._cell
        padded = np.pad(pixels, ((0, bottom), (0, right), (0, 0)), mode="edge")
        x = torch.from_numpy(padded).to(self._device).permute(2, 0, 1)[None].float() / 127.5 - 1
        with torch.inference_mode():
            y = self._network.decode(self._network.encode(x).latent_dist.mode()).sample
        back = ((y[0].permute(1, 2, 0).float().cpu().numpy() + 1) * 127.5 + 0.5).clip(0, 255)
        return np.ascontiguousarray(back[:height, :width].astype(np.uint8))
