"""The benchmark of large results folders runs, and its counts are those of the listing and the records it made."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("pyarrow", reason="the extra tables brings it")
pytest.importorskip("duckdb", reason="the extra tables brings it")

from tests.scripts.conftest import modules_of_scripts
from tests.tiny_model import write_tiny_model

MODULES = ("bench_scan", "bench_records", "bench_ray", "bench_cluster")


def test_figures_of_the_simulated_records(tmp_path: Path) -> None:
    with modules_of_scripts(*MODULES) as scripts:
        bench = scripts.bench_cluster.Bench(tmp_path, 1000, 0, str(write_tiny_model(tmp_path / "tiny")))
        prepared = scripts.bench_cluster.prepare(bench)
        resumed = scripts.bench_cluster.resume(bench)
        listed = scripts.bench_cluster.driver(bench)
    assert prepared["records"] == 965 and prepared["bytes_a_record"] > 2000
    assert resumed["not_met"] == 964 and len(resumed["warnings"]) == 2, "a torn line and a damaged one"
    assert 0 < resumed["seconds_to_first_picture"] <= resumed["seconds_to_the_end"]
    counted = {"files": 990, "hidden": 10, "not_pictures": 20, "failures": 10, "taken_over": 959, "computed": 1}
    assert counted.items() <= listed.items(), "the damaged line is of the one that is computed"


def test_sizes_and_seconds_of_tables(tmp_path: Path) -> None:
    with modules_of_scripts(*MODULES) as scripts:
        drawn = list(scripts.bench_cluster.differing(300))
        found = scripts.bench_cluster.tables(scripts.bench_cluster.Bench(tmp_path, 0, 300, "mini"))
        assert drawn == list(scripts.bench_cluster.differing(300))
    assert [record.kind for record in drawn].count("failure") == 3
    assert found["bytes"]["jsonl"] == sum(len(record.model_dump_json().encode()) + 1 for record in drawn)
    assert found["jsonl_over_parquet"] == pytest.approx(found["bytes"]["jsonl"] / found["bytes"]["parquet"], abs=0.01)
    assert found["seconds"].keys() == found["peak_mib"].keys()
