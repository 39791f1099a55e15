"""Measure how fast a network runs, against what the chip can do and against the same modules put together plainly.

Random weights of the true sizes; per preset, number of noise levels and batch:

    rate          tiles a second, counted TFLOP/s, their ratio to the machine's own matmul rate, peak memory
    parts         milliseconds of the VAE, the MM-DiT, SAM and the head
    plain         the same modules with stock attention, unmerged adapters, eager, one tile at a time
    scan          `clue scan` end to end on a generated folder, beside the bare network
    training      one training step: adapters (or what the preset trains), bfloat16, checkpointing, batch 1

Prints a Markdown table, and writes bench_gpu.json, bench_gpu.md and bench_gpu.svg to --out.

    python scripts/bench_gpu.py                                   sd3-medium on a CUDA card, mini on the CPU
    python scripts/bench_gpu.py --presets sd3-medium sd3.5-medium --batches 1 4 8 --compile
    python scripts/bench_gpu.py --device cpu --size 256 --matmul 512 --repeats 2     the same table, quickly
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from segment_anything.modeling.image_encoder import Attention
from torch import Tensor

from model.calibration import Calibration
from model.clue import CLUE, adapt, build
from model.device import resolve
from model.losses import bce_loss, dice_loss
from model.presets import PRESETS, Preset
from model.sam_attention import SamAttention
from model.speed import compile_blocks, flops
from model.storage import save
from model.training.network import keep_less

WARMUP = 2
"""Runs that are not counted: kernels are chosen and memory is laid out in them."""


@dataclass(slots=True)
class Row:
    """One line of the table; None: not measured."""

    preset: str
    levels: int
    batch: int
    tiles_per_second: float
    tflops: float
    of_matmul: float
    peak_gb: float
    plain_tiles_per_second: float | None = None
    scan_tiles_per_second: float | None = None
    milliseconds: dict[str, float] = field(default_factory=dict)


class Bench:
    """One machine, one number format, one size of tile."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.device, self.dtype = resolve(options.device, options.dtype)
        self.cuda = self.device != "cpu"

    def seconds(self, action: Callable[[], object]) -> float:
        """Of one run: the median of several, after some that are not counted."""
        times = []
        for number in range(WARMUP + self.options.repeats):
            self.wait()
            started = time.perf_counter()
            action()
            self.wait()
            if number >= WARMUP:
                times.append(time.perf_counter() - started)
        return float(np.median(times))

    def wait(self) -> None:
        """Until the device has done what it was given."""
        if self.cuda:
            torch.cuda.synchronize(self.device)

    def peak_gb(self) -> float:
        """Of the device's memory since it was last reset; on the CPU of the process since it began."""
        if self.cuda:
            return torch.cuda.max_memory_allocated(self.device) / 1e9
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e9 if sys.platform == "darwin" else 1e6)

    def reset(self) -> None:
        """Count the peak of memory anew."""
        if self.cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)

    def matmul_tflops(self) -> float:
        """What the machine does in a plain product of two square matrices."""
        side = self.options.matmul
        a, b = (torch.randn(side, side, device=self.device, dtype=self.dtype) for _ in range(2))
        return 2 * side**3 / self.seconds(lambda: a @ b) / 1e12

    def network(self, preset: Preset) -> CLUE:
        """Random weights of the true sizes, in inference mode."""
        torch.manual_seed(0)
        model = build(preset, self.device).to(self.dtype).eval().requires_grad_(False)
        return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]

    def tile(self, model: CLUE, batch: int) -> tuple[Tensor, Tensor]:
        """A batch of tiles and their noise."""
        side = self.options.size
        shape = model.latent_shape(side, side)
        x = torch.rand(batch, 3, side, side, device=self.device).contiguous(memory_format=torch.channels_last)
        return x, torch.randn(batch, *shape, device=self.device)

    @torch.inference_mode()
    def rows(self, preset: Preset, matmul: float) -> Iterator[Row]:
        """All that is measured of one preset."""
        for levels in self.options.levels:
            chosen = replace(preset, noise=replace(preset.noise, levels=tuple(np.linspace(0.1, 0.5, levels).tolist())))
            side = self.options.size
            cost = flops(chosen, side, side)["total"] / 1e12
            plain = self.plain(chosen)
            model = self.network(chosen)
            if self.options.compile:
                compile_blocks(model)
            for batch in self.options.batches:
                self.reset()
                x, noise = self.tile(model, batch)
                rate = batch / self.seconds(partial(model, x, noise))
                row = Row(preset.name, levels, batch, rate, rate * cost, rate * cost / matmul, self.peak_gb(), plain)
                row.milliseconds = self.parts(model, x, noise)
                yield row
            del model

    def parts(self, model: CLUE, x: Tensor, noise: Tensor) -> dict[str, float]:
        """Milliseconds of each part for one tile of the batch; the head is the rest, fusion included."""
        found = {}
        if model.sd3 is not None:
            found["vae"] = self.seconds(lambda: model.sd3.encode(x))
            found["mmdit"] = self.seconds(lambda: model.sd3(x, noise)) - found["vae"]
        if model.sam is not None:
            found["sam"] = self.seconds(lambda: model.sam(model.view(x) if model.view is not None else x))
        found["head"] = max(0.0, self.seconds(lambda: model(x, noise)) - sum(found.values()))
        return {part: 1000 * value / x.shape[0] for part, value in found.items()}

    def plain(self, preset: Preset) -> float | None:
        """Tiles a second of the straightforward composition, batch 1."""
        if not self.options.plain:
            return None
        model = self.network(preset)
        adapt(model, "lora", "lora")
        model.to(self.device, self.dtype)
        if model.sam is not None:
            for block in model.sam.encoder.blocks:
                if isinstance(block.attn, SamAttention):
                    block.attn = stock_attention(block.attn)
        x, noise = self.tile(model, 1)
        return 1 / self.seconds(lambda: model(x, noise))

    def scan(self, preset: Preset, batch: int) -> float:
        """Images a second of `clue scan` on a folder of one-tile JPEGs, as run.json states its time."""
        with tempfile.TemporaryDirectory(prefix="clue-bench-") as work:
            place, side = Path(work), self.options.size
            save(place / "model", self.network(preset), Calibration(name="random"), {}, torch.bfloat16)
            (place / "evidence").mkdir()
            generator = np.random.default_rng(0)
            for number in range(self.options.images):
                smooth = generator.integers(0, 256, (side // 8, side // 8, 3), dtype=np.uint8)
                picture = Image.fromarray(smooth).resize((side, side), Image.Resampling.BICUBIC)
                picture.save(place / "evidence" / f"{number:05}.jpg", quality=92)
            name = {torch.float32: "float32", torch.bfloat16: "bfloat16"}[self.dtype]
            command = [sys.executable, "-m", "clue_cli", "scan", str(place / "evidence"), "--out", str(place / "out")]
            command += ["--model", str(place / "model"), "--device", self.device, "--dtype", name, "--quiet"]
            subprocess.run([*command, "--batch", str(batch)], check=True)
            run = json.loads((place / "out" / "run.json").read_text("utf-8"))
        return float(run["counts"]["images"] / run["seconds"])

    def training(self, preset: Preset) -> dict[str, float]:
        """Images a second and peak memory of a training step at batch 1: bfloat16 base, float32 where it learns."""
        self.reset()
        torch.manual_seed(0)
        model = build(preset, self.device).to(torch.bfloat16)
        adapt(model, preset.adapt_sd3, preset.adapt_sam)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()
        keep_less(model.train())
        x, noise = self.tile(model, 1)
        truth = (torch.rand(1, 1, *x.shape[-2:], device=self.device) > 0.9).float()
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)

        def step() -> None:
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast(self.device.split(":")[0], torch.bfloat16):
                logits = model(x, noise)
            (bce_loss(logits, truth) + dice_loss(logits, truth)).backward()
            optimizer.step()

        seconds = self.seconds(step)
        return {"images_per_second": 1 / seconds, "peak_gb": self.peak_gb()}


def stock_attention(fast: SamAttention) -> Attention:
    """segment_anything's own attention around the same weights."""
    width = fast.proj.in_features
    with torch.device("meta"):
        stock = Attention(width, fast.num_heads, use_rel_pos=True, input_size=(1, 1))
    stock.qkv, stock.proj = fast.qkv, fast.proj
    stock.rel_pos_h, stock.rel_pos_w = fast.rel_pos_h, fast.rel_pos_w
    return stock


def machine(bench: Bench) -> dict[str, str | int]:
    """What was measured on, and when."""
    card = torch.cuda.get_device_name(bench.device) if bench.cuda else platform.processor() or platform.machine()
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "card": card,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "threads": torch.get_num_threads(),
        "dtype": str(bench.dtype).removeprefix("torch."),
        "size": bench.options.size,
        "command": " ".join(["python scripts/bench_gpu.py", *sys.argv[1:]]),
    }


