"""mix.yaml: what a right file means, what is said of a wrong one, and the split by photo."""

from __future__ import annotations

import pickle
import random
import re
from pathlib import Path
from typing import Any

import pytest

from model.config import ConfigError
from model.data.mix import (
    Augment,
    Authentic,
    Curriculum,
    Forge,
    ListFile,
    MaskFolder,
    Mix,
    NamedSet,
    Pairs,
    Shape,
    Source,
    Validation,
    load_mix,
    place,
    split_of,
    split_of_photo,
)
from model.datasets.sample import Sample


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("images", "masks", "photos", "casia", "with space"):
        (tmp_path / name).mkdir()
    (tmp_path / "cases.csv").write_text("image,mask\n")
    (tmp_path / "cases.doc").write_text("")
    monkeypatch.setenv("DATA", str(tmp_path))
    monkeypatch.setenv("EMPTY", "")
    monkeypatch.delenv("NOT_SET", raising=False)
    return tmp_path


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "mix.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_every_key(folder: Path) -> None:
    text = """
validation: {share: 0.2, seed: 7, calibration_share: 0.1}
shapes: [256, {height: 64, width: 96, weight: 0.5}]
augment: {flip: 0, history: 1e-1}
max_megapixels: 12
sources:
  - pairs: {images: images, masks: $DATA/masks, suffix: _gt, inverted: yes, fit_masks: true, photo: '^(.+)_'}
    name: own
    weight: 2
  - list: cases.csv
  - list: {file: "${DATA}/cases.csv", fraction: 0.5, empty_masks: damaged}
  - tampcoco: {root: with space, fraction: 0.01}
  - casia2: casia
  - authentic: [photos, images]
    weight: 0
  - authentic: photos
  - forge: photos
  - forge:
      photos: [photos]
      masks: [masks, {folder: masks, prefix: train_}]
      plain_share: {start: 1, end: 0.5, batches: 10}
  - forge: {photos: photos, masks: masks, plain_share: 0.3}
"""
    mix = load_mix(write(folder, text))
    own, by_path, by_file, tampcoco, casia, off, authentic, photos, curriculum, constant = mix.sources
    assert own.data == Pairs(
        folder / "images", folder / "masks", "_gt", re.compile("^(.+)_"), inverted=True, fit_masks=True
    )
    assert (own.name, own.weight, own.kind) == ("own", 2.0, "pairs")
    assert own.where == f"{mix.path}, line 7, sources[0].pairs"
    assert by_path.data == ListFile(folder / "cases.csv")
    assert by_file.data == ListFile(folder / "cases.csv", fraction=0.5, empty_masks="damaged")
    assert [by_path.name, by_file.name] == ["list", "list 2"]
    assert tampcoco.data == NamedSet("tampcoco", folder / "with space", 0.01)
    assert (casia.data, casia.kind) == (NamedSet("casia2", folder / "casia"), "casia2")
    assert off.data == Authentic((folder / "photos", folder / "images"))
    assert off.weight == 0
    assert authentic.data == Authentic((folder / "photos",))
    assert photos.data == Forge((folder / "photos",))
    masks = (MaskFolder(folder / "masks"), MaskFolder(folder / "masks", "train_"))
    assert curriculum.data == Forge((folder / "photos",), masks, Curriculum(1, 0.5, 10))
    assert constant.data == Forge((folder / "photos",), masks[:1], Curriculum(0.3, 0.3, 0))
    assert mix.validation == Validation(0.2, 7, 0.1)
    assert mix.shapes == (Shape(256, 256), Shape(64, 96, 0.5))
    assert mix.augment == Augment(flip=0, history=0.1)
    assert mix.max_megapixels == 12
    assert len(mix.digest) == 64
    assert pickle.loads(pickle.dumps(mix)) == mix


def test_what_turns_out_wrong_later_has_its_place(folder: Path) -> None:
    lines = ["shapes:", "- 64", "- {height: 64, width: 96}", "validation:", "  seed: 1", "  share: 0.1"]
    mix = load_mix(write(folder, "\n".join([*lines, "sources:", "- authentic: photos"])))
    places = [("shapes", 0), ("shapes", 1), ("validation", "share"), ("sources",)]
    expected = ["line 2, shapes[0]", "line 3, shapes[1]", "line 6, validation.share", "line 7, sources"]
    assert [mix.where(*place) for place in places] == [f"{mix.path}, {place}" for place in expected]
    assert mix.shapes == (Shape(64, 64), Shape(64, 96))


