"""Make a model of weights of `mini`: operating point, score and thresholds, as `clue train --recipe mini` in the end.

    python scripts/finish_mini.py --data DATA --out FOLDER [--weights average-0.999.safetensors] [--scale 0.5]

DATA holds photos/ and screens/ as for `clue eval --bench made`. All is fitted on the photos that are held out there,
and on other forgeries of them than are measured there. Writes a model folder, and into it finish.json: what is marked,
and the verdicts on each half of the sources by what was fitted on the other half, as the tables of the model card and
`error_rates.yaml` state them of untouched pictures; of forgeries they state what `clue eval --bars mini` counts.
"""

from __future__ import annotations

import argparse
import json
import threading
from pathlib import Path

import torch
from safetensors.torch import load_file

from clue_cli.progress import ShownReporter
from model.calibration import Calibration
from model.checkpoint import inspect
from model.data.made_pictures import MadePictures
from model.evaluation.made import held_out_materials
from model.presets import PRESETS
from model.storage import load, save
from model.training.finish import finish, operated
from model.training.options import read_options


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--weights", type=Path, help="without an operating point; if left out, those of the package")
    parser.add_argument("--scale", type=float, default=0.5, help="of the numbers of made pictures in the recipe")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    preset, shipped = PRESETS["mini"], inspect("mini")
    model = load(shipped, "cpu", torch.float32)
    model.preset, training = preset, dict(shipped.training)
    if args.weights is not None:
        model.load_state_dict({key: value.float() for key, value in load_file(args.weights).items()})
        training = {"recipe": "scripts/train_on_pool.py; see the model card"}
    args.out.mkdir(parents=True, exist_ok=True)
    save(args.out, model, Calibration(), training, as_one=True)
    recipe = read_options("mini", minutes=1.0).finish  # the length is asked for and has no effect
    assert recipe is not None
    samples = round(args.scale * sum(recipe.counts.values()))
    pictures = MadePictures(held_out_materials(args.data))
    with ShownReporter() as reporter:
        calibration, row = operated(
            [args.out], pictures, preset, recipe, samples, args.device, threading.Event(), reporter
        )
    finish(args.out, calibration)
    text = json.dumps(row, indent=1)
    (args.out / "finish.json").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
