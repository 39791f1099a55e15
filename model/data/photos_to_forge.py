"""The photos of a `forge` source: those of one side, listed first and decoded when they are needed."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path

from model.data.mix import Forge, Mix, Validation
from model.data.photo_bank import PhotoBank, bank_of
from model.data.picture_files import DamagedFileError, picture_size
from model.data.sides import Side, side_of_photo

SMALLEST_SIDE, LONGEST = 32, 16
"""Of a photo to forge from: pixels of the shorter side, and how many times it goes into the longer one. A crop needs
the shorter side enlarged to its own, and the longer one with it."""


def photos_to_forge(
    data: Forge, side: Side, split: Validation, cache: Path, keep: Callable[[Path], bool] = lambda path: True
) -> PhotoBank:
    """One side of the photos of a `forge` source and their cut-outs, not decoded yet (`PhotoBank.prepare`).

    Args:
        data: the source.
        side: the side that is wanted.
        split: which photos are held out.
        cache: folder that `prepare` decodes the photos into.
        keep: asked for each photo of the side whether it is wanted.
    """
    masks = [(m.folder, m.prefix) for m in data.masks]
    bank = bank_of(data.photos, masks, cache, share=0.0, validation=False)
    return bank.part([i for i, path in enumerate(bank.paths) if side_of_photo(path.stem, split) == side and keep(path)])


def check_photo(path: Path, size: tuple[int, int]) -> tuple[int, int]:
    """The height and width of a photo, if it can be forged from.

    Raises:
        DamagedFileError: it is too small or too long.
    """
    shorter, longer = sorted(size)
    if shorter < SMALLEST_SIDE or longer > LONGEST * shorter:
        raise DamagedFileError(
            f"{path}: {size[1]}×{size[0]} pixels; to forge from, a photo needs {SMALLEST_SIDE} on each side, "
            f"and one side at most {LONGEST} times the other"
        )
    return size


def readable(mix: Mix, problems: list[str]) -> Callable[[Path], bool]:
    """Whether a photo's header is readable and its size within the limits; the bank itself knows no limits.

    Args:
        mix: says how many pixels it may have.
        problems: what is not is added to them.
    """

    def check(photo: Path) -> bool:
        try:
            check_photo(photo, picture_size(photo, mix.max_megapixels))
        except DamagedFileError as error:
            problems.append(str(error))
            return False
        return True

    return check


def decode(bank: PhotoBank, problems: list[str]) -> bool:
    """Decode the photos of a bank. False: not one can be.

    Photos that cannot be read, and object masks that belong to none, are added to the problems.

    Raises:
        OSError: the cache cannot be written; it names the folder.
    """
    problems += bank.unmatched
    if not bank.paths:
        return False
    try:
        bank.prepare()
    except ValueError:  # not one of them could be read
        return False
    except OSError as error:
        raise OSError(error.errno, f"no room for the decoded photos ({error.strerror})", str(bank.cache)) from error
    finally:
        problems += bank.left_out
    return True


def temporary_cache(owner: object) -> Path:
    """A new folder for decoded photos, which goes when its owner does."""
    folder = Path(tempfile.mkdtemp(prefix="clue-photos-"))
    weakref.finalize(owner, _remove, folder, os.getpid())
    return folder


def _remove(folder: Path, owner: int) -> None:
    """Remove the decoded photos, unless this is a forked worker, whose owner is only a copy."""
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)
