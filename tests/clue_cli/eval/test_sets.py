"""From words to images: names, paths, absent sets, the choice under a limit."""

from __future__ import annotations

from pathlib import Path

import pytest

from clue_cli.errors import ClueError, DataProblemError, NothingToScanError, UsageError
from clue_cli.eval import sets
from clue_cli.eval.sets import resolve
from model.datasets.sample import Sample
from model.evaluation import Found
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
        (["all,acdsee"], True, ["acdsee"]),
        (["acdsee", "all", "all"], True, ["acdsee"]),
        (["{root}/ACDSee"], False, ["{root}/ACDSee"]),
        (["{root}/with, comma"], False, ["{root}/with, comma"]),
        (["acdsee", "{root}/with, comma"], True, ["acdsee", "{root}/with, comma"]),
    ],
)
def test_words_become_sets(root: Path, words: list[str], with_root: bool, expected: list[str]) -> None:
    found, absent = resolve([word.format(root=root) for word in words], root if with_root else None)
    assert [one.name for one in found] == [name.format(root=root) for name in expected]
    assert ("coverage" in absent) == any("all" in word for word in words) and "acdsee" not in absent


@pytest.mark.parametrize(
    ("words", "first", "second"),
    [
        (["set,./set"], "set", "./set"),
        (["set", "set/"], "set", "set/"),
        (["set,{here}/set"], "set", "{here}/set"),
        (["set/Gt/../,link"], "set/Gt/../", "link"),
        (["link,far/../set"], "link", "far/../set"),
        (["all,./ACDSee"], "acdsee", "./ACDSee"),
        (["ACDSee,acdsee"], "ACDSee", "acdsee"),
        (["list.csv,other,./list.csv"], "list.csv", "./list.csv"),
        (["set", "same.csv"], "set", "same.csv"),
    ],
)
def test_a_set_under_two_names_is_refused(
    words: list[str], first: str, second: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("set", "ACDSee", "other"):
        write_set(tmp_path / name, 2, 1)
    (tmp_path / "link").symlink_to("set")
    (tmp_path / "far").mkdir()
    (tmp_path / "list.csv").write_text("other/Tp/t0.jpg,other/Gt/t0.png\n")
    (tmp_path / "same.csv").write_text("set/Tp/t0.jpg,link/Gt/t0.png\nlink/Tp/t1.jpg,set/Gt/t1.png\nset/Au/a0.jpg\n")
    monkeypatch.chdir(tmp_path)
    first, second = (name.format(here=tmp_path) for name in (first, second))
    with pytest.raises(UsageError) as raised:
        resolve([word.format(here=tmp_path) for word in words], tmp_path)
    where = raised.value.message.removeprefix(f"--bench gives the same images twice, as {first} and as {second}: ")
    assert where.startswith(f"both are in {tmp_path}")
    assert raised.value.advice == "Each set is expected once: leave one of them out."


def test_sets_that_share_images_are_several_where_they_say_otherwise(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "set", 2, 0)
    write_set(tmp_path / "copy", 2, 0)
    (tmp_path / "part.csv").write_text("set/Tp/t0.jpg,set/Gt/t0.png\n")
    (tmp_path / "masks.csv").write_text("set/Tp/t0.jpg,set/Gt/t1.png\nset/Tp/t1.jpg,set/Gt/t0.png\n")
    (tmp_path / "class.csv").write_text("set/Tp/t0.jpg\nset/Tp/t1.jpg\n")
    paths = [str(tmp_path / name) for name in ("copy", "part.csv", "masks.csv", "class.csv")]
    assert [one.name for one in resolve([str(folder), *paths], None)[0]] == [str(folder), *paths]


def test_two_sets_of_one_name_are_refused(tmp_path: Path) -> None:
    names = [str(write_set(tmp_path / name, 1, 0)) for name in ("a\x01", r"a\x01")]
    with pytest.raises(UsageError, match="the results would both call"):
        resolve(names, None)


def test_images_that_are_gone_meanwhile_are_known_by_their_paths(tmp_path: Path) -> None:
    entry = Sample("a.jpg", tmp_path / "gone" / "a.jpg", (), False)
    found = {name: Found(name, "list", tmp_path, None, [entry], [], 0) for name in "ab"}
    with pytest.raises(UsageError, match="gives the same images twice, as a and as b"):
        sets.check_each_once(found)


@pytest.mark.parametrize("word", ["casia1", "CASIA1"])
def test_the_folder_that_is_named_is_measured_whatever_lies_beside_it(tmp_path: Path, word: str) -> None:
    write_set(tmp_path / word, 1, 1)
    write_set(tmp_path / "CASIA 1.0", 4, 4)
    write_mask(tmp_path / "CASIA 1.0" / "Gt" / "t1.png", truth(1, (40, 40)))
    for read in (None, truth_of):  # --strict says nothing of its neighbour
        (found,) = resolve([str(tmp_path / word)], None, read=read)[0]
        assert (found.name, found.folder, found.counts) == (str(tmp_path / word), tmp_path / word, (1, 1))
        assert found.benchmark is not None


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
