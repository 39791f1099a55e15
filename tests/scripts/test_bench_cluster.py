"""The benchmark of large results folders runs, and its counts are those of the listing and the records it made."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("pyarrow", reason="the extra tables brings it")
pytest.importorskip("duckdb", reason="the extra tables brings it")

from clue_cli.scan.pipeline import scan
from model.reporter import Reporter
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


def test_what_is_lost_doubled_or_missing_is_counted(tmp_path: Path) -> None:
    with modules_of_scripts(*MODULES) as scripts:
        ray, out = scripts.bench_ray, tmp_path / "results"
        bench = scripts.bench_records.Bench(tmp_path, 0, 0, str(write_tiny_model(tmp_path / "tiny")))
        expected = ray.write_kinds(tmp_path / "kinds", 50)
        scan([tmp_path / "kinds"], out, bench.options(), Reporter())
        whole = ray.compared(out, expected)
        lines = (out / "records.jsonl").read_bytes().splitlines(keepends=True)
        (out / "records.jsonl").write_bytes(b"".join([*lines[1:], lines[-1]]))
        next((out / "masks").rglob("*.png")).unlink()
        damaged = ray.compared(out, expected)
    assert len(expected) == whole["records_expected"] == whole["records"] == 50 + 5 * ray.PAGES + 1
    assert whole["failures"] == whole["failures_expected"] == 1
    wrong = ("records_lost", "records_doubled", "records_unexpected", "pictures_missing")
    assert [whole[name] for name in wrong] == [0, 0, 0, 0] and whole["pictures"] >= 7 * 65
    assert damaged["records_lost"] == damaged["records_doubled"] == 1 and damaged["pictures_missing"] >= 1


def test_throughput_of_the_local_engine(tmp_path: Path) -> None:
    """The first tenth is left out, and ratios are of one round."""
    with modules_of_scripts(*MODULES) as scripts:
        ray = scripts.bench_ray
        bench = scripts.bench_records.Bench(tmp_path, 0, 0, str(write_tiny_model(tmp_path / "tiny")))
        scripts.bench_scan.write_folder(tmp_path / "few", 11, seed=3)
        found = ray.turn(bench, "local", tmp_path / "few", tmp_path / "out", 11)
        runs = {"ray_2": [{"rate": 6.0}, {"rate": 3.0}], "ray_1": [{"rate": 3.0}, {"rate": 2.0}]}
        ratio = ray._ratio(runs, "ray_2_over_ray_1")
    assert 10 / found["rate"] < found["seconds"] and found["seconds_to_first_record"] < found["seconds"]
    assert sum(found["cpu"].values()) * found["rate"] == pytest.approx(found["cores_busy"])
    assert ratio == {"median": 1.75, "rounds": [2.0, 1.5], "target": 1.7, "met": True}
