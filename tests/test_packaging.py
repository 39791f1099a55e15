"""The distribution: what it declares, what it contains, what it brings along, and the scripts that install it."""

from __future__ import annotations

import ast
import os
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import clue_cli
from clue_cli.errors import ExitCode

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
LICENSES = runpy.run_path(str(ROOT / "scripts" / "check_licenses.py"))


# -------------------------------------------------------------------------------------------------------- metadata


def test_the_version_is_one_and_has_its_changes_written_down() -> None:
    assert str(Version(clue_cli.__version__)) == clue_cli.__version__
    assert f"## {clue_cli.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


TRAINING = {"data", "training", "evaluation", "forging"}
"""Folders of `model` that only training needs: they may import the extra `train` at their top."""


def _only_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def _imports(package: str) -> Iterator[tuple[Path, str, bool]]:
    """Every import of a package's files: file, module, and whether it runs whenever the file is imported."""
    for path in sorted((ROOT / package).rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        inside = {node: outer for outer in ast.walk(tree) for node in ast.iter_child_nodes(outer)}
        for node in ast.walk(tree):
            around, at_import = inside.get(node), True
            while around is not None and not _only_for_types(around):
                at_import = at_import and not isinstance(around, ast.FunctionDef | ast.Try)
                around = inside.get(around)
            if around is None and isinstance(node, ast.Import):
                yield from ((path, alias.name, at_import) for alias in node.names)
            elif around is None and isinstance(node, ast.ImportFrom):
                assert not node.level, f"{path}: relative import"
                yield path, node.module or "", at_import
            elif (
                isinstance(node, ast.Call)
                and ast.unparse(node.func) in ("importlib.import_module", "_package")
                and isinstance(node.args[0], ast.Constant)
            ):
                yield path, str(node.args[0].value), False


def _declared(*extras: str) -> set[str]:
    lines = list(PROJECT["dependencies"])
    for extra in extras:
        lines += PROJECT["optional-dependencies"][extra]
    return {canonicalize_name(Requirement(line).name) for line in lines}


@pytest.mark.parametrize("package", ["clue_cli", "model"])
def test_what_is_imported_is_declared(package: str) -> None:
    owners = metadata.packages_distributions()
    core, training = _declared(), _declared("train")
    optional = _declared(*PROJECT["optional-dependencies"].keys() - {"test"})
    undeclared = []
    for path, module, at_import in _imports(package):
        top = module.split(".")[0]
        # compression: new in Python 3.14; triton: comes with torch where there are GPUs
        if top in sys.stdlib_module_names | {"compression", "clue_cli", "model", "triton"}:
            continue
        names = {canonicalize_name(name) for name in owners.get(top, [top])}
        at_top = training if path.relative_to(ROOT / package).parts[0] in TRAINING else core
        if not names & (at_top if at_import else optional):
            undeclared.append(f"{path.relative_to(ROOT)}: {module}")
    assert undeclared == []


def test_the_model_knows_nothing_of_the_command_line() -> None:
    assert [str(path) for path, module, _ in _imports("model") if module.split(".")[0] == "clue_cli"] == []


def test_the_wheel_holds_the_packages_whole_and_nothing_else(tmp_path: Path) -> None:
    pytest.importorskip("hatchling", reason="hatchling builds the wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("clue_forensics-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        assert any(name.endswith("licenses/LICENSE") for name in archive.namelist())
    expected = {
        path.relative_to(ROOT).as_posix()
        for package in ("clue_cli", "model")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc"
    }
    assert names == expected
    assert {"clue_cli/py.typed", "model/py.typed"} <= names


# -------------------------------------------------------------------------------------------------------- licences


def test_the_default_installation_is_permissively_licensed(capsys: pytest.CaptureFixture[str]) -> None:
    code = LICENSES["main"]([])
    assert code == 0, capsys.readouterr().out


@pytest.mark.parametrize(
    ("licence", "allowed"),
    [
        ("MIT", True),
        ("MIT-CMU", True),
        ("BSD-3-Clause AND 0BSD AND MIT AND Zlib AND CC0-1.0", True),
        ("Apache-2.0 WITH LLVM-exception", True),
        ("Apache Software License", True),
        ("The MIT License", True),
        ("3-Clause BSD License", True),
        ("MPL-2.0 AND MIT", True),
        ("GPL-2.0-only OR MIT", True),
        ("LGPL-2.1-or-later", False),
        ("GNU General Public License v3 (GPLv3)", False),
        ("GNU Affero General Public License v3", False),
        ("BSD-3-Clause AND GPL-3.0-or-later", False),
        ("(MIT OR Apache-2.0) AND LGPL-3.0", False),
        ("MIT OR (Apache-2.0 AND GPL-3.0)", False),
        ("BSD, GPL", False),
        ("Mitsubishi Proprietary", False),
        ("unknown", False),
        ("", False),
    ],
)
def test_a_licence_is_judged_by_its_name(licence: str, allowed: bool) -> None:
    assert LICENSES["is_allowed"](licence) is allowed


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("nvidia-cublas", "PyTorch"),
        ("cuda-toolkit", "PyTorch"),
        ("pi-heif", "LGPL"),
        ("lxml", "LGPL"),
        ("pikepdf", "MPL"),
        ("py7zr", None),
        ("rawpy", None),
    ],
)
def test_exceptions_are_named_and_reasoned(name: str, reason: str | None) -> None:
    stated = LICENSES["exception_for"](name)
    assert stated is None if reason is None else reason in stated