def markdown(document: dict[str, Any]) -> str:
    """The table, and what it was measured on."""
    where = document["machine"]
    lines = [
        f"{where['card']}, {where['date'][:10]}, {where['dtype']}, tiles of {where['size']}², torch {where['torch']}, "
        f"plain matmul {document['matmul_tflops']:.3g} TFLOP/s. `{where['command']}`",
        "",
        "| preset | levels | batch | tiles/s | TFLOP/s | of matmul | peak GB | plain tiles/s | scan tiles/s | ms |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in document["rows"]:
        parts = ", ".join(f"{part} {value:.1f}" for part, value in row["milliseconds"].items())
        others = [row["plain_tiles_per_second"], row["scan_tiles_per_second"]]
        cells = [row["preset"], row["levels"], row["batch"], f"{row['tiles_per_second']:.3g}", f"{row['tflops']:.3g}"]
        cells += [f"{row['of_matmul']:.0%}", f"{row['peak_gb']:.2f}"]
        cells += ["–" if other is None else f"{other:.3g}" for other in others]
        lines.append("| " + " | ".join(map(str, [*cells, parts])) + " |")
    for preset, step in document["training"].items():
        rate, peak = step["images_per_second"], step["peak_gb"]
        lines.append(f"\nTraining step of {preset}, batch 1: {rate:.3g} images/s, peak {peak:.2f} GB.")
    return "\n".join(lines) + "\n"


def plot(rows: list[dict[str, Any]]) -> str:
    """Bars of tiles a second, ours above the plain composition, as SVG."""
    most = max(max(row["tiles_per_second"], row["plain_tiles_per_second"] or 0) for row in rows)
    parts = []
    for number, row in enumerate(rows):
        top = 30 + 46 * number
        label = f"{row['preset']}, {row['levels']} levels, batch {row['batch']}"
        parts.append(f'<text x="10" y="{top + 16}">{label}</text>')
        bars = [(row["tiles_per_second"], "#2266aa"), (row["plain_tiles_per_second"], "#999999")]
        for place, (value, colour) in enumerate(bars):
            if value is not None:
                y, length = top + 18 * place, 400 * value / most
                parts.append(f'<rect x="260" y="{y}" width="{length:.1f}" height="16" fill="{colour}"/>')
                parts.append(f'<text x="{265 + length:.1f}" y="{y + 13}">{value:.3g}</text>')
    height = 40 + 46 * len(rows)
    title = '<text x="10" y="18">tiles a second: ours (blue), plain composition (grey)</text>'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="740" height="{height}" font-family="sans-serif" '
    return head + f'font-size="12">{title}{"".join(parts)}</svg>\n'


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", nargs="+", choices=PRESETS, help="default: sd3-medium on CUDA, mini on the CPU")
    parser.add_argument("--batches", type=int, nargs="+", default=[1], help="tiles in a batch")
    parser.add_argument("--levels", type=int, nargs="+", default=[1, 3], help="numbers of noise levels")
    parser.add_argument("--size", type=int, default=1024, help="side of a tile in pixels")
    parser.add_argument("--matmul", type=int, default=8192, help="side of the matrices of the plain product")
    parser.add_argument("--repeats", type=int, default=5, help="counted runs of each measurement")
    parser.add_argument("--images", type=int, default=32, help="images of the end-to-end scan")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--compile", action="store_true", help="torch.compile for the repeated blocks")
    for part in ("plain", "scan", "training"):
        parser.add_argument(f"--no-{part}", dest=part, action="store_false", help=f"leave {part} out")
    parser.add_argument("--out", type=Path, default=Path(), help="folder of the results")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Measure, print, write; returns the exit code."""
    bench = Bench(arguments(argv))
    options = bench.options
    names = options.presets or (["sd3-medium"] if bench.cuda else ["mini"])
    matmul = bench.matmul_tflops()
    rows, training = [], {}
    for name in names:
        preset = PRESETS[name]
        if options.size % preset.tile.multiple:
            raise SystemExit(f"--size {options.size} is no multiple of {preset.tile.multiple}, as {name} needs")
        measured = list(bench.rows(preset, matmul))
        if options.scan:
            # The preset's own noise levels: the row that is compared with must have as many.
            for row in (row for row in measured if row.levels == len(preset.noise.levels)):
                row.scan_tiles_per_second = bench.scan(preset, row.batch)
        if options.training:
            training[name] = bench.training(preset)
        rows += [asdict(row) for row in measured]
    document = {"machine": machine(bench), "matmul_tflops": matmul, "rows": rows, "training": training}
    options.out.mkdir(parents=True, exist_ok=True)
    text = markdown(document)
    (options.out / "bench_gpu.json").write_text(json.dumps(document, indent=2) + "\n", "utf-8")
    (options.out / "bench_gpu.md").write_text(text, "utf-8")
    (options.out / "bench_gpu.svg").write_text(plot(rows), "utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
