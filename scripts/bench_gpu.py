"""Measure how fast a network runs, against what the chip can do and against the same modules put together plainly.

Random weights of the true sizes; per preset, number of noise levels and batch, on tiles no larger than the preset's:

    rate          tiles a second, counted TFLOP/s, their ratio to the machine's own matmul rate, peak memory; eager, on
                  a GPU replayed as a CUDA graph, as a scan does it, and with --compile as separate rows
    parts         milliseconds of the VAE, the MM-DiT, SAM and the head
    plain         the same modules with stock attention, unmerged adapters, eager, one tile at a time
    scan          `clue scan` end to end on generated folders, beside the bare network; what one of a quarter of the
                  images takes is subtracted, so that starting and loading do not count
    training      one training step: adapters (or what the preset trains), bfloat16, checkpointing, batch 1; of mini all
                  weights, a batch of 128 samples of 256², without checkpointing
    profile       with --profile: the kernels (on the CPU: operators) that take the most time in the network at the most
                  levels and the largest batch, in its training step and in that of mini

Prints a Markdown table, and writes bench_gpu.json, bench_gpu.md and bench_gpu.svg to --out.

--quick measures one preset at batch 4 with one and three levels, eager, replayed and compiled, both training steps and
a scan, within 60 seconds after the imports; with --profile too, within 215. Each part has a deadline. What does not fit
is named in place of a figure; a part is measured whole or not at all, and the files are written after each.

    python scripts/bench_gpu.py                                   sd3-medium on a CUDA card, mini on the CPU
    python scripts/bench_gpu.py --presets sd3-medium sd3.5-medium --batches 1 4 8 --compile blocks graphs
    python scripts/bench_gpu.py --quick --profile                 four minutes of a card
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
from typing import Any, cast, get_args

import numpy as np
import torch
from gpu_profile import Budget, costliest, table
from PIL import Image
from segment_anything.modeling.image_encoder import Attention, Block
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from model.branches.joint_block import JointBlock
from model.branches.network import BranchNetwork
from model.branches.sam_block import SamAttention, SamBlock
from model.branches.sd3_network import SD3Network
from model.branches.sd3_transformer import JointTransformerBlock
from model.calibration import Calibration
from model.clue import CLUE, adapt, build
from model.cuda_graphs import EAGER_CALLS, Graphs
from model.device import Compile, CompilerMissing, compile_network, require_compiler, resolve
from model.float8 import weights_format
from model.losses import bce_loss, dice_loss
from model.preset import Preset
from model.presets import PRESETS
from model.rectified_flow import noise_levels
from model.storage import save
from model.training.network import hold_frozen, keep_less

WARMUP = 2
"""Runs that are not counted: kernels are chosen and memory is laid out in them."""
REPLAYED = "replayed"
"""As a scan runs the network on a GPU: CUDA graphs of the eager kernels."""
TRAINED = {"mini": (128, 256)}
"""Samples in a training step and their side in pixels; of other presets one sample of the side of a tile."""
QUICK, QUICK_PROFILE = 60.0, 215.0
"""Seconds of --quick, alone and with --profile."""


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
            block.__class__ = JointTransformerBlock  # type: ignore[assignment]


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
        self.device, dtype = resolve(options.device, options.dtype)
        self.dtype = weights_format(dtype)
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
        with torch.inference_mode(False):  # else its weights would not count changes, and no constants be kept of them
            model = build(preset, self.device).to(self.dtype).eval().requires_grad_(False)
            return model.to(memory_format=torch.channels_last)

    def side(self, preset: Preset) -> int:
        """Of a tile in pixels: what was asked for, as far as the preset goes."""
        asked: int = self.options.size
        return min(asked, preset.tile.size)

    def tile(self, model: CLUE, batch: int, side: int | None = None) -> tuple[Tensor, Tensor]:
        """A batch of tiles, of the preset's side unless another is given, and their noise."""
        side = side or self.side(model.preset)
        shape = model.latent_shape(side, side)
        x = torch.rand(batch, 3, side, side, device=self.device).contiguous(memory_format=torch.channels_last)
        return x, torch.randn(batch, *shape, device=self.device)

    def rows(self, preset: Preset, matmul: float) -> Iterator[Row]:
        """All that is measured of one preset."""
        for levels in self.options.levels:
            chosen = with_levels(preset, levels)
            plain = self.plain(chosen)
            for how in ["eager", *([REPLAYED] if self.cuda else []), *self.options.compile]:
                yield from self.measured(chosen, how, matmul, plain)

    @torch.inference_mode()
    def measured(self, preset: Preset, how: str, matmul: float, plain: float | None = None) -> list[Row]:
        """One row for each batch.

        Args:
            preset: with its noise levels.
            how: `eager`, `replayed`, or as `compile_network` takes it.
            matmul: TFLOP/s of a plain product.
            plain: tiles a second of the plain composition.
        """
        side, levels, rows = self.side(preset), len(preset.noise.levels), []
        cost = flops(preset, side, side)["total"] / 1e12
        model = self.network(preset)
        run: Callable[..., Tensor] = model
        if how == REPLAYED:
            run = Graphs(model)
        elif how != "eager":
            torch.compiler.reset()
            compile_network(model, cast(Compile, how))
        for batch in self.options.batches:
            self.reset()
            x, noise = self.tile(model, batch)
            for _ in range(EAGER_CALLS + 1 if isinstance(run, Graphs) else 0):
                run(x, noise)
            if isinstance(run, Graphs) and not run.held:
                break  # it said why
            rate = batch / self.seconds(partial(run, x, noise))
            peak = self.peak_gb()
            row = Row(preset.name, side, levels, batch, how, rate, rate * cost, rate * cost / matmul, peak, plain)
            if how == "eager":
                row.milliseconds = self.parts(model, x, noise)
            rows.append(row)
        return rows

    def parts(self, model: CLUE, x: Tensor, noise: Tensor) -> dict[str, float]:
        """Milliseconds of each part for one tile of the batch; the head is the rest, fusion included."""
        found = {name: self.seconds(run) for name, run in stages(model, x, noise).items()}
        found["head"] = max(0.0, self.seconds(lambda: model(x, noise)) - sum(found.values()))
        return {part: 1000 * value / x.shape[0] for part, value in found.items()}

    @torch.inference_mode()
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
        """Images a second and memory of a training step: bfloat16 base, float32 where it learns."""
        step, batch, weights = self.training_step(preset)
        seconds = self.seconds(step)
        rate, peak = batch / seconds, self.peak_gb()
        return {"images_per_second": rate, "weights_gb": weights, "peak_gb": peak, "batch": batch}

    def training_step(self, preset: Preset) -> tuple[Callable[[], None], int, float]:
        """A step, its samples, and the gigabytes of the weights."""
        torch.manual_seed(0)
        model = build(preset, self.device)
        adapt(model)
        hold_frozen(model, torch.bfloat16)
        weights = sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers())) / 1e9
        model.to(memory_format=torch.channels_last).train()
        if preset.name not in TRAINED:
            keep_less(model)
        self.reset()
        batch, side = TRAINED.get(preset.name, (1, self.side(preset)))
        x, noise = self.tile(model, batch, min(side, self.side(preset)))
        truth = (torch.rand(batch, 1, *x.shape[-2:], device=self.device) > 0.9).float()
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)

        def step() -> None:
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast(self.device.split(":")[0], torch.bfloat16):
                logits = model(x, noise)
            (bce_loss(logits, truth) + dice_loss(logits, truth)).backward()  # type: ignore[no-untyped-call]
            optimizer.step()

        return step, batch, weights

    def profiles(self, preset: Preset) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
        """What --profile looks at: a title, and what gives the kernels (`gpu_profile.costliest`)."""
        levels, batch = max(self.options.levels), max(self.options.batches)

        @torch.inference_mode()
        def network() -> dict[str, Any]:
            model = self.network(with_levels(preset, levels))
            x, noise = self.tile(model, batch)
            return self.costliest(lambda: model(x, noise))

        def step(trained: Preset) -> dict[str, Any]:
            return self.costliest(self.training_step(trained)[0])

        yield f"Network of {preset.name}, {levels} levels, batch {batch}, eager", network
        for trained in {preset.name: preset, "mini": PRESETS["mini"]}.values():
            yield f"Training step of {trained.name}, batch {TRAINED.get(trained.name, (1,))[0]}", partial(step, trained)

    def costliest(self, action: Callable[[], object]) -> dict[str, Any]:
        """As `gpu_profile.costliest`, after the runs that are not counted."""
        for _ in range(WARMUP):
            action()
        self.wait()
        found = costliest(action, self.cuda)
        return found | {"kernels": [asdict(kernel) for kernel in found["kernels"]]}


