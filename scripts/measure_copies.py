"""How far apart perceptual hashes are: of copies of a photo, of different photos, of screens, and of pictures with
little in them. `results/groups.py` and `results/perceptual_hash.py` take their thresholds from it.

    python scripts/measure_copies.py [FOLDER…] [--shots NAME_PART] [--screens FOLDER] [--pages FOLDER]

Prints, for each kind of copy, the share that is within each distance of the original; for different pictures the
number of pairs; rates with 95 % intervals of Clopper and Pearson. Screens and pages are those of `make_screens.py`; a
page is compared with itself after some of its words have changed places: one form that others have filled in.
"""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance
from scipy.stats import beta

from clue_cli.results.groups import NEAR
from clue_cli.results.perceptual_hash import MOST_NOISE, NOISE, _coefficients, perceptual_hash
from model.score import SCREEN, image_features, kind_of

FAR = 12


def saved(image: Image.Image, quality: int) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, "jpeg", quality=quality)
    return Image.open(stream).convert("RGB")


def scaled(image: Image.Image, factor: float) -> Image.Image:
    width, height = image.size
    return image.resize((max(1, round(width * factor)), max(1, round(height * factor))), Image.Resampling.BICUBIC)


def cropped(image: Image.Image, share: float) -> Image.Image:
    """Cut off from each side."""
    width, height = image.size
    x, y = round(width * share), round(height * share)
    return image.crop((x, y, width - x, height - y))


