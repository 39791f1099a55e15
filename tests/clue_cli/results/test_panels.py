"""The maps of classical methods: beside the verdict, never in its way."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clue_cli.evidence.item import FileIdentity, Photo
from clue_cli.records import RunRecord
from clue_cli.results import pictures as module
from clue_cli.results.pictures import PANELS, panels
from clue_cli.results.record_log import pictures
from clue_cli.scan import pipeline
from clue_cli.scan.options import ScanOptions
from model.reporter import SILENT
from tests.clue_cli.scan.test_pipeline import records
from tests.faults.pictures import jpeg, oriented_jpeg, tiff
from tests.tiny_model import write_tiny_model


def picture(height: int = 80, width: int = 96, orientation: int = 1) -> Photo:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Photo("a.jpg", FileIdentity(sha256="a" * 64, byte_size=1, sniffed_type="jpeg", claimed_type=None), 0, 1,
                 pixels, orientation)  # fmt: skip


@pytest.mark.parametrize(("height", "width"), [(80, 96), (1, 1), (1, 200), (9, 300)])
@pytest.mark.parametrize("orientation", [1, 6])
def test_each_method_gives_a_map_of_the_image_as_displayed(height: int, width: int, orientation: int) -> None:
    found = dict(panels(picture(height, width, orientation)))
    assert list(found) == list(PANELS)
    for values in found.values():
        if isinstance(values, str):
            assert min(height, width) < 16, values
        else:
            assert values.shape == ((width, height) if orientation == 6 else (height, width))
            assert values.min() >= 0 and values.max() <= 1


def test_the_methods_see_the_image_as_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(
        module, "_methods", lambda: {"jpeg_ghosts": lambda x: (seen.append(x.shape), np.zeros(x.shape[:2], "f4"))[1]}
    )
    ((_, values),) = panels(picture(80, 96, orientation=6))
    assert seen == [(80, 96, 3)]
    assert not isinstance(values, str) and values.shape == (96, 80)


def test_a_large_image_gets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PANEL_MEGAPIXELS", 0.001)
    assert dict(panels(picture())) == dict.fromkeys(PANELS, "larger than 0.001 megapixels")


@pytest.mark.parametrize(
    ("raised", "why"),
    [
        (MemoryError(), "out of memory"),
        (ValueError("too thin"), "the method failed: too thin"),
        (ZeroDivisionError("nothing there"), "the method failed: nothing there"),
        (np.full((80, 96), np.nan, np.float32), "the method gave no map"),
        (np.full((80, 96), 2, np.float32), "the method gave no map"),
        (np.zeros((8, 8), np.float32), "the method gave no map"),
    ],
)
def test_a_method_that_fails_costs_its_panel(
    monkeypatch: pytest.MonkeyPatch, raised: Exception | np.ndarray, why: str
) -> None:
    def broken(_: np.ndarray) -> np.ndarray:
        if isinstance(raised, Exception):
            raise raised
        return raised

    monkeypatch.setattr(module, "_methods", lambda: {"jpeg_ghosts": broken})
    assert list(panels(picture())) == [("jpeg_ghosts", why)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def evidence(tmp_path: Path) -> Path:
    folder = tmp_path / "evidence"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "a.jpg").write_bytes(jpeg(96, 80))
    (folder / "turned.jpg").write_bytes(oriented_jpeg(6))
    (folder / "pages.tif").write_bytes(tiff(2))
    return folder


def scan(evidence: Path, out: Path, model: Path, **options: bool) -> RunRecord:
    return pipeline.scan([evidence], out, ScanOptions(model=str(model), device="cpu", **options), SILENT)


def test_panels_lie_in_the_mirrored_tree_and_in_the_records(evidence: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    scan(evidence, out, model, panels=True)
    written = {path.relative_to(out).as_posix() for path in (out / "panels").rglob("*") if path.is_file()}
    stems = ("sub/a.jpg", "turned.jpg", "pages.tif.p0000", "pages.tif.p0001")
    assert written == {f"panels/evidence/{stem}{suffix}" for stem in stems for suffix in PANELS.values()}
    found = list(records(out).values())
    assert {getattr(record.outputs, name) for record in found for name in PANELS} == written
    for record in found:
        with Image.open(out / record.outputs.jpeg_ghosts) as shown:
            assert shown.size == (record.width, record.height)
    page = (out / "index.html").read_text()
    assert "aids, not verdicts" in page and "panels/evidence/sub/a.jpg.ela.png" in page


def test_they_change_nothing_else(evidence: Path, model: Path, tmp_path: Path) -> None:
    def result(out: Path) -> list[tuple[object, ...]]:
        digests = {
            p.relative_to(out): hashlib.sha256(p.read_bytes()).hexdigest() for p in (out / "masks").rglob("*.png")
        }
        return [(r.locator, r.page, r.score, r.verdict, r.reason) for r in records(out).values()] + sorted(
            digests.items()
        )

    scan(evidence, tmp_path / "with", model, panels=True)
    scan(evidence, tmp_path / "without", model)
    assert sorted(map(str, result(tmp_path / "with"))) == sorted(map(str, result(tmp_path / "without")))
    assert not (tmp_path / "without" / "panels").exists(), "off by default"


def test_resuming_knows_them(evidence: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert scan(evidence, out, model).counts.resumed == 0
    assert scan(evidence, out, model, panels=True).counts.resumed == 0
    assert scan(evidence, out, model, panels=True).counts.resumed == 4
    record = records(out)["evidence/turned.jpg", 0]
    (out / record.outputs.noise_inconsistency).unlink()
    assert scan(evidence, out, model, panels=True).counts.resumed == 3
    assert scan(evidence, out, model).counts.resumed == 0
    assert not [path for path in (out / "panels").rglob("*") if path.is_file()], "outdated panels are gone"


def test_a_panel_that_fails_is_told_in_the_record(
    evidence: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: np.ndarray) -> np.ndarray:
        raise MemoryError

    methods = module._methods()
    monkeypatch.setattr(module, "_methods", lambda: {**methods, "jpeg_ghosts": broken})
    run = scan(evidence, tmp_path / "out", model, panels=True)
    assert run.counts.images == 4 and run.counts.failures == 0
    for record in records(tmp_path / "out").values():
        assert record.outputs.jpeg_ghosts is None and record.outputs.error_level_analysis is not None
        assert "No panel of jpeg ghosts: out of memory." in [finding.statement for finding in record.findings]
        assert all((tmp_path / "out" / path).is_file() for path in pictures(record.outputs))
    assert scan(evidence, tmp_path / "out", model, panels=True).counts.resumed == 4
    assert json.loads((tmp_path / "out" / "run.json").read_text())["settings"]["panels"] is True
