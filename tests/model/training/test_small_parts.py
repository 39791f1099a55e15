"""Schedule, loss weights, average, options, feed, display, validation: each by itself."""

from __future__ import annotations

import math
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from model.calibration import Calibration
from model.checkpoint import inspect
from model.errors import UserError
from model.evaluation.pixel_scores import Counts
from model.reporter import SILENT
from model.training.feed import Feed, batches
from model.training.finish import finish
from model.training.options import RECIPES, read_options, read_synthetic_options
from model.training.run_folder import Log, RunFolder, read_log
from model.training.schedule import FLOOR, Average, LossWeights, learning_rate
from model.training.steps import StepStatus, seed_step
from model.training.validation import by_source, fixed_batches, measure, summarize, validation_line, write_samples
from tests.model.training.made import QUICK, Squares, Stopper, options
from tests.tiny_model import write_tiny_model


class TestSchedule:
    @pytest.mark.parametrize(
        ("progress", "warmup", "share"),
        [(0, 0.1, FLOOR), (0.1, 0.1, 1), (0.55, 0.1, (1 + FLOOR) / 2), (1, 0.1, FLOOR), (0, 0, 1), (1, 1, FLOOR)],
    )
    def test_known_points(self, progress: float, warmup: float, share: float) -> None:
        assert learning_rate(2e-3, progress, warmup) == pytest.approx(2e-3 * share)


class TestLossWeights:
    @pytest.mark.parametrize(
        ("precision", "recall", "gains"), [(0.8, 0.4, "dice"), (0.4, 0.8, "bce"), (0.5, 0.5, "neither")]
    )
    def test_what_lags_gains(self, precision: float, recall: float, gains: str) -> None:
        before = LossWeights(0.4, 1.0)
        after = before.after(precision, recall, 0.2)
        assert after.bce + after.dice == pytest.approx(1.4)
        moved = after.dice - before.dice
        assert {"dice": moved > 0.01, "bce": moved < -0.01, "neither": abs(moved) < 1e-12}[gains]

    def test_one_validation_moves_only_so_far(self) -> None:
        after = LossWeights(1.0, 1.0).after(1.0, 1e-9, 0.2)
        assert math.log(after.dice / after.bce) == pytest.approx(0.2)

    @pytest.mark.parametrize(("precision", "recall", "share"), [(1.0, 1e-9, 0.9), (1e-9, 1.0, 0.1)])
    def test_neither_loss_disappears(self, precision: float, recall: float, share: float) -> None:
        weights = LossWeights(0.4, 1.0)
        for _ in range(100):
            weights = weights.after(precision, recall, 1.0)
        assert weights.dice / 1.4 == pytest.approx(share)

    @pytest.mark.parametrize(("start", "rate"), [((0.0, 1.0), 0.2), ((1.0, 0.0), 0.2), ((0.4, 1.0), 0.0)])
    def test_what_is_fixed_stays(self, start: tuple[float, float], rate: float) -> None:
        assert LossWeights(*start).after(1.0, 0.1, rate) == LossWeights(*start)

    def test_a_start_beyond_the_limits_is_kept_and_can_come_back(self) -> None:
        start = LossWeights(0.99, 0.01)
        assert start.after(0.1, 1.0, 0.2).dice == pytest.approx(0.01)
        assert start.after(1.0, 0.1, 0.2).dice > 0.01


class TestAverage:
    def test_against_the_formula(self) -> None:
        torch.manual_seed(0)
        model = nn.Linear(3, 2)
        model.bias.requires_grad_(False)
        average = Average(model, 0.9)
        assert list(average.tensors) == ["weight"]
        expected = model.weight.detach().clone()
        for step in range(1, 300):
            with torch.no_grad():
                model.weight += 1
            average.update(step)
            keep = min(0.9, step / (step + 20))
            expected = keep * expected + (1 - keep) * model.weight.detach()
        assert torch.allclose(average.tensors["weight"], expected)
        own = model.weight.detach().clone()
        with average.applied():
            assert torch.allclose(model.weight, expected)
        assert torch.equal(model.weight, own)

    def test_with_a_share_of_the_start(self) -> None:
        model = nn.Linear(3, 2)
        start = model.weight.detach().clone()
        average = Average(model, 0.5, 0.25)
        with torch.no_grad():
            model.weight += 1
        average.update(1)
        own, mean = model.weight.detach().clone(), average.tensors["weight"].clone()
        with average.applied():
            assert torch.allclose(model.weight, 0.75 * mean + 0.25 * start)
        assert torch.equal(model.weight, own) and torch.equal(average.tensors["weight"], mean)

    def test_without(self) -> None:
        model = nn.Linear(3, 2)
        average, before = Average(model, 0.0), model.weight.detach().clone()
        average.update(1)
        with average.applied():
            assert torch.equal(model.weight, before)


