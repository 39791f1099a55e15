"""COVERAGE: copy-moves among similar objects."""

from __future__ import annotations

from pathlib import Path

from model.datasets.layouts import PHOTOHOLMES, Dataset, PublishedLayout, always, common, one_folder


def _class(stem: str) -> bool | None:
    if stem.isdigit():
        return False
    return True if stem[:-1].isdigit() and stem.endswith("t") else None


def _photos(image: Path) -> tuple[str, ...]:
    """`7t` was made from `7`."""
    return (f"coverage {image.stem.removesuffix('t')}",)


COVERAGE = Dataset(
    "coverage",
    "COVERAGE (Wen et al. 2016)",
    ("Coverage",),
    ((100, 100),),
    "https://github.com/wenbihan/coverage",
    "not confirmed",
    (
        PublishedLayout(
            "published",
            "image/<n>.tif authentic, image/<n>t.tif forged, mask/<n>forged.tif",
            PHOTOHOLMES,
            one_folder(
                ("image",),
                ("mask",),
                _class,
                stems=lambda stem: [f"{stem[:-1]}forged"],
                is_mask=lambda stem: stem.endswith("forged"),
                kind="copy-move",
            ),
        ),
        common(always("copy-move")),
    ),
    ("9 of the 100 masks differ in size from their image",),
    _photos,
)
