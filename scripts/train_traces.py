"""Train `traces`, the shipped method for the question whether a whole picture was generated, and measure it.

    python scripts/train_traces.py decoders --data DATA --work WORK --minutes 5
    python scripts/train_traces.py tiles    --data DATA --work WORK --minutes 15 --seed 1
    python scripts/train_traces.py fit      --data DATA --work WORK --out model/weights/traces

`decoders` trains autoencoders of ours, of several designs, on photographs of the training side. `tiles` makes pairs: a
crop of a photograph, and the same crop through a decoder (its latent disturbed: `generated`; as it is: `laundered`) or
through untrained upsampling; both get the same later history. It may run several times with other seeds. `fit` trains
perceptrons in five folds of photographs and camera models, sets the thresholds from the out-of-fold scores of untouched
pictures of the training side, and measures on the held-out side, which nothing was chosen on.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import math
import pickle
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from model.calibration import Calibration, proportion_interval, threshold
from model.data.history import add_grain, publish
from model.evaluation.made import camera_model, photos
from model.score import SCREEN, image_features, kind_of
from model.synthetic import describe
from model.synthetic.card import card
from model.synthetic.spectra import statistics
from model.synthetic.traces import TILE, Traces, save, tiles_of

Pixels = NDArray[np.uint8]
SIDE = 400
"""Pixels of a crop that goes through a decoder."""
DESIGNS = {
    # halvings, latent channels, upsampling, activation, normalized, width
    "f8-nearest": (3, 16, "nearest", "silu", True, 16),
    "f4-shuffle": (2, 6, "shuffle", "silu", True, 16),
    "f4-transposed": (2, 4, "transposed", "leaky", True, 16),
    "f4-nearest-wide": (2, 40, "nearest", "silu", False, 24),
    "f4-transposed-wide": (2, 32, "transposed", "silu", False, 24),
    "f8-shuffle-wide": (3, 128, "shuffle", "silu", False, 24),
    "f8-nearest-wide": (3, 112, "nearest", "silu", True, 24),
    "f4-bilinear-wide": (2, 40, "bilinear", "leaky", False, 24),
    "f4-shuffle-wide": (2, 28, "shuffle", "leaky", True, 24),
    "f8-transposed-wide": (3, 128, "transposed", "leaky", False, 24),
    "f4-nearest-other": (2, 36, "nearest", "leaky", True, 24),
}
OFTEN = ("f4-nearest-wide", "f4-transposed-wide")
"""Those that keep the most detail: two thirds of the tiles."""
UNSEEN = ("f8-transposed-wide", "f4-nearest-other")
"""Designs of which no tile is trained on: they stand for a generator that is not known."""
FOLDS, HIDDEN = 5, 96


def _activation(kind: str, normalized: bool, channels: int) -> list[nn.Module]:
    return [
        nn.GroupNorm(8, channels) if normalized else nn.Identity(),
        nn.SiLU() if kind == "silu" else nn.LeakyReLU(0.2),
    ]


class Residual(nn.Module):
    """Two convolutions beside the identity."""

    def __init__(self, channels: int, kind: str, normalized: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(2):
            last = nn.Conv2d(channels, channels, 3, padding=1)
            layers += [*_activation(kind, normalized, channels), last]
        nn.init.zeros_(last.weight)
        self.body = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        found: Tensor = x + self.body(x)
        return found


class Upsampling(nn.Module):
    """Doubles the resolution."""

    def __init__(self, inputs: int, outputs: int, kind: str) -> None:
        super().__init__()
        self.kind = kind
        if kind == "transposed":
            self.layer: nn.Module = nn.ConvTranspose2d(inputs, outputs, 4, 2, 1)
        else:
            self.layer = nn.Conv2d(inputs, 4 * outputs if kind == "shuffle" else outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """B×c×H×W → B×c'×2H×2W."""
        if self.kind in ("nearest", "bilinear"):
            corners = False if self.kind == "bilinear" else None
            x = F.interpolate(x, scale_factor=2, mode=self.kind, align_corners=corners)
        found: Tensor = self.layer(x)
        return F.pixel_shuffle(found, 2) if self.kind == "shuffle" else found


