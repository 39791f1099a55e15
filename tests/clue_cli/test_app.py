"""The command line: what it accepts, what it says, and what it exits with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer

from clue_cli import __version__, app
from clue_cli.commands.options import graceful_stop
from clue_cli.errors import (
    ClueError,
    ExitCode,
    ForgedFound,
    NothingToScanError,
    OutputError,
    UsageError,
    WeightsError,
)
from clue_cli.evidence.selection import Selection
from clue_cli.evidence.shard import Shard
from clue_cli.networks import Compile, DType
from clue_cli.records import Counts, RunRecord
from clue_cli.scan import FailOn, GifFrames, ScanOptions
from clue_cli.scan.run_log import exit_code
from model.reporter import Reporter
from tests.clue_cli.results.made import failure, image, run

Scan = Callable[..., RunRecord]


class Pipeline:
    """Stands in for the pipeline: remembers its arguments and returns or raises what the test set."""

    def __init__(self) -> None:
        self.counts = Counts(files=1, images=1, no_evidence=1)
        self.status = "finished"
        self.raises: BaseException | None = None
        self.asked: tuple[list[Path], Path, ScanOptions] | None = None

    def __call__(
        self, paths: list[Path], out: Path, options: ScanOptions, progress: Reporter, stop: threading.Event
    ) -> RunRecord:
        self.asked = (paths, out, options)
        assert not stop.is_set()
        if self.raises is not None:
            raise self.raises
        code = exit_code(self.counts, interrupted=self.status == "interrupted", fail_on=options.fail_on)
        record = run(status=self.status, counts=self.counts, exit_code=code)
        progress.stage("", "files", 2)
        progress.result(image("evidence/a.jpg"))
        progress.result(failure("evidence/b.jpg"))
        progress.advance(2)
        progress.summary("Scan finished", [(name, str(n), "") for name, n in self.counts if n])
        return record

    @property
    def options(self) -> ScanOptions:
        assert self.asked is not None
        return self.asked[2]


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    fake, module = Pipeline(), ModuleType("clue_cli.scan.pipeline")
    module.scan = fake  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "clue_cli.scan.pipeline", module)
    return fake


def clue(*arguments: str) -> int:
    return app.run(arguments)


class TestScan:
    def test_defaults(self, pipeline: Pipeline) -> None:
        assert clue("scan", "one", "two", "--out", "results") == ExitCode.OK
        assert pipeline.asked is not None
        assert pipeline.asked[:2] == ([Path("one"), Path("two")], Path("results"))
        expected = ScanOptions(command_line=pipeline.options.command_line)
        assert pipeline.options == expected

    @pytest.mark.parametrize(
        ("words", "expected"),
        [
            (["--model", "sd3"], {"model": "sd3"}),
            (["--device", "cuda:3"], {"device": "cuda:3"}),
            (["--devices", "0,1"], {"devices": ("cuda:0", "cuda:1")}),
            (["--devices", "cuda:2,cpu"], {"devices": ("cuda:2", "cpu")}),
            (["--dtype", "bfloat16"], {"dtype": DType.BFLOAT16}),
            (["--compile", "graphs"], {"compile": Compile.GRAPHS}),
            (["--batch", "4"], {"batch": 4}),
            (["--workers", "2"], {"workers": 2}),
            (["--threshold", "0.25"], {"threshold": 0.25}),
            (["--panels"], {"panels": True}),
            (["--hidden"], {"hidden": True}),
            (["--follow-links"], {"follow_links": True}),
            (["--archive-depth", "0"], {"archive_depth": 0}),
            (["--gif-frames", "all"], {"gif_frames": GifFrames.ALL}),
            (["--max-megapixels", "12.5"], {"max_megapixels": 12.5}),
            (["--max-pages", "9"], {"max_pages": 9}),
            (["--max-file-mib", "5"], {"max_file_mib": 5.0}),
            (["--no-heatmaps"], {"heatmaps": False}),
            (["--no-previews"], {"previews": False}),
            (["--overwrite"], {"overwrite": True}),
            (["--retry-failed"], {"retry_failed": True}),
            (["--fail-on", "forged"], {"fail_on": frozenset({FailOn.FORGED})}),
            (["--fail-on", "unread"], {"fail_on": frozenset({FailOn.UNREAD})}),
            (["--include-results"], {"include_results": True}),
            (["--shard", "2/8"], {"shard": Shard(2, 8)}),
            (["--decode-timeout", "600"], {"decode_timeout": 600.0}),
            (
                ["--include", "*.jpg", "--include", "*.png", "--exclude", "cache"],
                {"selection": Selection(("*.jpg", "*.png"), ("cache",))},
            ),
            (
                ["--since", "2026-01-31T00:00+00:00"],
                {"selection": Selection(since=1769817600.0), "since": "2026-01-31T00:00+00:00"},
            ),
        ],
    )
    def test_every_option_arrives(self, pipeline: Pipeline, words: list[str], expected: dict[str, Any]) -> None:
        assert clue("scan", "evidence", "-o", "results", *words) == ExitCode.OK
        changed = {
            name: getattr(pipeline.options, name)
            for name in ScanOptions.__dataclass_fields__
            if name != "command_line" and getattr(pipeline.options, name) != getattr(ScanOptions(), name)
        }
        assert changed == expected

    def test_a_calibration_arrives_for_the_question_that_it_is_about(
        self, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(
            "clue_cli.scan.calibration_file.by_task", lambda paths: {path.stem: path for path in reversed(paths)}
        )
        files = ["--calibration", "synthetic.json", "--calibration", "localization.json"]
        assert clue("scan", "evidence", "-o", "results", *files) == ExitCode.OK
        assert pipeline.options.calibration == Path("localization.json")
        assert pipeline.options.synthetic_calibration == Path("synthetic.json")

    @pytest.mark.parametrize(
        "words",
        [
            [],
            ["evidence"],
            ["--out", "results"],
            ["evidence", "--out", "results", "--compile", "all"],
            ["evidence", "--out", "results", "--dtype", "float64"],
            ["evidence", "--out", "results", "--threshold", "1.5"],
            ["evidence", "--out", "results", "--threshold", "nan"],
            ["evidence", "--out", "results", "--archive-depth", "-1"],
            ["evidence", "--out", "results", "--max-megapixels", "0"],
            ["evidence", "--out", "results", "--max-megapixels", "inf"],
            ["evidence", "--out", "results", "--max-file-mib", "inf"],
            ["evidence", "--out", "results", "--fail-on", "rain"],
            ["evidence", "--out", "results", "--since", "yesterday"],
            ["evidence", "--out", "results", "--decode-timeout", "0"],
            ["", "--out", "results"],
            ["evidence", "--out", ""],
            ["evidence", "--out", "results", "--unheard-of"],
        ],
    )
    def test_wrong_usage(self, pipeline: Pipeline, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        assert clue("scan", *words) == ExitCode.BAD_USAGE
        assert pipeline.asked is None
        said = capsys.readouterr()
        assert said.out == ""
        assert "Usage: clue scan" in said.err

    @pytest.mark.parametrize(
        ("counts", "status", "words", "expected", "said"),
        [
            (Counts(images=1), "finished", [], ExitCode.OK, "Scan finished"),
            (Counts(images=1, failures=1), "finished", [], ExitCode.SOME_FAILED, "failures"),
            (Counts(files=7), "finished", [], ExitCode.NOTHING_TO_SCAN, "no picture in the evidence (7 files"),
            (Counts(images=2, forged=1), "finished", [], ExitCode.OK, "forged"),
            (
                Counts(images=2, forged=1, failures=1),
                "finished",
                ["--fail-on", "forged"],
                ExitCode.FORGED_FOUND,
                "1 of 2 images",
            ),
            (Counts(images=3, failures=1), "finished", ["--fail-on", "forged"], ExitCode.SOME_FAILED, "failures"),
            (Counts(failures=1), "finished", [], ExitCode.SOME_FAILED, "failures"),
            (Counts(), "finished", ["--fail-on", "forged"], ExitCode.NOTHING_TO_SCAN, "no picture in the evidence"),
            (Counts(forged=1, failures=1), "interrupted", ["--fail-on", "forged"], ExitCode.INTERRUPTED, "to resume"),
        ],
    )
    def test_exit_codes(
        self,
        pipeline: Pipeline,
        counts: Counts,
        status: str,
        words: list[str],
        expected: ExitCode,
        said: str,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        pipeline.counts, pipeline.status = counts, status
        assert clue("scan", "evidence", "--out", "results", *words) == expected
        talk = capsys.readouterr()
        assert said in talk.err
        assert talk.out == ""

    def test_lists(self, pipeline: Pipeline, tmp_path: Path) -> None:
        paths, hashes = tmp_path / "paths.txt", tmp_path / "known.txt"
        paths.write_text("one\ntwo\n")
        hashes.write_text("0" * 64)
        lists = ["--files-from", str(paths), "--known", str(hashes), "--alert", f" '{hashes}' "]
        assert clue("scan", "--out", "results", *lists) == ExitCode.OK
        options = pipeline.options
        assert pipeline.asked is not None
        assert pipeline.asked[0] == []
        assert (options.listed, options.files_from) == ((Path("one"), Path("two")), str(paths))
        assert options.known is not None
        assert options.alert is not None
        assert options.known.sha256 == options.alert.sha256 == options.settings()["alert_sha256"]
        assert options.settings()["files_from_paths"] == 2

    @pytest.mark.parametrize("option", ["--files-from", "--known", "--alert"])
    def test_a_list_that_is_not_there_is_refused(self, pipeline: Pipeline, option: str) -> None:
        assert clue("scan", "evidence", "--out", "results", option, "no/such/list.txt") == ExitCode.BAD_USAGE
        assert pipeline.asked is None

    def test_quiet_says_nothing(self, pipeline: Pipeline, capsys: pytest.CaptureFixture[str]) -> None:
        assert clue("scan", "evidence", "--out", "results", "--quiet") == ExitCode.OK
        assert capsys.readouterr() == ("", "")

    @pytest.mark.parametrize("words", [["--quiet"], []])
    def test_json_lines_are_all_of_stdout(
        self, pipeline: Pipeline, words: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert clue("scan", "evidence", "--out", "results", "--json-lines", *words) == ExitCode.OK
        said = capsys.readouterr()
        assert [json.loads(line)["locator"] for line in said.out.splitlines()] == ["evidence/a.jpg", "evidence/b.jpg"]
        assert (said.err == "") == (words == ["--quiet"])

    def test_the_command_line_is_recorded_printable(self, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "argv", ["/usr/bin/clue", "scan", "\udcff\x1b.jpg", "--out", "Köln"])
        assert app.run() == ExitCode.OK
        assert pipeline.options.command_line == ("clue", "scan", "\\udcff\\x1b.jpg", "--out", "Köln")


class TestErrors:
    @pytest.mark.parametrize(
        ("kind", "code"),
        [
            (UsageError, 2),
            (NothingToScanError, 3),
            (WeightsError, 4),
            (OutputError, 5),
            (ForgedFound, 6),
            (ClueError, 70),
        ],
    )
    def test_each_exception_has_its_code_message_and_advice(
        self, pipeline: Pipeline, kind: type[ClueError], code: int, capsys: pytest.CaptureFixture[str]
    ) -> None:
        pipeline.raises = kind("It is \x1b[31mred\n.", "Do [bold]this[/bold].")
        assert clue("scan", "evidence", "--out", "results", "--quiet") == code
        assert capsys.readouterr() == ("", "clue: It is \\x1b[31mred\\n.\n      Do [bold]this[/bold].\n")

    def test_a_defect_is_saved(
        self, pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        pipeline.raises = ZeroDivisionError("by [zero]")
        assert clue("scan", "evidence", "--out", "results") == ExitCode.INTERNAL_ERROR
        (saved,) = tmp_path.iterdir()
        said = capsys.readouterr().err
        assert "A defect in clue: ZeroDivisionError: by [zero]" in said
        assert str(saved) in said
        assert "Traceback" not in said
        assert "Traceback" in saved.read_text()
        assert __version__ in saved.read_text()

    @pytest.mark.parametrize("words", [["--debug"], []])
    def test_a_defect_is_shown_on_demand_or_when_it_cannot_be_saved(
        self,
        pipeline: Pipeline,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        words: list[str],
    ) -> None:
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path if words else tmp_path / "absent"))
        pipeline.raises = ZeroDivisionError("\x1b[2J")
        assert clue(*words, "scan", "evidence", "--out", "results") == ExitCode.INTERNAL_ERROR
        said = capsys.readouterr().err
        assert "Traceback" in said
        assert "\x1b" not in said
        assert list(tmp_path.iterdir()) == []

    def test_a_second_ctrl_c(self, pipeline: Pipeline) -> None:
        pipeline.raises = KeyboardInterrupt()
        assert clue("scan", "evidence", "--out", "results") == ExitCode.INTERRUPTED


class TestOtherCommands:
    def test_version(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert clue("--version") == 0
        assert capsys.readouterr().out == f"clue {__version__}\n"

    @pytest.mark.parametrize("command", [[], ["scan"], ["sample"], ["schema"]])
    def test_help_has_an_example(self, command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        assert clue(*command, "--help") == 0
        said = capsys.readouterr().out
        assert "Example" in said
        assert " ".join(["clue", *command]) in said

    def test_the_overview_says_what_the_commands_say_themselves(self) -> None:
        group: Any = typer.main.get_command(app.app)
        context = typer.Context(group)
        for name in group.list_commands(context):
            _, command, _ = group.resolve_command(context, [name])
            said = " ".join(command.help.split("\n\n")[0].split())
            assert group.get_command(context, name).help == said

    def test_only_the_module_of_the_command_is_imported(self) -> None:
        code = (
            "import sys; from clue_cli.app import run; run({!r}); print(*(m for m in sys.modules if '.commands.' in m))"
        )
        for words, module in ((["schema", "--help"], ["clue_cli.commands.schema"]), (["--help"], [])):
            imported = python(code.format(words)).stdout.splitlines()[-1].split()
            assert imported == ["clue_cli.commands.options", *module]

    def test_every_exit_code_is_in_the_help(self, capsys: pytest.CaptureFixture[str]) -> None:
        clue("scan", "--help")
        said = capsys.readouterr().out.partition("Exit codes")[2]
        assert all(f"{code.value} " in said for code in ExitCode)

    @pytest.mark.parametrize(
        ("words", "title"), [([], "Record"), (["--run"], "RunRecord"), (["--calibration"], "CalibrationFile")]
    )
    def test_schema(self, words: list[str], title: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert clue("schema", *words) == 0
        assert json.loads(capsys.readouterr().out)["title"] == title

    @pytest.mark.parametrize(("word", "said"), [("--mix", "sources:"), ("--preset", "class NoiseSpec")])
    def test_files_of_the_user_are_described(self, word: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert clue("schema", word) == ExitCode.OK
        assert said in capsys.readouterr().out

    def test_schema_prints_one_thing(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert clue("schema", "--fields", "--run") == ExitCode.BAD_USAGE
        assert capsys.readouterr().out == ""


def python(code: str, **changes: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, **changes)


class TestProcess:
    @pytest.mark.parametrize("words", [["--help"], ["--version"], ["schema"], ["scan", "--help"]])
    def test_light_commands_start_fast_and_import_nothing_heavy(self, words: list[str]) -> None:
        code = f"""
