"""The root of every error that a user sees in one sentence.

    ClueError                   70   a defect of the installation or the machine
     ├── UserError               2   an option, a file or a device of the user's that cannot be used
     │    ├── ConfigError          (model.config) a file of keys and values
     │    ├── TrainingError        (model.training.errors) 2 options, 5 output, 7 NaN loss or out of memory
     │    ├── EvaluationError      (model.evaluation.benchmarks) a benchmark or a result
     │    └── AttackError, ToolError, DeviceError, NoCalibrationError, DamagedFileError, QueryError
     └── WeightsError            4   weights that are missing, damaged or of another model
          ├── CheckpointError      (model.checkpoint), BaseWeightsError below it
          └── BasesError           (model.registry)

`clue_cli.errors` lists the exit codes and has the errors of the commands.
"""

from __future__ import annotations


class ClueError(Exception):
    """An error described in one sentence, with advice on what to do next.

    Attributes:
        exit_code: of `clue`, as in `clue_cli.errors.ExitCode`; the class sets it.
        advice: a sentence, None if there is none; the class may set a default.
    """

    exit_code = 70
    advice: str | None = None

    def __init__(self, message: str, advice: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        if advice is not None:
            self.advice = advice

    def __str__(self) -> str:
        return self.message  # which whoever catches it may have added to


class UserError(ClueError):
    """An option, a file or a device of the user's that cannot be used."""

    exit_code = 2


class WeightsError(ClueError):
    """Weights are missing, damaged, or of another model."""

    exit_code = 4
