"""What can go wrong in a training, as a person is told it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from clue_cli.errors import ClueError, OutputError, TrainingFailed, UsageError, WeightsError
from model.training.errors import CannotWriteError, NotFiniteError, ResourcesError, TrainingError


@contextmanager
def told() -> Iterator[None]:
    """Turn what can go wrong in a training into what `clue_cli.app.run` shows, with its exit code."""
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
    """Errors of modules that only a training imports, told apart where they have been imported."""
    from model.checkpoint import CheckpointError
    from model.data.yaml_reader import MixError
    from model.images.pixels import DamagedFileError
    from model.presets.files import PresetError
    from model.registry import BasesError

    if isinstance(error, CheckpointError):
        return WeightsError, "Give --init a folder with model.json and model.safetensors of the same preset."
    if isinstance(error, BasesError):
        return WeightsError, "`clue models add` registers the weights of SD3 and SAM; --init starts from a model."
    if isinstance(error, MixError):
        return UsageError, "model/data/MIX.md describes the file; --dry-run shows what is found."
    if isinstance(error, DamagedFileError):
        return UsageError, "Look at the pictures of the mix."
    return (UsageError, "model/presets/spec.py says what each key means.") if isinstance(error, PresetError) else None
