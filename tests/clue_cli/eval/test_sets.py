"""From words to images: names, paths, absent sets, the choice under a limit."""

from __future__ import annotations

from pathlib import Path

import pytest

from clue_cli.errors import ClueError, DataProblemError, NothingToScanError, UsageError
from clue_cli.eval.sets import ChosenSet, choose, inverted, resolve
from model.evaluation import Kind, find_at
from tests.clue_cli.eval.made import truth, write_mask, write_set


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("root")
    write_set(folder / "ACDSee", 6, 4)
    write_set(folder / "with, comma", 2, 0)
    return folder


@pytest.mark.parametrize(
    ("words", "with_root", "expected"),
    [
        (["acdsee"], True, ["acdsee"]),
        (["acdsee,acdsee", "acdsee"], True, ["acdsee"]),
        (["{root}/ACDSee"], False, ["{root}/ACDSee"]),
        (["{root}/with, comma"], False, ["{root}/with, comma"]),
        (["acdsee,{root}/ACDSee"], True, ["acdsee", "{root}/ACDSee"]),
    ],
)
def test_words_become_sets(root: Path, words: list[str], with_root: bool, expected: list[str]) -> None:
    found, absent = resolve([word.format(root=root) for word in words], root if with_root else None)
    assert [one.name for one in found] == [name.format(root=root) for name in expected]
    assert absent == []


def test_all_names_what_is_absent(root: Path) -> None:
    found, absent = resolve(["all"], root)
    assert [one.name for one in found] == ["acdsee"]
    assert "coverage" in absent and "acdsee" not in absent


@pytest.mark.parametrize(
    ("words", "root_name", "kind", "message", "said"),
    [
        ([], ".", UsageError, "nothing to measure", ""),
        ([","], ".", UsageError, "nothing to measure", ""),
        (["coverage"], ".", NothingToScanError, "coverage was not found in", "Lay it out as <root>/"),
        (["coverage"], None, NothingToScanError, "not said where coverage lies", "Obtained from:"),
        (["all"], None, UsageError, "needs to know where", ""),
        (["all"], "with, comma", NothingToScanError, "None of the", ""),
        (["coverag"], ".", NothingToScanError, "no benchmark named coverag", ""),
        (["{root}"], None, NothingToScanError, "laid out in no way", ""),
    ],
)
def test_what_is_not_there(
    root: Path,
    words: list[str],
    root_name: str | None,
    kind: type[ClueError],
    message: str,
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(kind, match=message) as raised:
        resolve([word.format(root=root) for word in words], None if root_name is None else root / root_name)
    assert raised.value.advice
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("limit", [None, 1, 2, 3, 5, 9, 10, 99])
def test_a_limit_keeps_both_classes_and_is_part_of_a_larger_one(root: Path, limit: int | None) -> None:
    (found,), _ = resolve(["acdsee"], root)
    chosen = choose(found, limit, 0)
    assert len(chosen) == min(limit or 10, 10)
    assert [entry.key for entry in chosen] == sorted(entry.key for entry in chosen)
    if limit != 1:
        assert {entry.forged for entry in chosen} == {True, False}
    if limit:
        assert set(chosen) <= set(choose(found, limit + 1, 0))


def test_the_seed_chooses(root: Path) -> None:
    (found,), _ = resolve(["acdsee"], root)
    assert len({choose(found, 3, seed) for seed in range(8)}) > 1
    assert choose(found, 3, 5) == choose(found, 3, 5)


def test_an_inverted_set_is_noticed_among_the_chosen(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "set", 4, 0)
    for number in range(4):
        write_mask(folder / "Gt" / f"t{number}.png", ~truth(number))
    (folder / "Gt" / "t3.png").write_bytes(b"damaged")
    found = find_at(folder, deep=False)
    problem = inverted(ChosenSet(found, choose(found, None, 0)))
    assert problem is not None and problem.kind is Kind.SET_INVERTED and problem.detail == "3 of 3 masks"


def test_strict_refuses_before_anything_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_set(tmp_path / "set", 2, 1)
    write_mask(folder / "Gt" / "t1.png", truth(1, (40, 40)))
    assert len(resolve([str(folder)], None)[0]) == 1
    with pytest.raises(DataProblemError):
        resolve([str(folder)], None, strict=True)
    assert "t1.jpg" in capsys.readouterr().err
