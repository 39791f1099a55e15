"""Public sets as they are published: which image has which mask, and which photos it was made from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from model.config import ConfigError
from model.data.mix import Masks, NamedSet, Source
from model.data.sources import list_images, sample_mask
from model.datasets.registry import DATASETS, locate
from model.datasets.sample import Sample
from tests.model.data.made import touch
from tests.model.evaluation.trees import BOX, HEIGHT, PUBLISHED, WIDTH


def named(name: str, root: Path) -> Source:
    return Source(name, 1, NamedSet(name, root), "mix.yaml, line 3")


def mask_of(sample: Sample) -> str | None:
    return sample.masks[0].name if sample.masks else None


def casia2(root: Path) -> Path:
    return touch(
        root, "Au/Au_ani_00001.jpg", "Tp/Tp_D_NRN_S_N_ind00071_cha00063_00472.tif",
        "Tp/Tp_D_NRD_M_B_arc20062_xxx00000_02482.tif",
        "Tp/Tp_S_NNN_S_N_ani00001_ani00001_20094.jpg", "Tp/Tp_S_NNN_S_N_nat00085_nat00085_00680.jpg",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("inside", "truth"),
    [("", "CASIA 2 Groundtruth"), ("CASIA2", "CASIA2/CASIA 2 Groundtruth"), ("CASIA 2.0", "CASIA 2 Groundtruth")],
)
def test_casia2(tmp_path: Path, inside: str, truth: str) -> None:
    tp = casia2(tmp_path / inside) / "Tp"
    stems = sorted(p.stem for p in tp.iterdir())
    masks = [f"{truth}/{stem}_gt{3 if stem.endswith('20094') else ''}.png" for stem in stems[:-1]]
    touch(tmp_path, *masks, f"{truth}/readme.png")
    found = list_images(named("casia2", tmp_path))
    assert [(e.image.stem, mask_of(e), e.photos) for e in found.samples] == [
        ("Au_ani_00001", None, ("ani00001",)),
        (stems[0], f"{stems[0]}_gt.png", ("arc20062",)),
        (stems[1], f"{stems[1]}_gt.png", ("ind00071", "cha00063")),
        (stems[2], f"{stems[2]}_gt3.png", ("ani00001",)),
    ]
    assert [p.split(": ")[2] for p in found.problems] == [
        f"mask missing (expected a picture named {stems[3]}_gt)", "mask without an image",
    ]  # fmt: skip


PUBLISHED_FILES = {
    "imd2020": (
        "1bl55t/1bl55t_orig.jpg 1bl55t/c97_0.png 1bl55t/c97_0_mask.png z28/00065_fake.jpg z28/00065_fake_mask.png "
        "z28/00065_orig.jpg z28/lonely.jpg",
        [
            ("1bl55t_orig.jpg", None, "imd2020 1bl55t"),
            ("c97_0.png", "c97_0_mask.png", "imd2020 1bl55t"),
            ("00065_orig.jpg", None, "imd2020 z28"),
            ("00065_fake.jpg", "00065_fake_mask.png", "imd2020 z28"),
        ],
        ["lonely.jpg: mask missing"],
    ),
    "fantastic-reality": (
        "ColorRealImages/IMG_0000001.jpg ColorFakeImages/IMG_0000001_IMG_0000002.jpg "
        "SegmentationFake/IMG_0000001_IMG_0000002.npz",
        [
            ("IMG_0000001.jpg", None, "IMG_0000001"),
            (
                "IMG_0000001_IMG_0000002.jpg",
                "IMG_0000001_IMG_0000002.npz",
                "IMG_0000001+IMG_0000002",
            ),
        ],
        [],
    ),
    "tampcoco": (
        "sp_images/88_000000013140.jpg_000000574443.jpg_RT-5.8_RS1.18.jpg "
        "sp_masks/88_000000013140.png_000000574443.png_RT-5.8_RS1.18.png "
        "cm_images/90_000000484327.jpg_000000484327.jpg.jpg cm_masks/90_000000484327.png_000000484327.png.png "
        "bcmc_images/98_000000418435_aligned_Q76.jpg_000000418435_aligned_Q76.jpg_RS0.95_aligned_Q76.jpg "
        "bcm_masks/98_000000418435.png_000000418435.png_RS0.95.png bcm_masks/of_another_part.png",
        [
            (
                "90_000000484327.jpg_000000484327.jpg.jpg",
                "90_000000484327.png_000000484327.png.png",
                "000000484327",
            ),
            (
                "88_000000013140.jpg_000000574443.jpg_RT-5.8_RS1.18.jpg",
                "88_000000013140.png_000000574443.png_RT-5.8_RS1.18.png",
                "000000013140+000000574443",
            ),
            (
                "98_000000418435_aligned_Q76.jpg_000000418435_aligned_Q76.jpg_RS0.95_aligned_Q76.jpg",
                "98_000000418435.png_000000418435.png_RS0.95.png",
                "000000418435",
            ),
        ],
        [],
    ),
    "defacto": (
        "splicing_1_img/img/0_000000195755.tif splicing_1_annotations/probe_mask/0_000000195755.jpg "
        "inpainting/inpainting_img/img/7_000000000071.tif "
        "inpainting/inpainting_annotations/probe_mask/7_000000000071.jpg",
        [
            ("7_000000000071.tif", "7_000000000071.jpg", "000000000071"),
            ("0_000000195755.tif", "0_000000195755.jpg", "000000195755"),
        ],
        [],
    ),
}
"""Files, then name, mask and source photos of each image, and problems."""


@pytest.mark.parametrize(
    ("name", "inside"),
    [("imd2020", ""), ("imd2020", "IMD2020"), ("fantastic-reality", ""), ("fantastic-reality", "dataset"),
     ("tampcoco", ""), ("defacto", "")],
)  # fmt: skip
def test_published_files(tmp_path: Path, name: str, inside: str) -> None:
    files, expected, problems = PUBLISHED_FILES[name]
    touch(tmp_path / inside, *files.split())
    found = list_images(named(name, tmp_path))
    assert [(e.image.name, mask_of(e), e.group) for e in found.samples] == expected
    assert len(found.problems) == len(problems)
    assert all(words in problem for words, problem in zip(problems, found.problems, strict=True))


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("casia2", "CASIA 2.0/[{]Au,Tp[}]"),
        ("fantastic-reality", "dataset/.+ColorFakeImages"),
        ("tampcoco", "cm.+_images"),
        ("defacto", "<kind>_img"),
    ],
)
def test_a_named_set_without_its_folders(tmp_path: Path, name: str, folder: str) -> None:
    with pytest.raises(ConfigError, match=f"mix.yaml, line 3: .+ laid out in no way .+{folder}"):
        list_images(named(name, tmp_path))


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_set_can_be_trained_on(tmp_path: Path, name: str) -> None:
    write, forged, authentic, _, _ = PUBLISHED[name]
    write(tmp_path)
    located = locate(DATASETS[name], tmp_path)
    assert located is not None
    source = Source(name, 1, NamedSet(name, located.folder), "mix.yaml, line 3")
    found = list_images(source)
    assert (sum(s.forged for s in found.samples), len(found.samples)) == (forged, forged + authentic)
    assert all(s.photos and s.group for s in found.samples)
    for sample in found.samples:
        mask = sample_mask(sample, Masks(), 1.0, (HEIGHT, WIDTH))
        assert (mask is None) != sample.forged
        assert mask is None or np.array_equal(mask, BOX)


@pytest.mark.parametrize(
    ("name", "stems", "photos"),
    [
        ("casia1", ("Sp_D_NRN_A_nat0013_ani0012_0026", "Au_nat_0013"), ("nat0013+ani0012", "nat0013")),
        ("coverage", ("7t", "7"), ("coverage 7", "coverage 7")),
        ("cocoglide", ("glide_inpainting_val2017_57_up", "cat_57"), ("000000000057", "000000000057")),
        ("autosplice-75", ("12_0", "12"), ("autosplice 12", "autosplice 12")),
    ],
)
def test_a_forgery_has_the_name_of_its_original(name: str, stems: tuple[str, ...], photos: tuple[str, ...]) -> None:
    assert tuple("+".join(DATASETS[name].photos(Path(f"{stem}.png"))) for stem in stems) == photos
