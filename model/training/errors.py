"""What can end a training early, each with what to do about it.

TrainingError
 ├── OptionsError         an option, a preset or the data cannot be trained with
 ├── OtherSettingsError   the runs folder belongs to a training with other settings
 ├── NotFiniteError       a loss or a gradient was NaN or infinite; the batch is saved
 ├── CannotWriteError     a full disk, missing permissions; what was written before is whole
 └── ResourcesError       no memory, or a worker that died
"""

from __future__ import annotations

from model.errors import UserError


class TrainingError(UserError):
    """A training that cannot start or go on."""


class OptionsError(TrainingError):
    """An option, a preset or the data cannot be trained with."""


class OtherSettingsError(TrainingError):
    """The runs folder belongs to a training with other settings."""


class NotFiniteError(TrainingError):
    """A loss or a gradient was NaN or infinite."""

    exit_code = 7


class CannotWriteError(TrainingError):
    """The runs folder cannot be written. An earlier checkpoint, if there is one, is whole."""

    exit_code = 5


class ResourcesError(TrainingError):
    """The machine gave out: no memory, or a worker that died."""

    exit_code = 7
