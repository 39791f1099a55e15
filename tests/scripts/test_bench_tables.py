"""The benchmark of Parquet and queries runs, and its sizes and counts are those of its records."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("pyarrow", reason="the extra tables brings it")
pytest.importorskip("duckdb", reason="the extra tables brings it")

from tests.scripts.conftest import modules_of_scripts


def test_sizes_and_seconds(tmp_path: Path) -> None:
    with modules_of_scripts("bench_tables") as scripts:
        drawn = list(scripts.bench_tables.records(300))
        found = scripts.bench_tables.measure(tmp_path, 300)
    assert [record.kind for record in drawn].count("failure") == 3
    assert drawn == list(scripts.bench_tables.records(300))
    assert found["bytes"]["jsonl"] == sum(len(record.model_dump_json().encode()) + 1 for record in drawn)
    assert found["jsonl_over_parquet"] == pytest.approx(found["bytes"]["jsonl"] / found["bytes"]["parquet"], abs=0.01)
    assert found["exported_per_second"] > 0 and found["seconds"].keys() == found["peak_mib"].keys() - {"before"}