class Autoencoder(nn.Module):
    """An encoder and the decoder whose traces are wanted."""

    def __init__(self, design: str) -> None:
        super().__init__()
        halvings, latent, kind, activation, normalized, width = DESIGNS[design]
        widths = [width, 2 * width, 3 * width, 4 * width][: halvings + 1]
        encoder: list[nn.Module] = [nn.Conv2d(3, width, 3, padding=1)]
        for fine, coarse in pairwise(widths):
            encoder += [Residual(fine, activation, normalized), nn.Conv2d(fine, coarse, 3, 2, 1)]
        encoder += [Residual(widths[-1], activation, normalized), *_activation(activation, normalized, widths[-1])]
        encoder += [nn.Conv2d(widths[-1], latent, 1)]
        decoder: list[nn.Module] = [nn.Conv2d(latent, widths[-1], 3, padding=1)]
        decoder += [Residual(widths[-1], activation, normalized) for _ in range(2)]
        for coarse, fine in pairwise(reversed(widths)):
            decoder += [Upsampling(coarse, fine, kind)]
            decoder += [Residual(fine, activation, normalized) for _ in range(1 if fine == width else 2)]
        decoder += [*_activation(activation, normalized, width), nn.Conv2d(width, 3, 3, padding=1)]
        self.encoder, self.decoder = nn.Sequential(*encoder), nn.Sequential(*decoder)


def sources(data: Path, *, held_out: bool) -> list[tuple[Path, str, str]]:
    """Path, `camera` or `web`, and what must not be on two sides: the camera's model, or the photo."""
    found = [(path, "web", path.name) for path in map(Path, photos(data, validation=held_out).paths)]
    for path in sorted((data / "photos/cameras").iterdir()):
        name = camera_model(path)
        if (hashlib.sha256(name.encode()).digest()[0] % 2 == 0) == held_out:
            found.append((path, "camera", name))
    return found


def read(path: Path) -> Pixels:
    """H×W×3 uint8."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def train_decoder(design: str, bank: Pixels, minutes: float, seed: int) -> Autoencoder:
    """L1 of pixels and gradients; later against a small discriminator as well."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    network = Autoencoder(design).to(memory_format=torch.channels_last)
    judge = nn.Sequential(
        nn.Conv2d(3, 32, 4, 2, 1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(32, 64, 4, 2, 1),
        nn.GroupNorm(8, 64),
        nn.LeakyReLU(0.2),
        nn.Conv2d(64, 64, 3, 1, 1),
        nn.GroupNorm(8, 64),
        nn.LeakyReLU(0.2),
        nn.Conv2d(64, 1, 3, 1, 1),
    )
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, betas=(0.9, 0.95))
    other = torch.optim.AdamW(judge.parameters(), lr=4e-4, betas=(0.5, 0.9))
    started, step = time.monotonic(), 0
    while (spent := (time.monotonic() - started) / (60 * minutes)) < 1:
        top, left = rng.integers(33, size=2)
        crops = bank[rng.integers(len(bank), size=8), top : top + 64, left : left + 64]
        x = (torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 127.5 - 1).contiguous(
            memory_format=torch.channels_last
        )
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * min(1, step / 50 + 0.02) * (1 - 0.95 * spent)
        with torch.autocast("cpu", torch.bfloat16):
            z = network.encoder(x)
            y = network.decoder(z + torch.randn_like(z) * 0.02 * z.detach().std()).float()
        loss = (y - x).abs().mean()
        for axis in (2, 3):
            loss = loss + (torch.diff(y, dim=axis) - torch.diff(x, dim=axis)).abs().mean()
        adversarial = spent > 0.4
        if adversarial:
            with torch.autocast("cpu", torch.bfloat16):
                loss = loss - 0.03 * judge(y).float().mean()
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward([loss])
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        if adversarial:
            with torch.autocast("cpu", torch.bfloat16):
                real, made = judge(x).float(), judge(y.detach()).float()
            other.zero_grad(set_to_none=True)
            torch.autograd.backward([F.relu(1 - real).mean() + F.relu(1 + made).mean()])
            other.step()
        step += 1
    error = float(((y - x) ** 2).mean()) / 4
    print(f"{design}: {step} steps, {-10 * math.log10(error):.1f} dB in the last batch", flush=True)
    return network.eval()


