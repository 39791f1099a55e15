"""Results folders, and what is in the PDFs that are made of them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from clue_cli.case_report import write_pdf
from clue_cli.records import FailureRecord, ImageRecord
from clue_cli.results.reader import ResultsReader
from clue_cli.results.selection import Selection
from clue_cli.texts import texts
from tests.clue_cli.results.made import open_store, put, run

MADE = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)

Report = Callable[..., Any]


@pytest.fixture
def results(tmp_path: Path) -> Callable[..., Path]:
    """Makes a results folder of records; further arguments are those of its run."""

    def make(*records: ImageRecord | FailureRecord, **changes: Any) -> Path:
        folder = tmp_path / "results"
        with open_store(folder) as store:
            for record in records:
                store.write_failure(record) if isinstance(record, FailureRecord) else put(store, record)
            store.finish(run(**{"status": "finished", **changes}))
        return folder

    return make


@pytest.fixture
def report(tmp_path: Path) -> Report:
    """Makes the report of a results folder; returns the readers of its volumes."""
    pytest.importorskip("typst", reason="the extra pdf is not installed")
    pypdf = pytest.importorskip("pypdf", reason="pypdf is not installed")

    def make(folder: Path, language: str = "en", selection: Selection | None = None, **options: Any) -> list[Any]:
        with ResultsReader(folder) as reader:
            target = tmp_path / "case.pdf"
            volumes = write_pdf(reader, selection or Selection(), target, texts(language), made=MADE, **options)
        return [pypdf.PdfReader(volume) for volume in volumes]

    return make
