"""The root of all errors that the user can be told about in one sentence.

UserError
 ├── WeightsProblem              weights that are missing, damaged or of another model
 │    ├── CheckpointError      (model.checkpoint), BaseWeightsError below it
 │    └── BasesError           (model.registry)
 ├── ConfigError               a file of the user's (model.config)
 ├── TrainingError             a training that cannot start or go on (model.training.errors)
 ├── EvaluationError           a benchmark or a result (model.evaluation.problems)
 ├── AttackError, ToolError, DeviceError, NoCalibrationError, DamagedFileError
 └── clue_cli.errors.ClueError, which also has an exit code
"""

from __future__ import annotations


class UserError(Exception):
    """An error described in one sentence, with advice on what to do next where there is some."""

    def __init__(self, message: str, advice: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.advice = advice


class WeightsProblem(UserError):
    """Weights that are missing, damaged or of another model."""