class TestOptions:
    @pytest.mark.parametrize(
        ("typed", "said"),
        [
            ({"minutes": 5.0}, "Exactly one of --steps and --minutes"),
            ({"steps": None}, "Exactly one"),
            ({"steps": 0}, "--steps: found `0`; expected a number greater than or equal to 1"),
            ({"workers": -1}, "--workers: found `-1`; expected a number greater than or equal to 0"),
            ({"steps": None, "minutes": 0.0}, "--minutes: found `0.0`; expected a number greater than 0"),
            ({"precision": "fp8"}, "--precision: found `fp8`; expected 'no', 'bf16' or 'fp16'"),
            ({"seed": 2**63}, "--seed: found `9223372036854775808`; expected a number less than 9223372036854775808"),
        ],
        ids=str,
    )
    def test_what_is_refused_on_the_command_line(self, typed: dict[str, Any], said: str) -> None:
        with pytest.raises(UserError) as caught:
            read_options(**({"steps": 5} | typed))
        assert said in str(caught.value)

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            (["lr=0"], "--set lr: found `0`; expected a number greater than 0"),
            (["lr=nan"], "--set lr: found `nan`; expected"),
            (["lr=fast"], "--set lr: found `fast`; expected a number"),
            (["warmup=1.5"], "--set warmup: found `1.5`; expected a number less than or equal to 1"),
            (["ema=1"], "--set ema: found `1`; expected a number less than 1"),
            (["bce_weight=0", "dice_weight=0"], "bce_weight and dice_weight are both 0"),
            (["levels=0.1,2"], "--set levels[1]: found `2`; expected a number less than or equal to 1"),
            (["levels=nan"], "--set levels[0]: found `nan`"),
            (["levels=" + ",".join(["0.1"] * 65)], "found a list of 65; expected at most 64 values"),
            (["noise=pink"], "--set noise: found `pink`; expected 'rf', 'ddpm' or 'none'"),
            (["dice=pixel"], "--set dice: found `pixel`; expected 'batch' or 'image'"),
            (
                ["dise=image"],
                "unknown key `dise`; did you mean `dice`?; expected one of steps, minutes, batch",
            ),
            (["lr.peak=1"], "--set lr: found a mapping; expected a number"),
            (["lr"], "--set lr has no value"),
            (["made.native_kinds.paint=1"], "made.native_kinds.paint: found `paint`; expected 'authentic',"),
            (["made.small_sizes.60x64=1"], "--set made.small_sizes.60x64: found `60`; expected a multiple of 8"),
        ],
        ids=str,
    )
    def test_what_set_refuses(self, changes: list[str], said: str) -> None:
        with pytest.raises(UserError) as caught:
            read_options("mini" if changes[0].startswith("made.") else "default", changes, steps=5)
        assert said in str(caught.value)

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("lr: 0", "FILE, line 1, lr: found `0`; expected a number greater than 0"),
            ("clib: 1", "FILE, line 1, clib: unknown key `clib`; did you mean `clip`?"),
            ("lr: [", "FILE, line 1: expected the node content"),
            ("lr: 1\nlr: 2", "FILE, line 2, lr: found twice, first in line 1"),
            ("- lr", "FILE: no mapping; expected keys such as lr"),
            (None, "There is no recipe FILE"),
        ],
    )
    def test_what_a_recipe_refuses(self, tmp_path: Path, text: str | None, said: str) -> None:
        path = tmp_path / "own.yaml"
        if text is not None:
            path.write_text(text)
        with pytest.raises(UserError) as caught:
            read_options(str(path), steps=5)
        assert said.replace("FILE", str(path)) in str(caught.value)

    def test_what_counts_more(self, tmp_path: Path) -> None:
        """The default recipe, another one, --set, the command line."""
        path = tmp_path / "own.yaml"
        path.write_text("lr: 1e-3\nlevels: [0.1, 0.3]\nclip: 2\nbatch: 3\nminutes: 7\nshift: null\n")
        found = read_options(str(path), ["clip=3", "batch=4", "adapt_sam=lora"], batch=5)
        assert (found.lr, found.levels, found.clip, found.batch, found.minutes) == (1e-3, (0.1, 0.3), 3.0, 5, 7.0)
        assert (found.adapt_sam, found.shift, found.ema) == ("lora", None, 0.998)
        assert read_options(str(path), steps=2).minutes is None
        assert read_options("default", ["levels=0.1,0.5"], steps=1).levels == (0.1, 0.5)

    @pytest.mark.parametrize("recipe", sorted(path.stem for path in RECIPES.glob("*.yaml")))
    def test_recipes_of_the_package(self, recipe: str) -> None:
        if "task: synthetic" in (RECIPES / f"{recipe}.yaml").read_text("utf-8"):
            assert read_synthetic_options(recipe, steps=1, base="x").steps == 1
        else:
            assert read_options(recipe, steps=1).steps == 1

    @pytest.mark.parametrize("changes", [["steps=0"], ["steps=2", "minutes=1"], ["minutes=soon"]], ids=str)
    def test_a_dry_run_needs_no_length_but_refuses_a_wrong_one(self, changes: list[str]) -> None:
        assert read_options(dry_run=True).steps == 1
        assert read_options("default", ["minutes=3"], dry_run=True).steps is None
        with pytest.raises(UserError, match=r"--set (steps|minutes): found|Exactly one"):
            read_options("default", changes, dry_run=True)

    def test_progress(self) -> None:
        assert read_options(steps=10).progress(5, 1e9) == 0.5
        assert read_options(minutes=2).progress(10**9, 60) == 0.5
        assert read_options(steps=10).progress(11, 0) == 1

    def test_settings_are_those_of_version_0_1(self) -> None:
        """A run folder of that version is resumed: the same keys, and nothing that has no effect on the losses."""
        one = read_options(steps=1, levels=(0.1,))
        assert one.to_dict() == read_options(steps=1, levels=(0.1,), workers=9, save_every=3).to_dict()
        assert one.to_dict() == {
            "steps": 1, "minutes": None, "batch": 16, "accumulate": 1, "lr": 6e-4, "weight_decay": 0.03,
            "warmup": 0.015, "clip": 1.0, "ema": 0.998, "seed": 1, "precision": "no", "adapt_sd3": None,
            "adapt_sam": None, "noise": None, "shift": None, "levels": [0.1], "branches": "both", "fresh_head": False,
            "gradient_checkpointing": False, "bce_weight": 0.4, "dice_weight": 1.0, "dice": "batch",
            "weights_rate": 0.2, "validate_every": 500, "validation_samples": 192,
        }  # fmt: skip