def test_an_anchor_is_the_value_it_names(folder: Path) -> None:
    mix = load_mix(write(folder, "sources:\n- authentic: &p photos\n- forge: *p\n"))
    assert (mix.validation, mix.shapes, mix.augment) == (Validation(), (Shape(256, 256),), Augment())  # left out
    assert mix.where("validation", "share") == f"{mix.path}, line 1, validation.share"
    assert mix.sources[1].data == Forge((folder / "photos",))


WRONG = {
    "empty": ("", None, "the file is empty", "a mapping"),
    "no mapping": ("- 1", 1, "a list of 1", "a mapping"),
    "not yaml": ("sources: [", 1, "", "YAML"),
    "two documents": ("a: 1\n---\nb: 2", None, "document", "YAML"),
    "control characters": ("sources: \x07", None, "special characters", "YAML"),
    "not UTF-8": (b"sources: \xff\xfe", None, "", "YAML"),
    "too deep": ("[" * 5000, None, "nested", "YAML"),
    "no sources": ("validation: {}", 1, "`sources` is missing", "the key"),
    "no source": ("sources: []", 1, "a list of 0", "at least one value"),
    "typo": ("source: []", 1, "did you mean `sources`", "one of sources"),
    "typo inside": ("sources:\n- pairs: {image: a}", 2, "did you mean `images`", "one of images"),
    "a list as key": ("? [1, 2]\n: 3", 1, "a key that is a list", "a word"),
    "merge key": ("<<: {sources: []}", 1, "unknown key", "one of"),
    "twice": ("shapes: [32]\nshapes: [64]", 2, "first in line 1", "each key once"),
    "no kind": ("sources: [{weight: 1}]", 1, "no kind", "exactly one of pairs, list"),
    "two kinds": ("sources: [{authentic: photos, casia2: casia}]", 1, "both `authentic` and `casia2`", "exactly one"),
    "weight": ("sources: [{authentic: photos, weight: -1}]", 1, "`-1`", "from 0 to"),
    "weight nan": ("sources: [{authentic: photos, weight: .nan}]", 1, "`.nan`", "a number"),
    "all off": ("sources: [{authentic: photos, weight: 0}]", 1, "only weights of 0", "above 0"),
    "same name": ("sources:\n- {authentic: photos, name: a}\n- {casia2: casia, name: a}", 3, "`a`", "no other source"),
    "name": ('sources: [{authentic: photos, name: "a\\e[2J"}]', 1, "\\x1b[2J", "printable"),
    "no folder": ("sources: [{authentic: nowhere}]", 1, "there is no folder", "a folder that exists"),
    "no folder in list": ("sources:\n- authentic:\n  - photos\n  - nowhere", 4, "no folder", "a folder that exists"),
    "empty path": ("sources: [{authentic: ''}]", 1, "``", "a path"),
    "null byte": ('sources: [{authentic: "a\\0b"}]', 1, "there is no folder", "a folder that exists"),
    "long path": (f"sources: [{{authentic: {'x' * 500}}}]", 1, "there is no folder", "a folder that exists"),
    "home": ("sources: [{authentic: ~nobody-of-this-name/x}]", 1, "no such home folder", "a path"),
    "variable": ("sources: [{authentic: $NOT_SET/a}]", 1, "$NOT_SET/a", "'NOT_SET' is not"),
    "empty variable": ("sources: [{authentic: '${EMPTY}/a'}]", 1, "'EMPTY' is not", "$$"),
    "dollar": ("sources: [{authentic: $$DATA}]", 1, "$DATA", "a folder that exists"),
    "no list file": ("sources: [{list: cases.jsonl}]", 1, "there is no file", "a file that exists"),
    "list type": ("sources: [{list: cases.doc}]", 1, "cases.doc", ".csv, .json, .jsonl, .tsv, .txt"),
    "no masks": ("sources: [{pairs: {images: images}}]", 1, "`masks` is missing", "the key `masks`"),
    "one folder": ("sources: [{pairs: {images: images, masks: images}}]", 1, "images", "a `suffix`"),
    "pairs path": ("sources: [{pairs: images}]", 1, "`images`", "a mapping with `images`, `masks`"),
    "empty masks": (
        "sources: [{pairs: {images: images, masks: masks, empty_masks: forged}}]",
        1,
        "`forged`",
        "'authentic' or 'damaged'",
    ),
    "no truth": ("sources: [{pairs: {images: images, masks: masks, inverted: !!bool maybe}}]", 1, "maybe", "true or"),
    "python tag": ("sources: !!python/object/apply:os.system ['true']", 1, "`true`", "a mapping"),
    "expression": ("sources: [{authentic: {folders: photos, photo: '('}}]", 1, "`(`", "a regular expression"),
    "no group": ("sources: [{authentic: {folders: photos, photo: 'a'}}]", 1, "`a`", "one group"),
    "fraction": ("sources: [{tampcoco: {root: casia, fraction: 2}}]", 1, "`2`", "from 0 to 1"),
    "photo of a named set": ("sources: [{casia2: {root: casia, photo: a}}]", 1, "unknown key", "one of root"),
    "prefix": ("sources: [{forge: {photos: photos, masks: {folder: masks, prefix: ../}}}]", 1, "`../`", "slashes"),
    "mask folder": ("sources: [{forge: {photos: photos, masks: [[]]}}]", 1, "a list of 0", "a path"),
    "plain share": ("sources: [{forge: {photos: photos, plain_share: 3}}]", 1, "`3`", "from 0 to 1"),
    "share": ("validation: {share: 0.9}\nsources: [{authentic: photos}]", 1, "`0.9`", "from 0 to 0.5"),
    "seed": ("validation: {seed: 1.5}\nsources: [{authentic: photos}]", 1, "`1.5`", "a whole number"),
    "shape": ("shapes: [100]\nsources: [{authentic: photos}]", 1, "`100`", "a multiple of 8"),
    "huge number": (f"shapes: [{'9' * 5000}]\nsources: [{{authentic: photos}}]", 1, "…`", "a whole number"),
    "half a shape": ("shapes: [{height: 64}]\nsources: [{authentic: photos}]", 1, "`width` is missing", "`width`"),
    "alias to itself": ("sources: &a [*a]", None, "nested too deeply", "YAML"),
}