def test_what_the_extras_bring_is_permissive_or_named(capsys: pytest.CaptureFixture[str]) -> None:
    code = LICENSES["main"](["--extras"])
    assert code == 0, capsys.readouterr().out


@pytest.mark.parametrize(
    ("distribution", "libraries"),
    [
        ("pi-heif", {"_pi_heif", "libheif", "libde265"}),
        ("pikepdf", {"_core", "libqpdf", "libjpeg", "libstdc++", "libgcc_s"}),
        ("pylibjxl", {"_pylibjxl"}),
        ("c2pa-python", {"libc2pa_c"}),
        ("rawpy", {"_rawpy", "libraw_r", "libgomp", "libjasper", "libjpeg", "liblcms2"}),
    ],
)
def test_wheels_hold_no_library_that_nobody_looked_at(distribution: str, libraries: set[str]) -> None:
    try:
        files = metadata.files(distribution) or []
    except metadata.PackageNotFoundError:
        pytest.skip(f"{distribution} is not installed")
    names = [path.name for path in files if ".so" in path.name or ".dylib" in path.name]
    assert {name.partition(".")[0].partition("-")[0] for name in names} <= libraries


def test_a_copyleft_dependency_would_be_found() -> None:
    pytest.importorskip("py7zr", reason="the 7z extra is the example of a copyleft package")
    found = LICENSES["closure"](["py7zr"])
    refused = {name for name, distribution in found.items() if not LICENSES["is_allowed"](_licence(distribution))}
    assert "py7zr" in refused


def _licence(distribution: metadata.Distribution) -> str:
    return str(LICENSES["stated_licence"](distribution))


@pytest.mark.parametrize(
    ("fields", "text", "licence"),
    [
        ("License-Expression: MIT\nLicense: GPL", None, "MIT"),
        ("Classifier: License :: OSI Approved :: BSD License\nLicense: whatever", None, "BSD License"),
        ("License: Apache 2.0", None, "Apache 2.0"),
        ("License: UNKNOWN", "Apache License\n  Version 2.0", "Apache-2.0"),
        ("Summary: says nothing", "Redistribution and use in source\nand binary forms", "BSD"),
        ("Summary: says nothing", "All rights reserved.", "unknown"),
        ("Summary: says nothing", None, "unknown"),
    ],
)
def test_a_licence_is_read_from_what_the_metadata_states(
    tmp_path: Path, fields: str, text: str | None, licence: str
) -> None:
    info = tmp_path / "thing-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: thing\nVersion: 1.0\n{fields}\n")
    if text is not None:
        (info / "LICENSE").write_text(text)
        (info / "RECORD").write_text("thing-1.0.dist-info/LICENSE,,\n")
    (distribution,) = metadata.distributions(path=[str(tmp_path)])
    assert _licence(distribution) == licence


# ----------------------------------------------------------------------------------------------------------- README


def test_the_readme_has_every_exit_code_and_no_other() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    table = text.split("## Exit codes", 1)[1].split("\n## ", 1)[0]
    codes = {int(code) for code in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)}
    assert codes == {int(code) for code in ExitCode}


@pytest.mark.parametrize("path", ["README.md", "DESIGN.md", "clue_cli/cluster/SIZING.md"])
def test_the_texts_name_files_that_exist(path: str) -> None:
    text = (ROOT / path).read_text(encoding="utf-8")
    named = set(re.findall(r"(?:scripts|model|tests|clue_cli)/[\w./-]*[\w/]", text))
    assert named
    assert sorted(name for name in named if not (ROOT / name).exists()) == []


def test_the_readme_names_commands_and_options_that_exist() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for command in sorted(set(re.findall(r"\bclue ((?:models )?[a-z]+)\b(?=[^\n]*\n)", "\n".join(_code(text))))):
        shown = _help(*command.split())
        for line in _code(text):
            if re.search(rf"\bclue {command}\b", line):
                assert [option for option in re.findall(r"--[a-z][a-z0-9-]+", line) if option not in shown] == []


