"""Output names: the tree is kept, nothing escapes, and no two locators share a name."""

from __future__ import annotations

import re
import tracemalloc

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from clue_cli.results import names
from clue_cli.results.names import HASH_LENGTHS, MAX_COMPONENT, MAX_PATH, SUFFIXES, caseless, mirrored, stem

HASH = "~[0-9a-f]{12}"


@pytest.mark.parametrize(
    ("locator", "page", "count", "expected"),
    [
        ("evidence/case.zip!/a/b.jpg", 0, 1, r"evidence/case\.zip!/a/b\.jpg\.png"),
        ("b.tif", 2, 5, r"b\.tif\.p0002\.png"),
        ("b.tif", 12345, 20000, r"b\.tif\.p12345\.png"),
        ("Köln/写真.jpg", 0, 1, r"Köln/写真\.jpg\.png"),
        ("noextension", 0, 1, r"noextension\.png"),
        (".hidden.jpg", 0, 1, r"\.hidden\.jpg\.png"),
        ("../../etc/passwd", 0, 1, rf"_/_/etc/passwd{HASH}\.png"),
        ("/absolute.jpg", 0, 1, rf"_/absolute\.jpg{HASH}\.png"),
        ("a//b.jpg", 0, 1, rf"a/_/b\.jpg{HASH}\.png"),
        ("a:b/c?.jpg", 0, 1, rf"a_b/c_\.jpg{HASH}\.png"),
        ("a\\b.jpg", 0, 1, rf"a_b\.jpg{HASH}\.png"),
        ("new\nline\x1b[31m.jpg", 0, 1, rf"new_line_\[31m\.jpg{HASH}\.png"),
        ("gpj\u202e.exe", 0, 1, rf"gpj_\.exe{HASH}\.png"),
        ("nul.jpg", 0, 1, rf"_nul\.jpg{HASH}\.png"),
        ("COM1/a.jpg", 0, 1, rf"_COM1/a\.jpg{HASH}\.png"),
        ("CON .jpg", 0, 1, rf"_CON \.jpg{HASH}\.png"),
        ("dots.../a.jpg", 0, 1, rf"dots_/a\.jpg{HASH}\.png"),
        ("a.jpg ", 0, 1, rf"a\.jpg_{HASH}\.png"),
        # A folder must not end like an output file: `b` would want the same name.
        ("b.png/c.jpg", 0, 1, rf"b\.png_/c\.jpg{HASH}\.png"),
        ("b.JSON/c.jpg", 0, 1, rf"b\.JSON_/c\.jpg{HASH}\.png"),
        # Names that look as if they had been given a page or a hash.
        ("b.tif.p0002", 0, 1, rf"b\.tif\.p0002{HASH}\.png"),
        ("b.tif.P0002", 0, 1, rf"b\.tif\.P0002{HASH}\.png"),
        ("b~0123456789ab", 0, 1, rf"b~0123456789ab{HASH}\.png"),
        ("b~2", 0, 1, r"b~2\.png"),
        ("", 0, 1, rf"_{HASH}\.png"),
        ("s3://bucket/a.jpg", 0, 1, r"s3/bucket/a\.jpg\.png"),
        # A URL within a locator is a name in an archive.
        ("a.zip!/s3://bucket/a.jpg", 0, 1, rf"a\.zip!/s3_/_/bucket/a\.jpg{HASH}\.png"),
        ("s3://bucket/a.zip!/b://c.jpg", 0, 1, rf"s3/bucket/a\.zip!/b_/_/c\.jpg{HASH}\.png"),
    ],
)
def test_table(locator: str, page: int, count: int, expected: str) -> None:
    assert re.fullmatch(expected, str(mirrored(locator, page, count)))


def test_long_components_are_cut_between_characters_and_keep_their_extension() -> None:
    name = mirrored("folder/" + "é" * 200 + ".jpeg").name
    assert re.fullmatch(rf"é+\.jpeg{HASH}\.png", name)
    assert 120 < len(name.encode()) <= MAX_COMPONENT


def test_long_paths_lose_their_middle() -> None:
    path = mirrored("/".join(["case", *["folder"] * 200, "photo.jpg"]))
    assert re.fullmatch(rf"case/~/photo\.jpg{HASH}\.png", str(path))


def test_long_names_of_folders_are_not_kept_in_memory() -> None:
    mirrored("warm/up.jpg")
    tracemalloc.start()
    for number in range(200):
        mirrored(f"{number}{'x' * 100_000}/a.jpg")
    kept = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert kept < 1_000_000