def captioned(image: Image.Image) -> Image.Image:
    made = image.copy()
    width, height = made.size
    made.paste((255, 255, 255), (0, height - height // 12, width, height))
    return made


def pasted(image: Image.Image) -> Image.Image:
    """An edit: a tenth of the area, from elsewhere in the picture."""
    width, height = image.size
    w, h = round(width * 0.32), round(height * 0.32)
    made = image.copy()
    made.paste(image.crop((0, 0, w, h)), (width - w - width // 8, height - h - height // 8))
    return made


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "saved at quality 75": lambda image: saved(image, 75),
    "saved at quality 30": lambda image: saved(image, 30),
    "half as wide, quality 80": lambda image: saved(scaled(image, 0.5), 80),
    "a quarter as wide, quality 70": lambda image: saved(scaled(image, 0.25), 70),
    "twice as wide": lambda image: scaled(image, 2),
    "1 % cut off from each side": lambda image: cropped(image, 0.01),
    "2 % cut off from each side": lambda image: cropped(image, 0.02),
    "5 % cut off from each side": lambda image: cropped(image, 0.05),
    "brighter by 20 %": lambda image: ImageEnhance.Brightness(image).enhance(1.2),
    "darker by 20 %": lambda image: ImageEnhance.Brightness(image).enhance(0.8),
    "contrast +20 %": lambda image: ImageEnhance.Contrast(image).enhance(1.2),
    "white bar over the lowest twelfth": captioned,
    "a tenth of the area pasted over": pasted,
}


def pictures(folder: Path) -> Iterator[tuple[Path, Image.Image]]:
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in (".jpg", ".jpeg", ".png") and path.is_file():
            with Image.open(path) as image:
                yield path, image.convert("RGB")


def hashed(image: Image.Image) -> int | None:
    found = perceptual_hash(np.asarray(image))
    return None if found is None else int(found, 16)


def noisy_bits(image: Image.Image) -> int:
    coefficients = _coefficients(np.asarray(image), 1)
    return int(np.count_nonzero(np.abs(coefficients - np.median(coefficients)) <= NOISE))


def interval(hits: int, n: int) -> str:
    low = 0.0 if hits == 0 else float(beta.ppf(0.025, hits, n - hits + 1))
    high = 1.0 if hits == n else float(beta.ppf(0.975, hits + 1, n - hits))
    return f"{hits / n:.3g} ({low:.3g} to {high:.3g})"


def pairs_within(hashes: list[int]) -> list[int]:
    """How many pairs of different pictures are within each distance from 0 to FAR."""
    values = np.array(hashes, dtype=np.uint64)
    counts = np.zeros(65, dtype=np.int64)
    for place in range(len(values)):
        counts += np.bincount(np.bitwise_count(values[place + 1 :] ^ values[place]), minlength=65)
    return [int(count) for count in np.cumsum(counts)[: FAR + 1]]


def ninths(image: Image.Image) -> Iterator[Image.Image]:
    width, height = image.size
    for place in range(9):
        x, y = place % 3, place // 3
        yield image.crop((x * width // 3, y * height // 3, (x + 1) * width // 3, (y + 1) * height // 3))


def pairs_of_others(hashes: list[int], owners: list[int]) -> tuple[list[int], int]:
    """As `pairs_within`, of hashes with different owners; and how many pairs there are."""
    values, of = np.array(hashes, dtype=np.uint64), np.array(owners)
    counts = np.zeros(65, dtype=np.int64)
    for place in range(len(values)):
        others = values[place + 1 :][of[place + 1 :] != of[place]]
        counts += np.bincount(np.bitwise_count(others ^ values[place]), minlength=65)
    return [int(count) for count in np.cumsum(counts)[: FAR + 1]], int(counts.sum())


def filled_in(image: Image.Image, words: list[dict[str, float]], share: float, rng: np.random.Generator) -> Image.Image:
    """A page on which this share of the words stands in each other's places."""
    made = image.copy()
    chosen = [
        (int(word["x"]), int(word["y"]), int(word["x"] + word["w"]) + 1, int(word["y"] + word["h"]) + 1)
        for word in words
        if rng.random() < share
    ]
    for box, other in zip(chosen, rng.permutation(len(chosen)), strict=True):
        piece = image.crop(chosen[other]).resize((box[2] - box[0], box[3] - box[1]))
        made.paste(piece, box[:2])
    return made


def taken_for_a_screen(image: Image.Image) -> bool:
    """Whether a scan would take it for a screen, a drawing or a page, and compare it by its bytes alone."""
    pixels = np.asarray(image)
    return kind_of(image_features(np.full(pixels.shape[:2], 0.1, np.float32), pixels)) == SCREEN


def show_screens(folder: Path) -> None:
    screens = [(hashed(image), taken_for_a_screen(image)) for _, image in pictures(folder)]
    known = [value for value, _ in screens if value is not None]
    n = len(known) * (len(known) - 1) // 2
    within = pairs_within(known)
    print(
        f"screens: {len(known)} of {len(screens)} with a hash, {n:,} pairs; within 0 to {FAR}: {within}; "
        f"at {NEAR}: {interval(within[NEAR], n)}; taken for what they are: "
        f"{interval(sum(screen for _, screen in screens), len(screens))}"
    )


def show_pages(folder: Path) -> None:
    rng = np.random.default_rng(0)
    pages = [(path, image, hashed(image)) for path, image in pictures(folder)]
    taken = sum(taken_for_a_screen(image) for _, image, _ in pages)
    print(f"pages: {len(pages)}, taken for what they are: {interval(taken, len(pages))}")
    for share in (0.1, 0.3, 1.0):
        distances = []
        for path, image, own in pages:
            other = hashed(filled_in(image, json.loads(path.with_suffix(".json").read_text()), share, rng))
            if own is not None and other is not None:
                distances.append((own ^ other).bit_count())
        near, n = sum(distance <= NEAR for distance in distances), len(distances)
        print(f"  {share:.0%} of the words moved: within {NEAR} bits {interval(near, n)} of {n}")


def little() -> dict[str, list[Image.Image]]:
    """Pictures with nothing in them to be told apart by, each kind 20 times with other values."""
    rng = np.random.default_rng(0)
    made: dict[str, list[Image.Image]] = {
        name: [] for name in ("flat", "flat and noise of 2", "gradient", "blank page")
    }
    across, down = np.meshgrid(np.linspace(0, 1, 640), np.linspace(0, 1, 480))

    def grey(values: np.ndarray) -> Image.Image:
        return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8)).convert("RGB")

    for _ in range(20):
        level, x, y = rng.uniform(20, 235), *rng.uniform(-100, 100, 2)
        made["flat"].append(grey(np.full((480, 640), level)))
        made["flat and noise of 2"].append(grey(level + rng.normal(0, 2, (480, 640))))
        made["gradient"].append(grey(128 + x * across + y * down))
        shade = 245 + 4 * np.sin(2 * across + rng.uniform(0, 3)) - 3 * down
        made["blank page"].append(saved(grey(shade + rng.normal(0, 1, (480, 640))), 85))
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--shots", default="sfm_", help="files of series of similar shots: a part of their name")
    parser.add_argument("--leave-out", nargs="*", default=[], help="names of files that show the same as others")
    parser.add_argument("--screens", type=Path, help="a folder of screens or documents")
    parser.add_argument("--pages", type=Path, help="a folder of pages with the boxes of their words")
    options = parser.parse_args()
    if options.screens:
        show_screens(options.screens)
    if options.pages:
        show_pages(options.pages)
    if options.folders:
        show_photos(options)


def show_photos(options: argparse.Namespace) -> None:
    distances: dict[str, list[int]] = {name: [] for name in COPIES}
    lost = dict.fromkeys(COPIES, 0)
    originals: list[int] = []
    shots: list[int] = []
    noisy: list[int] = []
    parts: list[int] = []
    owners: list[int] = []
    for folder in options.folders:
        for path, image in pictures(folder):
            if path.name in options.leave_out:
                continue
            noisy.append(noisy_bits(image))
            own = hashed(image)
            if own is None:
                print("no hash:", path.name)
                continue
            if options.shots in path.name:
                shots.append(own)
                continue
            for part in ninths(image):
                if (value := hashed(part)) is not None:
                    parts.append(value)
                    owners.append(len(originals))
            originals.append(own)
            for name, change in COPIES.items():
                other = hashed(change(image))
                if other is None:
                    lost[name] += 1
                else:
                    distances[name].append((own ^ other).bit_count())
    print(f"{len(originals)} photos; copies within 2, 3, {NEAR}, 6, 8 bits; at {NEAR} with interval; farthest")
    for name, found in distances.items():
        n = len(found) + lost[name]
        shares = "  ".join(f"{sum(d <= bits for d in found) / n:5.3f}" for bits in (2, 3, NEAR, 6, 8))
        print(f"  {name:36} {shares}  {interval(sum(d <= NEAR for d in found), n)}  {max(found)}  no hash {lost[name]}")
    for words, hashes in (("different photos", originals), ("shots of series", shots)):
        n = len(hashes) * (len(hashes) - 1) // 2
        if n:
            within = pairs_within(hashes)
            print(
                f"{words}: {len(hashes)}, {n:,} pairs; within 0 to {FAR} bits: {within}; at {NEAR}: "
                f"{interval(within[NEAR], n)}"
            )
    within, n = pairs_of_others(parts, owners)
    print(
        f"ninths of different photos: {len(parts)}, {n:,} pairs; within 0 to {FAR} bits: {within}; at {NEAR}: "
        f"{interval(within[NEAR], n)}"
    )
    print(
        f"bits that may be noise, photos: percentiles 50, 90, 99, 100: "
        f"{np.percentile(noisy, [50, 90, 99, 100]).tolist()}; more than {MOST_NOISE}: "
        f"{interval(sum(bits > MOST_NOISE for bits in noisy), len(noisy))}"
    )
    for kind, made in little().items():
        bits = [noisy_bits(image) for image in made]
        print(
            f"  {kind}: {min(bits)} to {max(bits)}; without a hash {sum(hashed(image) is None for image in made)} "
            f"of {len(made)}"
        )


if __name__ == "__main__":
    main()
