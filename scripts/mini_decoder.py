"""Would `reconstruction` say anything with `mini`'s encoder and a small decoder of our own? Train one, and measure.

    python scripts/train_filler.py --data DATA --out other --downs 3 --minutes 8
    python scripts/mini_decoder.py train --data DATA --out decoder.safetensors --minutes 12
    python scripts/mini_decoder.py measure --data DATA --decoder decoder.safetensors --other other

The decoder learns on photos of the training side; the photos that are measured are cameras' own. Each photo is
compared with itself passed through this autoencoder and through others, blurred, and sharpened, all of them JPEG files
of the same quality in the end; once with the version that `reconstruction` divides by, once with it low-passed as well.
The figures are in `model.synthetic.reconstruction`. Neither decoder is shipped.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.autoencoders.vae import Decoder
from safetensors.torch import load_file, save_file
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from model.branches.sd3_network import SD3Network
from model.checkpoint import inspect
from model.data.attacks import jpeg
from model.data.filling import load_autoencoder
from model.evaluation.bootstrap import Statistic, statistic_estimates
from model.evaluation.image_scores import Classes, Values, auc
from model.evaluation.made import photos
from model.images.pixels import Pixels, read_pixels
from model.preset import Preset
from model.storage import load
from model.synthetic import reconstruction
from model.synthetic.autoencoder import Autoencoder
from model.synthetic.reconstruction import Reconstruction

SIDE, BATCH, SHARED = 96, 8, 4
"""Pixels of a crop, crops of a step, and crops of one photo in it."""
MEASURED, QUALITY = 256, 90
"""Pixels of the crops that are measured, and the quality of their JPEG files."""
LOW_PASS = (0.0, 0.5)
"""Standard deviations, pixels, of the low-pass of the version."""


class MiniDecoder(nn.Module):
    """B×16×h×w, the latent of `mini`, → B×3×8h×8w in [-1, 1]: AutoencoderKL's decoder, pixels unfolded at its end."""

    def __init__(self, preset: Preset) -> None:
        super().__init__()
        spec = preset.vae
        self.fold = spec.pixel_unshuffle
        self.scale = nn.Parameter(torch.ones(1, spec.latent_channels, 1, 1), requires_grad=False)
        self.decoder = Decoder(
            in_channels=spec.latent_channels,
            out_channels=3 * self.fold**2,
            up_block_types=("UpDecoderBlock2D",) * len(spec.block_out_channels),
            block_out_channels=spec.block_out_channels,
            layers_per_block=spec.layers_per_block,
            norm_num_groups=spec.norm_num_groups,
            mid_block_add_attention=False,
        )

    def forward(self, z: Tensor) -> Tensor:
        """A batch of latents, decoded."""
        decoded: Tensor = self.decoder(z * self.scale)
        return F.pixel_shuffle(decoded, self.fold)


def encoder_of_mini() -> tuple[Preset, SD3Network]:
    """The shipped model's preset and its SD3 branch."""
    checkpoint = inspect("mini")
    network = load(checkpoint, "cpu", torch.float32).networks["sd3"]
    assert isinstance(network, SD3Network)
    return checkpoint.preset, network


class MiniAutoencoder(Autoencoder):
    """`mini`'s encoder with a decoder, as `reconstruction` uses one."""

    def __init__(self, preset: Preset, encoder: SD3Network, decoder: MiniDecoder) -> None:
        super().__init__("mini", cast(AutoencoderKL, decoder), preset.vae, preset.tile, "")
        self.encoder, self.decoder = encoder, decoder

    def encode(self, x: Tensor) -> Tensor:
        """By `mini`'s encoder."""
        return self.encoder.encode(x)

    def decode(self, z: Tensor) -> Tensor:
        """By the small decoder."""
        decoded: Tensor = self.decoder(z)
        return (decoded + 1) / 2


