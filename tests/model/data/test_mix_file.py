"""mix.yaml: what a right file means, and what each wrong one is told."""

from __future__ import annotations

import pickle
import random
import re
from pathlib import Path

import pytest

from model.data.mix import (
    Augment,
    Authentic,
    Curriculum,
    Forge,
    ListFile,
    MaskFolder,
    Masks,
    NamedSet,
    Pairs,
    Shape,
    Validation,
)
from model.data.mix_file import load_mix
from model.data.yaml_reader import MixError


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
        folder / "images",
        folder / "masks",
        "_gt",
        re.compile("^(.+)_"),
        1.0,
        Masks(inverted=True, fit=True),
    )
    assert (own.name, own.weight, own.kind) == ("own", 2.0, "pairs")
    assert own.where == f"{mix.path}, line 7, sources[0].pairs"
    assert by_path.data == ListFile(folder / "cases.csv")
    assert by_file.data == ListFile(folder / "cases.csv", fraction=0.5, reading=Masks(empty="damaged"))
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


def test_what_is_left_out_has_defaults(folder: Path) -> None:
    mix = load_mix(write(folder, "sources: [{authentic: photos}]"))
    assert (mix.validation, mix.shapes, mix.augment) == (Validation(), (Shape(256, 256),), Augment())
    assert [shape.where for shape in mix.shapes] == [f"{mix.path}, no `shapes`"]
    assert (mix.where, mix.validation.where) == (f"{mix.path}, line 1, sources", "")


def test_what_turns_out_wrong_later_has_its_place(folder: Path) -> None:
    lines = ["shapes:", "- 64", "- {height: 64, width: 96}", "validation:", "  seed: 1", "  share: 0.1"]
    mix = load_mix(write(folder, "\n".join([*lines, "sources:", "- authentic: photos"])))
    places = [shape.where for shape in mix.shapes] + [mix.validation.where, mix.where]
    expected = ["line 2, shapes[0]", "line 3, shapes[1]", "line 6, validation.share", "line 8, sources"]
    assert places == [f"{mix.path}, {place}" for place in expected]
    assert mix.shapes[0] == Shape(64, 64)  # the place makes no other shape


def test_an_anchor_is_the_value_it_names(folder: Path) -> None:
    mix = load_mix(write(folder, "sources:\n- authentic: &p photos\n- forge: *p\n"))
    assert mix.sources[1].data == Forge((folder / "photos",))