import sys, time
from clue_cli.app import run
assert run({words!r}) == 0
heavy = {{"torch", "numpy", "PIL", "diffusers", "scipy", "skimage"}} & set(sys.modules)
print("heavy", sorted(heavy), time.process_time(), file=sys.stderr)
"""
        seconds = []
        for _ in range(3):  # the fastest: another process on the same core makes any of them slower
            done = python(code)
            assert done.returncode == 0, done.stderr
            last = done.stderr.splitlines()[-1]
            assert last.startswith("heavy [] ")
            assert done.stdout
            seconds.append(float(last.rpartition(" ")[2]))
            if min(seconds) < 0.5:
                break
        assert min(seconds) < 1.0, "0.2 beside a training, more with coverage"

    def test_the_scan_goes_on_when_nobody_reads_stdout(self) -> None:
        code = """
import sys, types
from clue_cli.app import run
from tests.clue_cli.test_app import Pipeline
module = types.ModuleType("clue_cli.scan.pipeline")
module.scan = Pipeline()
sys.modules["clue_cli.scan.pipeline"] = module
sys.exit(run(["scan", "evidence", "--out", "results", "--json-lines", "--quiet"]))
"""
        reader, writer = os.pipe()
        os.close(reader)
        try:
            done = subprocess.run(
                [sys.executable, "-c", code],
                stdout=writer,
                stderr=subprocess.PIPE,
                text=True,
                timeout=60,
                check=False,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            )
        finally:
            os.close(writer)
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("Nobody reads stdout") == 1

    @pytest.mark.parametrize(
        ("variables", "expected"),
        [
            *(({"_CLUE_COMPLETE": f"source_{shell}"}, ["_CLUE_COMPLETE"]) for shell in ("bash", "zsh", "fish")),
            ({"COMP_WORDS": "clue s", "COMP_CWORD": "1"}, ["scan\nsign\nsample\nschema\n"]),
            ({"COMP_WORDS": "clue scan --de", "COMP_CWORD": "2"}, ["--device\n--devices\n"]),
            ({"COMP_WORDS": "clue models ", "COMP_CWORD": "2"}, ["list\n", "merge\n"]),
        ],
    )
    def test_shell_completion(self, variables: dict[str, str], expected: list[str]) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "clue_cli"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={**os.environ, "_CLUE_COMPLETE": "complete_bash", **variables},
        )
        assert done.returncode == 0, done.stderr
        assert all(words in done.stdout for words in expected)


class TestStop:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_first_in_good_order_then_at_once(self, number: signal.Signals, capfd: pytest.CaptureFixture[str]) -> None:
        before = signal.getsignal(number)
        with graceful_stop() as stop:
            assert not stop.is_set()
            signal.raise_signal(number)
            assert stop.is_set()
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(number)
        assert signal.getsignal(number) is before
        assert capfd.readouterr().err.count("Press Ctrl-C again to stop at once") == 1

    def test_a_closed_stderr_does_not_hinder_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with monkeypatch.context() as patch, graceful_stop() as stop:
            patch.setattr(sys, "__stderr__", None)
            patch.setattr(os, "write", refuse)
            signal.raise_signal(signal.SIGINT)
            assert stop.is_set()

    def test_other_threads_get_an_event_all_the_same(self) -> None:
        events: list[threading.Event] = []

        def body() -> None:
            with graceful_stop() as stop:
                events.append(stop)

        thread = threading.Thread(target=body)
        thread.start()
        thread.join()
        assert not events[0].is_set()


def refuse(*_: object) -> int:
    raise OSError("closed")


@pytest.mark.parametrize(
    ("counts", "fail_on", "expected"),
    [
        (Counts(images=3), [], ExitCode.OK),
        (Counts(images=3), [FailOn.UNREAD], ExitCode.SOME_FAILED),
        (Counts(not_pictures=3), [FailOn.UNREAD], ExitCode.SOME_FAILED),
        (Counts(not_pictures=3), [], ExitCode.NOTHING_TO_SCAN),
        (Counts(images=3, forged=1), [FailOn.UNREAD, FailOn.FORGED], ExitCode.FORGED_FOUND),
    ],
)
def test_what_was_not_opened_counts_if_asked(counts: Counts, fail_on: list[FailOn], expected: ExitCode) -> None:
    assert exit_code(counts, interrupted=False, fail_on=fail_on, not_opened=2) is expected
