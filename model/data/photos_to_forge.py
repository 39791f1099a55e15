"""The photos of a `forge` source: those of one side, listed first and decoded when they are needed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from model.data.mix import Forge, Mix, Validation
from model.data.photo_bank import PhotoBank, bank_of
from model.data.sides import Side, side_of_photo
from model.data.temporary_cache import temporary_cache as temporary_cache
from model.images.pixels import DamagedFileError, picture_size

SMALLEST_SIDE, LONGEST = 32, 16
"""Of a photo to forge from: pixels of the shorter side, and how many times it goes into the longer one. A crop needs
the shorter side enlarged to its own, and the longer one with it."""
MOST_DECODED = 4_000_000_000
"""So many bytes of decoded photos are written at most, for each source and side."""
FREE_SHARE = 0.25
"""So much of the free disk they may take."""

Size = tuple[int, int]
"""Height and width."""


def photos_to_forge(
    data: Forge, side: Side, split: Validation, cache: Path, keep: Callable[[Path], Size | None] | None = None
) -> PhotoBank:
    """One side of the photos of a `forge` source and their cut-outs, not decoded yet (`decode`).

    Args:
        data: the source.
        side: the side that is wanted.
        split: which photos are held out.
        cache: folder that photos may be decoded into.
        keep: asked for the height and width of each photo of the side; None: it is not wanted. All are by default.
    """
    masks = [(m.folder, m.prefix) for m in data.masks]
    bank = bank_of(data.photos, masks, cache, share=0.0, validation=False)
    kept = [i for i, path in enumerate(bank.paths) if side_of_photo(path.stem, split) == side]
    if keep is None:
        return bank.part(kept)
    sizes = {i: size for i in kept if (size := keep(bank.paths[i])) is not None}
    bank = bank.part(list(sizes))
    bank.sizes = list(sizes.values())
    return bank


def check_photo(path: Path, size: Size) -> Size:
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


def readable(mix: Mix, problems: list[str]) -> Callable[[Path], Size | None]:
    """The height and width of a photo whose header is readable, within the limits; the bank itself knows no limits.

    Args:
        mix: says how many pixels it may have.
        problems: what is not is added to them, and has no size.
    """

    def check(photo: Path) -> Size | None:
        try:
            return check_photo(photo, picture_size(photo, mix.max_megapixels))
        except DamagedFileError as error:
            problems.append(str(error))
            return None

    return check


def decode(bank: PhotoBank, problems: list[str], *, on_demand: bool = False) -> bool:
    """Make the photos of a bank ready to be drawn. False: not one can be.

    They are decoded into its cache, unless they would take more than MOST_DECODED bytes there: then each is decoded
    when it is drawn, and only then found to be damaged. Where FREE_SHARE of the disk holds less than they take, they
    are decoded once and not kept: a disk that fills changes no sample.

    Args:
        bank: the photos.
        problems: photos that cannot be read, object masks that belong to none, and files that are no pictures are
            added to them.
        on_demand: decode each when it is drawn, however few there are.

    Raises:
        OSError: the cache cannot be written; it names the folder.
    """
    problems += bank.unmatched
    if not bank.paths:
        return False
    try:
        room = 0 if on_demand else bank.decoded_bytes()
        if on_demand or room > MOST_DECODED:
            bank.prepare_on_demand()
        elif room > FREE_SHARE * free_bytes(bank.cache):
            bank.prepare_on_demand(decode=True)
        else:
            bank.prepare()
    except ValueError:  # not one of them could be read
        return False
    except OSError as error:
        raise OSError(error.errno, f"no room for the decoded photos ({error.strerror})", str(bank.cache)) from error
    finally:
        problems += bank.left_out
    return True


def free_bytes(folder: Path) -> int:
    """Free bytes of the disk that a folder is on, or will be, for each process that trains on this machine."""
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    processes = os.environ.get("LOCAL_WORLD_SIZE", "")  # set by `accelerate launch`
    return shutil.disk_usage(there).free // max(1, int(processes) if processes.isdecimal() else 1)
