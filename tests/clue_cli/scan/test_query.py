"""A scan that asks: `--query` with tiny text encoders in the real layout."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from clue_cli.errors import UsageError
from clue_cli.networks import NetworkOptions, processes, worker
from clue_cli.records import RECORD, ImageRecord, RunRecord
from clue_cli.scan import ScanOptions, pipeline
from model import registry
from model.branches.sd3_prompt import embed, read_prompt
from model.checkpoint import inspect
from model.query import NOT_MEASURED, QueryError, asked
from model.registry import BasesError
from model.reporter import SILENT
from model.storage import load
from tests.base_layouts import write_asked_adapter

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None, reason="needs transformers, of the extra `models`"
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`config/` with a registered base, `adapter/` on it, `bases/`, and `evidence/`: copy what is changed."""
    folder = tmp_path_factory.mktemp("asked")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLUE_CONFIG", str(folder / "config"))
        write_asked_adapter(folder)
    (folder / "evidence").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "evidence" / "a.png")
    return folder


@pytest.fixture(autouse=True)
def registered(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLUE_CONFIG", str(made / "config"))


def scan(made: Path, out: Path, model: str = "", **options: Any) -> RunRecord:
    chosen = ScanOptions(model=model or str(made / "adapter"), device="cpu", **options)
    return pipeline.scan([made / "evidence"], out, chosen, SILENT)


def record(out: Path) -> ImageRecord:
    (line,) = (out / "records.jsonl").read_text().splitlines()
    found = RECORD.validate_json(line)
    assert isinstance(found, ImageRecord)
    return found


def heatmap(out: Path) -> np.ndarray:
    path = record(out).outputs.heatmap
    assert path
    return np.asarray(Image.open(out / path))


def test_a_query_changes_the_heatmap_and_allows_no_verdict(made: Path, tmp_path: Path) -> None:
    assert "query" not in json.dumps(scan(made, tmp_path / "plain").model_dump())
    plate = scan(made, tmp_path / "plate", query="the plate\x1b[2J")
    sky = scan(made, tmp_path / "sky", query="the sky")
    assert not np.array_equal(heatmap(tmp_path / "plate"), heatmap(tmp_path / "plain"))
    assert not np.array_equal(heatmap(tmp_path / "plate"), heatmap(tmp_path / "sky"))
    assert plate.settings["query_sha256"] != sky.settings["query_sha256"]
    assert "query" not in (tmp_path / "plain" / "records.jsonl").read_text()

    shown = "the plate\\x1b[2J"
    assert plate.settings["query"] == shown
    assert any(f"asks about “{shown}”" in warning for warning in plate.warnings)
    assert any("not trained with queries" in warning for warning in plate.warnings)
    answer = record(tmp_path / "plate")
    assert (answer.verdict, answer.confidence) == ("inconclusive", None)
    assert answer.reason.startswith(NOT_MEASURED)
    (finding,) = [finding for finding in answer.findings if finding.kind == "query"]
    assert finding.data == {"query": shown, "embedding_sha256": plate.settings["query_sha256"]}
    assert shown in (tmp_path / "plate" / "index.html").read_text().replace("\\\\", "\\")


def test_the_empty_text_is_embedded_as_the_bases_prompt() -> None:
    base = registry.find("small-sd3")
    (empty,) = embed(Path(base.sd3), base.preset.transformer, [""], "it")
    stored = read_prompt(base.paths("prompt")[0], base.preset.transformer)
    assert torch.equal(empty.prompt, stored.prompt) and torch.equal(empty.pooled, stored.pooled)


def test_what_another_query_found_is_not_taken_over(made: Path, tmp_path: Path) -> None:
    resumed = [
        scan(made, tmp_path / "out", query=query).counts.resumed for query in ("plate", "plate", "sky", None, None)
    ]
    assert resumed == [0, 1, 0, 0, 1]


def test_what_is_not_read_of_a_long_query_is_said(made: Path, tmp_path: Path) -> None:
    said = scan(made, tmp_path / "out", query="the " * 75 + "sky plate").warnings
    for encoder in ("CLIP-L", "OpenCLIP-G"):
        assert f"{encoder} reads only the beginning of the query; it does not read: sky plate" in said
    assert not any(line.startswith("T5") for line in said)


def test_a_process_for_each_device_reads_the_same_embeddings(made: Path) -> None:
    with asked(inspect(str(made / "adapter")), "the sky") as (checkpoint, _):
        setup = processes.processes(checkpoint, ("cpu", "cpu"), torch.float32, NetworkOptions(), print)[0]._child._setup
        one, other = worker.load(setup | {"model": str(made / "adapter")}), load(checkpoint, "cpu", torch.float32)
    assert torch.equal(one.model.state_dict()["sd3.prompt"], other.state_dict()["sd3.prompt"])
    plain = load(inspect(str(made / "adapter")), "cpu", torch.float32)
    assert not torch.equal(other.state_dict()["sd3.prompt"], plain.state_dict()["sd3.prompt"])


def copied(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What `made` is, elsewhere, to be changed; returns the folder of SD3."""
    folder = Path(shutil.copytree(made, tmp_path / "made"))
    monkeypatch.setenv("CLUE_CONFIG", str(folder / "config"))
    path = folder / "config" / "models.json"
    path.write_text(path.read_text().replace(str(made), str(folder)))
    assert registry.find("small-sd3").sd3 == str(folder / "bases" / "sd3")
    return folder / "bases" / "sd3"


def test_a_base_without_its_encoders_is_named(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sd3 = copied(made, tmp_path, monkeypatch)
    shutil.rmtree(sd3 / "text_encoder_3")
    with pytest.raises(BasesError, match=r"has no text_encoder_3, which a query is embedded with \(T5 read the empty"):
        scan(tmp_path / "made", tmp_path / "out", query="sky")
    shutil.rmtree(sd3 / "text_encoder_2")
    with pytest.raises(BasesError, match="has no text_encoder_2, text_encoder_3, which"):
        scan(tmp_path / "made", tmp_path / "out", query="sky")
    assert not (tmp_path / "out").exists()
    assert scan(tmp_path / "made", tmp_path / "out").status == "finished"


def test_a_base_that_never_had_t5_reads_a_query_without_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLUE_CONFIG", str(tmp_path / "config"))
    write_asked_adapter(tmp_path, t5=False)
    (tmp_path / "evidence").mkdir()
    Image.new("RGB", (64, 64), "red").save(tmp_path / "evidence" / "a.png")
    assert any("has no T5" in line for line in scan(tmp_path, tmp_path / "out", query="sky").warnings)


def test_what_cannot_be_asked_is_refused(
    model: Path, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(QueryError, match="has no text encoders, so it takes no query"):
        scan(made, tmp_path / "out", model=str(model), query="sky")
    with pytest.raises(QueryError, match="not UTF-8"):
        scan(made, tmp_path / "out", query="sk\udcffy")
    for blank in ("", " \n"):
        with pytest.raises(QueryError, match=r"The query is empty\."):
            scan(made, tmp_path / "out", query=blank)
    with pytest.raises(QueryError, match="has 1001 characters; at most 1000"):
        scan(made, tmp_path / "out", query="x" * 1001)
    with pytest.raises(UsageError, match="--query and --calibration"):
        scan(made, tmp_path / "out", query="sky", calibration=tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(BasesError, match=r"pip install 'clue-forensics\[models\]'"):
        scan(made, tmp_path / "out", query="sky")
    assert not (tmp_path / "out").exists()
