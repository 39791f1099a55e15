"""What can end a training early, each with what to do about it."""

from __future__ import annotations

from model.errors import UserError


class TrainingError(UserError):
    """A training that cannot start or resume."""


class OptionsError(TrainingError):
    """An option, a preset or the data cannot be trained with."""


class OtherSettingsError(TrainingError):
    """The run folder belongs to a training with other settings."""


class NotFiniteError(TrainingError):
    """A loss or a gradient was NaN or infinite; the batch is saved."""

    exit_code = 7


class CannotWriteError(TrainingError):
    """The run folder cannot be written: a full disk, missing permissions. Earlier checkpoints are whole."""

    exit_code = 5


class ResourcesError(TrainingError):
    """Out of memory, or a worker that died."""

    exit_code = 7