class TestFeed:
    def test_a_batch_is_made_of_the_seed_and_its_number(self) -> None:
        feed = Feed(Squares(1), QUICK, 3, seed=4)
        first, again, other = feed[7], feed[7], Feed(Squares(1), QUICK, 3, seed=5)[7]
        assert all(torch.equal(a, b) for a, b in zip(first[1:4], again[1:4], strict=True))
        assert torch.equal(first.images, other.images)
        assert not torch.equal(first.noise, other.noise)
        assert not torch.equal(first.noise[0], first.noise[1])
        assert not torch.equal(first.noise, feed[8].noise)
        assert (first.images.shape, first.masks.shape) == ((3, 3, 64, 64), (3, 1, 64, 64))
        assert (first.noise.shape, first.matches) == ((3, 16, 8, 8), None)
        assert (first.images.dtype, first.masks.dtype) == (torch.uint8, torch.bool)
        x, noise, matches = first.to(torch.device("cpu"))
        assert torch.equal((x * 255).round().byte(), first.images)
        assert torch.equal(noise, first.noise) and matches is None

    def test_workers_change_nothing_and_ignore_ctrl_c(self) -> None:
        cv2.setNumThreads(4)
        cv2.GaussianBlur(np.zeros((2000, 2000, 3), np.uint8), (0, 0), 3)  # OpenCV's threads run before the fork
        feed = Feed(Squares(1), QUICK, 1, seed=4)
        alone = list(batches(feed, range(3, 12, 4), 0))
        helped = list(batches(feed, range(3, 12, 4), 2))
        assert [batch.number for batch in helped] == [3, 7, 11]
        assert all(torch.equal(a.images, b.images) for a, b in zip(alone, helped, strict=True))

    def test_larger_pictures_are_fewer(self) -> None:
        feed = Feed(Squares(1, sizes=((64, 64), (64, 96), (128, 128), (512, 512))), QUICK, 6, seed=4)
        assert [feed.count(index) for index in range(5)] == [6, 4, 1, 1, 6]
        assert [len(feed[index].images) for index in range(3)] == [6, 4, 1]

    def test_a_batch_without_a_sample_is_replaced(self) -> None:
        batch = Feed(Squares(1, damaged={5: 2}), QUICK, 2, seed=4)[5]
        assert (batch.number, len(batch.images), batch.problem) == (5, 2, "")
        assert batch.damaged == ["photo 5.jpg: truncated"]


