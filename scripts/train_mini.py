"""The recipe of the embedded model: made forgeries from a folder of photos, for a fixed time on the CPU.

    python scripts/train_mini.py --data DATA --out runs/next --init model/weights/mini/model.safetensors --minutes 100

DATA holds `photos/{coco,people,web,nature,scenes}` with masks in `photos/{coco_instances,people_masks}` and
`composites/{images,masks}`. Resumable: the same command goes on from the last checkpoint. The learning rate follows
the clock, so the training ends annealed whatever else the machine does. `clue train` is the tool for everything else;
this script stays because the figures in the model card come from it.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from model.clue import CLUE, build
from model.data.forge import forge, forge_plainly
from model.data.history import jpeg, whole_picture
from model.data.photo_bank import PhotoBank, bank_of, held_out
from model.losses import clue_loss
from model.presets import PRESETS
from model.self_match import self_match

SHAPES = ((256, 256), (256, 384), (384, 256), (320, 320), (512, 512))
SHAPE_SHARES = (0.44, 0.17, 0.13, 0.06, 0.20)
LARGE = 200_000
"""Pictures with at least this many pixels come a quarter as many to a batch."""
HARD_SHARE, HARD_FROM = 0.5, 1500
"""From batch HARD_FROM on, this share of the samples is of every kind; before, it grows from none. A training that goes
on from other weights has the share from its start."""
AGAIN = 0.4
"""Share of the samples that are compressed once more in the end, as what is passed on is."""
LATER = 16
"""After so many batches each one comes again, mirrored: widths are whole 8×8 blocks, so its grid stays where it is."""

Batch = tuple[Tensor, Tensor, Tensor]


class Batches(Dataset[Batch]):
    """Batch number i, made from nothing but the seed and i: any worker makes the same one."""

    def __init__(
        self,
        bank: PhotoBank,
        pairs: list[tuple[Path, Path]],
        seed: int,
        batch: int,
        count: int,
        hard_from: int = 0,
    ) -> None:
        self.bank, self.pairs, self.seed, self.batch, self.count = bank, pairs, seed, batch, count
        self.hard_from = hard_from

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Batch:
        cv2.setNumThreads(1)
        rng = np.random.default_rng([self.seed, index])
        height, width = SHAPES[int(rng.choice(len(SHAPES), p=SHAPE_SHARES))]
        images, masks, matches = [], [], []
        count = self.batch if height * width < LARGE else max(1, self.batch // 4)
        for _ in range(count):
            if self.pairs and (height, width) == (256, 256) and rng.random() < 0.1:
                pixels, mask = self.pair(rng)
            else:
                hard = HARD_SHARE * min(1.0, (index + 1) / (self.hard_from + 1))
                plainly = rng.random() > hard
                sample = (forge_plainly if plainly else forge)(self.bank, rng, height, width)
                pixels, mask = sample.pixels, sample.mask
            if rng.random() < AGAIN:
                pixels = jpeg(np.ascontiguousarray(pixels), rng, float(rng.uniform(60, 92)))
            images.append(torch.from_numpy(pixels).permute(2, 0, 1))
            masks.append(torch.from_numpy(mask)[None])
            matches.append(torch.from_numpy(self_match(pixels)))
        return torch.stack(images), torch.stack(masks), torch.stack(matches)

    def pair(self, rng: np.random.Generator) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """A composite found on the web, 256×256, with one more history on top."""
        image_path, mask_path = self.pairs[int(rng.integers(len(self.pairs)))]
        with Image.open(image_path) as image, Image.open(mask_path) as mask:
            pixels = np.asarray(image.convert("RGB").resize((256, 256)))
            region = np.asarray(mask.convert("L").resize((256, 256))) > 127
        if rng.random() < 0.5:
            pixels, region = pixels[:, ::-1], region[:, ::-1]
        pixels, _ = whole_picture(np.ascontiguousarray(pixels), rng)
        return np.ascontiguousarray(pixels), np.ascontiguousarray(region)


def network_input(images: Tensor, model: CLUE, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Pixels as float in [0, 1], and fresh noise."""
    x = images.float().div(255).contiguous(memory_format=torch.channels_last)
    shape = model.latent_shape(x.shape[-2], x.shape[-1])
    return x, torch.randn(x.shape[0], *shape, generator=generator)


def f1_scores(model: CLUE, batches: list[Batch]) -> dict[str, float]:
    """Mean F1 at 0.5 over forged pictures, mean marked area on authentic ones."""
    model.eval()
    generator = torch.Generator().manual_seed(0)
    f1, area = [], []
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        for images, masks, matches in batches:
            marked = torch.sigmoid(model(*network_input(images, model, generator), matches)) > 0.5
            for m, g in zip(marked, masks, strict=True):
                if g.any():
                    f1.append(float(2 * (m & g).sum() / (m.sum() + g.sum())))
                else:
                    area.append(float(m.float().mean()))
    model.train()
    return {"f1": float(np.mean(f1)), "marked_on_authentic": float(np.mean(area)), "n": float(len(f1))}