@pytest.mark.parametrize(("text", "line", "found", "expected"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_file_is_refused_with_place_value_and_expectation(
    folder: Path, text: str | bytes, line: int | None, found: str, expected: str
) -> None:
    path = write(folder, text)
    with pytest.raises(ConfigError) as raised:
        load_mix(path)
    assert raised.value.where.startswith(f"{path}, line {line}" if line else str(path))
    assert found in str(raised.value)
    assert expected in raised.value.expected
    assert str(raised.value).isprintable()
    assert str(pickle.loads(pickle.dumps(raised.value))) == str(raised.value)


def test_a_file_that_cannot_be_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load_mix(folder / "nowhere.yaml")
    path = write(folder, "sources: []")

    def refuse(*args: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(ConfigError, match="Permission denied"):
        load_mix(path)


TOKENS = [
    b"!!binary ", b"null", b"*x", b"&x ", b"<<: ", b"? ", b"{", b"}", b"[", b"]", b": ", b"- ", b"\n", b"'", b'"', b"|",
    b"---", b"...", b"\xff", b"\x00", b"\xc2\x85", b"!!python/object/new:os.system [x]", b"!!float x", b"!!bool x",
    b"0x10", b"1:30", b".inf", b"9" * 400, b"$", b"${", b"~x/", b"!<", b"!!seq {}", b"\xf0\x9f\x98\x80", b"/" * 5000,
]  # fmt: skip


def test_files_with_random_damage_are_read_or_refused(folder: Path) -> None:
    text = b"""
shapes: [256, {height: 64, width: 96, weight: 0.5}]
augment: {flip: 0, history: 1e-1}
sources:
  - pairs: {images: images, masks: $DATA/masks, inverted: yes, photo: '^(.+)_'}
    name: own
  - authentic: [photos, casia]
  - forge: {photos: photos, masks: [masks, {folder: masks, prefix: t_}], plain_share: {start: 1, end: 0, batches: 9}}
"""
    rng = random.Random(0)
    refused = 0
    for _ in range(150):
        data = bytearray(text)
        at = rng.randrange(len(data))
        data[at : at + rng.choice([0, 0, 1, 9])] = rng.choice([*TOKENS, bytes([rng.randrange(256)])])
        try:
            load_mix(write(folder, bytes(data)))
        except ConfigError as error:
            assert str(error).isprintable()
            refused += 1
    assert 75 < refused < 150


def test_the_example_of_the_reference_is_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import model.data.mix

    text = Path(model.data.mix.__file__).with_name("MIX.md").read_text(encoding="utf-8")
    example = re.search(r"```yaml\n(.+?)```", text, re.DOTALL)
    assert example
    monkeypatch.setenv("DATA", str(tmp_path / "data"))
    for name in (
        "photos/own", "photos/untouched", "cases/images", "cases/masks", "data/coco/train2017", "data/coco/instances",
        "data/CASIA2", "data/IMD2020", "data/FantasticReality_v1", "data/tampCOCO", "data/DEFACTO", "forged",
    ):  # fmt: skip
        (tmp_path / name).mkdir(parents=True)
    for name in ("cases/more.csv", "forged/forgeries.jsonl"):
        (tmp_path / name).touch()
    mix = load_mix(write(tmp_path, example[1]))
    assert len(mix.sources) == 10
    assert mix.validation == Validation()
    assert mix.augment == Augment()


@pytest.mark.parametrize(
    ("batch", "share"), [(0, 1.0), (5, 0.75), (10, 0.5), (10**12, 0.5)], ids=["first", "half way", "last", "after"]
)
def test_curriculum_is_a_straight_line(batch: int, share: float) -> None:
    assert Curriculum(1.0, 0.5, 10).share(batch) == pytest.approx(share)


@pytest.mark.parametrize(
    ("data", "folders"),
    [
        (Pairs(Path("i"), Path("m")), "im"),
        (ListFile(Path("l.csv")), ""),
        (NamedSet("defacto", Path("d")), "d"),
        (Authentic((Path("a"), Path("b"))), "ab"),
        (Forge((Path("p"),), (MaskFolder(Path("o")),)), "po"),
    ],
    ids=["pairs", "list", "named", "authentic", "forge"],
)
def test_which_folders_it_reads(data: Any, folders: str) -> None:
    source = Source("s", 1, data)
    assert Mix(Path("mix.yaml"), (source,)).folders() == [(source, Path(name)) for name in folders]


def image(*photos: str) -> Sample:
    return Sample("x", Path("x"), (), False, photos=photos)


def test_a_photo_is_on_one_side_in_every_source() -> None:
    split = Validation(0.3, 5, 0.2)
    photos = [f"photo{n}" for n in range(60)]
    pairs = [image(a, b) for a in photos for b in photos if a != b]
    sides: dict[str | None, set[str]] = {"train": set(), "validation": set(), "calibration": set(), None: set()}
    for sample in [*pairs, *(image(photo) for photo in photos)]:
        sides[split_of(sample, split)].update(sample.photos)
    spliced = sides.pop(None)
    assert spliced == set(photos)  # splices of several sides are on none
    assert all(len(found) > 3 for found in sides.values())
    assert sum(len(found) for found in sides.values()) == len(set().union(*sides.values())) == 60


def test_the_shares_and_the_seed_decide() -> None:
    photos = [f"photo{n}" for n in range(2000)]

    def held_out(split: Validation, side: str = "validation") -> set[str]:
        return {photo for photo in photos if split_of_photo(photo, split) == side}

    chosen = [held_out(Validation(0.1, seed)) for seed in (0, 1)]
    assert all(140 < len(some) < 260 for some in chosen)
    assert chosen[0] != chosen[1]
    assert not held_out(Validation(0.0))
    assert not held_out(Validation(0.1, 0, 0.0), "calibration")
    assert 60 < len(held_out(Validation(0.1, 0, 0.05), "calibration")) < 140
    kept = [held_out(Validation(share, 0, 0.1), "calibration") for share in (0.0, 0.1, 0.5)]
    assert kept[0] == kept[1] == kept[2] != set()  # one share moves no photo of the other


def test_how_accents_are_composed_and_what_is_no_utf8_moves_no_photo() -> None:
    assert place("caf\u00e9") == place("cafe\u0301") != place("cafe")
    assert len({place(name) for name in ("\udcff", "\ud800", "")}) == 3
