"""AutoSplice: inpainting by DALL-E 2, in three JPEG qualities."""

from __future__ import annotations

from pathlib import Path

from model.datasets.layouts import PHOTOHOLMES, Dataset, PublishedLayout, always, common, plain_stems, three_folders


def _stems(stem: str) -> list[str]:
    return [*plain_stems(stem), f"{stem.split('_')[0]}_mask"]


def _photos(image: Path) -> tuple[str, ...]:
    """`12_0` and `12_1` were made from `12`."""
    return (f"autosplice {image.stem.split('_')[0]}",)


def _version(quality: int) -> Dataset:
    read = three_folders(
        (f"Forged_JPEG{quality}",), ("Mask",), ("Authentic",), stems=_stems, manipulation=always("inpainting")
    )
    tree = f"Forged_JPEG{quality}/, Mask/<number>_mask.png, Authentic/"
    return Dataset(
        f"autosplice-{quality}",
        f"AutoSplice, JPEG {quality} (Jia et al. 2023)",
        ("AutoSplice", f"AutoSplice{quality}"),
        ((3621, 2273),),
        "a form linked from https://github.com/shanface33/AutoSplice_Dataset",
        "academic, non-commercial research",
        (PublishedLayout("published", tree, PHOTOHOLMES, read), common(always("inpainting"))),
        (
            "the authentic images are JPEG 75 in every version: at 100 and 90 the file tells the classes apart",
            "several forged images share a mask",
        ),
        _photos,
    )


AUTOSPLICE = tuple(map(_version, (100, 90, 75)))