@torch.no_grad()
def decoded(network: Autoencoder, crop: Pixels, rng: np.random.Generator, *, disturbed: bool) -> Pixels:
    """The crop through a decoder, whose weights are disturbed a little in two of five cases: another of its design.

    Args:
        disturbed: whether the latent is, so that what comes out is no longer that photo.
    """
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    kept: list[tuple[nn.Parameter, Tensor]] = []
    if rng.random() < 0.4:
        for parameter in network.decoder.parameters():
            kept.append((parameter, parameter.detach().clone()))
            strength = float(rng.uniform(0.005, 0.04)) * float(parameter.std(unbiased=False))
            parameter.add_(torch.randn(parameter.shape, generator=generator) * strength)
    z = network.encoder(torch.from_numpy(crop).permute(2, 0, 1)[None].float() / 127.5 - 1)
    if disturbed:
        draw = rng.random()
        if draw < 0.5:
            z = z + torch.randn(z.shape, generator=generator) * z.std() * float(rng.uniform(0.05, 0.35))
        else:
            share = float(rng.uniform(0.2, 0.9))
            small = F.avg_pool2d(z, 2, ceil_mode=True) if draw > 0.8 else F.avg_pool2d(z, 3, 1, 1)
            z = share * F.interpolate(small, size=z.shape[-2:], mode="bicubic") + (1 - share) * z
    y = network.decoder(z)
    for parameter, before in kept:
        parameter.copy_(before)
    return _pixels(y)


def _pixels(y: Tensor) -> Pixels:
    return ((y[0].permute(1, 2, 0).clamp(-1, 1) + 1) * 127.5 + 0.5).byte().numpy()


@torch.no_grad()
def upsampled(crop: Pixels, rng: np.random.Generator) -> Pixels:
    """A shrunk crop, doubled several times as generators do, with untrained kernels near the identity and noise."""
    halvings, side = int(rng.integers(1, 4)), crop.shape[0]
    small = cv2.resize(crop, (side >> halvings, side >> halvings), interpolation=cv2.INTER_AREA)
    t = torch.from_numpy(small).permute(2, 0, 1)[None].float() / 127.5 - 1
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    kind = str(rng.choice(["nearest", "bilinear", "zeros", "shuffle"]))
    for step in range(halvings):
        if kind == "zeros":
            grown = torch.zeros(1, 3, 2 * t.shape[2], 2 * t.shape[3])
            grown[..., ::2, ::2] = t
            line = torch.tensor([1.0, 3, 3, 1]) * (1 + torch.randn(4, generator=generator) * rng.uniform(0.02, 0.25))
            kernel = (torch.outer(line, line) / 16)[None, None].repeat(3, 1, 1, 1)
            t = F.conv2d(F.pad(grown, (1, 2, 1, 2), mode="reflect"), kernel, groups=3)
        elif kind == "shuffle":
            kernel = torch.randn((12, 3, 3, 3), generator=generator) * float(rng.uniform(0.01, 0.06))
            for channel in range(3):
                kernel[4 * channel : 4 * channel + 4, channel, 1, 1] += 1
            t = F.pixel_shuffle(F.conv2d(F.pad(t, (1, 1, 1, 1), mode="reflect"), kernel), 2)
        else:
            t = F.interpolate(t, scale_factor=2, mode=kind, align_corners=False if kind == "bilinear" else None)
        t = t + torch.randn(t.shape, generator=generator) * float(rng.uniform(0, 0.03)) * 2.0 ** (step + 1 - halvings)
        kernel = torch.randn((3, 3, 3, 3), generator=generator) * float(rng.uniform(0.005, 0.04))
        sharper = float(rng.uniform(-0.12, 0.06)) * torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]])
        for channel in range(3):
            kernel[channel, channel] += sharper
            kernel[channel, channel, 1, 1] += 1
        t = F.conv2d(F.pad(t, (1, 1, 1, 1), mode="reflect"), kernel)
    return _pixels(t)


