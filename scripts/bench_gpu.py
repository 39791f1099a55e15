"""Measure how fast a network runs, against what the chip can do and against the same modules put together plainly.

Random weights of the true sizes; per preset, number of noise levels and batch, on tiles no larger than the preset's:

    rate          tiles a second, counted TFLOP/s, their ratio to the machine's own matmul rate, peak memory; eager, and
                  with --compile as separate rows
    parts         milliseconds of the VAE, the MM-DiT, SAM and the head
    plain         the same modules with stock attention, unmerged adapters, eager, one tile at a time
    scan          `clue scan` end to end on generated folders, beside the bare network; what one of a quarter of the
                  images takes is subtracted, so that starting and loading do not count
    training      one training step: adapters (or what the preset trains), bfloat16, checkpointing, batch 1

Prints a Markdown table, and writes bench_gpu.json, bench_gpu.md and bench_gpu.svg to --out.

    python scripts/bench_gpu.py                                   sd3-medium on a CUDA card, mini on the CPU
    python scripts/bench_gpu.py --presets sd3-medium sd3.5-medium --batches 1 4 8 --compile blocks graphs
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
from typing import Any, get_args

import numpy as np
import torch
from diffusers.models.attention import JointTransformerBlock
from PIL import Image
from segment_anything.modeling.image_encoder import Attention, Block
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from model.branches.joint_block import JointBlock
from model.branches.network import BranchNetwork
from model.branches.sam_block import SamAttention, SamBlock
from model.branches.sd3_network import SD3Network
from model.calibration import Calibration
from model.clue import CLUE, adapt, build
from model.device import Compile, CompilerMissing, compile_network, require_compiler, resolve
from model.losses import bce_loss, dice_loss
from model.preset import Preset
from model.presets import PRESETS
from model.rectified_flow import noise_levels
from model.storage import save
from model.training.network import hold_frozen, keep_less

WARMUP = 2
"""Runs that are not counted: kernels are chosen and memory is laid out in them."""


def restore_attention(model: nn.Module) -> None:
    """Give every block the forward of diffusers' and segment_anything's own around the same weights, in place."""
    for name, fast in list(model.named_modules()):
        if isinstance(fast, SamAttention):
            with torch.device("meta"):
                stock = Attention(fast.proj.in_features, fast.num_heads, use_rel_pos=True, input_size=(1, 1))
            for part in ("qkv", "proj", "rel_pos_h", "rel_pos_w"):
                setattr(stock, part, getattr(fast, part))
            model.set_submodule(name, stock)
    for block in model.modules():
        if isinstance(block, SamBlock):
            block.__class__ = Block
        elif isinstance(block, JointBlock):
            block.__class__ = JointTransformerBlock


def flops(preset: Preset, height: int, width: int) -> dict[str, int]:
    """What one image costs by part, multiply and add as two, counted on the meta device: nothing is computed.

    SAM is counted with segment_anything's own attention: what ours widens (`SamAttention`) is not work done. Presets
    with an early view, which keeps its full precision by a switch that the meta device does not have, are counted on
    the CPU.

    Args:
        preset: which network.
        height, width: of the image in pixels, multiples of `preset.tile.multiple`.

    Returns:
        By stage of `stages`; `head` and `total`.
    """
    device = "cpu" if preset.view.channels else "meta"
    model = build(preset, device).eval().requires_grad_(False)
    restore_attention(model)
    x = torch.zeros(1, 3, height, width, device=device)
    noise = torch.zeros(1, *model.latent_shape(height, width), device=device)
    runs: dict[str, Callable[[], object]] = stages(model, x, noise) | {"total": partial(model, x, noise)}
    counts = {}
    for name, run in runs.items():
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            run()
        counts[name] = counter.get_total_flops()
    return counts | {"head": 2 * counts["total"] - sum(counts.values())}


def stages(model: CLUE, x: Tensor, noise: Tensor) -> dict[str, Callable[[], object]]:
    """The forward pass before the fusion: a function for each branch, of SD3 for `vae` and `mmdit` (all levels)."""
    found: dict[str, Callable[[], object]] = {}
    for name, network in model.networks.items():
        if isinstance(network, SD3Network):
            latents = noise.to(network.vae.encoder.conv_in.weight.dtype).repeat(
                len(noise_levels(network.noise)), 1, 1, 1
            )
            found["vae"] = partial(network.encode, x)
            found["mmdit"] = partial(network.tokens, latents, torch.zeros(len(latents), device=x.device))
        else:
            found[name] = partial(_alone, model, network, x, noise)
    return found


def _alone(model: CLUE, network: BranchNetwork, x: Tensor, noise: Tensor) -> Tensor:
    features: Tensor = network(x, noise, model.view(x) if model.view is not None and network.sees_view else None)
    return features


@dataclass(slots=True)
class Row:
    """One line of the table; None: not measured."""

    preset: str
    size: int
    levels: int
    batch: int
    how: str
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
        """Reset the peak of memory."""
        if self.cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)

    def matmul_tflops(self) -> float:
        """What the machine does in a plain product of two square matrices."""
        side: int = self.options.matmul
        a, b = (torch.randn(side, side, device=self.device, dtype=self.dtype) for _ in range(2))
        return 2 * side**3 / self.seconds(lambda: a @ b) / 1e12

    def network(self, preset: Preset) -> CLUE:
        """Random weights of the true sizes, in inference mode."""
        torch.manual_seed(0)
        model = build(preset, self.device).to(self.dtype).eval().requires_grad_(False)
        return model.to(memory_format=torch.channels_last)

    def side(self, preset: Preset) -> int:
        """Of a tile in pixels: what was asked for, as far as the preset goes."""
        asked: int = self.options.size
        return min(asked, preset.tile.size)

    def tile(self, model: CLUE, batch: int) -> tuple[Tensor, Tensor]:
        """A batch of tiles and their noise."""
        side = self.side(model.preset)
        shape = model.latent_shape(side, side)
        x = torch.rand(batch, 3, side, side, device=self.device).contiguous(memory_format=torch.channels_last)
        return x, torch.randn(batch, *shape, device=self.device)

    @torch.inference_mode()
    def rows(self, preset: Preset, matmul: float) -> Iterator[Row]:
        """All that is measured of one preset."""
        side = self.side(preset)
        for levels in self.options.levels:
            chosen = replace(preset, noise=replace(preset.noise, levels=tuple(np.linspace(0.1, 0.5, levels).tolist())))
            cost = flops(chosen, side, side)["total"] / 1e12
            plain = self.plain(chosen)
            for how in ["eager", *self.options.compile]:
                model = self.network(chosen)
                if how != "eager":
                    torch.compiler.reset()
                    compile_network(model, how)
                for batch in self.options.batches:
                    self.reset()
                    x, noise = self.tile(model, batch)
                    rate = batch / self.seconds(partial(model, x, noise))
                    of_matmul, peak = rate * cost / matmul, self.peak_gb()
                    row = Row(preset.name, side, levels, batch, how, rate, rate * cost, of_matmul, peak, plain)
                    if how == "eager":
                        row.milliseconds = self.parts(model, x, noise)
                    yield row
                del model

    def parts(self, model: CLUE, x: Tensor, noise: Tensor) -> dict[str, float]:
        """Milliseconds of each part for one tile of the batch; the head is the rest, fusion included."""
        found = {name: self.seconds(run) for name, run in stages(model, x, noise).items()}
        found["head"] = max(0.0, self.seconds(lambda: model(x, noise)) - sum(found.values()))
        return {part: 1000 * value / x.shape[0] for part, value in found.items()}

    def plain(self, preset: Preset) -> float | None:
        """Tiles a second of the straightforward composition, batch 1."""
        if not self.options.plain:
            return None
        model = self.network(preset)
        adapt(model, "lora")
        model.to(self.device, self.dtype)
        restore_attention(model)
        x, noise = self.tile(model, 1)
        return 1 / self.seconds(lambda: model(x, noise))

    def scan(self, preset: Preset, batch: int) -> float | None:
        """Images a second of `clue scan` on one-tile JPEGs: by how much longer more of them take, as run.json says.

        None: the difference drowned in the noise; --images was too small.
        """
        many = self.options.images or (256 if self.cuda else 16)
        few = max(1, many // 4)
        with tempfile.TemporaryDirectory(prefix="clue-bench-") as work:
            place, side = Path(work), self.side(preset)
            save(place / "model", self.network(preset), Calibration(name="random"), {}, torch.bfloat16)
            generator = np.random.default_rng(0)
            seconds = []
            for count in (few, many):
                evidence = place / str(count)
                evidence.mkdir()
                for number in range(count):
                    smooth = generator.integers(0, 256, (side // 8, side // 8, 3), dtype=np.uint8)
                    picture = Image.fromarray(smooth).resize((side, side), Image.Resampling.BICUBIC)
                    picture.save(evidence / f"{number:05}.jpg", quality=92)
                seconds.append(self.scan_seconds(place / "model", evidence, batch))
        return (many - few) / (seconds[1] - seconds[0]) if seconds[1] > seconds[0] else None

    def scan_seconds(self, model: Path, evidence: Path, batch: int) -> float:
        """What `clue scan` takes for a folder, its start and the loading of the network included."""
        out = evidence.with_name(f"{evidence.name}-out")
        name = {torch.float32: "float32", torch.bfloat16: "bfloat16"}[self.dtype]
        command = [sys.executable, "-m", "clue_cli", "scan", str(evidence), "--out", str(out), "--batch", str(batch)]
        command += ["--model", str(model), "--device", self.device, "--dtype", name, "--quiet"]
        subprocess.run(command, check=True)
        return float(json.loads((out / "run.json").read_text("utf-8"))["seconds"])

    def training(self, preset: Preset) -> dict[str, float]:
        """Images a second and memory of a training step at batch 1: bfloat16 base, float32 where it learns."""
        torch.manual_seed(0)
        model = build(preset, self.device)
        adapt(model)
        hold_frozen(model, torch.bfloat16)
        weights = sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers())) / 1e9
        keep_less(model.train())
        self.reset()
        x, noise = self.tile(model, 1)
        truth = (torch.rand(1, 1, *x.shape[-2:], device=self.device) > 0.9).float()
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)

        def step() -> None:
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast(self.device.split(":")[0], torch.bfloat16):
                logits = model(x, noise)
            (bce_loss(logits, truth) + dice_loss(logits, truth)).backward()  # type: ignore[no-untyped-call]
            optimizer.step()

        seconds = self.seconds(step)
        return {"images_per_second": 1 / seconds, "weights_gb": weights, "peak_gb": self.peak_gb()}


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
        "command": " ".join(["python scripts/bench_gpu.py", *sys.argv[1:]]),
    }


def markdown(document: dict[str, Any]) -> str:
    """The table, and what it was measured on."""
    where = document["machine"]
    lines = [
        f"{where['card']}, {where['date'][:10]}, {where['dtype']}, torch {where['torch']}, "
        f"plain matmul {document['matmul_tflops']:.3g} TFLOP/s. `{where['command']}`",
        "",
        "| preset | tile | levels | batch | how | tiles/s | TFLOP/s | of matmul | peak GB "
        "| plain tiles/s (ours) | scan tiles/s (of ours) | ms |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in document["rows"]:
        parts = ", ".join(f"{part} {value:.1f}" for part, value in row["milliseconds"].items())
        ours, plain, scan = (row[f"{what}tiles_per_second"] for what in ("", "plain_", "scan_"))
        cells = [row["preset"], f"{row['size']}²", row["levels"], row["batch"], row["how"]]
        cells += [f"{ours:.3g}", f"{row['tflops']:.3g}", f"{row['of_matmul']:.0%}", f"{row['peak_gb']:.2f}"]
        cells += ["–" if plain is None else f"{plain:.3g} ({ours / plain:.2f}×)"]
        cells += ["–" if scan is None else f"{scan:.3g} ({scan / ours:.0%})"]
        lines.append("| " + " | ".join(map(str, [*cells, parts or "–"])) + " |")
    for preset, step in document["training"].items():
        rate, weights, peak = (step[key] for key in ("images_per_second", "weights_gb", "peak_gb"))
        lines.append(
            f"\nTraining step of {preset}, batch 1: {rate:.3g} images/s, peak {peak:.2f} GB, weights {weights:.2f} GB."
        )
    return "\n".join(lines) + "\n"


def plot(rows: list[dict[str, Any]]) -> str:
    """Bars of tiles a second, ours above the plain composition, as SVG."""
    most = max(max(row["tiles_per_second"], row["plain_tiles_per_second"] or 0) for row in rows)
    parts = []
    for number, row in enumerate(rows):
        top = 30 + 46 * number
        label = f"{row['preset']}, {row['levels']} levels, batch {row['batch']}, {row['how']}"
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
    parser.add_argument("--size", type=int, default=1024, help="side of a tile in pixels, at most the preset's")
    parser.add_argument("--matmul", type=int, default=8192, help="side of the matrices of the plain product")
    parser.add_argument("--repeats", type=int, default=5, help="counted runs of each measurement")
    parser.add_argument("--images", type=int, help="of the end-to-end scan; default: 256 on CUDA, 16 on the CPU")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument(
        "--compile", nargs="+", choices=get_args(Compile), default=[], help="rows with torch.compile, too"
    )
    for part in ("plain", "scan", "training"):
        parser.add_argument(f"--no-{part}", dest=part, action="store_false", help=f"leave {part} out")
    parser.add_argument("--out", type=Path, default=Path(), help="folder of the results")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Measure, print, write; returns the exit code."""
    bench = Bench(arguments(argv))
    options = bench.options
    if options.compile:
        try:
            require_compiler()
        except CompilerMissing as error:
            raise SystemExit(f"--compile: {error}") from error
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
            same = (row for row in measured if (row.levels, row.how) == (len(preset.noise.levels), "eager"))
            for row in same:
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
