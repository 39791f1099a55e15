"""The recipe of the embedded model: trains on a pool of made samples, for a fixed time, on a CPU or a GPU.

    python scripts/forge_pool.py --data DATA --screens SCREENS --out pool &
    python scripts/forge_pool.py --data DATA --screens SCREENS --out held-out --held-out --count 300
    python scripts/train_mini.py --pool pool --held-out held-out --out runs/next --minutes 100

The pool may grow meanwhile. Each tile is seen several times, mirrored, upside down and transposed: its grid of 8×8
blocks stays where it is. Resumable: the same command goes on from the last checkpoint. The learning rate follows the
clock, so the training ends annealed whatever else the machine does.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
from forge_pool import load
from safetensors.torch import load_file
from torch import Tensor

from model.clue import CLUE, build
from model.losses import clue_loss
from model.presets import PRESETS

Batch = tuple[Tensor, Tensor, Tensor, list[str]]
CHECK_EVERY = 1500.0
"""Seconds between validations."""
FORGED = 0.7
"""Share of the tiles of a batch that hold forged pixels, whatever their share of the pool."""
LOOK_EVERY = 30.0
"""Seconds after which new tiles are looked for."""
WITHOUT_MATCHES = 0.06
"""Share of the batches that see no self-similarity."""


class Pool:
    """The tiles of a folder, by size; one that is higher than wide counts as its transpose.

    Args:
        root: what forge_pool.py writes.
        pixels: of a batch.
    """

    def __init__(self, root: Path, pixels: int) -> None:
        self.root, self.pixels = root, pixels
        self.seen: set[Path] = set()
        self.tiles: dict[tuple[int, int], tuple[list[Path], list[Path]]] = {}
        """Authentic and forged ones of each size."""
        self.looked = 0.0

    def look(self) -> int:
        """Find what was added; how many tiles there are."""
        if time.monotonic() - self.looked > LOOK_EVERY or not self.tiles:
            self.looked = time.monotonic()
            for folder in sorted(self.root.glob("*x*")):
                height, width = sorted(int(side) for side in folder.name.split("x"))
                own = self.tiles.setdefault((height, width), ([], []))
                for path in sorted(path for path in folder.glob("*.npz") if path not in self.seen):
                    self.seen.add(path)
                    with np.load(path) as stored:
                        own[bool(stored["mask"].any())].append(path)
        return len(self.seen)

    def draw(self, rng: np.random.Generator) -> Batch:
        """Some tiles of one size, each turned in one of eight ways that keep its size."""
        self.look()
        sizes = [size for size, (_, forged) in self.tiles.items() if forged]
        share = np.array([len(self.tiles[size][1]) * size[0] * size[1] for size in sizes], np.float64)
        size = sizes[int(rng.choice(len(sizes), p=share / share.sum()))]
        authentic, forged = self.tiles[size]
        count = max(2, round(self.pixels / (size[0] * size[1])))
        chosen = [forged if rng.random() < FORGED or not authentic else authentic for _ in range(count)]
        return batch([tiles[int(rng.integers(len(tiles)))] for tiles in chosen], rng)


def batch(paths: list[Path], rng: np.random.Generator | None = None) -> Batch:
    """Pixels B×3×H×W uint8, masks B×1×H×W, maps B×C×H/8×W/8, and kinds; turned at random if `rng` is given."""
    images, masks, matches, kinds = [], [], [], []
    for path in paths:
        tile = load(path)
        parts = [torch.from_numpy(tile.pixels).permute(2, 0, 1), torch.from_numpy(tile.mask)[None]]
        parts.append(torch.from_numpy(tile.matches))
        if tile.mask.shape[0] > tile.mask.shape[1]:
            parts = [part.transpose(1, 2) for part in parts]
        if rng is not None:
            turned = [axis for axis in (1, 2) if rng.random() < 0.5]
            parts = [part.flip(turned) for part in parts]
            if tile.mask.shape[0] == tile.mask.shape[1] and rng.random() < 0.5:
                parts = [part.transpose(1, 2) for part in parts]
        images.append(parts[0])
        masks.append(parts[1])
        matches.append(parts[2])
        kinds.append(tile.kind)
    return torch.stack(images), torch.stack(masks), torch.stack(matches), kinds


def network_input(images: Tensor, model: CLUE, generator: torch.Generator, device: str) -> tuple[Tensor, Tensor]:
    """Pixels as float in [0, 1], and fresh noise."""
    x = images.to(device).float().div(255).contiguous(memory_format=torch.channels_last)
    shape = model.latent_shape(x.shape[-2], x.shape[-1])
    return x, torch.randn(x.shape[0], *shape, generator=generator).to(device)


def f1_scores(model: CLUE, batches: list[Batch], device: str) -> dict[str, float]:
    """Mean F1 at 0.5 over forged tiles, mean marked area on authentic ones, of each kind of sample."""
    model.eval()
    generator = torch.Generator().manual_seed(0)
    values: dict[str, list[float]] = {}
    with torch.inference_mode(), torch.autocast(device, torch.bfloat16):
        for images, masks, matches, kinds in batches:
            marked = torch.sigmoid(model(*network_input(images, model, generator, device), matches.to(device))) > 0.5
            for m, g, kind in zip(marked.cpu(), masks, kinds, strict=True):
                if g.any():
                    f1 = float(2 * (m & g).sum() / (m.sum() + g.sum()))
                    values.setdefault("f1", []).append(f1)
                    values.setdefault(f"f1 {kind}", []).append(f1)
                else:
                    area = float(m.float().mean())
                    values.setdefault("marked", []).append(area)
                    values.setdefault(f"marked {kind.split()[0]}", []).append(area)
    model.train()
    return {name: float(np.mean(found)) for name, found in values.items()} | {"n": len(values.get("f1", []))}


def start_from(model: CLUE, path: Path) -> str:
    """Take over the weights of another run or model, where they fit; what the early view has more starts at zero."""
    stored = path.suffix == ".safetensors"
    start = load_file(path) if stored else torch.load(path, weights_only=True)["average"]
    own = model.state_dict()
    fitting = {name: t.float() for name, t in start.items() if name in own and own[name].shape == t.shape}
    name = "view.project.weight"
    if start[name].shape != own[name].shape:
        fitting[name] = torch.zeros_like(own[name])
        fitting[name][:, : start[name].shape[1]] = start[name]
    model.load_state_dict(fitting, strict=False)
    return f"{len(fitting)} of {len(own)} tensors from {path}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pool", type=Path, required=True)
    parser.add_argument("--held-out", type=Path, required=True, help="a pool of photos that no training sees")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=100)
    parser.add_argument("--batch", type=int, default=16, help="tiles of 256×256, or as many pixels of larger ones")
    parser.add_argument("--lr", type=float, default=4e-4)
    parser.add_argument("--average", type=float, default=0.998, help="how much of itself the mean of the weights keeps")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--init", type=Path, help="start from the weights of another run or model, where they fit")
    parser.add_argument("--wait", type=int, default=200, help="tiles that the pool must hold to begin")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(args.seed)
    if args.threads:
        torch.set_num_threads(args.threads)

    pool = Pool(args.pool, args.batch * 65536)
    while pool.look() < args.wait:
        time.sleep(1)
        pool.looked = 0.0
    validation = [batch([path]) for path in sorted(args.held_out.glob("*x*/*.npz"))]
    print(f"{pool.look()} tiles, {len(validation)} held out")

    model = build(PRESETS["mini"]).to(memory_format=torch.channels_last)
    if args.init:
        print(start_from(model, args.init))
    average = build(PRESETS["mini"])
    average.load_state_dict(model.state_dict())
    model, average = model.to(args.device), average.to(args.device)
    decay = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": 0.03}, {"params": rest, "weight_decay": 0.0}], lr=args.lr, fused=True
    )
    step, views, spent = 0, 0.0, 0.0
    latest = args.out / "latest.pt"
    if latest.exists():
        state = torch.load(latest, weights_only=True)
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        step, views, spent = state["step"], state["views"], state["spent"]
        print(f"going on from step {step}, {spent / 60:.1f} minutes")

    rng = np.random.default_rng([args.seed, step])
    generator = torch.Generator().manual_seed(args.seed + step)
    log = (args.out / "log.jsonl").open("a", buffering=1)
    if not step:
        log.write(json.dumps({"step": 0} | f1_scores(average, validation, args.device)) + "\n")
    budget, warmup, started, checked = args.minutes * 60, 60.0, time.monotonic(), time.monotonic()
    losses: list[float] = []
    done = False
    while not done:
        elapsed = spent + time.monotonic() - started
        progress = min(elapsed / budget, 1.0)
        done = progress >= 1.0
        rate = args.lr * min(1.0, elapsed / warmup + 0.02) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))
        for group in optimizer.param_groups:
            group["lr"] = rate
        images, masks, matches, _ = pool.draw(rng)
        x, noise = network_input(images, model, generator, args.device)
        seen = matches.to(args.device) if rng.random() >= WITHOUT_MATCHES else None
        with torch.autocast(args.device, torch.bfloat16):
            logits = model(x, noise, seen)
        loss = clue_loss(logits, masks.to(args.device).float(), 0.4, 1.0, per_image=True)
        if not torch.isfinite(loss):
            raise SystemExit(f"loss is {loss.item()} at step {step}")
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step, views = step + 1, views + images.shape[0] * images.shape[2] * images.shape[3] / 65536
        losses.append(loss.item())
        with torch.no_grad():
            keep = min(args.average, step / (step + 20))
            torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - keep)
        if step % 50 == 0 or done:
            row: dict[str, float] = {"step": step, "views": views, "tiles": pool.look(), "minutes": elapsed / 60}
            row |= {"loss": float(np.mean(losses)), "lr": rate}
            losses.clear()
            if time.monotonic() - checked > CHECK_EVERY or done:
                checked = time.monotonic()
                row |= f1_scores(average, validation, args.device)
                state = {"model": model.state_dict(), "average": average.state_dict()}
                state |= {"optimizer": optimizer.state_dict(), "step": step, "views": views, "spent": elapsed}
                torch.save(state, args.out / "latest.tmp")
                (args.out / "latest.tmp").replace(latest)
            log.write(json.dumps(row) + "\n")
            print(json.dumps({k: round(v, 4) for k, v in row.items()}), flush=True)


if __name__ == "__main__":
    main()
