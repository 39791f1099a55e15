"""The benchmarks: counts, sources, terms, layouts and known damage of each.

Layouts are those of the sets' own pages or of public code that reads them as downloaded; `source` says which. Where
none was found, it says "layout not confirmed", and the common `Tp/Gt/Au` is what is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from model.evaluation import published_layouts
from model.evaluation.layouts import (
    Entry,
    Layout,
    Listing,
    Manipulation,
    MaskIndex,
    child,
    one_folder,
    pictures,
    plain_stems,
    three_folders,
)

NOT_CONFIRMED = "layout not confirmed"
PHOTOHOLMES = "as PhotoHolmes reads it"
NETWORKS = ("facebook", "whatsapp", "weibo", "wechat")


@dataclass(frozen=True, slots=True)
class PublishedLayout:
    """One way a set lies on disk: its tree in words, where that is known from, and the function that reads it."""

    name: str
    tree: str
    source: str
    read: Layout

    def describe(self) -> list[str]:
        """Lines for a person."""
        return [f"{self.name} ({self.source}): {self.tree}"]


@dataclass(frozen=True, slots=True)
class Benchmark:
    """What is known of a data set.

    Attributes:
        folders: names its folder can have, best first; `.`: the root itself is tried.
        counts: (forged, authentic) of its known editions, the one that papers measure first.
        obtained: where it comes from.
        terms: on what terms.
        layouts: how it is laid out, in the order in which it is tried.
        damage: what is known to be broken in the published files; goes into the result.
    """

    name: str
    title: str
    folders: tuple[str, ...]
    counts: tuple[tuple[int, int], ...]
    obtained: str
    terms: str
    layouts: tuple[PublishedLayout, ...]
    damage: tuple[str, ...] = ()

    @property
    def expected(self) -> str:
        """The expected counts in words."""
        return "expected " + ", or ".join(
            f"{forged} forged and {authentic} authentic" for forged, authentic in self.counts
        )


def _common(manipulation: Manipulation = lambda stem: "", source: str = "IMDL-BenCo") -> PublishedLayout:
    tree = "Tp/ forged, Gt/ masks of the same stem (also with _gt, _mask), white = forged, Au/ authentic"
    return PublishedLayout("Tp/Gt/Au", tree, source, three_folders(manipulation=manipulation, alone=True))


def _always(kind: str) -> Manipulation:
    return lambda stem: kind


def _coverage_class(stem: str) -> bool | None:
    if stem.isdigit():
        return False
    return True if stem[:-1].isdigit() and stem.endswith("t") else None


def _dso_class(stem: str) -> bool | None:
    return {"splicing": True, "normal": False}.get(stem.split("-")[0])


def _autosplice(quality: int) -> Benchmark:
    def stems(stem: str) -> list[str]:
        return [*plain_stems(stem), f"{stem.split('_')[0]}_mask"]

    read = three_folders(
        (f"Forged_JPEG{quality}",), ("Mask",), ("Authentic",), stems=stems, manipulation=_always("inpainting")
    )
    return Benchmark(
        f"autosplice-{quality}",
        f"AutoSplice, JPEG {quality} (Jia et al. 2023)",
        ("AutoSplice", f"AutoSplice{quality}"),
        ((3621, 2273),),
        "a form linked from https://github.com/shanface33/AutoSplice_Dataset",
        "academic, non-commercial research",
        (
            PublishedLayout(
                "published",
                f"Forged_JPEG{quality}/, Mask/<number>_mask.png, Authentic/",
                PHOTOHOLMES,
                read,
            ),
            _common(_always("inpainting")),
        ),
        (
            "the authentic images are JPEG 75 in every version: at 100 and 90 the file tells the classes apart",
            "several forged images share a mask",
        ),
    )


SOCIAL_SETS = {
    "casia1": (("Casia", "CASIAv1"), "CASIA_GT", published_layouts.casia_manipulation, 920),
    "columbia": (("Columbia",), "Columbia_GT", _always("splice"), 160),
    "dso1": (("DSO",), "DSO_GT", _always("splice"), 100),
    "nist16": (("NIST",), "NIST_GT", lambda stem: "", 564),
}


def _social_layout(base: str, network: str) -> Layout:
    prefixes, truth, manipulation, _ = SOCIAL_SETS[base]
    folders = tuple(f"{prefix}_{network}" for prefix in prefixes)

    def with_masks(folder: Path) -> Listing | None:
        return three_folders(
            folders, tuple(f"{name}/{truth}" for name in folders), ("no authentic images",), manipulation=manipulation
        )(folder)

    return with_masks


def _social_without_masks(base: str, network: str) -> Layout:
    """The images alone, with the masks of the original set beside them, by stem."""

    def read(folder: Path) -> Listing | None:
        images = child(folder, *(f"{prefix}_{network}" for prefix in SOCIAL_SETS[base][0]))
        if images is None:
            return None
        names = {name.casefold() for name in BENCHMARKS[base].folders}
        originals: list[Entry] = []
        for beside in (folder, folder.parent):
            for place in (path for path in _subfolders(beside) if path.name.casefold() in names):
                found = (layout.read(place) for layout in BENCHMARKS[base].layouts)
                originals = originals or next((listing.entries for listing in found if listing), [])
        by_stem = {entry.image.stem: entry for entry in originals if entry.forged and entry.masks}
        listing = Listing()
        nothing = MaskIndex((), folder)
        for path in pictures(images, listing):
            key = path.relative_to(folder).as_posix()
            original = by_stem.get(path.stem)
            if original is None:
                nothing.find(path, [], key, listing.problems)
                listing.entries.append(Entry(key, path, (), True, SOCIAL_SETS[base][2](path.stem)))
            else:
                listing.entries.append(Entry(key, path, original.masks, True, original.manipulation, original.style))
        return listing.sort()

    return read


def _subfolders(folder: Path) -> list[Path]:
    """Sorted; none where the folder, perhaps one above the root, may not be read."""
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir())
    except OSError:
        return []


def _social(base: str, network: str) -> Benchmark:
    prefixes, truth, _, forged = SOCIAL_SETS[base]
    title = network.capitalize()
    return Benchmark(
        f"{base}-{network}",
        f"{base} after {title} (Wu et al. 2022, IF-OSN)",
        ("OSN_dataset", "OSN", "OSN_datasets", "ImageForensicsOSN", "."),
        ((forged, 0),),
        "https://github.com/HighwayWu/ImageForensicsOSN (linked there)",
        "not stated; the terms of the original set apply",
        (
            PublishedLayout(
                "published",
                f"{prefixes[0]}_{title}/ images, {truth}/ in it with masks named <image>_gt.png, white = forged",
                PHOTOHOLMES if base != "nist16" else NOT_CONFIRMED,
                _social_layout(base, network),
            ),
            PublishedLayout(
                "images alone",
                f"{prefixes[-1]}_{title}/ images, and {base} beside it or one folder up, whose masks are used",
                "as public code reads it",
                _social_without_masks(base, network),
            ),
        ),
        ("the networks resize large images: the prediction is brought to the size of the mask",),
    )


_ALL = (
    Benchmark(
        "casia1",
        "CASIA v1 (Dong, Wang, Tan 2013), masks by Pham et al. 2019",
        ("CASIA1", "CASIA1.0", "CASIAv1", "CASIA 1.0 dataset", "CASIA1+", "CASIAv1plus"),
        ((920, 800), (921, 800)),
        "masks and links: https://github.com/namtpham/casia1groundtruth (the authors' own site is gone)",
        "research",
        (
            PublishedLayout(
                "published",
                "Tp/{CM,Sp}/, CASIA 1.0 groundtruth/{CM,Sp}/ masks named <image>_gt.png, Au/",
                PHOTOHOLMES,
                three_folders(
                    ("Tp",), ("CASIA 1.0 groundtruth",), ("Au",), manipulation=published_layouts.casia_manipulation
                ),
            ),
            _common(published_layouts.casia_manipulation),
        ),
        (
            "one forged image has no mask: 921 images, 920 are measured",
            "the quantization tables alone tell the classes apart: re-encode both alike before an image-level figure",
            "authentic images overlap with CASIA v2: CASIAv1+ replaces them",
        ),
    ),
    Benchmark(
        "columbia",
        "Columbia Uncompressed Image Splicing Detection (Hsu, Chang 2006)",
        ("Columbia", "Columbia Uncompressed Image Splicing Detection", "ColumbiaUncompressed"),
        ((180, 183),),
        "a form on https://www.ee.columbia.edu/ln/dvmm/downloads/authsplcuncmp/",
        "those of the form (not confirmed)",
        (
            PublishedLayout(
                "published",
                "4cam_splc/, 4cam_splc/edgemask/<image>_edgemask.jpg, 4cam_auth/",
                PHOTOHOLMES,
                three_folders(
                    ("4cam_splc", "4cam_splc/4cam_splc"),
                    ("4cam_splc/edgemask", "edgemask", "4cam_splc/4cam_splc/edgemask"),
                    ("4cam_auth", "4cam_auth/4cam_auth"),
                    style="two-coloured",
                    manipulation=_always("splice"),
                ),
            ),
            _common(_always("splice")),
        ),
        ("ships edge masks in two colours, as JPEG: filled here, green = forged",),
    ),
    Benchmark(
        "nist16",
        "NIST Nimble Challenge 2016",
        ("NIST16", "NC2016_Test0613", "NC2016_Test0601", "NC2016", "NIST"),
        ((564, 875), (564, 0)),
        "NIST, after registration: https://mfc.nist.gov",
        "NIST's agreement (not confirmed)",
        (
            PublishedLayout(
                "published",
                f"probe/, reference/…/mask/, paired by {published_layouts.NIST_TABLE}; black = forged",
                "as NIST's own scorer and public code read it",
                published_layouts.nist16,
            ),
            _common(),
        ),
        (
            "masks as distributed are inverted: black = forged",
            "groups of near duplicates: the 564 images are not independent, and intervals are too narrow",
        ),
    ),
    Benchmark(
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
                    _coverage_class,
                    stems=lambda stem: [f"{stem[:-1]}forged"],
                    is_mask=lambda stem: stem.endswith("forged"),
                    kind="copy-move",
                ),
            ),
            _common(_always("copy-move")),
        ),
        ("9 of the 100 masks differ in size from their image",),
    ),
    Benchmark(
        "acdsee",
        "ACDSee",
        ("ACDSee",),
        ((337, 0), (337, 364)),
        "not confirmed",
        "not confirmed",
        (_common(source=NOT_CONFIRMED),),
    ),
    Benchmark(
        "cocoglide",
        "CocoGlide (Guillaro et al. 2023)",
        ("CocoGlide",),
        ((512, 512),),
        "https://www.grip.unina.it/download/prog/TruFor/CocoGlide.zip",
        "informational and nonprofit (TruFor's licence)",
        (
            PublishedLayout(
                "published",
                "fake/glide_inpainting_val2017_<n>_up.png, mask/<category>_<n>_mask.png, real/<category>_<n>.png",
                "file lists in TruFor's repository",
                published_layouts.cocoglide,
            ),
            _common(_always("inpainting")),
        ),
        ("masks are named after the authentic partner: paired by COCO's number", "256×256 pixels throughout"),
    ),
    Benchmark(
        "misd",
        "Multiple Image Splicing Dataset (Kadam, Ahirrao, Kotecha 2021)",
        ("MISD", "Multiple Image Splicing Dataset", "Multiple Image Splicing Dataset (MISD)"),
        ((300, 618), (296, 620)),
        "https://doi.org/10.5281/zenodo.5525829",
        "not confirmed",
        (
            PublishedLayout(
                "published",
                "Sp/, Ground Truth Masks/<image>/masks/ one mask for each object, Au/",
                "the set's own README",
                published_layouts.misd,
            ),
            _common(_always("splice")),
        ),
        ("several masks for each image: their union is the ground truth", "papers count 296 forged and 620 authentic"),
    ),
    Benchmark(
        "ipm15k",
        "IPM15K",
        ("IPM15K",),
        ((15000, 0),),
        "not confirmed",
        "not confirmed",
        (_common(source=NOT_CONFIRMED),),
    ),
    _autosplice(100),
    _autosplice(90),
    _autosplice(75),
    Benchmark(
        "dso1",
        "DSO-1 (Carvalho et al. 2013)",
        ("DSO-1", "tifs-database", "DSO"),
        ((100, 100),),
        "https://recodbr.wordpress.com/code-n-data/#dso1_dsi1",
        "not confirmed",
        (
            PublishedLayout(
                "published",
                "DSO-1/{splicing,normal}-<n>.png, DSO-1-Fake-Images-Masks/splicing-<n>.png, black = forged",
                PHOTOHOLMES,
                one_folder(
                    ("DSO-1",),
                    ("DSO-1-Fake-Images-Masks",),
                    _dso_class,
                    stems=lambda stem: [stem],
                    style="black",
                    kind="splice",
                ),
            ),
            _common(_always("splice")),
        ),
        ("masks as distributed are inverted: black = forged",),
    ),
    Benchmark(
        "imd2020",
        "IMD2020, real-life images (Novozámský, Mahdian, Saic 2020)",
        ("IMD2020",),
        ((2010, 414),),
        "http://staff.utia.cas.cz/novozada/db/",
        "not confirmed",
        (
            PublishedLayout(
                "published",
                "<id>/<id>_orig.jpg, <id>/<forgery>.{png,jpg}, <id>/<forgery>_mask.png",
                "as CAT-Net and TruFor read it",
                published_layouts.imd2020,
            ),
            _common(),
        ),
        ("CLUE and TruFor are trained on it: no held-out figure for them",),
    ),
    Benchmark(
        "korus",
        "Realistic Tampering Dataset (Korus, Huang 2016)",
        ("Korus", "realistic-tampering-dataset", "data-images", "RTD"),
        ((220, 220),),
        "https://pkorus.pl/downloads/dataset-realistic-tampering",
        "not confirmed",
        (
            PublishedLayout(
                "published",
                "<camera>/tampered-realistic/, <camera>/ground-truth/, <camera>/pristine/",
                PHOTOHOLMES,
                published_layouts.korus,
            ),
            _common(),
        ),
        ("masks have three levels; grey, collateral damage of the edit, counts as forged here",),
    ),
    Benchmark(
        "in-the-wild",
        "In-the-Wild (Huh et al. 2018)",
        ("In-the-wild", "label_in_wild", "wild"),
        ((201, 0),),
        "https://minyoungg.github.io/selfconsistency/",
        "not stated",
        (
            PublishedLayout(
                "published",
                "images/<n>.jpg, masks/<n>.png",
                "as public code reads it",
                three_folders(("images",), ("masks",), ("no authentic images",), manipulation=_always("splice")),
            ),
            _common(_always("splice")),
        ),
    ),
)

BENCHMARKS: dict[str, Benchmark] = {benchmark.name: benchmark for benchmark in _ALL}
"""By name; the social-network versions are `<set>-<network>`."""
BENCHMARKS |= {b.name: b for b in (_social(base, network) for base in SOCIAL_SETS for network in NETWORKS)}