def detail(pixels: Pixels) -> float:
    """Mean difference of neighbours, grey levels."""
    return float(np.abs(np.diff(pixels.astype(np.float32), axis=1)).mean()) + 0.1


def finished(made: Pixels, crop: Pixels, rng: np.random.Generator) -> Pixels:
    """As sharp as the photo, where a small decoder blurred it; some with noise added, or mixed with the photo."""
    if detail(crop) > 1.05 * detail(made) and rng.random() < 0.7:
        fine = made - cv2.GaussianBlur(made, (0, 0), float(rng.uniform(0.6, 1.3))).astype(np.float32)
        low, high = 0.0, 6.0
        for _ in range(7):
            middle = (low + high) / 2
            enough = detail(np.clip(made + middle * fine, 0, 255).astype(np.uint8)) >= detail(crop)
            low, high = (low, middle) if enough else (middle, high)
        made = np.clip(made + low * fine + 0.5, 0, 255).astype(np.uint8)
    if rng.random() < 0.25:
        noise = rng.standard_normal(made.shape).astype(np.float32)
        if rng.random() < 0.6:
            width = float(rng.uniform(0.4, 1.2))
            noise = cv2.GaussianBlur(noise, (0, 0), width) * (1 + 2 * width)
        if rng.random() < 0.6:
            noise = noise.mean(2, keepdims=True) * 1.5
        made = np.clip(made + noise * float(rng.uniform(0.5, 3.5)) + 0.5, 0, 255).astype(np.uint8)
    if rng.random() < 0.12:
        share = float(rng.uniform(0.5, 0.95))
        made = np.clip(share * made + (1 - share) * crop + 0.5, 0, 255).astype(np.uint8)
    return made


