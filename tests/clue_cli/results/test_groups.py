"""Groups of copies: no chains, the first picture represents, and hashes that are made for it cost little more."""

from __future__ import annotations

import random
import time

import numpy as np
import pytest

from clue_cli.records import Finding, Origin, Question, Verdict
from clue_cli.results import hamming
from clue_cli.results.groups import NEAR, NOT_A_PHOTOGRAPH, Copy, Group, Groups, Kind, leaders
from clue_cli.results.hamming import FARTHEST, HammingIndex
from tests.clue_cli.results.made import answer, failure, identity, image

U64 = np.uint64


def grouped(*pictures: tuple[str, str | None], verdicts: tuple[Verdict, ...] = ()) -> Groups:
    """Groups of pictures, each with the digit of its content and its hash."""
    groups = Groups()
    given = [*verdicts, *[Verdict.NO_EVIDENCE] * len(pictures)]
    for (content, perceptual_hash), verdict in zip(pictures, given, strict=False):
        groups.add(image(file=identity(content * 64), perceptual_hash=perceptual_hash, verdict=verdict))
    return groups


def hashed(value: int) -> str:
    return f"{value:016x}"


def test_no_picture_one_picture_and_failures_are_in_no_group() -> None:
    groups = Groups()
    assert not len(groups) and not list(groups) and groups.in_words() == "" and groups.images == 0
    groups = Groups()
    groups.add(failure())
    groups.add(image(perceptual_hash=hashed(5)))
    assert groups.of(0) is None and groups.copy(0) is None and groups.images == 1
    for wrong in (-1, 1):
        with pytest.raises(IndexError):
            groups.of(wrong)
    with pytest.raises(IndexError):
        groups.group(1)
    with pytest.raises(RuntimeError):
        groups.add(image())


def test_exact_and_near_copies_with_their_distance() -> None:
    groups = grouped(("a", hashed(0)), ("b", hashed(3)), ("c", hashed(2**64 - 1)), ("a", hashed(0)), ("b", hashed(3)))
    assert [groups.of(index) for index in range(5)] == [1, 1, None, 1, 1]
    assert groups.copy(0) == Copy(1, 0, Kind.EXACT, 0, 0)
    assert groups.copy(1) == Copy(1, 0, Kind.NEAR, 2, 1)
    assert groups.copy(3) == Copy(1, 0, Kind.EXACT, 0, 0)
    assert groups.copy(4) == Copy(1, 0, Kind.NEAR, 2, 1)
    assert list(groups) == [Group(1, 0, 4, Kind.NEAR, False)]


def test_pages_of_one_file_are_no_copies_by_its_hash_but_the_same_page_of_its_copy_is() -> None:
    groups = Groups()
    for locator in ("a.tif", "b.tif"):
        for page in range(2):
            groups.add(image(locator, page, 2))
    assert [groups.of(index) for index in range(4)] == [1, 2, 1, 2]
    assert all(group.kind is Kind.EXACT for group in groups)


def test_the_same_hash_in_other_bytes_is_near_with_no_bit_between() -> None:
    groups = grouped(("a", hashed(9)), ("b", hashed(9)))
    assert groups.copy(1) == Copy(1, 0, Kind.NEAR, 0, 1)
    assert groups.group(1).kind is Kind.NEAR


def test_records_without_a_hash_have_exact_copies_only() -> None:
    groups = grouped(("a", None), ("b", None), ("a", None), ("c", hashed(0)), ("d", None))
    assert [groups.of(index) for index in range(5)] == [1, None, 1, None, None]
    older = grouped(("a", None), ("b", hashed(7)), ("a", hashed(7)))  # one of them is of an earlier schema
    assert [older.of(index) for index in range(3)] == [1, 1, 1]


def test_screens_drawings_and_pages_have_exact_copies_only() -> None:
    """Of one form, filled in by two people, the hashes are equal."""
    page = Finding(kind=NOT_A_PHOTOGRAPH, source=Origin.PIXELS, statement="A page.")
    groups = Groups()
    for content in "aba":
        groups.add(image(file=identity(content * 64), perceptual_hash=hashed(9), findings=[page]))
    groups.add(image(file=identity("c" * 64), perceptual_hash=hashed(9)))
    assert [groups.of(index) for index in range(4)] == [1, None, 1, None]
    assert groups.group(1).kind is Kind.EXACT