def _code(text: str) -> list[str]:
    """The lines of the code blocks, and the code spans that begin with `clue`."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    spans = re.findall(r"`(clue [^`\n]+)`", text)
    return [line + "\n" for block in blocks for line in block.splitlines()] + [span + "\n" for span in spans]


def _help(*command: str) -> str:
    ran = subprocess.run(
        [sys.executable, "-c", "from clue_cli.app import run; run()", *command, "--help"],
        cwd=ROOT,
        env=os.environ | {"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, f"clue {' '.join(command)}: {ran.stderr}"
    return ran.stdout


# ---------------------------------------------------------------------------------------------------------- scripts

SCRIPTS = ("scripts/_env.sh", "scripts/quickstart.sh", "scripts/test.sh", ".ci/run")


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_are_valid_bash(script: str) -> None:
    ran = subprocess.run(["bash", "-n", script], cwd=ROOT, capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (0, "")


def _program(path: Path, body: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/usr/bin/env bash\n{body}\n")
    path.chmod(0o755)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A project folder with the real scripts, and an environment whose programs only log how they were called."""
    clone = tmp_path / "a clone"
    (clone / "clue_cli").mkdir(parents=True)
    shutil.copytree(ROOT / "scripts", clone / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", clone)
    shutil.copy(ROOT / "clue_cli" / "__init__.py", clone / "clue_cli")
    log = f'echo "$(basename "$0") $*" >>"{clone}/calls"'
    real = f'case "$1" in -c) exec "{sys.executable}" "$@" ;; esac'
    _program(clone / ".venv" / "bin" / "python", f"{real}\n{log}")
    _program(clone / ".venv" / "bin" / "clue", f'{log}\n[[ $1 == scan ]] && exit "${{CLUE_EXIT:-1}}"\nexit 0')
    return clone


def _run(clone: Path, script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(clone / "scripts" / script), *arguments],
        cwd=clone.parent,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def _calls(clone: Path) -> list[str]:
    calls = (clone / "calls").read_text().splitlines()
    (clone / "calls").unlink()
    return calls


def test_quickstart_installs_once_and_again_when_the_project_changes(clone: Path) -> None:
    scans = ["clue sample sample-evidence", "clue scan sample-evidence --out sample-results"]
    install = f"python -m pip install --quiet --disable-pip-version-check --editable {clone}[7z]"
    assert _run(clone, "quickstart.sh").returncode == 0
    assert _calls(clone) == [install, *scans]
    assert _run(clone, "quickstart.sh").returncode == 0
    assert _calls(clone) == scans
    (clone / "pyproject.toml").write_text("changed")
    assert _run(clone, "quickstart.sh").returncode == 0
    assert _calls(clone) == [install, *scans]


@pytest.mark.parametrize(
    ("scan", "script"),
    [
        (ExitCode.SOME_FAILED, 0),
        (ExitCode.OK, 1),
        (ExitCode.BAD_USAGE, ExitCode.BAD_USAGE),
        (ExitCode.WEIGHTS_MISSING, ExitCode.WEIGHTS_MISSING),
        (ExitCode.INTERRUPTED, ExitCode.INTERRUPTED),
    ],
)
def test_quickstart_is_honest_about_how_the_scan_ended(clone: Path, scan: ExitCode, script: int) -> None:
    ran = _run(clone, "quickstart.sh", CLUE_EXIT=str(int(scan)))
    assert ran.returncode == script
    page = (clone / "sample-results" / "index.html").as_uri()
    assert (page in ran.stdout) is (script == 0)


def test_quickstart_says_which_python_it_needs(clone: Path, tmp_path: Path) -> None:
    shutil.rmtree(clone / ".venv")
    _program(tmp_path / "python3.9", "exit 1")
    ran = _run(clone, "quickstart.sh", PYTHON=str(tmp_path / "python3.9"))
    assert ran.returncode == 1
    assert "Python 3.11 or newer" in ran.stderr
    assert not (clone / ".venv").exists()


def test_a_half_made_environment_is_not_kept(clone: Path, tmp_path: Path) -> None:
    shutil.rmtree(clone / ".venv")
    _program(tmp_path / "python3", 'case "$1" in -c | --version) exit 0 ;; esac\nmkdir -p "${@: -1}"\nexit 1')
    ran = _run(clone, "test.sh", PYTHON=str(tmp_path / "python3"))
    assert ran.returncode == 1
    assert "python3-venv" in ran.stderr
    assert not (clone / ".venv").exists()


@pytest.mark.parametrize(
    ("arguments", "pytest_call"),
    [
        ((), "python -m pytest --cov --numprocesses auto --dist loadfile"),
        (("tests/x", "-k", "y"), "python -m pytest tests/x -k y"),
    ],
)
def test_the_test_script_lints_checks_types_and_tests(
    clone: Path, arguments: tuple[str, ...], pytest_call: str
) -> None:
    assert _run(clone, "test.sh", *arguments).returncode == 0
    install, *checks = _calls(clone)
    assert install.endswith(f"{clone}[test]")
    assert checks == ["python -m ruff check .", "python -m ruff format --check .", "python -m mypy", pytest_call]