WRONG = {
    "empty": ("", None, "the file is empty", "sources"),
    "no mapping": ("- 1", 1, "a list of 1", "a mapping"),
    "aliases without end": (
        "sources:\n  - &a {authentic: photos}\n" + "  - *a\n" * 1000,
        2,
        "a list of 1001",
        "at most 1000",
    ),
    "not yaml": ("sources: [", 1, "", "YAML"),
    "two documents": ("a: 1\n---\nb: 2", None, "document", "YAML"),
    "control characters": ("sources: \x07", None, "special characters", "YAML"),
    "not UTF-8": (b"sources: \xff\xfe", None, "", "YAML"),
    "too deep": ("[" * 5000, None, "nested", "YAML"),
    "no sources": ("validation: {}", 1, "`sources` is missing", "a list of sources"),
    "sources null": ("sources:", 1, "found nothing", "a list of sources"),
    "no source": ("sources: []", 1, "a list of 0", "at least one source"),
    "typo": ("source: []", 1, "did you mean `sources`", "one of sources"),
    "typo inside": ("sources:\n- pairs: {image: a}", 2, "did you mean `images`", "one of images"),
    "unknown": ("zebra: 1", 1, "unknown key", "one of sources"),
    "a list as key": ("? [1, 2]\n: 3", 1, "unknown key", "one of"),
    "merge key": ("<<: {sources: []}", 1, "unknown key", "one of"),
    "twice": ("shapes: [32]\nshapes: [64]", 2, "first in line 1", "each key once"),
    "no kind": ("sources: [{weight: 1}]", 1, "no kind", "exactly one of pairs, list"),
    "two kinds": ("sources: [{authentic: photos, casia2: casia}]", 1, "both `authentic` and `casia2`", "exactly one"),
    "weight": ("sources: [{authentic: photos, weight: -1}]", 1, "`-1`", "a number from 0 to"),
    "weight nan": ("sources: [{authentic: photos, weight: .nan}]", 1, "`.nan`", "a number"),
    "weight text": ("sources: [{authentic: photos, weight: '1'}]", 1, "`1`", "a number"),
    "weight list": ("sources: [{authentic: photos, weight: [1]}]", 1, "a list of 1", "a number"),
    "all off": ("sources: [{authentic: photos, weight: 0}]", 1, "only weights of 0", "above 0"),
    "same name": ("sources:\n- {authentic: photos, name: a}\n- {casia2: casia, name: a}", 3, "`a`", "no other source"),
    "name": ('sources: [{authentic: photos, name: "a\\e[2J"}]', 1, "\\x1b[2J", "printable"),
    "no folder": ("sources: [{authentic: nowhere}]", 1, "there is no folder", "a folder that exists"),
    "no folder in list": ("sources:\n- authentic:\n  - photos\n  - nowhere", 4, "no folder", "a folder that exists"),
    "no folders": ("sources: [{authentic: []}]", 1, "a list of 0", "a folder or a list"),
    "empty path": ("sources: [{authentic: ''}]", 1, "``", "the path of a folder"),
    "null byte": ('sources: [{authentic: "a\\0b"}]', 1, "there is no folder", "a folder that exists"),
    "long path": (f"sources: [{{authentic: {'x' * 500}}}]", 1, "there is no folder", "a folder that exists"),
    "home": ("sources: [{authentic: ~nobody-of-this-name/x}]", 1, "no such home folder", "the path of a folder"),
    "variable": ("sources: [{authentic: $NOT_SET/a}]", 1, "'NOT_SET' is not set", "variables that are set"),
    "empty variable": ("sources: [{authentic: '${EMPTY}/a'}]", 1, "'EMPTY' is not set", "$$"),
    "no variable": ("sources: [{authentic: '${}/a'}]", 1, "'' is not set", "$$"),
    "dollar": ("sources: [{authentic: $$DATA}]", 1, "$DATA", "a folder that exists"),
    "no list file": ("sources: [{list: cases.jsonl}]", 1, "there is no file", "a file that exists"),
    "list type": ("sources: [{list: cases.doc}]", 1, "cases.doc", ".csv, .json, .jsonl, .tsv, .txt"),
    "no masks": ("sources: [{pairs: {images: images}}]", 1, "`masks` is missing", "the key `masks`"),
    "one folder": ("sources: [{pairs: {images: images, masks: images}}]", 1, "images", "a `suffix`"),
    "pairs path": ("sources: [{pairs: images}]", 1, "`images`", "a mapping with `images`, `masks`"),
    "inverted": ("sources: [{pairs: {images: images, masks: masks, inverted: 1}}]", 1, "`1`", "true or false"),
    "empty masks": (
        "sources: [{pairs: {images: images, masks: masks, empty_masks: forged}}]",
        1,
        "`forged`",
        "authentic or damaged",
    ),
    "long expression": (
        f"sources: [{{authentic: {{folders: photos, photo: '({'a' * 1000})'}}}}]",
        1,
        "1002 characters",
        "at most 1000",
    ),
    "calibration share": (
        "validation: {calibration_share: 0.5}\nsources: [{authentic: photos}]",
        1,
        "`0.5`",
        "from 0 to 0.4",
    ),
    "no truth": ("sources: [{pairs: {images: images, masks: masks, inverted: !!bool maybe}}]", 1, "maybe", "true or"),
    "python tag": ("sources: !!python/object/apply:os.system ['true']", 1, "os.system", "a list of sources"),
    "tagged mapping": ("sources: [!!set {authentic: photos}]", 1, "tagged", "a mapping with"),
    "python value": (
        "sources: [{authentic: !!python/name:os.system photos}]",
        1,
        "python/name",
        "the path of a folder",
    ),
    "expression": ("sources: [{authentic: {folders: photos, photo: '('}}]", 1, "`(`, which is none", "one group"),
    "no group": ("sources: [{authentic: {folders: photos, photo: 'a'}}]", 1, "`a`", "one group"),
    "fraction": ("sources: [{tampcoco: {root: casia, fraction: 2}}]", 1, "`2`", "from 0 to 1"),
    "photo of a named set": ("sources: [{casia2: {root: casia, photo: a}}]", 1, "unknown key", "one of root"),
    "prefix": ("sources: [{forge: {photos: photos, masks: {folder: masks, prefix: ../}}}]", 1, "`../`", "slashes"),
    "mask folder": ("sources: [{forge: {photos: photos, masks: [[]]}}]", 1, "a list of 0", "a folder, or a mapping"),
    "curriculum": ("sources: [{forge: {photos: photos, plain_share: {start: 1}}}]", 1, "`end` is missing", "the key"),
    "plain share": ("sources: [{forge: {photos: photos, plain_share: 3}}]", 1, "`3`", "from 0 to 1"),
    "share": ("validation: {share: 0.9}\nsources: [{authentic: photos}]", 1, "`0.9`", "from 0 to 0.5"),
    "seed": ("validation: {seed: 1.5}\nsources: [{authentic: photos}]", 1, "`1.5`", "a whole number"),
    "no shapes": ("shapes: []\nsources: [{authentic: photos}]", 1, "a list of 0", "a list of sizes"),
    "shape": ("shapes: [100]\nsources: [{authentic: photos}]", 1, "`100`", "a multiple of 8"),
    "small shape": ("shapes: [8]\nsources: [{authentic: photos}]", 1, "`8`", "from 32 to 4096"),
    "huge number": (f"shapes: [{'9' * 5000}]\nsources: [{{authentic: photos}}]", 1, "…`", "a whole number"),
    "half a shape": ("shapes: [{height: 64}]\nsources: [{authentic: photos}]", 1, "`width` is missing", "`width`"),
    "augment": ("augment: {flop: 1}\nsources: [{authentic: photos}]", 1, "did you mean `flip`", "one of flip"),
    "probability": ("augment: {flip: 2}\nsources: [{authentic: photos}]", 1, "`2`", "from 0 to 1"),
    "megapixels": ("max_megapixels: 1e9\nsources: [{authentic: photos}]", 1, "`1e9`", "to 178"),
    "alias to itself": ("sources: &a [*a]", 1, "a list of 1", "a mapping with"),
}