def with_levels(preset: Preset, levels: int) -> Preset:
    """The preset with so many noise levels."""
    return replace(preset, noise=replace(preset.noise, levels=tuple(np.linspace(0.1, 0.5, levels).tolist())))


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
        memory = f"peak {peak:.2f} GB, weights {weights:.2f} GB"
        lines.append(f"\nTraining step of {preset}, batch {step['batch']}: {rate:.3g} images/s, {memory}.")
    lines += [f"\n{table(title, found)}" for title, found in document["profiles"].items()]
    if document["left_out"]:
        lines.append(f"\nNot measured: {'; '.join(document['left_out'])}.")
    return "\n".join(lines) + "\n"


def plot(rows: list[dict[str, Any]]) -> str:
    """Bars of tiles a second, ours above the plain composition, as SVG."""
    if not rows:
        return '<svg xmlns="http://www.w3.org/2000/svg" width="740" height="40"/>\n'
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
    parser.add_argument("--profile", action="store_true", help="the kernels that take the most time, too")
    parser.add_argument("--quick", action="store_true", help="what matters, in 60 s; with --profile in 215 s")
    for part in ("plain", "scan", "training"):
        parser.add_argument(f"--no-{part}", dest=part, action="store_false", help=f"leave {part} out")
    parser.add_argument("--out", type=Path, default=Path(), help="folder of the results")
    return parser.parse_args(argv)