def twice(batches: Iterable[Batch]) -> Iterator[Batch]:
    """Each batch, and LATER batches on the same one mirrored: half of the forging."""
    waiting: deque[Batch] = deque()
    for images, masks, matches in batches:
        yield images, masks, matches
        waiting.append((images.flip(-1), masks.flip(-1), matches.flip(-1)))
        if len(waiting) > LATER:
            yield waiting.popleft()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=100)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, default=6e-4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--init", type=Path, help="start from the weights of another run or model, where they fit")
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(args.seed)

    photos = args.data / "photos"
    folders = [photos / name for name in ("coco", "people", "web", "nature", "scenes")]
    mask_folders = [(photos / "coco_instances", "train2017_"), (photos / "people_masks", "")]
    banks = {}
    for side in (True, False):
        cache = args.out / f"cache-{'held-out' if side else 'train'}"
        banks[side] = bank_of(folders, mask_folders, cache, share=0.08, validation=side)
        banks[side].prepare()
    composites = sorted((args.data / "composites" / "images").glob("*.jpg"))
    pairs = [(p, args.data / "composites" / "masks" / f"{p.stem}.png") for p in composites if not held_out(p, 0.08)]
    print(f"train on {len(banks[False].paths)} photos, {len(banks[False].cutouts)} cut-outs, {len(pairs)} composites")

    validation_set = Batches(banks[True], [], seed=10_000, batch=16, count=12)
    validation = [validation_set[i] for i in range(len(validation_set))]

    model = build(PRESETS["mini"]).to(memory_format=torch.channels_last)
    if args.init:
        stored = args.init.suffix == ".safetensors"
        start = load_file(args.init) if stored else torch.load(args.init, weights_only=True)["average"]
        own = model.state_dict()
        fitting = {name: tensor for name, tensor in start.items() if name in own and own[name].shape == tensor.shape}
        wider = start["view.project.weight"]  # a view that has more channels than before: the new ones start at zero
        if wider.shape != own["view.project.weight"].shape:
            weight = torch.zeros_like(own["view.project.weight"])
            weight[:, : wider.shape[1]] = wider
            fitting["view.project.weight"] = weight
        model.load_state_dict(fitting, strict=False)
        print(f"{len(fitting)} of {len(own)} tensors from {args.init}")
    average = build(PRESETS["mini"])
    average.load_state_dict(model.state_dict())
    decay = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": 0.03}, {"params": rest, "weight_decay": 0.0}], lr=args.lr, fused=True
    )
    step, spent = 0, 0.0
    latest = args.out / "latest.pt"
    if latest.exists():
        state = torch.load(latest, weights_only=True)
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        step, spent = state["step"], state["spent"]
        print(f"going on from step {step}, {spent / 60:.1f} minutes")

    samples = Batches(banks[False], pairs, args.seed, args.batch, 10**7, 0 if args.init else HARD_FROM)
    loader = DataLoader(
        samples,
        batch_size=None,
        sampler=range(step // 2, len(samples)),
        num_workers=args.workers,
        prefetch_factor=3,
        worker_init_fn=lambda _: torch.set_num_threads(1),
    )
    generator = torch.Generator().manual_seed(args.seed + step)
    budget, warmup, started, checked = args.minutes * 60, 90.0, time.monotonic(), time.monotonic()
    log = (args.out / "log.jsonl").open("a", buffering=1)
    losses: list[float] = []
    for images, masks, matches in twice(loader):
        elapsed = spent + time.monotonic() - started
        progress = min(elapsed / budget, 1.0)
        rate = args.lr * min(1.0, elapsed / warmup + 0.02) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))
        for group in optimizer.param_groups:
            group["lr"] = rate
        x, noise = network_input(images, model, generator)
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(x, noise, matches)
        target = masks.float()
        loss = clue_loss(logits, target, 0.4, 1.0, per_image=True)
        if not torch.isfinite(loss):
            raise SystemExit(f"loss is {loss.item()} at step {step}")
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step += 1
        losses.append(loss.item())
        with torch.no_grad():
            keep = min(0.998, step / (step + 20))
            for slow, fast in zip(average.parameters(), model.parameters(), strict=True):
                slow.lerp_(fast, 1 - keep)
        done = progress >= 1.0
        if step % 50 == 0 or done:
            row: dict[str, float] = {"step": step, "minutes": elapsed / 60, "loss": float(np.mean(losses)), "lr": rate}
            losses.clear()
            if time.monotonic() - checked > 420 or done:
                checked = time.monotonic()
                row |= f1_scores(average, validation)
                state = {"model": model.state_dict(), "average": average.state_dict()}
                state |= {"optimizer": optimizer.state_dict(), "step": step, "spent": elapsed}
                torch.save(state, args.out / "latest.tmp")
                (args.out / "latest.tmp").replace(latest)
            log.write(json.dumps(row) + "\n")
            print(json.dumps({k: round(v, 5) for k, v in row.items()}), flush=True)
        if done:
            break


if __name__ == "__main__":
    main()