def softened(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Blurred, enlarged or denoised, as real photos are: soft does not mean generated."""
    height, width = pixels.shape[:2]
    match int(rng.integers(5)):
        case 0:
            return np.asarray(cv2.GaussianBlur(pixels, (0, 0), float(rng.uniform(0.4, 1.6))), np.uint8)
        case 1:
            factor = float(rng.uniform(1.2, 4))
            small = cv2.resize(pixels, (int(width / factor), int(height / factor)), interpolation=cv2.INTER_AREA)
            kernels = (cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4, cv2.INTER_NEAREST)
            kernel = kernels[int(rng.choice(4, p=[0.35, 0.3, 0.3, 0.05]))]
            return np.asarray(cv2.resize(small, (width, height), interpolation=kernel), np.uint8)
        case 2:
            return np.asarray(cv2.bilateralFilter(pixels, 5, float(rng.uniform(8, 40)), 3), np.uint8)
        case 3:
            return np.asarray(cv2.medianBlur(pixels, 3), np.uint8)
    strength = rng.uniform(2, 6, size=2)
    done = cv2.fastNlMeansDenoisingColored(pixels, None, float(strength[0]), float(strength[1]), 3, 9)
    return np.asarray(done, np.uint8)


def published(pixels: Pixels, seed: int) -> Pixels:
    """One tile of what is passed on: the same later history for the same seed."""
    rng = np.random.default_rng(seed)
    if rng.random() < 0.08:
        pixels = softened(pixels, rng)
    if rng.random() < 0.12:
        blurred = cv2.GaussianBlur(pixels, (0, 0), float(rng.uniform(0.6, 1.5))).astype(np.float32)
        pixels = np.clip(pixels + (pixels - blurred) * rng.uniform(0.3, 1.5), 0, 255).astype(np.uint8)
    if rng.random() < 0.35:
        factor = float(np.exp(rng.uniform(np.log(0.5), np.log(1.8))))
        side = max(TILE + 8, int(pixels.shape[0] * factor))
        kernel = (cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4)[int(rng.integers(3))]
        pixels = np.asarray(
            cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA if factor < 0.7 else kernel), np.uint8
        )
    if rng.random() < 0.1:
        pixels = add_grain(pixels, rng, float(rng.uniform(0.5, 4)))
    pixels = publish(pixels, rng).pixels
    top, left = (8 * int(rng.integers((side - TILE) // 8 + 1)) for side in pixels.shape[:2])
    return np.ascontiguousarray(pixels[top : top + TILE, left : left + TILE])


def crop_of(pixels: Pixels, group: str, rng: np.random.Generator) -> Pixels | None:
    """A square crop on the grid of 8, of the photo as it is stored or shrunk."""
    height, width = pixels.shape[:2]
    native = rng.random() < (0.4 if group == "camera" else 0.5) or min(height, width) < SIDE
    factor = (
        1.0 if native else max(float(rng.uniform(0.25 if group == "camera" else 0.4, 1)), SIDE / min(height, width))
    )
    if factor < 1:
        kernel = cv2.INTER_AREA if factor < 0.7 else cv2.INTER_CUBIC
        size = max(SIDE, int(width * factor)), max(SIDE, int(height * factor))
        pixels = np.asarray(cv2.resize(pixels, size, interpolation=kernel), np.uint8)
        height, width = pixels.shape[:2]
    side = min(SIDE, height // 16 * 16, width // 16 * 16)
    if side < TILE + 16:
        return None
    top, left = (8 * int(rng.integers((length - side) // 8 + 1)) for length in (height, width))
    return np.ascontiguousarray(pixels[top : top + side, left : left + side])


def make_tiles(data: Path, work: Path, minutes: float, seed: int) -> list[tuple[Any, ...]]:
    """Rows: statistics of a tile, its class, `camera` or `web`, camera model or photo, and what it went through."""
    rng = np.random.default_rng(seed)
    everything = sources(data, held_out=False)
    groups = [[one for one in everything if one[1] == group] for group in ("camera", "web")]
    networks = {}
    for design in DESIGNS:
        if design not in UNSEEN:
            networks[design] = Autoencoder(design).eval()
            networks[design].load_state_dict(torch.load(work / f"{design}.pt", weights_only=True))
    others = [design for design in networks if design not in OFTEN]
    rows: list[tuple[Any, ...]] = []
    started = time.monotonic()
    while time.monotonic() - started < 60 * minutes:
        pool = groups[0] if rng.random() < 0.4 else groups[1]
        path, group, name = pool[int(rng.integers(len(pool)))]
        pixels = read(path)
        crop = crop_of(pixels, group, rng)
        if crop is None:
            continue
        kind = str(rng.choice(["generated", "laundered", "upsampled"], p=[0.5, 0.3, 0.2]))
        if kind == "upsampled":
            how, made = kind, upsampled(crop, rng)
        else:
            designs = OFTEN if rng.random() < 0.65 else others
            how = designs[int(rng.integers(len(designs)))]
            made = decoded(networks[how], crop, rng, disturbed=kind == "generated")
        made, later = finished(made, crop, rng), int(rng.integers(2**31))
        real = softened(crop, rng) if rng.random() < 0.25 else crop
        rows.append((statistics(published(real, later)), 0, group, name, "photograph"))
        rows.append((statistics(published(made, later)), 1 if kind == "laundered" else 2, group, name, how))
        if group == "camera" and rng.random() < 0.5 and min(pixels.shape[:2]) >= TILE:  # as the camera wrote it
            top, left = (8 * int(rng.integers((length - TILE) // 8 + 1)) for length in pixels.shape[:2])
            tile = np.ascontiguousarray(pixels[top : top + TILE, left : left + TILE])
            rows.append((statistics(tile), 0, group, name, "original"))
    return rows


def perceptron(x: NDArray[np.float32], y: NDArray[np.int64], seed: int, epochs: int = 40) -> nn.Sequential:
    """Fit one to tiles of three classes; real ones weigh as much as both others."""
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(x.shape[1], HIDDEN), nn.ReLU(), nn.Dropout(0.4), nn.Linear(HIDDEN, 3))
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=3e-2)
    inputs, labels = torch.from_numpy(x), torch.from_numpy(y)
    weight = torch.tensor([len(y) / 3 / max(int((y == k).sum()), 1) * (2 if k == 0 else 1) for k in range(3)])
    steps = epochs * len(y) // 256
    for step in range(steps):
        chosen = torch.randint(len(y), (256,))
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * (1 - step / steps)
        disturbed = F.dropout(inputs[chosen], 0.1) + 0.15 * torch.randn(256, x.shape[1])
        loss = F.cross_entropy(network(disturbed), labels[chosen], weight=weight, label_smoothing=0.02)
        optimizer.zero_grad()
        torch.autograd.backward([loss])
        optimizer.step()
    return network.eval()


def members(networks: list[nn.Sequential], mean: NDArray[Any], scale: NDArray[Any]) -> dict[str, NDArray[np.float32]]:
    """The weights of `Traces`."""
    first, last = [network[0] for network in networks], [network[3] for network in networks]
    stacked = {
        "w1": [layer.weight.T for layer in first],
        "b1": [layer.bias for layer in first],
        "w2": [layer.weight.T for layer in last],
        "b2": [layer.bias for layer in last],
    }
    found = {name: torch.stack(parts).detach().numpy().copy() for name, parts in stacked.items()}  # type: ignore[arg-type]
    return found | {"mean": mean.astype(np.float32), "scale": scale.astype(np.float32)}


def fold_of(name: str) -> int:
    """The fold of a photo or a camera model."""
    return hashlib.sha256(f"traces {name}".encode()).digest()[0] % FOLDS


def histories(pixels: Pixels) -> Iterator[tuple[str, Pixels]]:
    """A picture as its program saved it, and as it is passed on."""
    yield "as it was made", pixels
    smaller = np.asarray(cv2.resize(pixels, None, fx=0.7, fy=0.7, interpolation=cv2.INTER_AREA), np.uint8)
    for name, one, kind, quality in (
        ("JPEG 90", pixels, "JPEG", 90),
        ("JPEG 75", pixels, "JPEG", 75),
        ("resized by 0.7, JPEG 85", smaller, "JPEG", 85),
        ("WebP 85", pixels, "WEBP", 85),
    ):
        buffer = io.BytesIO()
        Image.fromarray(one).save(buffer, kind, quality=quality)
        with Image.open(buffer) as image:
            yield name, np.asarray(image.convert("RGB"))


def untouched(data: Path, work: Path, *, held_out: bool) -> list[tuple[str, str, float, NDArray[np.float32]]]:
    """Group, name, megapixels and statistics of the tiles of each whole photo that the method judges; kept on disk."""
    kept = work / f"untouched-{'held-out' if held_out else 'training'}.pkl"
    if not kept.is_file():
        rows = []
        small = [] if held_out else sorted((data / "composites/images").iterdir())
        for path, group, name in [*sources(data, held_out=held_out), *((path, "small", path.name) for path in small)]:
            pixels = read(path)
            if min(pixels.shape[:2]) >= TILE and not is_screen(pixels):
                found = [statistics(tile) for tile in tiles_of(pixels)]
                rows.append((group, name, pixels.shape[0] * pixels.shape[1] / 1e6, np.stack(found)))
        kept.write_bytes(pickle.dumps(rows))
    found_rows: list[tuple[str, str, float, NDArray[np.float32]]] = pickle.loads(kept.read_bytes())
    return found_rows


def is_screen(pixels: Pixels) -> bool:
    """Whether the method would refuse it."""
    return kind_of(image_features(np.zeros(pixels.shape[:2], np.float32), pixels)) == SCREEN


def made_pictures(data: Path, work: Path, minutes: float) -> list[tuple[str, str, str, NDArray[np.float32]]]:
    """Class, decoder, history and statistics of whole held-out pictures, with the photo itself; kept on disk."""
    kept = work / "made.pkl"
    if kept.is_file():
        found_rows: list[tuple[str, str, str, NDArray[np.float32]]] = pickle.loads(kept.read_bytes())
        return found_rows
    rng = np.random.default_rng(5)
    networks = {}
    for design in DESIGNS:
        networks[design] = Autoencoder(design).eval()
        networks[design].load_state_dict(torch.load(work / f"{design}.pt", weights_only=True))
    everything = sources(data, held_out=True)
    rows, started, number = [], time.monotonic(), 0
    while time.monotonic() - started < 60 * minutes:
        path, group, _ = everything[int(rng.integers(len(everything)))]
        pixels = read(path)
        if min(pixels.shape[:2]) > 640:
            factor = max(float(rng.uniform(0.4, 1)), 640 / min(pixels.shape[:2]))
            pixels = np.asarray(cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA), np.uint8)
        height, width = (min(640, side // 16 * 16) for side in pixels.shape[:2])
        if min(height, width) < 368 or is_screen(pixels):
            continue
        crop = np.ascontiguousarray(pixels[:height, :width])
        design, kind = list(DESIGNS)[number % len(DESIGNS)], ("generated", "laundered")[number // len(DESIGNS) % 2]
        number += 1
        made = finished(decoded(networks[design], crop, rng, disturbed=kind == "generated"), crop, rng)
        pairs = zip(histories(made), histories(crop), strict=True)
        for place, ((history, one), (_, real)) in enumerate(pairs):
            if place in (0, 1 + number % 4):
                rows.append((kind, design, history, np.stack([statistics(tile) for tile in tiles_of(one)])))
                rows.append(("photograph", group, history, np.stack([statistics(tile) for tile in tiles_of(real)])))
    kept.write_bytes(pickle.dumps(rows))
    return rows


def score_of(detector: Traces, tiles: NDArray[np.float32]) -> float:
    """As `Traces.detect`."""
    return detector.of_statistics(tiles).score


def fit(data: Path, work: Path, out: Path, minutes: float) -> None:
    """Fit, choose thresholds on the training side, measure on the held-out side, and write the method."""
    rows = [row for path in sorted(work.glob("tiles-*.pkl")) for row in pickle.loads(path.read_bytes())]
    whole = untouched(data, work, held_out=False)
    rows += [(tile, 0, group, name, "whole") for group, name, _, tiles in whole for tile in tiles[:4]]
    x, y = np.stack([row[0] for row in rows]), np.array([row[1] for row in rows])
    fold = np.array([fold_of(row[3]) for row in rows])
    mean, scale = x.mean(0), x.std(0) + 1e-3
    z = np.clip((x - mean) / scale, -6, 6).astype(np.float32)
    networks = [perceptron(z[fold != k], y[fold != k], seed=k) for k in range(FOLDS)]
    alone = [Traces(members([network], mean, scale)) for network in networks]
    weights = members(networks, mean, scale)
    everyone = Traces(weights)

    # Scores of pictures by the perceptron whose fold they are in, which has not seen them
    real = np.array([score_of(alone[fold_of(name)], tiles) for _, name, _, tiles in whole])
    cameras, web, small = (np.array([one == group for one, *_ in whole]) for group in ("camera", "web", "small"))
    # Above it is one picture of each kind at most; there are too few originals for a threshold at 1 %
    high = max(float(np.sort(real[group])[-2]) for group in (cameras, web, small))
    low = max(threshold(real[group], 0.05) for group in (cameras, web, small))
    held = untouched(data, work, held_out=True)
    made = made_pictures(data, work, minutes)
    measured: dict[str, Any] = {}

    def note(name: str, scores: list[float]) -> None:
        hits, count = sum(score > high for score in scores), len(scores)
        between = sum(low < score <= high for score in scores)
        interval = proportion_interval(hits, count)
        measured[name] = {"n": count, "generated": hits, "inconclusive": between, "interval": list(interval)}
        print(f"{name}: {hits} of {count} generated [{interval[0]:.1%}, {interval[1]:.1%}], {between} inconclusive")

    note("training side, out of fold: camera originals", real[cameras].tolist())
    note("training side, out of fold: web photos", real[web].tolist())
    note("training side, out of fold: composites of 256×256", real[small].tolist())
    for group in ("camera", "web"):
        note(f"held out: {group} photos", [score_of(everyone, tiles) for one, _, _, tiles in held if one == group])
    for kind in ("photograph", "laundered", "generated"):
        for seen in (True, False):
            for history in dict.fromkeys(row[2] for row in made):
                scores = [
                    score_of(everyone, tiles)
                    for one, how, when, tiles in made
                    if one == kind and when == history and (kind == "photograph" or (how not in UNSEEN) == seen)
                ]
                if scores and (seen or kind != "photograph"):
                    known = "" if kind == "photograph" else ", decoder seen" if seen else ", decoder not seen"
                    note(f"held out: {kind}{known}, {history}", scores)
    sizes = [size for _, _, size, _ in whole]
    calibration = Calibration(
        name="traces",
        score_threshold=high,
        no_evidence_below=low,
        fitted_megapixels=(min(sizes), max(sizes)),
        figures={
            f"{name}, {word}": float(row[word]) for name, row in measured.items() for word in SHOWN if name in MAIN
        },
    )
    print(f"thresholds {low:.4f}, {high:.4f}")
    counts = {name: sum(row[1] == k for row in rows) for k, name in enumerate(("photograph", "laundered", "generated"))}
    training = {"generators": [], "decoders": [name for name in DESIGNS if name not in UNSEEN], "tiles": counts}
    save(out, weights, calibration, training=training, limits=LIMITS)
    (out / "card.md").write_text(card(describe(str(out)), {"Share called `generated`": shares(measured)}))


def shares(measured: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The share of each group that is called generated, for the card."""
    return {
        name: {
            "value": row["generated"] / row["n"],
            "low": row["interval"][0],
            "high": row["interval"][1],
            "n": row["n"],
        }
        for name, row in measured.items()
    }


MAIN = ("held out: camera photos", "held out: web photos")
SHOWN = ("n", "generated", "inconclusive")
LIMITS = [
    "It has never seen the output of a generator that people use; it learned from photographs that went through small "
    "decoders trained for this purpose, and from untrained upsampling.",
    "A photograph that went through a learned decoder (laundered, denoised or enlarged by a network) may be called "
    "generated.",
    "It can hardly tell a laundered photograph from a generated picture (AUC .71 on 139 held-out pictures): "
    "`laundered_if_made` is the probability of the former if it is either.",
    "It judges the fine structure of the picture; strong compression and resizing remove what it looks for.",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=["decoders", "tiles", "fit"])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="folder for decoders and tiles")
    parser.add_argument("--out", type=Path, help="of `fit`: folder of the method")
    parser.add_argument("--minutes", type=float, default=5, help="for each decoder; of making tiles or test pictures")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--design", choices=DESIGNS, help="of `decoders`: this one alone")
    args = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    args.work.mkdir(parents=True, exist_ok=True)
    if args.step == "decoders":
        bank = small_crops(args.data, args.work)
        for number, design in enumerate(DESIGNS):
            if args.design in (None, design):
                network = train_decoder(design, bank, args.minutes, number)
                torch.save(network.state_dict(), args.work / f"{design}.pt")
    elif args.step == "tiles":
        rows = make_tiles(args.data, args.work, args.minutes, args.seed)
        (args.work / f"tiles-{args.seed:03d}.pkl").write_bytes(pickle.dumps(rows))
        print(f"{len(rows)} tiles", flush=True)
    else:
        fit(args.data, args.work, args.out, args.minutes)


def small_crops(data: Path, work: Path) -> Pixels:
    """96×96 crops of the training side, of photos as they are stored and shrunk; kept on disk."""
    kept = work / "crops.npy"
    if not kept.is_file():
        rng, crops = np.random.default_rng(0), []
        for path, _, _ in sources(data, held_out=False):
            pixels = read(path)
            for _ in range(24):
                one, factor = pixels, float(rng.uniform(0.4, 1))
                if rng.random() < 0.4:
                    size = max(96, int(pixels.shape[1] * factor)), max(96, int(pixels.shape[0] * factor))
                    one = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
                if min(one.shape[:2]) >= 96:
                    top, left = (int(rng.integers(side - 95)) for side in one.shape[:2])
                    crops.append(one[top : top + 96, left : left + 96])
        order = rng.permutation(len(crops))
        np.save(kept, np.stack([crops[i] for i in order]))
    bank: Pixels = np.load(kept, mmap_mode="r")
    return bank


if __name__ == "__main__":
    main()
