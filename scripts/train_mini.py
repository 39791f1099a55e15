"""The recipe of the embedded model: trains on a pool of made samples, for a fixed time, on a CPU or a GPU.

    python scripts/forge_pool.py --data DATA --screens SCREENS --out pool &
    python scripts/forge_pool.py --data DATA --screens SCREENS --out held-out --held-out --count 300
    python scripts/train_mini.py --pool pool --held-out held-out --out runs/next --minutes 100

The pool may grow meanwhile. Each tile is seen several times, mirrored, upside down and transposed: its grid of 8×8
blocks stays where it is. Resumable: the same command goes on from the last checkpoint. The learning rate follows the
clock, so the training ends annealed whatever else the machine does. On a GPU the pool lies in its memory, and an update
of the weights is recorded once for each size of tiles and replayed: 66 instead of 75 ms for 128 tiles of 256² on an
H100.
"""

from __future__ import annotations

import argparse
import json
import math
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from forge_pool import load
from safetensors.torch import load_file
from torch import Tensor

from model.branches.sam_attention import replace_attention
from model.clue import CLUE, build
from model.losses import clue_loss
from model.presets import PRESETS

Batch = tuple[Tensor, Tensor, Tensor, list[str]]
Tile = tuple[Tensor, Tensor, Tensor, str]
CHECK_EVERY = 1500.0
"""Seconds between validations on a CPU; a GPU has ten in that time."""
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
        device: on a GPU all tiles lie in its memory; on a CPU they are read when they are drawn.
    """

    def __init__(self, root: Path, pixels: int, device: str = "cpu") -> None:
        self.root, self.pixels, self.device = root, pixels, device
        self.seen: set[Path] = set()
        self.tiles: dict[tuple[int, int], tuple[list[Path | Tile], list[Path | Tile]]] = {}
        """Authentic and forged ones of each size."""
        self.looked = 0.0
        self.reading = threading.Lock()
        """Held while tiles are copied to a GPU, which must not be while an update is recorded."""

    def look(self) -> int:
        """Find what was added; how many tiles there are."""
        if time.monotonic() - self.looked > LOOK_EVERY or not self.tiles:
            self.looked = time.monotonic()
            for folder in sorted(self.root.glob("*x*")):
                height, width = sorted(int(side) for side in folder.name.split("x"))
                own = self.tiles.setdefault((height, width), ([], []))
                for path in sorted(path for path in folder.glob("*.npz") if path not in self.seen):
                    self.seen.add(path)
                    if self.device == "cpu":
                        with np.load(path) as stored:
                            own[bool(stored["mask"].any())].append(path)
                    else:
                        image, mask, matches, kind = read(path)
                        with self.reading:
                            on_it = (image.to(self.device), mask.to(self.device), matches.half().to(self.device), kind)
                        own[bool(mask.any())].append(on_it)
        return len(self.seen)

    def follow(self) -> None:
        """Look for what was added, for ever, beside the training: reading thousands of tiles must not stop it."""
        while True:
            self.look()
            time.sleep(1)

    def draw(self, rng: np.random.Generator) -> Batch:
        """Some tiles of one size, turned in one of the ways that keep it."""
        if self.device == "cpu":
            self.look()
        sizes = [size for size, (_, forged) in list(self.tiles.items()) if forged]
        share = np.array([len(self.tiles[size][1]) * size[0] * size[1] for size in sizes], np.float64)
        size = sizes[int(rng.choice(len(sizes), p=share / share.sum()))]
        authentic, forged = self.tiles[size]
        count = max(2, round(self.pixels / (size[0] * size[1])))
        chosen = [forged if rng.random() < FORGED or not authentic else authentic for _ in range(count)]
        return batch([tiles[int(rng.integers(len(tiles)))] for tiles in chosen], rng)


def read(path: Path) -> Tile:
    """A tile that lies: pixels 3×H×W uint8, mask 1×H×W, maps C×H/8×W/8, and its kind."""
    tile = load(path)
    parts = torch.from_numpy(tile.pixels).permute(2, 0, 1), torch.from_numpy(tile.mask)[None]
    image, mask, matches = (*parts, torch.from_numpy(tile.matches))
    if tile.mask.shape[0] > tile.mask.shape[1]:
        image, mask, matches = (part.transpose(1, 2) for part in (image, mask, matches))
    return image.contiguous(), mask.contiguous(), matches.contiguous(), tile.kind


def batch(tiles: Sequence[Path | Tile], rng: np.random.Generator | None = None) -> Batch:
    """Pixels B×3×H×W uint8, masks B×1×H×W, maps B×C×H/8×W/8, and kinds; turned at random if `rng` is given."""
    found = [read(tile) if isinstance(tile, Path) else tile for tile in tiles]
    parts = [torch.stack(part) for part in list(zip(*found, strict=True))[:3]]
    if rng is not None:
        turned = [axis for axis in (2, 3) if rng.random() < 0.5]
        parts = [part.flip(turned) for part in parts]
        if parts[0].shape[2] == parts[0].shape[3] and rng.random() < 0.5:
            parts = [part.transpose(2, 3) for part in parts]
    images, masks, matches = parts
    return images, masks, matches, [tile[3] for tile in found]


def network_input(images: Tensor, model: CLUE, generator: torch.Generator, device: str) -> tuple[Tensor, Tensor]:
    """Pixels as float in [0, 1], and fresh noise."""
    x = images.to(device).float().div(255).contiguous(memory_format=torch.channels_last)
    shape = model.latent_shape(x.shape[-2], x.shape[-1])
    return x, torch.randn(x.shape[0], *shape, generator=generator).to(device)


class Update:
    """One update of the weights from a batch; on a GPU recorded for each size of tiles, and replayed.

    Args:
        model: its weights change.
        optimizer: theirs; on a GPU made with `capturable`.
        generator: of the noise, on a CPU; a GPU has its own.
        device: cpu or cuda.
        reading: held while an update is recorded, and never else: another thread that copies tiles to the GPU with it
            in hand would otherwise wait for ever.
    """

    def __init__(
        self,
        model: CLUE,
        optimizer: torch.optim.Optimizer,
        generator: torch.Generator,
        device: str,
        reading: threading.Lock | None = None,
    ) -> None:
        self.model, self.optimizer, self.generator, self.device = model, optimizer, generator, device
        self.reading = reading or threading.Lock()
        self.recorded: dict[torch.Size, tuple[torch.cuda.CUDAGraph, list[Tensor], Tensor]] = {}

    def __call__(self, images: Tensor, masks: Tensor, matches: Tensor) -> Tensor:
        """The loss before it, a scalar that the next call overwrites; arguments as `batch` gives them."""
        if self.device == "cpu":
            return self._update(images, masks, matches)
        if images.shape not in self.recorded:
            return self._record([images.clone(), masks.clone(), matches.clone()])
        graph, inputs, loss = self.recorded[images.shape]
        for own, new in zip(inputs, (images, masks, matches), strict=True):
            own.copy_(new)
        graph.replay()
        return loss

    def _update(self, images: Tensor, masks: Tensor, matches: Tensor) -> Tensor:
        self.optimizer.zero_grad(set_to_none=True)
        if self.device == "cpu":
            x, noise = network_input(images, self.model, self.generator, self.device)
        else:
            x = images.float().div(255).contiguous(memory_format=torch.channels_last)
            shape = self.model.latent_shape(x.shape[-2], x.shape[-1])
            noise = torch.randn(x.shape[0], *shape, device=self.device)
        with torch.autocast(self.device, torch.bfloat16, cache_enabled=self.device == "cpu"):
            logits = self.model(x, noise, matches.float())
        loss, *_ = clue_loss(logits, masks.float(), 0.4, 1.0, "image")
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        return loss.detach()

    def _record(self, inputs: list[Tensor]) -> Tensor:
        """Two updates as they are, which choose algorithms and make what the optimizer keeps; the third is recorded."""
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(2):
                first = self._update(*inputs)
        torch.cuda.current_stream().wait_stream(stream)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        pool = next((own[0].pool() for own in self.recorded.values()), None)
        with self.reading, torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
            loss = self._update(*inputs)
        self.recorded[inputs[0].shape] = graph, inputs, loss
        return first


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

    pool = Pool(args.pool, args.batch * 65536, args.device)
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
    if args.device != "cpu":  # the stock attention copies its indexes from the CPU, which cannot be recorded
        torch.backends.cudnn.benchmark = True
        for own in (model, average):
            replace_attention(own.get_submodule("sam.encoder"))
    model, average = model.to(args.device), average.to(args.device)
    decay = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim <= 1]
    recorded = args.device != "cpu"
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": 0.03}, {"params": rest, "weight_decay": 0.0}],
        lr=torch.tensor(args.lr, device=args.device) if recorded else args.lr,
        fused=True,
        capturable=recorded,
    )
    step, views, spent = 0, 0.0, 0.0
    latest = args.out / "latest.pt"
    if latest.exists():
        state = torch.load(latest, weights_only=True)
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        if recorded:
            for group in optimizer.param_groups:
                group["lr"] = torch.as_tensor(group["lr"], device=args.device)
        step, views, spent = state["step"], state["views"], state["spent"]
        print(f"going on from step {step}, {spent / 60:.1f} minutes")

    rng = np.random.default_rng([args.seed, step])
    generator = torch.Generator().manual_seed(args.seed + step)
    log = (args.out / "log.jsonl").open("a", buffering=1)
    if not step:
        log.write(json.dumps({"step": 0} | f1_scores(average, validation, args.device)) + "\n")
    update = Update(model, optimizer, generator, args.device, pool.reading)
    if recorded:
        threading.Thread(target=pool.follow, daemon=True).start()
    budget, warmup, started, checked = args.minutes * 60, 60.0, time.monotonic(), time.monotonic()
    losses: list[float] = []
    done = False
    while not done:
        elapsed = spent + time.monotonic() - started
        progress = min(elapsed / budget, 1.0)
        done = progress >= 1.0
        rate = args.lr * min(1.0, elapsed / warmup + 0.02) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))
        for group in optimizer.param_groups:
            group["lr"] = group["lr"].fill_(rate) if recorded else rate
        images, masks, matches, _ = pool.draw(rng)
        if rng.random() < WITHOUT_MATCHES:
            matches = torch.zeros_like(matches)
        loss = update(images, masks, matches)
        step, views = step + 1, views + images.shape[0] * images.shape[2] * images.shape[3] / 65536
        if not recorded or step % 10 == 0 or done:  # to read it is to wait for it
            losses.append(loss.item())
            if not math.isfinite(losses[-1]):
                raise SystemExit(f"loss is {losses[-1]} at step {step}")
        with torch.no_grad():
            keep = min(args.average, step / (step + 20))
            torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - keep)
        if step % (500 if recorded else 50) == 0 or done:
            row: dict[str, float] = {"step": step, "views": views, "tiles": len(pool.seen), "minutes": elapsed / 60}
            row |= {"loss": float(np.mean(losses)), "lr": rate}
            losses.clear()
            if time.monotonic() - checked > (CHECK_EVERY / 10 if recorded else CHECK_EVERY) or done:
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
