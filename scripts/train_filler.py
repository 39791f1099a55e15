"""A small autoencoder of our own: what a learned decoder leaves in the regions that it fills, to make forgeries with.

    python scripts/train_filler.py --data DATA --out fillers/8 --downs 3 --minutes 10

Writes a diffusers AutoencoderKL for `fillers` of a mix and `clue forge --autoencoder`. It is trained on the
photos of the training side alone, on the L1 distance of pixels and of their gradients, and is not shipped.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor

from model.evaluation.made import photos

SIDE = 64
"""Pixels of a crop."""
BATCH = 12


def gradients(x: Tensor) -> tuple[Tensor, Tensor]:
    """Differences of neighbours, along both axes."""
    return x[..., 1:] - x[..., :-1], x[..., 1:, :] - x[..., :-1, :]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--downs", type=int, default=3, help="halvings: 3 gives one latent vector for 8×8 pixels")
    parser.add_argument("--channels", type=int, default=16, help="of the latent")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    bank = photos(args.data, validation=False)
    widths = (16, 32, 64, 64)[: args.downs + 1]
    network = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * len(widths),
        up_block_types=("UpDecoderBlock2D",) * len(widths),
        block_out_channels=widths,
        layers_per_block=1,
        latent_channels=args.channels,
        norm_num_groups=8,
        mid_block_add_attention=False,
    )
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.0)
    started, step = time.monotonic(), 0
    while (spent := time.monotonic() - started) < args.minutes * 60:
        crops: list[Tensor] = []
        while len(crops) < BATCH:
            photo = bank.photo(int(rng.integers(len(bank.paths))))
            if min(photo.shape[:2]) > SIDE:
                top, left = (int(rng.integers(side - SIDE)) for side in photo.shape[:2])
                crops.append(torch.from_numpy(np.array(photo[top : top + SIDE, left : left + SIDE])))
        x = (torch.stack(crops).permute(0, 3, 1, 2).float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)
        for group in optimizer.param_groups:
            group["lr"] = 1.5e-3 * min(1.0, step / 50 + 0.02) * (1 - 0.97 * spent / (args.minutes * 60))
        with torch.autocast("cpu", torch.bfloat16):
            back = network.decode(network.encode(x).latent_dist.mode()).sample
        back = back.float()
        loss = (back - x).abs().mean()
        loss = loss + sum((a - b).abs().mean() for a, b in zip(gradients(back), gradients(x), strict=True))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step += 1
        if step % 100 == 0:
            print(f"{spent / 60:.1f} minutes, step {step}, loss {loss.item():.4f}", flush=True)
    network.save_pretrained(args.out)


if __name__ == "__main__":
    main()
