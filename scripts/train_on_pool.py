"""Train `mini` on one GPU that one has for minutes, from the tiles that `make_pool.py forge` writes meanwhile.

    python scripts/train_on_pool.py --pool POOL --out RUN --minutes 9

Tiles are kept on the device, the newest in the place of the oldest, and shown several times, turned in the ways that
keep the grid of 8×8 blocks, a share of them once more through a JPEG that is computed on the device. An update of each
size is recorded once, as a CUDA graph. Writes log.jsonl and averages of the weights in half precision, of which
`finish_mini.py` makes a model.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from make_pool import TOGETHER, Tiles, read_tiles, recipe
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from model.branches.sam_network import replace_attention
from model.checkpoint import inspect
from model.losses import clue_loss
from model.rectified_flow import seeded_noise
from model.storage import load
from model.training.network import parameter_groups
from model.training.steps import Recorded

AVERAGES = (0.999, 0.9995, 0.9998)
BALANCE = (0.4, 1.0)
"""Weights of BCE and Dice."""
AHEAD = 8
"""Updates that are queued on the GPU before the CPU waits."""


# ---- JPEG on the device ---------------------------------------------------------------------------------------------


class Jpeg:
    """What baseline JPEG with the tables of the standard's annex K makes of a batch, on its device.

    Like libjpeg with its accurate transform and its smooth upsampling of chroma but for ties: where a coefficient lies
    half-way between two steps, or a pixel between two values, either may result.
    """

    LUMA = (
        "16 11 10 16 24 40 51 61 12 12 14 19 26 58 60 55 14 13 16 24 40 57 69 56 14 17 22 29 51 87 80 62 "
        "18 22 37 56 68 109 103 77 24 35 55 64 81 104 113 92 49 64 78 87 103 121 120 101 72 92 95 98 112 100 103 99"
    )
    CHROMA = ((17, 18, 24, 47), (18, 21, 26, 66), (24, 26, 56, 99), (47, 66, 99, 99))

    def __init__(self, device: torch.device) -> None:
        at = torch.arange(8, dtype=torch.float64)
        basis = torch.cos((2 * at[None] + 1) * at[:, None] * math.pi / 16) / 2
        basis[0] /= math.sqrt(2)
        self._basis = basis.float().to(device)  # frequency × position
        chroma = torch.full((8, 8), 99.0)
        chroma[:4, :4] = torch.tensor(self.CHROMA)
        luma = torch.tensor([float(step) for step in self.LUMA.split()]).reshape(8, 8)
        self._steps = [luma.to(device), chroma.to(device)]
        self._bias = torch.tensor([0.25, 0.5], device=device)

    def __call__(self, pixels: Tensor, quality: Tensor, halved: Tensor) -> Tensor:
        """Compress and decode.

        Args:
            pixels: B×3×H×W uint8, H and W multiples of 16.
            quality: B float32, 1 to 100.
            halved: B bool: chroma at half the resolution (4:2:0), else at the full one.
        """
        red, green, blue = pixels.float().unbind(1)
        luma = (0.299 * red + 0.587 * green + 0.114 * blue).round()
        cb = (-0.168735892 * red - 0.331264108 * green + 0.5 * blue + 128).round().clamp(0, 255)
        cr = (0.5 * red - 0.418687589 * green - 0.081312411 * blue + 128).round().clamp(0, 255)
        scale = torch.where(quality < 50, 5000 / quality, 200 - 2 * quality)[:, None, None]
        luma_steps, chroma_steps = (((one * scale + 50) / 100).floor().clamp(1, 255) for one in self._steps)
        luma = self._plane(luma, luma_steps)
        chroma, steps = torch.cat([cb, cr]), torch.cat([chroma_steps, chroma_steps])
        small = torch.nn.functional.avg_pool2d(chroma[:, None], 2)[:, 0]
        small = (small + self._bias.repeat(small.shape[-1] // 2)).floor()
        small = self._plane(small, steps)[:, None]
        smooth = torch.nn.functional.interpolate(small, scale_factor=2, mode="bilinear", align_corners=False)
        which = torch.cat([halved, halved])[:, None, None]
        cb, cr = (torch.where(which, smooth[:, 0].round(), self._plane(chroma, steps)) - 128).chunk(2)
        colours = [luma + 1.402 * cr, luma - 0.344136286 * cb - 0.714136286 * cr, luma + 1.772 * cb]
        return torch.stack(colours, 1).round().clamp(0, 255).to(torch.uint8)

    def _plane(self, plane: Tensor, steps: Tensor) -> Tensor:
        batch, height, width = plane.shape
        blocks = (plane - 128).reshape(batch, height // 8, 8, width // 8, 8)
        found = torch.einsum("ui,bhiwj,vj->bhwuv", self._basis, blocks, self._basis)
        found = (found / steps[:, None, None]).round() * steps[:, None, None]
        decoded = torch.einsum("ui,bhwuv,vj->bhiwj", self._basis, found, self._basis).reshape(batch, height, width)
        return (decoded + 128).round().clamp(0, 255)


# ---- The pool -------------------------------------------------------------------------------------------------------


class Ring:
    """Tiles of one size on the device; when it is full, the newest replace the oldest."""

    def __init__(self, room: int, like: Tiles, device: torch.device) -> None:
        self.room, self.held, self._at = room, 0, 0
        self._tensors = [torch.empty((room, *one.shape[1:]), dtype=one.dtype, device=device) for one in like]
        self._marked = np.zeros(room, bool)
        self.forged = self.clean = np.zeros(0, np.int64)

    def add(self, tiles: Tiles) -> None:
        """Copy tiles to the device, without waiting for it."""
        count = len(tiles[0])
        if self._at + count > self.room:
            self._at = 0
        part = slice(self._at, self._at + count)
        for own, one in zip(self._tensors, tiles, strict=True):
            own[part].copy_(one.pin_memory() if own.is_cuda else one, non_blocking=True)
        self._marked[part] = tiles[1].flatten(1).any(1).numpy()
        self._at = part.stop
        self.held = max(self.held, self._at)
        self.forged = np.flatnonzero(self._marked[: self.held])
        self.clean = np.flatnonzero(~self._marked[: self.held])

    def take(self, rows: Tensor) -> Tiles:
        """The tiles of these rows."""
        pixels, masks, maps = (one[rows] for one in self._tensors)
        return pixels, masks, maps


class Pool:
    """What is read of a folder that `forge` fills. Files are removed once they are read, on a GPU."""

    def __init__(self, folder: Path, room: int, device: torch.device) -> None:
        self.folder, self.room, self.device = folder, room, device
        self.rings: dict[tuple[int, int, bool], Ring] = {}
        self.came = 0
        self._seen: set[str] = set()

    def read(self, seconds: float) -> None:
        """Take in what has come, for at most so long."""
        started = time.monotonic()
        for folder in sorted(one for one in self.folder.glob("*x*-*") if one.is_dir()):
            size, whole = folder.name.split("-")
            height, width = map(int, size.split("x"))
            for entry in os.scandir(folder):
                if not entry.name.endswith(".npz") or entry.path in self._seen:
                    continue
                if time.monotonic() - started > seconds:
                    return
                self._seen.add(entry.path)
                tiles, _ = read_tiles(Path(entry.path))
                key = (height, width, whole == "1")
                if key not in self.rings:
                    # By area: half of what there is room for are tiles of 512².
                    room = max(4 * TOGETHER, self.room * 65536 // (6 * height * width))
                    self.rings[key] = Ring(room, tiles, self.device)
                self.rings[key].add(tiles)
                self.came += len(tiles[0])
                if self.device.type == "cuda":
                    Path(entry.path).unlink()

    @property
    def held(self) -> int:
        """Tiles that there are."""
        return sum(ring.held for ring in self.rings.values())

    def draw(self, rng: np.random.Generator, batch: int, forged: float, small_weight: float) -> Tiles | None:
        """Tiles of one size, as many as `batch` of 256² in area, turned; None: there are too few of every size.

        Args:
            rng: decides.
            batch: how many of 256².
            forged: share of those with forged pixels.
            small_weight: how often whole pictures are drawn for their area.
        """
        rings = {key: ring for key, ring in self.rings.items() if min(len(ring.forged), len(ring.clean)) >= 4}
        if not rings:
            return None
        areas = np.array([ring.held * h * w * (small_weight if whole else 1) for (h, w, whole), ring in rings.items()])
        height, width, _ = key = list(rings)[int(rng.choice(len(rings), p=areas / areas.sum()))]
        count = max(2, batch * 65536 // (height * width))
        wanted = rng.random(count) < forged
        rows = np.where(wanted, rng.choice(rings[key].forged, count), rng.choice(rings[key].clean, count))
        pixels, masks, maps = rings[key].take(up(rows, self.device))
        if rng.random() < 0.5:
            pixels, masks, maps = pixels.flip(3), masks.flip(2), maps.flip(3)
        if rng.random() < 0.5:
            pixels, masks, maps = pixels.flip(2), masks.flip(1), maps.flip(2)
        if height == width and rng.random() < 0.5:
            pixels, masks, maps = pixels.transpose(2, 3), masks.transpose(1, 2), maps.transpose(2, 3)
        return pixels, masks, maps


def up(array: NDArray[Any], device: torch.device) -> Tensor:
    """To the device, without waiting for what is queued there."""
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


# ---- Training -------------------------------------------------------------------------------------------------------


class Training:
    """Updates of the shipped weights, or of those of `init`, with averages of them."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.device = args, torch.device(args.device)
        self.cuda = self.device.type == "cuda"
        torch.manual_seed(args.seed)
        torch.backends.cudnn.benchmark = True
        self.rng = np.random.default_rng(args.seed)
        self.jpeg = Jpeg(self.device)
        model = load(inspect(args.init), "cpu", torch.float32)
        replace_attention(model.get_submodule("sam.encoder"))  # the stock one copies indexes from the CPU
        self.model = model.requires_grad_(True).to(self.device).to(memory_format=torch.channels_last).train()
        self.parameters: list[Tensor] = [p for p in model.parameters() if p.requires_grad]
        self.averages = {decay: [p.detach().clone() for p in self.parameters] for decay in AVERAGES}
        self.rate: Any = torch.tensor(args.lr, device=self.device) if self.cuda else args.lr
        self.optimizer = torch.optim.AdamW(
            parameter_groups(model, args.weight_decay), lr=self.rate, fused=self.cuda, capturable=self.cuda
        )
        self.balance = torch.tensor(BALANCE, device=self.device)
        self.update = Recorded(self._update, self._state) if self.cuda and not args.eager else self._update
        made = recipe()
        self.forged, self.small_weight = made.forged, made.small_weight
        self.pool = Pool(args.pool / "train", args.room, self.device)
        self.held: list[tuple[Tiles, NDArray[np.str_]]] = []
        args.out.mkdir(parents=True, exist_ok=True)
        self.log = (args.out / "log.jsonl").open("a", buffering=1, encoding="utf-8")

    def say(self, **row: Any) -> None:
        """A row of the log, printed as well."""
        text = json.dumps(row)
        print(text, flush=True)
        self.log.write(text + "\n")

    def _update(self, x: Tensor, noise: Tensor, target: Tensor, maps: Tensor) -> Tensor:
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, torch.bfloat16, cache_enabled=False):
            logits = self.model(x, noise, maps)
        loss, *terms = clue_loss(logits.float(), target, self.balance[0], self.balance[1], "image")
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        return torch.stack([loss, *terms, norm]).detach()

    def _state(self) -> list[Tensor]:
        return [*self.parameters, *(value for one in self.optimizer.state.values() for value in one.values())]

    def batch(self, tiles: Tiles) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What an update takes: the first of the tiles compressed once more, with the maps of before."""
        pixels, masks, maps = tiles
        again = round(self.args.again * len(pixels))
        if again and pixels.shape[-2] % 16 == 0 == pixels.shape[-1] % 16:
            quality = np.round(self.rng.uniform(55, 95, again)).astype(np.float32)
            halved = self.rng.random(again) < 0.7
            compressed = self.jpeg(pixels[:again], up(quality, self.device), up(halved, self.device))
            pixels = torch.cat([compressed, pixels[again:]])
        x = pixels.float().div(255).contiguous(memory_format=torch.channels_last)
        seen = torch.zeros_like(maps) if self.rng.random() < 0.06 else maps
        noise = torch.randn(len(x), *self.model.latent_shape(*x.shape[2:]), device=self.device)
        return x, noise, masks[:, None].float().contiguous(), seen.float().contiguous()

    def run(self) -> None:
        """Wait for the first tiles, train by the clock, and store."""
        args, started = self.args, time.monotonic()
        while self.pool.held < args.start:
            self.pool.read(2)
            time.sleep(0.1)
        held = args.pool / "held"
        while held.is_dir() and not (held / "done").exists():
            time.sleep(0.1)
        self.held = [read_tiles(path) for path in sorted(held.glob("*x*-*/*.npz"))]
        self.pool.read(10)
        self.say(pool=self.pool.held, waited=round(time.monotonic() - started, 1))
        self.validate("start", [p.detach().clone() for p in self.parameters])
        began = said = time.monotonic()
        seconds, step, views, queued = started + 60 * args.minutes - began, 0, 0.0, []
        before, found = (began, 0, 0.0), None
        while (progress := (time.monotonic() - began) / seconds) < 1:
            rate = args.lr * min(1.0, progress / args.warmup) * (0.01 + 0.495 * (1 + math.cos(math.pi * progress)))
            self._set_rate(rate)
            if step % 10 == 0:
                self.pool.read(0.05)
            tiles = self.pool.draw(self.rng, args.batch, self.forged, self.small_weight)
            if tiles is None:
                continue
            found = self.update(*self.batch(tiles))
            step, views = step + 1, views + tiles[1].numel() / 65536
            with torch.no_grad():
                for decay, average in self.averages.items():
                    torch._foreach_lerp_(average, self.parameters, 1 - min(decay, step / (step + 2)))
            if self.cuda and step % AHEAD == 0:
                event = torch.cuda.Event()  # type: ignore[no-untyped-call]
                event.record()
                queued.append(event)
                if len(queued) > 1:
                    queued.pop(0).synchronize()
            now = time.monotonic()
            if step == 50 or now - said > args.every:
                values = found.tolist()
                since = now - before[0]
                self.say(
                    seconds=round(now - began), step=step, views=round(views), came=self.pool.came, held=self.pool.held,
                    loss=[round(value, 4) for value in values], lr=rate,
                    updates_a_second=round((step - before[1]) / since, 2),
                    views_a_second=round((views - before[2]) / since),
                )  # fmt: skip
                if not math.isfinite(values[0]):
                    raise SystemExit("The loss is not finite.")
                if now - said > args.every:
                    self.validate(AVERAGES[0], self.averages[AVERAGES[0]])
                    self.store(f"average-{AVERAGES[0]}", self.averages[AVERAGES[0]])
                    said = time.monotonic()
                before = (time.monotonic(), step, views)
        for decay, average in self.averages.items():
            self.validate(decay, average)
            self.store(f"average-{decay}", average)
        self.say(steps=step, views=round(views), came=self.pool.came)

    def _set_rate(self, rate: float) -> None:
        if self.cuda:
            self.rate.fill_(rate)
        else:
            for group in self.optimizer.param_groups:
                group["lr"] = rate

    @contextmanager
    def _with(self, weights: Sequence[Tensor]) -> Iterator[None]:
        kept = [p.detach().clone() for p in self.parameters]
        with torch.no_grad():
            for parameter, one in zip(self.parameters, weights, strict=True):
                parameter.copy_(one)
            try:
                yield
            finally:
                for parameter, one in zip(self.parameters, kept, strict=True):
                    parameter.copy_(one)

    def validate(self, name: object, weights: Sequence[Tensor]) -> None:
        """Log F1, area marked on authentic tiles and AUC by the strongest hundredth, as they are and after JPEG 70."""
        row: dict[str, Any] = {}
        if self.held:
            with self._with(weights):
                self.model.eval()
                row = {"as they are": self._scores(None), "after JPEG 70": self._scores(70)}
                self.model.train()
        self.say(weights=name, **row)

    def _scores(self, quality: int | None) -> dict[str, Any]:
        rows: list[tuple[str, bool, float, float, float, float]] = []
        for number, ((pixels, masks, maps), kinds) in enumerate(self.held):
            x = pixels.to(self.device)
            if quality is not None:
                halved = torch.ones(len(x), dtype=torch.bool, device=self.device)
                x = self.jpeg(x, torch.full((len(x),), float(quality), device=self.device), halved)
            shape = self.model.latent_shape(*x.shape[2:])
            noise = torch.stack([seeded_noise(0, number, place, shape) for place in range(len(x))]).to(self.device)
            x = x.float().div(255).contiguous(memory_format=torch.channels_last)
            with torch.autocast(self.device.type, torch.bfloat16):
                logits = self.model(x, noise, maps.to(self.device).float()).float()[:, 0].cpu()
            marked = logits > 0
            f1 = 2 * (marked & masks).sum((1, 2)) / (marked.sum((1, 2)) + masks.sum((1, 2))).clamp(min=1)
            top = logits.flatten(1).topk(logits[0].numel() // 100, 1).values.mean(1)
            forged, area = masks.flatten(1).any(1), marked.float().mean((1, 2))
            rows += zip(kinds, *(one.tolist() for one in (forged, f1, area, top, top)), strict=True)
        strongest = np.array([row[4] for row in rows if row[1]]), np.array([row[4] for row in rows if not row[1]])
        out: dict[str, Any] = {"auc": round(float((strongest[0][:, None] > strongest[1][None]).mean()), 4)}
        for kind in ["all", *sorted({str(row[0]) for row in rows})]:
            some = [row for row in rows if kind in ("all", row[0])]
            f1s, areas = [row[2] for row in some if row[1]], [row[3] for row in some if not row[1]]
            out[kind] = [round(float(np.mean(values)), 4) if values else None for values in (f1s, areas)]
        return out

    def store(self, name: str, weights: Sequence[Tensor]) -> None:
        """Write weights in half precision, whole or not at all."""
        with self._with(weights):
            tensors = {key: value.detach().half().cpu().contiguous() for key, value in self.model.state_dict().items()}
        part = self.args.out / f"{name}.part"
        save_file(tensors, part)
        part.replace(self.args.out / f"{name}.safetensors")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pool", type=Path, required=True, help="folder with train/ and, to validate on, held/")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, required=True, help="all in all, the waiting for tiles included")
    parser.add_argument("--init", default="mini", help="model whose weights are the first ones")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--batch", type=int, default=128, help="tiles of 256² in an update, or as many pixels")
    parser.add_argument("--lr", type=float, default=7e-4, help="the highest, after the warm-up; then a cosine")
    parser.add_argument("--warmup", type=float, default=0.02, help="share of the time")
    parser.add_argument("--weight-decay", type=float, default=0.03)
    parser.add_argument("--again", type=float, default=0.4, help="share compressed once more")
    parser.add_argument("--room", type=int, default=90_000, help="tiles of 256² that the device has room for")
    parser.add_argument("--start", type=int, default=1500, help="tiles to wait for")
    parser.add_argument("--every", type=float, default=120, help="seconds between validations")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--eager", action="store_true", help="do not record updates")
    Training(parser.parse_args()).run()


if __name__ == "__main__":
    main()