class TestValidation:
    COUNTS = (Counts(30, 40, 50, 100), Counts(0, 0, 40, 100), Counts(0, 25, 0, 100))

    def test_counts_against_hand(self) -> None:
        found = summarize(self.COUNTS)
        assert (found.forged, found.authentic) == (2, 1)
        assert found.f1 == pytest.approx((2 * 30 / (60 + 30) + 0) / 2)
        assert found.iou == pytest.approx((30 / 60 + 0) / 2)
        assert found.marked_on_authentic == 0.25
        assert (found.precision, found.recall) == pytest.approx((31 / 66, 31 / 91))
        assert math.isnan(summarize([Counts(1, 1, 1, 4)]).marked_on_authentic)
        sources = by_source(self.COUNTS, ["small splice", "small splice", "screen"])
        assert sources == {"f1 small splice": pytest.approx(2 * 30 / 90 / 2), "marked screen": 0.25}

    def test_every_process_has_its_own_batches_and_at_least_one(self) -> None:
        numbers, reporter = [], Stopper(0)
        for rank in range(4):
            process: Any = SimpleNamespace(process_index=rank, num_processes=4)
            feed = Feed(Squares(2), QUICK, 3, 1)
            numbers += [one.number for one in fixed_batches(feed, options(validation_samples=3), process, reporter)]
        assert sorted(numbers) == [0, 1, 2, 3]
        assert reporter.stages == ["Making the validation samples"] * 4

    def test_measure_and_samples(self, tmp_path: Path) -> None:
        class Bright(nn.Module):
            def forward(self, x: torch.Tensor, noise: torch.Tensor, matches: None) -> torch.Tensor:
                assert not self.training
                return (x.mean(1, keepdim=True) - 0.55) * 100

        model, made = Bright().train(), list(batches(Feed(Squares(3), QUICK, 3, seed=1), range(2), 0))
        counts, maps = measure(model, made, torch.device("cpu"), shown=4)
        assert model.training
        assert len(counts) == 6
        assert summarize(counts).f1 > 0.9
        assert len(maps) == 4
        write_samples(tmp_path / "new" / "sheet.png", made, maps)
        assert (tmp_path / "new" / "sheet.png").read_bytes().startswith(b"\x89PNG")