@pytest.mark.parametrize(("text", "line", "found", "expected"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_file_is_told_where_what_and_what_was_expected(
    folder: Path, text: str | bytes, line: int | None, found: str, expected: str
) -> None:
    path = write(folder, text)
    with pytest.raises(MixError) as raised:
        load_mix(path)
    assert raised.value.where.startswith(f"{path}, line {line}" if line else str(path))
    assert found in str(raised.value)
    assert expected in raised.value.expected
    assert str(raised.value).isprintable()
    assert str(pickle.loads(pickle.dumps(raised.value))) == str(raised.value)


@pytest.mark.parametrize("text", ["x" * (1 << 20) + "y", None], ids=["too large", "no file"])
def test_a_file_that_is_none(folder: Path, text: str | None) -> None:
    path = write(folder, text) if text else folder / "nowhere.yaml"
    with pytest.raises(MixError, match=r"larger than 1 MiB|no such file"):
        load_mix(path)


def test_a_file_that_may_not_be_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(folder, "sources: []")

    def refuse(*args: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(MixError, match="Permission denied"):
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
        except MixError as error:
            assert str(error).isprintable()
            refused += 1
    assert 75 < refused < 150


def test_an_alias_bomb_stays_small(folder: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 30)]
    with pytest.raises(MixError, match="unknown key"):
        load_mix(write(folder, "\n".join(lines)))


def test_the_example_of_the_reference_is_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import model.data.mix_file

    text = Path(model.data.mix_file.__file__).with_name("MIX.md").read_text(encoding="utf-8")
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
