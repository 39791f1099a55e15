"""`clue forge` from end to end: what it writes, that it goes on, that it harms nothing, and what it says."""

from __future__ import annotations

import hashlib
import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from clue_cli import app
from clue_cli.errors import ClueError, ExitCode, NothingToScanError, OutputError, UsageError
from clue_cli.forging import run as run_module
from clue_cli.forging import worker as worker_module
from clue_cli.forging.options import KINDS, ForgeOptions
from clue_cli.forging.run import LOCK, LOG, SUMMARY, ForgeRun, forge_folder
from model.data.forge import EDITS
from model.reporter import Level, Reporter
from tests.clue_cli.forging.conftest import write_photo

QUICK = ForgeOptions(count=6, seed=3, workers=1)


def contents(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".clue-forge.lock"
    }


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(text) for text in (folder / LOG).read_text("utf-8").splitlines()]


def forge(photos: Path, out: Path, **changes: Any) -> ForgeRun:
    options = {name: getattr(QUICK, name) for name in ForgeOptions.__dataclass_fields__} | changes
    return forge_folder([photos], out, ForgeOptions(**options))


@pytest.fixture(scope="module")
def made(photos: Path, masks: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 pictures of every kind. Read it only."""
    out = tmp_path_factory.mktemp("forged") / "out"
    ended = forge(photos, out, count=24, masks=masks, kinds=tuple(KINDS))
    assert (ended.status, ended.made, ended.before, ended.failures) == ("finished", 24, 0, {})
    return out


def test_every_picture_has_its_mask_and_its_line(made: Path, photos: Path) -> None:
    logged = lines(made)
    assert [line["number"] for line in logged] == list(range(24))
    for line in logged:
        with Image.open(made / line["file"]) as image, Image.open(made / line["mask"]) as mask:
            values = np.asarray(mask)
            assert image.mode == "RGB"
            assert image.size == mask.size == (line["width"], line["height"])
        assert set(np.unique(values)) <= {0, 255}
        assert (values > 0).mean() == pytest.approx(line["forged_area_ratio"], abs=1e-6)
        assert (values > 0).any() == (line["kind"] != "authentic")
        assert all((photos.parent / photo).is_file() for photo in line["photos"])
        assert line["seed"][:2] == [3, line["number"]]
        assert line["kind"] == "authentic" or line["steps"]
    assert {line["file"].rsplit(".")[-1] for line in logged} == {"jpg", "png"}
    hosts = [line["photos"][0] for line in logged[:4] if line["seed"][2] == 1]
    assert len(set(hosts)) == len(hosts)


def test_the_folder_of_the_photos_is_not_written_to(photos: Path) -> None:
    before = contents(photos)
    with pytest.raises(UsageError, match="holds the photos"):
        forge(photos, photos / "x" / "..")
    assert contents(photos) == before


def test_files_hold_the_pixels_and_no_metadata(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = []
    real = worker_module.forge_photo

    def remember(*args: Any, **words: Any) -> Any:
        samples.append(real(*args, **words))
        return samples[-1]

    monkeypatch.setattr(worker_module, "forge_photo", remember)
    forge(photos, tmp_path / "out", count=12, authentic=1.0)
    jpegs = 0
    for sample, line in zip(samples, lines(tmp_path / "out"), strict=True):
        path = tmp_path / "out" / line["file"]
        with Image.open(path) as image:
            assert np.array_equal(np.asarray(image), sample.pixels)
            assert not image.getexif()
            assert image.info.keys() <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
        assert (path.suffix == ".jpg") == (sample.jpeg is not None)
        jpegs += sample.jpeg is not None
    assert 0 < jpegs < 12


def test_the_summary(made: Path, masks: Path) -> None:
    summary = json.loads((made / SUMMARY).read_text("utf-8"))
    assert summary["status"] == "finished"
    assert summary["asked"] == summary["counts"]["made"] == 24
    kinds = {kind: count for kind, count in summary["counts"].items() if kind not in ("made", "unusable_photos")}
    assert sum(kinds.values()) == 24
    assert set(kinds) <= {"authentic", *EDITS} and set(KINDS) == set(EDITS)
    assert summary["settings"]["photos"]["count"] == 4
    assert summary["settings"]["masks"]["count"] == 3
    assert set(summary["tool"]) == {"clue", "opencv", "pillow", "numpy"}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"authentic": 1.0}, {"authentic"}),
        ({"authentic": 0.0, "kinds": ("removal",)}, {"removal"}),
        ({"authentic": 0.0, "kinds": ("copy_move", "text")}, {"copy_move", "text"}),
    ],
)
def test_shares_and_kinds(photos: Path, tmp_path: Path, changes: dict[str, Any], expected: set[str]) -> None:
    assert set(forge(photos, tmp_path / "out", count=8, **changes).kinds) == expected


def test_the_same_seed_writes_the_same_bytes_whatever_the_workers(photos: Path, tmp_path: Path) -> None:
    forge(photos, tmp_path / "one", size=(96, 64))
    forge(photos, tmp_path / "two", size=(96, 64), workers=2)
    forge(photos, tmp_path / "other", size=(96, 64), seed=4)
    assert {(line["width"], line["height"]) for line in lines(tmp_path / "one")} == {(96, 64)}
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert contents(tmp_path / "one") != contents(tmp_path / "other")


class StopAfter(Reporter):
    def __init__(self, count: int, stop: threading.Event) -> None:
        self.left, self.stop = count, stop

    def advance(self, n: int = 1, status: str | None = None, *, reused: bool = False) -> None:
        self.left -= 1
        if not self.left:
            self.stop.set()


@pytest.mark.parametrize("workers", [1, 2])
def test_an_interrupted_run_goes_on_as_if_it_had_not_been(photos: Path, tmp_path: Path, workers: int) -> None:
    forge(photos, tmp_path / "unbroken", count=8)
    stop, out = threading.Event(), tmp_path / "broken"
    options = ForgeOptions(count=8, seed=3, workers=workers)
    first = forge_folder([photos], out, options, StopAfter(2, stop), stop)
    assert first.status == "interrupted"
    assert 2 <= first.made < 8
    assert json.loads((out / SUMMARY).read_text())["status"] == "interrupted"
    # As after a kill: a line torn, a picture written and not logged, a file half-written.
    text = (out / LOG).read_bytes()
    (out / LOG).write_bytes(text[:-20])
    (out / ".tmp").mkdir()
    (out / ".tmp" / "1-0").write_bytes(b"half")
    second = forge_folder([photos], out, options)
    assert (second.status, second.before) == ("finished", first.made - 1)
    assert contents(out) == contents(tmp_path / "unbroken")
    third = forge_folder([photos], out, options)
    assert (third.made, third.before) == (0, 8)
    assert contents(out) == contents(tmp_path / "unbroken")


def test_more_can_be_made_later(photos: Path, tmp_path: Path) -> None:
    forge(photos, tmp_path / "out", count=3)
    more = forge(photos, tmp_path / "out", count=6)
    forge(photos, tmp_path / "at once", count=6)
    assert (more.before, more.made) == (3, 3)
    assert contents(tmp_path / "out") == contents(tmp_path / "at once")


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"seed": 9}, "seed"), ({"size": (64, 64), "kinds": ("text",)}, "kinds, size"), ({"photos": "more"}, "photos")],
)
def test_other_settings_need_another_folder(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], said: str
) -> None:
    changes = dict(changes)
    out = tmp_path / "out"
    forge(photos, out, count=1)
    before, others = contents(out), photos / changes.pop("photos", "")
    with pytest.raises(UsageError, match=rf"other settings or photos \({said}\)"):
        forge(others, out, **changes)
    monkeypatch.setattr(run_module, "__version__", "99")
    with pytest.raises(UsageError, match=r"\(version\)"):
        forge(photos, out, count=1)
    assert contents(out) == before


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("thesis.txt", b"mine"),
        ("images/holiday.jpg", b"mine"),
        (".tmp/mine", b"mine"),
        (LOG, b"{}\n"),
        (SUMMARY, b"{}"),
        (SUMMARY, b"[]"),
        (SUMMARY, b"\xff"),
    ],
)
def test_foreign_folders_are_left_alone(photos: Path, tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / "out" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.raises(UsageError):
        forge(photos, tmp_path / "out")
    assert [p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*") if p.is_file()][:1]
    assert path.read_bytes() == content


def test_a_folder_with_desktop_files_or_an_empty_log_is_used(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    for name in (".DS_Store", LOG):
        (tmp_path / "out" / name).touch()
    assert forge(photos, tmp_path / "out", count=1).made == 1


def test_a_folder_that_is_a_file_or_has_links(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UsageError, match="is not a folder"):
        forge(photos, tmp_path / "file")
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / "images").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="images"):
        forge(photos, tmp_path / "out")
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize("kind", ["file", "link"])
def test_foreign_files_are_never_overwritten(photos: Path, tmp_path: Path, kind: str) -> None:
    out = tmp_path / "out"
    forge(photos, out, count=1)
    target = tmp_path / "target"
    target.write_bytes(b"mine")
    for suffix in ("jpg", "png"):
        path = out / "images" / f"000001.{suffix}"
        path.symlink_to(target) if kind == "link" else path.write_bytes(b"mine")
    with pytest.raises(OutputError, match="not of this run"):
        forge(photos, out, count=2)
    assert target.read_bytes() == b"mine"
    assert (out / "images" / "000001.png").read_bytes() == b"mine"
    assert len(lines(out)) == 1
    assert json.loads((out / SUMMARY).read_text())["status"] == "interrupted"


@pytest.mark.parametrize("line", ["nonsense", '{"number": 0}', '{"number": 0, "kind": "text", "unreadable": []}', "[]"])
def test_a_log_that_somebody_edited(photos: Path, tmp_path: Path, line: str) -> None:
    out = tmp_path / "out"
    forge(photos, out, count=1)
    with (out / LOG).open("a") as stream:
        stream.write(line + "\n")
    with pytest.raises(UsageError, match=r"forgeries\.jsonl, line 2"):
        forge(photos, out, count=2)


def test_two_at_once(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    forge(photos, out, count=1)
    with FileLock(out / LOCK), pytest.raises(OutputError, match="Another `clue forge`"):
        forge(photos, out, count=2)


def test_photos_that_cannot_be_used_are_noted_once_and_remembered(photos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "some"
    for number in range(2):
        write_photo(folder / f"good{number}.jpg", number)
    (folder / "bad.jpg").write_bytes(b"\xff\xd8\xff nothing")
    failed: list[str] = []

    class Notes(Reporter):
        def note(self, text: str, level: Level = "info") -> None:
            if level == "failure":
                failed.append(text)

    out = tmp_path / "out"
    ended = forge_folder([folder], out, ForgeOptions(count=10, workers=1), Notes())
    assert [line.startswith("unusable: some/bad.jpg: ") for line in failed] == [True]
    assert ended.made == 10
    assert set(ended.failures) == {"some/bad.jpg"}
    assert json.loads((out / SUMMARY).read_text())["unusable_photos"][0]["photo"] == "some/bad.jpg"
    again = forge_folder([folder], out, ForgeOptions(count=10, workers=1), Notes())
    assert (again.made, set(again.failures)) == (0, {"some/bad.jpg"})


def test_no_photo_can_be_used(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for number in range(2):
        (tmp_path / "photos" / f"{number}.jpg").write_bytes(b"\xff\xd8\xff nothing")
    with pytest.raises(NothingToScanError, match="none can be used"):
        forge(tmp_path / "photos", tmp_path / "out")


def test_masks_without_photos_and_a_splice_without_a_donor(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(NothingToScanError, match="No mask"):
        forge(photos / "more", tmp_path / "out", masks=photos / "p0.jpg")
    with pytest.raises(UsageError, match="second photo"):
        forge(photos / "more", tmp_path / "out", kinds=("splice",))
    assert not (tmp_path / "out").exists()


def test_a_worker_that_is_killed(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def __init__(self, *args: Any, **words: Any) -> None:
            self.ended = False

        def submit(self, *args: Any) -> Any:
            raise run_module.BrokenProcessPool("killed")

        def shutdown(self, **words: Any) -> None:
            self.ended = True

    monkeypatch.setattr(run_module, "ProcessPoolExecutor", Broken)
    with pytest.raises(ClueError, match="ended abruptly"):
        forge(photos, tmp_path / "out", workers=2)
    monkeypatch.undo()
    assert forge(photos, tmp_path / "out").made == 6


class TestCommand:
    def test_all_is_well(self, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        words = ["forge", str(photos), "--out", str(tmp_path / "out"), "-n", "3", "--workers", "1"]
        assert app.run([*words, "--size", "80x64", "--kinds", "text,removal", "--seed", "2"]) == ExitCode.OK
        said = capsys.readouterr()
        assert said.out == ""
        assert "4 photos" in said.err
        assert "3 pictures" in said.err
        settings = json.loads((tmp_path / "out" / SUMMARY).read_text())["settings"]
        assert (settings["size"], settings["seed"]) == ([80, 64], 2)
        assert set(settings["kinds"]) == {"text", "removal"}

    def test_masks_without_a_photo_are_noted(
        self, photos: Path, masks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        words = ["forge", str(photos), "--masks", str(masks), "--out", str(tmp_path / "out"), "-n", "1"]
        assert app.run([*words, "--size", "80x64", "--workers", "1"]) == ExitCode.OK
        said = capsys.readouterr().err
        assert "4 photos with 2 object masks" in said
        assert "1 of 3 masks belong to no photo; " in said
        assert "masks/nobody.png" in said

    def test_some_failed_and_quiet(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        write_photo(tmp_path / "photos" / "a.jpg", 0)
        (tmp_path / "photos" / "\x1b[31m.jpg").write_bytes(b"nothing")
        words = ["forge", str(tmp_path / "photos"), "-o", str(tmp_path / "out"), "-n", "4", "--workers", "1"]
        assert app.run(words) == ExitCode.SOME_FAILED
        said = capsys.readouterr().err
        assert "unusable: " in said
        assert "\x1b[31m" not in said
        assert app.run([*words, "--quiet"]) == ExitCode.SOME_FAILED
        assert capsys.readouterr().err.startswith("clue: 1 photo or mask could not be used")

    def test_interrupted(
        self, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        ended = ForgeRun("interrupted", 1, 1, {"splice": 2}, {})
        monkeypatch.setattr(run_module, "forge_folder", lambda *args: ended)
        assert app.run(["forge", str(photos), "-o", str(tmp_path / "out")]) == ExitCode.INTERRUPTED
        assert "repeat the command to resume" in capsys.readouterr().err

    @pytest.mark.parametrize(
        "words",
        [
            ["--size", "63"],
            ["--size", "9000x100"],
            ["--size", "64x64", "--whole"],
            ["--kinds", "magic"],
            ["--kinds", ""],
            ["--masks", ""],
        ],
    )
    def test_wrong_usage(self, photos: Path, tmp_path: Path, words: list[str]) -> None:
        assert app.run(["forge", str(photos), "-o", str(tmp_path / "out"), *words]) == ExitCode.BAD_USAGE
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize("option", ["--inpainter", "--autoencoder"])
    def test_models_that_do_not_load(
        self, photos: Path, tmp_path: Path, option: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        words = ["forge", str(photos), "-o", str(tmp_path / "out"), option, str(tmp_path / "absent")]
        assert app.run(words) == ExitCode.WEIGHTS_MISSING
        said = capsys.readouterr().err
        assert "absent is not a folder" in said
        assert "Nothing is downloaded" in said

    def test_registered_base_weights_re_synthesize(
        self, photos: Path, tmp_path: Path, config: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        from tests.base_layouts import register_small

        base = register_small(tmp_path / "bases")
        words = ["forge", str(photos), "-o", str(tmp_path / "out"), "-n", "3", "--authentic", "0", "--size", "96"]
        words += ["--kinds", "resynthesis", "--autoencoder"]
        assert app.run([*words, "small-sd3"]) == ExitCode.OK
        settings = json.loads((tmp_path / "out" / SUMMARY).read_text())["settings"]
        assert (settings["autoencoder"], settings["autoencoder_sha256"]) == ("small-sd3", base.digests()["vae"])
        assert all("by the autoencoder of small-sd3" in " ".join(line["steps"]) for line in lines(tmp_path / "out"))
        capsys.readouterr()
        words[3] = str(tmp_path / "other")
        assert app.run([*words, "sd3-huge"]) == ExitCode.WEIGHTS_MISSING
        said = capsys.readouterr().err
        assert "sd3-huge is not a folder" in said
        assert "the base weights of sd3-huge are not registered" in said
        assert not (tmp_path / "other").exists()

    def test_without_opencv(
        self, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        assert app.run(["forge", str(photos), "-o", str(tmp_path / "out")]) == ExitCode.BAD_USAGE
        assert "clue-forensics[train]" in capsys.readouterr().err
