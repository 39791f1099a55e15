"""Small generated trees of the published layouts, with masks whose truth is known: a box in the top left quarter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

HEIGHT, WIDTH = 24, 32
BOX = np.zeros((HEIGHT, WIDTH), bool)
BOX[4:12, 4:16] = True


def picture(path: Path, seed: int = 0, size: tuple[int, int] = (HEIGHT, WIDTH)) -> Path:
    """A noisy picture in the format of the extension."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def mask(path: Path, truth: NDArray[np.bool_] = BOX, inverted: bool = False) -> Path:
    """White = forged, or black."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(((truth ^ inverted) * 255).astype(np.uint8)).save(path)
    return path


def tp_gt_au(root: Path, forged: int = 3, authentic: int = 2) -> Path:
    for number in range(forged):
        picture(root / "Tp" / f"f{number}.jpg", number)
        mask(root / "Gt" / f"f{number}.png")
    for number in range(authentic):
        picture(root / "Au" / f"a{number}.jpg", number)
    return root


def casia1(root: Path) -> None:
    here = root / "CASIA 1.0 dataset"
    for folder, name in (("Sp", "Sp_D_NNN_A_a_b_0001"), ("CM", "Sp_S_NNN_A_a_a_0002")):
        picture(here / "Tp" / folder / f"{name}.jpg")
        mask(here / "CASIA 1.0 groundtruth" / folder / f"{name}_gt.png")
    picture(here / "Au" / "Au_ani_0001.jpg")


def columbia(root: Path) -> None:
    here = root / "Columbia"
    for name in ("canong3_nikond70_sub_01", "canong3_nikond70_sub_02"):
        picture(here / "4cam_splc" / f"{name}.tif")
        colours = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        colours[..., 0] = 200
        colours[BOX] = (0, 200, 0)
        edge = here / "4cam_splc" / "edgemask" / f"{name}_edgemask.jpg"
        edge.parent.mkdir(exist_ok=True)
        Image.fromarray(colours).save(edge, quality=95, subsampling=0)
    picture(here / "4cam_auth" / "canong3_02_sub_01.tif")


def nist16(root: Path) -> None:
    here = root / "NC2016_Test0613"
    rows = ["TaskID|ProbeFileName|ProbeMaskFileName|IsTarget|IsManipulationTypeSplice|IsManipulationTypeRemoval"]
    for number, kind in ((1, "Y|"), (2, "|Y")):
        picture(here / "probe" / f"NC2016_000{number}.jpg")
        mask(here / "reference" / "manipulation" / "mask" / f"NC2016_900{number}.png", inverted=True)
        line = f"manipulation|probe/NC2016_000{number}.jpg|reference/manipulation/mask/NC2016_900{number}.png|Y|{kind}"
        rows += [line, line]
    picture(here / "probe" / "NC2016_0003.jpg")
    rows.append("manipulation|probe/NC2016_0003.jpg||N||")
    table = here / "reference" / "manipulation" / "NC2016-manipulation-ref.csv"
    table.write_text("\n".join(rows) + "\n")


def coverage(root: Path) -> None:
    here = root / "COVERAGE"
    for number in (1, 10):
        picture(here / "image" / f"{number}.tif")
        picture(here / "image" / f"{number}t.tif")
        mask(here / "mask" / f"{number}forged.tif")
        mask(here / "mask" / f"{number}copy.tif")
    (here / "README.md").write_text("COVERAGE")


def cocoglide(root: Path) -> None:
    here = root / "CocoGlide"
    for number, category in ((57, "dining table"), (9, "cat")):
        picture(here / "fake" / f"glide_inpainting_val2017_{number}_up.png")
        mask(here / "mask" / f"{category}_{number}_mask.png")
        picture(here / "real" / f"{category}_{number}.png")


def misd(root: Path) -> None:
    here = root / "Multiple Image Splicing Dataset (MISD)"
    picture(here / "Sp" / "Sp_D_1.png")
    picture(here / "Au" / "Au_ani_1.jpg")
    halves = (BOX.copy(), BOX.copy())
    halves[0][:, 8:], halves[1][:, :8] = False, False
    for number, half in enumerate(halves):
        mask(here / "Ground Truth Masks" / "Sp_D_1" / "masks" / f"{number}.png", half)
    picture(here / "Ground Truth Masks" / "Sp_D_1" / "images" / "Sp_D_1.png")


def autosplice(quality: int) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        here = root / "AutoSplice" / "AutoSplice"  # as an archive unpacks
        for name in ("12_0", "12_1"):
            picture(here / f"Forged_JPEG{quality}" / f"{name}.jpg")
        picture(here / "Authentic" / "12.jpg")
        mask(here / "Mask" / "12_mask.png")

    return write


def dso1(root: Path) -> None:
    here = root / "tifs-database"
    for number in (1, 2, 3):
        picture(here / "DSO-1" / f"splicing-0{number}.png")
        picture(here / "DSO-1" / f"normal-0{number}.png")
        mask(here / "DSO-1-Fake-Images-Masks" / f"splicing-0{number}.png", inverted=True)


def imd2020(root: Path) -> None:
    here = root / "IMD2020"
    for group in ("1a1ogs", "1a3oag"):
        picture(here / group / f"{group}_orig.jpg")
        for number in (0, 1):
            picture(here / group / f"c8tf5m_{number}.png", number)
            mask(here / group / f"c8tf5m_{number}_mask.png")


def korus(root: Path) -> None:
    here = root / "realistic-tampering-dataset"
    for camera in ("Canon_60D", "Sony_A57"):
        picture(here / camera / "tampered-realistic" / "DPP0012.TIF")
        picture(here / camera / "pristine" / "DPP0012.TIF")
        levels = np.zeros((HEIGHT, WIDTH), np.uint8)
        levels[4:12, 4:10], levels[4:12, 10:16] = 255, 128
        (here / camera / "ground-truth").mkdir()
        Image.fromarray(levels).save(here / camera / "ground-truth" / "DPP0012.PNG")


def in_the_wild(root: Path) -> None:
    here = root / "label_in_wild"
    picture(here / "images" / "2251.jpg")
    mask(here / "masks" / "2251.png")


def casia2(root: Path) -> None:
    here = root / "CASIA2"
    picture(here / "CASIA 2.0" / "Au" / "Au_ani_00001.jpg")
    for name in ("Tp_D_NRN_S_N_ind00071_cha00063_00472", "Tp_S_NNN_S_N_ani00001_ani00001_20094"):
        picture(here / "CASIA 2.0" / "Tp" / f"{name}.tif")
        mask(here / "CASIA 2 Groundtruth" / f"{name}_gt.png")


def fantastic_reality(root: Path) -> None:
    here = root / "FantasticReality_v1" / "dataset"
    picture(here / "ColorRealImages" / "IMG_0000001.jpg")
    picture(here / "ColorFakeImages" / "IMG_0000001_IMG_0000002.jpg")
    mask(here / "SegmentationFake" / "IMG_0000001_IMG_0000002.png")


def tampcoco(root: Path) -> None:
    here = root / "tampCOCO"
    for kind in ("sp", "bcm"):
        picture(here / f"{kind}_images" / "88_000000013140.jpg_000000574443.jpg_RS1.18.jpg")
        mask(here / f"{kind}_masks" / "88_000000013140.png_000000574443.png_RS1.18.png")


def defacto(root: Path) -> None:
    for kind in ("splicing_1", "inpainting"):
        picture(root / "DEFACTO" / f"{kind}_img" / "img" / "0_000000195755.tif")
        mask(root / "DEFACTO" / f"{kind}_annotations" / "probe_mask" / "0_000000195755.png")


def common(name: str) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        tp_gt_au(root / name)

    return write


def social(prefix: str, truth: str, network: str, stem: str) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        here = root / "OSN_dataset" / f"{prefix}_{network}"
        picture(here / f"{stem}.jpg")
        mask(here / truth / f"{stem}_gt.png")

    return write


# name → (writer, forged, authentic, layout, manipulations)
Published = tuple[Callable[[Path], None], int, int, str, set[str]]
PUBLISHED: dict[str, Published] = {
    "casia1": (casia1, 2, 1, "published", {"splice", "copy-move"}),
    "columbia": (columbia, 2, 1, "published", {"splice"}),
    "nist16": (nist16, 2, 1, "published", {"splice", "removal"}),
    "coverage": (coverage, 2, 2, "published", {"copy-move"}),
    "acdsee": (common("ACDSee"), 3, 2, "Tp/Gt/Au", {""}),
    "cocoglide": (cocoglide, 2, 2, "published", {"inpainting"}),
    "misd": (misd, 1, 1, "published", {"splice"}),
    "ipm15k": (common("IPM15K"), 3, 2, "Tp/Gt/Au", {""}),
    "autosplice-100": (autosplice(100), 2, 1, "published", {"inpainting"}),
    "autosplice-90": (autosplice(90), 2, 1, "published", {"inpainting"}),
    "autosplice-75": (autosplice(75), 2, 1, "published", {"inpainting"}),
    "dso1": (dso1, 3, 3, "published", {"splice"}),
    "imd2020": (imd2020, 4, 2, "published", {""}),
    "korus": (korus, 2, 2, "published", {""}),
    "in-the-wild": (in_the_wild, 1, 0, "published", {"splice"}),
    "casia2": (casia2, 2, 1, "published", {"splice", "copy-move"}),
    "fantastic-reality": (fantastic_reality, 1, 1, "published", {"splice"}),
    "tampcoco": (tampcoco, 2, 0, "published", {"splice", "copy-move"}),
    "defacto": (defacto, 2, 0, "published", {"splice", "inpainting"}),
} | {
    f"{name}-{network.lower()}": (social(prefix, truth, network, stem), 1, 0, "published", {kind})
    for network in ("Facebook", "Whatsapp", "Weibo", "Wechat")
    for name, prefix, truth, stem, kind in (
        ("casia1", "Casia", "CASIA_GT", "Sp_D_NNN_A_a_b_0001", "splice"),
        ("columbia", "Columbia", "Columbia_GT", "canong3_nikond70_sub_01", "splice"),
        ("dso1", "DSO", "DSO_GT", "splicing-01", "splice"),
        ("nist16", "NIST", "NIST_GT", "NC2016_0001", ""),
    )
}
