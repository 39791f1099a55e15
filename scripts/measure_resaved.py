"""How often the finding "compressed twice" is right and wrong, on photos compressed once and twice by libjpeg.

    python scripts/measure_resaved.py PHOTOS

Photos (JPEG) are reduced to two thirds, which removes their own compression, and saved at five qualities, or at each
pair of two. The threshold was chosen on every other photo by name: "seen" are those, "held out" the rest. Shares are
given with their n; intervals are of photos, since the five qualities of one photo are no five photos.
"""

from __future__ import annotations

import argparse
import io
from collections import defaultdict
from itertools import product
from pathlib import Path

from PIL import Image

from clue_cli.evidence.compression import COMPRESSED_TWICE, compression_findings
from model.calibration import proportion_interval

QUALITIES = (60, 75, 85, 92, 97)


def saved(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer)


def found(file: Image.Image) -> bool:
    """Whether the finding is made of an opened JPEG."""
    return any(finding.kind == COMPRESSED_TWICE for finding in compression_findings(file, file.convert("RGB")))


def shares(paths: list[Path]) -> None:
    """Print the shares of one group of photos."""
    once: list[list[bool]] = []
    twice: dict[tuple[int, int], list[bool]] = defaultdict(list)
    for path in paths:
        with Image.open(path) as image:
            photo = image.convert("RGB")
        photo = photo.resize((photo.width * 2 // 3, photo.height * 2 // 3), Image.Resampling.LANCZOS)
        once.append([found(saved(photo, quality)) for quality in QUALITIES])
        for first, second in product(QUALITIES, repeat=2):
            if first != second:
                twice[first, second].append(found(saved(saved(photo, first).convert("RGB"), second)))
    wrong = sum(map(any, once))
    low, high = proportion_interval(wrong, len(once))
    print(f"  once: {sum(map(sum, once))} of {sum(map(len, once))} files, {wrong} of {len(once)} photos", end=" ")
    print(f"(95 % interval of photos {low:.3f} to {high:.3f})")
    for (first, second), hits in sorted(twice.items()):
        print(f"  {first} then {second}: {sum(hits) / len(hits):.2f} of {len(hits)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    paths = sorted(parser.parse_args().photos.rglob("*.jp*g"))
    for name, own in (("seen", paths[::2]), ("held out", paths[1::2])):
        print(f"{name}: {len(own)} photos", flush=True)
        shares(own)


if __name__ == "__main__":
    main()
