"""The network of a measurement, built when it is first needed."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from clue_cli.eval.methods import Method
from clue_cli.eval.options import EvalOptions
from clue_cli.scan.network import check_compile, find_device, find_model, load_predictor
from clue_cli.scan.options import ScanOptions
from clue_cli.terminal import printable

if TYPE_CHECKING:
    from model.predictor import Predictor


class Network:
    """A model and where it runs; its weights are read when `predictor` is asked for.

    Raises:
        WeightsError: there is no such model.
        UsageError: no such device, or no compiler where it is to be compiled.
    """

    def __init__(self, options: EvalOptions) -> None:
        self.checkpoint = find_model(options.model)
        self.device, self.dtype = find_device(options.device, options.dtype)
        check_compile(options.compile)
        self.compile = options.compile

    @property
    def method(self) -> Method:
        """As a line of the tables."""
        details = {
            "device": self.device.partition(":")[0],
            "dtype": str(self.dtype).removeprefix("torch."),
            "calibration": self.checkpoint.calibration.name,
        }
        if self.compile is not None:  # its maps differ in their last bits
            details["compile"] = self.compile.value
        return Method(printable(self.checkpoint.preset.name), "network", self.checkpoint.digest, details)

    @cached_property
    def predictor(self) -> Predictor:
        """Raises WeightsError, or UsageError where the device has not the memory for it."""
        return load_predictor(self.checkpoint, self.device, self.dtype, ScanOptions(compile=self.compile))