@pytest.mark.parametrize("length", HASH_LENGTHS)
def test_a_longer_hash_can_be_asked_for(length: int) -> None:
    assert re.fullmatch(rf"a\.jpg~[0-9a-f]{{{length}}}\.png", str(mirrored("a.jpg", hash_length=length)))


def test_only_known_suffixes_keep_the_names_apart() -> None:
    with pytest.raises(ValueError, match="suffix"):
        mirrored("a.jpg", suffix=".txt")


hostile = st.text(
    st.one_of(
        st.sampled_from("/.~! aAp0123~CONnul.png:\\\u202e\n"),
        st.characters(),
        st.characters(categories=["Cs", "Cc", "Cf"]),
    ),
    max_size=60,
)
pieces = st.lists(
    st.sampled_from(
        ["a", "A", "b.png", "b", "..", "", "x" * 150, "x" * 151, "é" * 80, "CON", "a.p0001", "a~0123456789ab"]
    ),
    min_size=1,
    max_size=12,
).map("/".join)
locators = st.one_of(hostile, pieces)


@given(locators, st.integers(0, 10**6), st.integers(1, 10**6), st.sampled_from(SUFFIXES), st.sampled_from([0, 12, 64]))
@example("/".join(["x" * 200] * 40), 5, 9, ".preview.jpg", 64)
def test_names_are_legal_everywhere(locator: str, page: int, count: int, suffix: str, length: int) -> None:
    path = mirrored(locator, page, count, suffix, length)
    assert not path.is_absolute()
    assert len(str(path).encode()) <= MAX_PATH
    assert path.name.endswith(suffix)
    for component in path.parts:
        assert component not in ("", ".", "..")
        assert len(component.encode()) <= MAX_COMPONENT
        assert not component.endswith((".", " "))
        assert not re.search(r'[<>:"|?*\\/\x00-\x1f\x7f]', component)
        assert component.split(".")[0].rstrip().lower() not in {"con", "nul", "com1", "lpt9", "aux", "prn"}
    for folder in path.parts[:-1]:
        assert not caseless(folder).endswith(SUFFIXES)


@given(st.lists(st.tuples(locators, st.integers(0, 3), st.integers(1, 4)), min_size=2, max_size=8, unique=True))
@example([("b", 0, 1), ("b.png/c", 0, 1), ("b.png", 0, 1)])
@example([("b.tif", 2, 3), ("b.tif.p0002", 0, 1)])
@example([("a:b/c", 0, 1), ("a?b/c", 0, 1), ("a_b/c", 0, 1)])
@example([("x" * 300, 0, 1), ("x" * 301, 0, 1)])
def test_no_two_pages_share_a_name(pages: list[tuple[str, int, int]]) -> None:
    # One file has one number of pages, and page numbers below it.
    counts = {locator: count for locator, _, count in pages}
    places = {(locator, page % counts[locator]) for locator, page, _ in pages}
    names = [mirrored(locator, page, counts[locator]) for locator, page in places]
    assert len(set(names)) == len(places)
    # Nor is one a folder of the other.
    assert not any(one in other.parents for one in names for other in names)


@pytest.mark.parametrize(
    ("one", "other"), [("A.JPG", "a.jpg"), ("é.jpg", "e\u0301.jpg"), ("STRASSE", "straße"), ("É", "e\u0301")]
)
def test_caseless_equals_what_some_file_system_takes_for_the_same(one: str, other: str) -> None:
    assert one != other
    assert caseless(one) == caseless(other)


def test_the_stem_has_no_suffix() -> None:
    assert str(stem("a/b.jpg")) == "a/b.jpg"


@pytest.mark.parametrize("length", HASH_LENGTHS)
@pytest.mark.parametrize(
    "locator", ["a" * 300, "é" * 90 + ".jpg", "x" * 200 + "/b.jpg", "case.zip!/" + "folder/" * 30 + "b.jpg"]
)
def test_names_on_windows_are_shorter(locator: str, length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "MAX_COMPONENT", 110)
    monkeypatch.setattr(names, "MAX_PATH", 170)
    found = mirrored(locator, 12345, 20000, ".outline.png", length)
    assert len(str(found).encode()) <= 170
    assert all(len(part.encode()) <= 110 and not part.endswith((".", " ")) for part in found.parts)
    assert found != mirrored(locator + "!", 12345, 20000, ".outline.png", length)
