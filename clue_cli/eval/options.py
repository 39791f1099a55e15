"""What a person can choose about a measurement. Light: the command line is declared with it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from clue_cli.networks import DEFAULT_METHOD, NetworkOptions

NETWORK = "mini"
"""The word of `--method` for the network, whichever `--model` names."""
FUNCTIONS = {
    "ela": "error level analysis",
    "ghosts": "JPEG ghosts",
    "noise": "noise inconsistency",
}
"""Words of `--method` for the classical methods, and their full names."""
SETS_OF_METHODS = {"classical": tuple(FUNCTIONS), "baselines": ()}
"""Words for several at once. The baselines are in every table anyway."""
METHODS = (NETWORK, *FUNCTIONS, *SETS_OF_METHODS)
Task = Literal["localization", "synthetic"]
MethodKind = Literal["network", "predictions", "classical", "baseline", "probe"]
"""What a method is; baselines and the probe stand beside the others for comparison."""

ATTACKS = {
    "jpeg:70": "JPEG of quality 70, from 1 to 100",
    "webp:60": "lossy WebP of quality 60",
    "double-jpeg:90,70": "JPEG 90, then JPEG 70",
    "blur:5": "Gaussian blur, kernel 5×5 pixels; an odd number",
    "noise:7": "Gaussian noise of variance 7, in grey levels squared",
    "resize:0.5": "both sides by this factor",
    "social:NAME": "simulated upload: facebook-like, whatsapp-like, weibo-like, wechat-like",
    "grid:NAME": "several: imdl-blur, imdl-noise, imdl-jpeg, resize, webp, double-jpeg, social",
    "resize:0.5+jpeg:70": "one after the other",
}
"""Examples of `--attack`, with their units."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalOptions(NetworkOptions):
    """Everything that `clue eval` measures, and how; not where to write, nor which messages to show.

    Attributes:
        task: which question is measured: where a picture was edited, or whether the whole of it was generated.
        bench: names of benchmarks, `all`, or paths; of the synthetic task paths alone.
        root: where the benchmarks lie.
        attacks: as `model.data.attacks` reads them; none: the pictures as they are.
        bars: a YAML file, or `mini`: what the figures are compared with; its sets and attacks are measured if none are
            given.
        methods: words of `METHODS`; none: the network, or the predictions alone. Of the synthetic task: methods as
            `model.synthetic.describe` takes them; none: `DEFAULT_METHOD`, or the predictions alone.
        predictions: a folder with another method's maps; of the synthetic task a CSV with its scores.
        limit: maximum number of images per set.
        seed: of the attacks, of the choice of images, and of the bootstrap.
        strict: whether a problem ends the run.
        max_megapixels: larger images are not decoded (10⁶ pixels).
        overwrite: discard what earlier measurements wrote.
        command_line: the words as they were typed, printable.
    """

    task: Task = "localization"
    bench: tuple[str, ...] = ()
    root: Path | None = None
    attacks: tuple[str, ...] = ()
    bars: str | None = None
    methods: tuple[str, ...] = ()
    predictions: Path | None = None
    limit: int | None = None
    seed: int = 0
    strict: bool = False
    max_megapixels: float = 250.0
    overwrite: bool = False
    command_line: tuple[str, ...] = ()

    @property
    def network(self) -> bool:
        """Whether the network is measured."""
        if self.task != "localization":
            return False
        return NETWORK in self.methods or (not self.methods and self.predictions is None)

    @property
    def detectors(self) -> tuple[str, ...]:
        """Methods of the synthetic task that are measured, each once."""
        if self.task != "synthetic":
            return ()
        return tuple(dict.fromkeys(self.methods or (() if self.predictions else (DEFAULT_METHOD,))))

    @property
    def functions(self) -> tuple[str, ...]:
        """Full names of the classical methods that were asked for, each once."""
        words = [word for name in self.methods for word in SETS_OF_METHODS.get(name, (name,))]
        return tuple(dict.fromkeys(FUNCTIONS[word] for word in words if word in FUNCTIONS))
