"""Translates errors of `model` into `ClueError`s, with exit code and advice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from clue_cli.errors import ClueError, OutputError, TrainingFailed, UsageError, WeightsError
from model.training.errors import CannotWriteError, NotFiniteError, ResourcesError, TrainingError


@contextmanager
def told() -> Iterator[None]:
    """Translate errors of a training into `ClueError`s, which `clue_cli.app.run` prints."""
    try:
        yield
    except TrainingError as error:
        kinds: dict[type[TrainingError], type[ClueError]] = {
            CannotWriteError: OutputError,
            NotFiniteError: TrainingFailed,
            ResourcesError: TrainingFailed,
        }
        raise kinds.get(type(error), UsageError)(error.message, error.advice) from error
    except ModuleNotFoundError as error:
        if error.name not in ("accelerate", "cv2"):
            raise
        raise UsageError(
            f"Training needs {error.name}, which is not installed.", "Install the extra: clue-forensics[train]."
        ) from error
    except Exception as error:
        advice = _advice(error)
        if advice is None:
            raise
        kind, words = advice
        raise kind(f"{str(error).rstrip('.')}.", words) from error


def _advice(error: Exception) -> tuple[type[ClueError], str] | None:
    """Class and advice for errors of modules that only training imports; None for other errors."""
    from model.checkpoint import CheckpointError
    from model.config import ConfigError
    from model.images.pixels import DamagedFileError
    from model.registry import BasesError

    if isinstance(error, CheckpointError):
        return WeightsError, "--init needs a folder with model.json and model.safetensors of the same preset."
    if isinstance(error, BasesError):
        return WeightsError, "`clue models add` registers the weights of SD3 and SAM; --init starts from a model."
    if isinstance(error, ConfigError):
        return UsageError, "model/data/MIX.md describes a mix, model/presets/spec.py a preset; --dry-run checks both."
    return (UsageError, "Check the images of the mix.") if isinstance(error, DamagedFileError) else None
