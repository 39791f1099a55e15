"""From words to images: names, paths, absent sets, the choice under a limit."""

from __future__ import annotations

from pathlib import Path

import pytest

from clue_cli.errors import ClueError, DataProblemError, NothingToScanError, UsageError
from clue_cli.eval.sets import resolve
from model.evaluation.ground import truth_of
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


@pytest.mark.parametrize("words", [["all,acdsee"], ["acdsee,all"], ["all", "all"]])
def test_no_set_is_measured_twice(root: Path, words: list[str]) -> None:
    assert [one.name for one in resolve(words, root)[0]] == ["acdsee"]


def test_a_group_is_what_is_there_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("AutoSplice90", "AutoSplice75"):
        write_set(tmp_path / name, 1, 1)
    found, absent = resolve(["autosplice"], tmp_path)
    assert ([one.name for one in found], absent) == (["autosplice-90", "autosplice-75"], ["autosplice-100"])
    with pytest.raises(NothingToScanError, match="None of the 4 sets of weibo was found"):
        resolve(["weibo"], tmp_path)
    with pytest.raises(UsageError, match="needs to know where"):
        resolve(["weibo"], None)


def test_a_set_without_a_picture_is_no_result(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "set", 0, 0)
    (folder / "Tp" / "note.txt").touch()
    with pytest.raises(NothingToScanError, match="holds no picture that could be measured\\."):
        resolve([str(folder)], None)
    (folder / "Tp" / "link").symlink_to(tmp_path)
    with pytest.raises(NothingToScanError, match="could be measured: Tp/link: folder unreadable"):
        resolve([str(folder)], None)


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
        (["x" * 5000], ".", NothingToScanError, "no benchmark named xxx", ""),
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


def test_strict_refuses_before_anything_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_set(tmp_path / "set", 2, 1)
    write_mask(folder / "Gt" / "t1.png", truth(1, (40, 40)))
    assert len(resolve([str(folder)], None)[0]) == 1
    with pytest.raises(DataProblemError):
        resolve([str(folder)], None, read=truth_of)
    assert "t1.jpg" in capsys.readouterr().err
