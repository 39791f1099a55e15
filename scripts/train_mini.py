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

import numpy as np
import torch
from mini_batches import HARD_FROM, Batch, Batches, for_tiles
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.data import DataLoader

from model.clue import CLUE, build
from model.data.photo_bank import bank_of, held_out
from model.losses import clue_loss
from model.presets import PRESETS

VALIDATION_BATCHES = 24
LATER = 16
"""After so many batches each one comes again, mirrored: widths are whole 8×8 blocks, so its grid stays where it is."""


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
    mask_folders = [
        (photos / "coco_instances", "train2017_"),
        (photos / "coco_instances", "val2017_"),
        (photos / "people_masks", ""),
    ]
    banks = {}
    for side in (True, False):
        cache = args.out / f"cache-{'held-out' if side else 'train'}"
        banks[side] = bank_of(folders, mask_folders, cache, share=0.08, validation=side)
        banks[side].prepare()
    large = {side: for_tiles(bank) for side, bank in banks.items()}
    composites = sorted((args.data / "composites" / "images").glob("*.jpg"))
    pairs = [(p, args.data / "composites" / "masks" / f"{p.stem}.png") for p in composites if not held_out(p, 0.08)]
    print(f"{len(set(large[False].paths))} photos for large pictures")
    print(f"train on {len(banks[False].paths)} photos, {len(banks[False].cutouts)} cut-outs, {len(pairs)} composites")

    validation_set = Batches(banks[True], large[True], [], seed=10_000, batch=16, count=VALIDATION_BATCHES)
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

    samples = Batches(banks[False], large[False], pairs, args.seed, args.batch, 10**7, 0 if args.init else HARD_FROM)
    loader = DataLoader(
        samples,
        batch_size=None,
        sampler=range(step // 2, len(samples)),
        num_workers=args.workers,
        prefetch_factor=3 if args.workers else None,
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
        loss.backward()  # type: ignore[no-untyped-call]
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