class TestStepStatus:
    ROW = {"kind": "step", "step": 3, "loss": 0.5, "bce": 0.2, "dice": 0.3, "images": 8, "seconds": 61.0, "waited": 0.0}
    CHECK = {"step": 3, "f1": 0.25, "forged": 4, "authentic": 2, "marked_on_authentic": 0.01} | {
        "bce_weight": 0.4,
        "dice_weight": 1.0,
        "best": True,
    }

    def test_speed_losses_and_the_last_f1(self) -> None:
        status = StepStatus()
        assert status.after_validation(self.CHECK) == ""
        assert re.fullmatch(
            r"[\d.]+ images/s, loss 0.5000 \(BCE 0.2000, Dice 0.3000\), F1 0.250", status.after_step(self.ROW)
        )
        assert status.after_validation(self.CHECK | {"f1": 0.75}).endswith("Dice 0.3000), F1 0.750")

    def test_waiting_for_data_shows(self) -> None:
        assert "waiting for them" in StepStatus().after_step(self.ROW | {"waited": 9.0})

    def test_a_validation_in_words(self) -> None:
        line = "step 3: F1 0.2500 on 4 forged images, 1.00% of the area marked on 2 authentic ones"
        assert validation_line(self.CHECK) == f"{line}; weights of BCE 0.400, of Dice 1.000 (best so far)"


class TestLog:
    def test_rows_after_the_state_are_dropped_and_broken_ends_too(self, tmp_path: Path) -> None:
        folder = RunFolder(tmp_path)
        for step, kept in ((0, []), (2, [1, 2])):
            folder.log.write_text("".join(f'{{"kind": "step", "step": {n}}}\n' for n in (1, 2, 3)) + '{"kind": "st')
            with Log(folder, step, SILENT) as log:
                log.write({"kind": "validation", "step": 9, "f1": math.nan, "best": True})
            rows = read_log(folder.log)
            assert [row["step"] for row in rows] == [*kept, 9]
            assert rows[-1]["f1"] is None

    @pytest.mark.parametrize("name", ["caf\udce9.jpg", "two\u2028lines.jpg", "a\x85b\r\n.jpg"], ids=ascii)
    def test_names_of_any_kind(self, tmp_path: Path, name: str) -> None:
        rows: list[dict[str, Any]] = [{"kind": "damaged", "step": 1, "picture": name}, {"kind": "step", "step": 2}]
        folder = RunFolder(tmp_path)
        with Log(folder, 0, SILENT) as log:
            for row in rows:
                log.write(row)
        assert read_log(folder.log) == rows
        with Log(folder, 2, SILENT):
            pass
        assert read_log(folder.log) == rows

    @pytest.mark.parametrize("broken", [b"\xff\xfe\n", b"[]\n", b"{}\n", b'{"step": "1"}\n', b"[" * 100_000])
    def test_the_first_broken_line_ends_it(self, tmp_path: Path, broken: bytes) -> None:
        (tmp_path / "log.jsonl").write_bytes(b'{"kind": "step", "step": 1}\n' + broken)
        assert [row["step"] for row in read_log(tmp_path / "log.jsonl")] == [1]

    def test_tensorboard_may_be_absent(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
        notes = Stopper(0)
        with Log(RunFolder(tmp_path), 0, notes) as log:
            log.write({"kind": "step", "step": 1, "loss": 0.5})
        assert len(notes.said) == 1 and "extra `train`" in notes.said[0]
        assert [path.name for path in tmp_path.iterdir()] == ["log.jsonl"]


def test_dropout_depends_on_the_step_alone() -> None:
    draws = []
    for step, process in ((3, 0), (4, 0), (3, 1), (3, 0)):
        seed_step(1, step, process)
        draws.append(tuple(torch.rand(4).tolist()))
    assert draws[0] == draws[3]
    assert len(set(draws)) == 3


def test_finish_stores_a_calibration(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "model")
    finish(folder, Calibration(name="fitted", slope=2.0))
    assert inspect(str(folder)).calibration.slope == 2.0
    finish(folder, None, "too few photos")
    assert inspect(str(folder)).calibration == Calibration()
    assert inspect(str(folder)).training["no_confidence"] == "too few photos"
    finish(folder, Calibration(name="fitted"))
    assert "no_confidence" not in inspect(str(folder)).training