def test_what_was_not_compared_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hashes that are alike in parts, all more than four bits apart, and copies of two of them."""
    monkeypatch.setattr(hamming, "_PLACES", list(range(64)))
    apart = [sum(0b11111 << 5 * bit for bit in range(12) if number >> bit & 1) for number in range(1000)]
    pictures = [*(f"{number:064x}" for number in range(1001)), f"{999:064x}"]
    for most, incomplete in ((1000, False), (5, True)):
        monkeypatch.setattr("clue_cli.results.groups._MOST", most)
        monkeypatch.setattr("clue_cli.results.groups._BLOCK", 100)
        groups = Groups()
        for sha256, value in zip(pictures, [*apart, apart[3] ^ 1, apart[999]], strict=True):
            groups.add(image(file=identity(sha256), perceptual_hash=hashed(value)))
        assert groups.incomplete is incomplete
        assert ("not all that look alike were found" in groups.in_words()) is incomplete
        assert groups.of(1001) == groups.of(999) is not None  # the same bytes are found in any case
    monkeypatch.setattr("clue_cli.results.groups._MOST", 5)
    alone = Groups()
    for sha256, value in zip(pictures, apart, strict=False):
        alone.add(image(file=identity(sha256), perceptual_hash=hashed(value)))
    assert not len(alone) and alone.in_words() == "not all that look alike were found"


def test_chains_end_at_the_representative() -> None:
    """Each of these is near to the next one, and the last is far from the first."""
    chain = [hashed((1 << (NEAR * step)) - 1) for step in range(8)]
    groups = grouped(*(("0123456789abcdef"[at], value) for at, value in enumerate(chain)))
    assert [groups.of(index) for index in range(8)] == [1, 1, 2, 2, 3, 3, 4, 4]
    for index in range(8):
        copy = groups.copy(index)
        assert copy is not None and copy.distance <= NEAR
        apart = (int(chain[index], 16) ^ int(chain[copy.representative], 16)).bit_count()
        assert apart == copy.distance


@pytest.mark.parametrize(
    ("verdicts", "differ"),
    [
        ((Verdict.FORGED, Verdict.FORGED), False),
        ((Verdict.FORGED, Verdict.NO_EVIDENCE), True),
        ((Verdict.INCONCLUSIVE, Verdict.NO_EVIDENCE), True),
    ],
)
def test_differing_verdicts_are_pointed_out(verdicts: tuple[Verdict, ...], differ: bool) -> None:
    groups = grouped(("a", hashed(0)), ("a", hashed(0)), verdicts=verdicts)
    assert groups.group(1).verdicts_differ is differ and groups.differing == differ
    assert groups.in_words() == "1 group of copies (2 pictures)" + ("; in it verdicts differ" if differ else "")


@pytest.mark.parametrize(
    ("second", "differ"), [(None, False), (Verdict.GENERATED, False), (Verdict.INCONCLUSIVE, True)]
)
def test_a_question_that_was_not_asked_is_no_difference(second: Verdict | None, differ: bool) -> None:
    def asked(verdict: Verdict) -> dict[Question, object]:
        return {
            Question.LOCALIZATION: answer(),
            Question.SYNTHETIC: answer(verdict=verdict, method="traces", method_digest="d" * 64),
        }

    groups = Groups()
    groups.add(image(verdicts=asked(Verdict.GENERATED)))
    groups.add(image() if second is None else image(verdicts=asked(second)))
    assert groups.group(1).verdicts_differ is differ


def plain_leaders(hashes: list[int], within: int) -> list[tuple[int, int]]:
    found: list[int] = []
    made = []
    for number, value in enumerate(hashes):
        near = [((value ^ hashes[leader]).bit_count(), leader) for leader in found]
        distance, leader = min(near, default=(within + 1, -1))
        if distance > within:
            found.append(number)
            distance, leader = 0, number
        made.append((leader, distance))
    return made


@pytest.mark.parametrize("block", [1, 7, 4096])
@pytest.mark.parametrize("bits", [10, 16, 64])
def test_groups_are_those_of_the_plain_method_in_any_order_of_bits(
    monkeypatch: pytest.MonkeyPatch, bits: int, block: int
) -> None:
    monkeypatch.setattr("clue_cli.results.groups._BLOCK", block)
    monkeypatch.setattr(hamming, "_AT_ONCE", 100)
    monkeypatch.setattr(hamming, "_PLACES", random.Random(block).sample(range(64), 64))
    rng = random.Random(bits)
    values = [rng.getrandbits(bits) for _ in range(150)]
    values += [value ^ 1 << rng.randrange(64) ^ 1 << rng.randrange(64) for value in values]
    values = list(dict.fromkeys(values))
    leader, distance, cut = leaders(np.array(values, U64), most=1000)
    assert not cut
    assert list(zip(leader.tolist(), distance.tolist(), strict=True)) == plain_leaders(values, NEAR)


def test_the_index_finds_all_pairs_up_to_its_distance_each_once() -> None:
    rng = random.Random(1)
    base = rng.getrandbits(64)
    near = list({base ^ sum(1 << bit for bit in rng.sample(range(64), rng.randrange(12))) for _ in range(300)})
    index = HammingIndex(FARTHEST)
    index.add(np.array(near[:200], U64))
    index.add(np.array(near[200:], U64))
    queries = near[:40]
    found = [
        (int(query), int(number), int(distance))
        for pairs in index.pairs(np.array(queries, U64))
        for query, number, distance in zip(*pairs, strict=True)
    ]
    apart = [(q, n, (a ^ b).bit_count()) for q, a in enumerate(queries) for n, b in enumerate(near)]
    assert sorted(found) == [pair for pair in apart if pair[2] <= FARTHEST]
    with pytest.raises(ValueError, match="distance of 5"):
        HammingIndex(5)


def test_a_query_is_cut_only_if_it_has_too_many_candidates() -> None:
    index = HammingIndex(NEAR, most=50)
    index.add(np.arange(1000, dtype=U64))
    assert index.nearest(np.array([2**63 - 1], U64))[0].tolist() == [-1] and not index.cut
    index.nearest(np.array([5], U64))
    assert index.cut


@pytest.mark.parametrize("made", ["equal", "in one ball", "random"])
def test_hashes_that_are_made_for_it_are_not_quadratic(made: str) -> None:
    """50,000 pictures; compared in pairs they would take a minute."""
    count = 50_000
    values = {
        "equal": np.zeros(count, U64),
        "in one ball": np.arange(count, dtype=U64),
        "random": np.random.default_rng(0).integers(0, 2**64, count, dtype=U64),
    }[made]
    start = time.process_time()
    leader, distance, _ = leaders(np.unique(values))
    assert time.process_time() - start < 20
    assert len(np.unique(leader)) == {"equal": 1, "random": count}.get(made, len(np.unique(leader)))
    assert (distance <= NEAR).all()