def train(args: argparse.Namespace) -> None:
    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    bank = photos(args.data, validation=False)
    preset, encoder = encoder_of_mini()
    network = MiniDecoder(preset)
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=2e-3, weight_decay=0.0)
    started, step = time.process_time(), 0
    while (spent := time.process_time() - started) < args.minutes * 60:
        crops: list[Tensor] = []
        while len(crops) < BATCH:
            photo = bank.photo(int(rng.integers(len(bank.paths))))
            for _ in range(SHARED if min(photo.shape[:2]) > SIDE else 0):
                top, left = (int(rng.integers((side - SIDE) // 8 + 1)) * 8 for side in photo.shape[:2])
                crops.append(torch.from_numpy(np.array(photo[top : top + SIDE, left : left + SIDE])))
        x = torch.stack(crops).permute(0, 3, 1, 2).float() / 255
        with torch.no_grad():
            z = encoder.encode(x)
        if not step:
            network.scale.data = 1 / z.std((0, 2, 3), keepdim=True)
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * min(1.0, step / 30 + 0.02) * (1 - 0.97 * spent / (args.minutes * 60))
        back, target = network(z), x * 2 - 1
        loss = (back - target).abs().mean()
        for axis in (-1, -2):
            loss = loss + (back.diff(dim=axis) - target.diff(dim=axis)).abs().mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step += 1
        if step % 50 == 0:
            psnr = -10 * ((back - target).detach() / 2).square().mean().log10()
            print(f"{spent / 60:.1f} minutes, step {step}, loss {loss.item():.4f}, PSNR {psnr:.1f} dB", flush=True)
    save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, args.out)


def crops_of(data: Path) -> dict[str, Pixels]:
    """The middle of each camera photo, on the grid of its blocks."""
    crops = {}
    for path in sorted((data / "photos" / "cameras").glob("*.jpg")):
        pixels = read_pixels(path)
        top, left = ((side - MEASURED) // 16 * 8 for side in pixels.shape[:2])
        if min(top, left) >= 0:
            crops[path.name] = np.ascontiguousarray(pixels[top : top + MEASURED, left : left + MEASURED])
    return crops


def blurred(pixels: Pixels, sigma: float = 1.0) -> Pixels:
    """By a Gaussian."""
    low = gaussian_filter(pixels.astype(np.float32), (sigma, sigma, 0))
    return np.ascontiguousarray((low + 0.5).clip(0, 255).astype(np.uint8))


def sharpened(pixels: Pixels) -> Pixels:
    """Unsharp mask: what a Gaussian of σ = 1 takes away, added once more."""
    photo = pixels.astype(np.float32)
    return np.asarray((2 * photo - gaussian_filter(photo, (1, 1, 0)) + 0.5).clip(0, 255), np.uint8)


def report(autoencoder: Autoencoder, others: dict[str, Callable[[Pixels], Pixels]], crops: dict[str, Pixels]) -> None:
    """Print the AUC of the score, and of the error alone, for photos against the same photos after each change."""
    method = Reconstruction(autoencoder, None, (0.0,))
    ways = {"this autoencoder": autoencoder.reconstruct, **others, "blurred": blurred, "sharpened": sharpened}
    real = [method.detect(jpeg(pixels, QUALITY)) for pixels in crops.values()]
    found = {way: [method.detect(jpeg(through(p), QUALITY)) for p in crops.values()] for way, through in ways.items()}
    forged, sources = np.repeat([False, True], len(real)), [*crops, *crops]
    for way, made in found.items():
        both = [*real, *made]
        columns = {
            "score": np.array([d.score for d in both]),
            "error": np.array([-d.parts["error_0"] for d in both]),
        }
        statistics: dict[str, Statistic] = {n: partial(_auc, values, forged) for n, values in columns.items()}
        for name, cell in statistic_estimates(statistics, forged.astype(np.int64), 0, sources=sources).items():
            print(f"{way}: AUC of the {name} {cell.value:.3f} [{cell.low:.3f}, {cell.high:.3f}], n {len(real)} pairs")
    print("error of photos", np.median([d.parts["error_0"] for d in real]), "grey levels, median", flush=True)


def _auc(values: Values, forged: Classes, weight: Values) -> Values:
    return auc(values, forged, weight)


def measure(args: argparse.Namespace) -> None:
    preset, encoder = encoder_of_mini()
    decoder = MiniDecoder(preset)
    decoder.load_state_dict(load_file(args.decoder))
    others = {str(folder): load_autoencoder(folder) for folder in args.other}
    autoencoder, crops = MiniAutoencoder(preset, encoder, decoder.eval()), crops_of(args.data)
    version = reconstruction.without_trace
    for sigma in LOW_PASS:
        print(f"version low-passed with σ = {sigma:g}", flush=True)
        reconstruction.without_trace = partial(_low_passed, version, sigma)
        report(autoencoder, others, crops)


def _low_passed(version: Callable[[Pixels], Pixels], sigma: float, pixels: Pixels) -> Pixels:
    return blurred(version(pixels), sigma) if sigma else version(pixels)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    training = commands.add_parser("train")
    training.add_argument("--data", type=Path, required=True)
    training.add_argument("--out", type=Path, required=True)
    training.add_argument("--minutes", type=float, default=12, help="of processor time")
    training.add_argument("--seed", type=int, default=1)
    training.set_defaults(run=train)
    measuring = commands.add_parser("measure")
    measuring.add_argument("--data", type=Path, required=True)
    measuring.add_argument("--decoder", type=Path, required=True)
    measuring.add_argument("--other", type=Path, nargs="*", default=[])
    measuring.set_defaults(run=measure)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