def write(document: dict[str, Any], out: Path) -> str:
    """The three files; returns the table."""
    out.mkdir(parents=True, exist_ok=True)
    text = markdown(document)
    (out / "bench_gpu.json").write_text(json.dumps(document, indent=2) + "\n", "utf-8")
    (out / "bench_gpu.md").write_text(text, "utf-8")
    (out / "bench_gpu.svg").write_text(plot(document["rows"]), "utf-8")
    return text


def quick(bench: Bench, preset: Preset, document: dict[str, Any], budget: Budget) -> Iterator[None]:
    """Fill the document, what matters most first; yields after each part."""
    options = bench.options
    own = len(preset.noise.levels)  # a scan has no others
    options.batches, options.levels = [4], sorted({1, 3, own})
    options.repeats, options.images = min(options.repeats, 3), 64
    matmul, training = document["matmul_tflops"], {preset.name: preset, "mini": PRESETS["mini"]}
    eager: list[Row] = []
    # Most seconds of each part; compilation, which may not fit, comes last.
    for how in ["eager", *([REPLAYED] if bench.cuda else [])]:
        for levels in options.levels:
            with budget.part(f"{how}, {levels} levels", 20) as begun:
                if begun:
                    found = bench.measured(with_levels(preset, levels), how, matmul)
                    document["rows"] += map(asdict, found)
                    eager += found if how == "eager" else []
            yield
    for name, trained in training.items() if options.training else ():
        with budget.part(f"training step of {name}", 20) as begun:
            if begun:
                document["training"][name] = bench.training(trained)
        yield
    for title, look in bench.profiles(preset) if options.profile else ():
        with budget.part(f"profile: {title}", 25) as begun:
            if begun:
                document["profiles"][title] = look()
        yield
    same = next((row for row in eager if row.levels == own), None)
    if options.scan:
        with budget.part("scan", 60) as begun:
            if begun and same is None:
                budget.left_out.append("scan (the bare network was not measured)")
            elif begun and same is not None:
                place = next(i for i, row in enumerate(document["rows"]) if row == asdict(same))
                document["rows"][place]["scan_tiles_per_second"] = bench.scan(preset, same.batch)
        yield
    for levels in reversed(options.levels):
        for how in options.compile:
            with budget.part(f"{how}, {levels} levels", 75) as begun:
                if begun:
                    document["rows"] += map(asdict, bench.measured(with_levels(preset, levels), how, matmul))
            yield


def main(argv: list[str] | None = None) -> int:
    """Measure, print, write; returns the exit code."""
    bench = Bench(arguments(argv))
    options = bench.options
    budget = Budget((QUICK_PROFILE if options.profile else QUICK) if options.quick else None)
    if options.compile:
        try:
            require_compiler()
        except CompilerMissing as error:
            raise SystemExit(f"--compile: {error}") from error
    names = options.presets or (["sd3-medium"] if bench.cuda else ["mini"])
    for name in names:
        if options.size % PRESETS[name].tile.multiple:
            raise SystemExit(f"--size {options.size} is no multiple of {PRESETS[name].tile.multiple}, as {name} needs")
    document: dict[str, Any] = {"machine": machine(bench), "matmul_tflops": bench.matmul_tflops()}
    document |= {"rows": [], "training": {}, "profiles": {}, "left_out": budget.left_out}
    if options.quick:
        options.compile = options.compile or (["blocks"] if _can_compile() else [])
        for _ in quick(bench, PRESETS[names[0]], document, budget):
            write(document, options.out)
    else:
        for name in names:
            everything(bench, PRESETS[name], document)
    print(write(document, options.out))
    return 0


def _can_compile() -> bool:
    try:
        require_compiler()
    except CompilerMissing:
        return False
    return True


def everything(bench: Bench, preset: Preset, document: dict[str, Any]) -> None:
    """All that is asked for of one preset, into the document."""
    options = bench.options
    measured = list(bench.rows(preset, document["matmul_tflops"]))
    if options.scan:
        # The preset's own noise levels: the row that is compared with must have as many.
        same = (row for row in measured if (row.levels, row.how) == (len(preset.noise.levels), "eager"))
        for row in same:
            row.scan_tiles_per_second = bench.scan(preset, row.batch)
    if options.training:
        document["training"][preset.name] = bench.training(preset)
    if options.profile:
        document["profiles"] |= {title: look() for title, look in bench.profiles(preset)}
    document["rows"] += map(asdict, measured)


if __name__ == "__main__":
    sys.exit(main())
