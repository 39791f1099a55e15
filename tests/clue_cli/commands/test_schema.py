"""The document and the schemas say what the records are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest

import clue_cli
import clue_cli.scan
from clue_cli.commands.schema import calibration_schema, fields_document, meaning, record_schema, run_schema
from clue_cli.records import FailureCode
from clue_cli.scan.calibration_file import CalibrationFile
from tests.clue_cli.calibrations import content, high, low, made
from tests.clue_cli.results.made import failure, image, run


def test_the_document_in_the_repository_is_the_generated_one() -> None:
    kept = Path(clue_cli.scan.__file__).with_name("RECORDS.md").read_text(encoding="utf-8")
    assert kept == fields_document(), "run: clue schema --fields > clue_cli/scan/RECORDS.md"


@pytest.mark.parametrize(
    "schema", [record_schema(), run_schema(), calibration_schema()], ids=["record", "run", "calibration"]
)
def test_every_field_has_a_meaning(schema: dict[str, Any]) -> None:
    types = {**schema.get("$defs", {}), "itself": schema}
    without = [
        f"{name}.{field}"
        for name, shape in types.items()
        for field, described in shape.get("properties", {}).items()
        if not meaning(described, types)
    ]
    assert without == []
    assert any("properties" in shape for shape in types.values())


@pytest.mark.parametrize(
    "schema", [record_schema(), run_schema(), calibration_schema()], ids=["record", "run", "calibration"]
)
def test_the_schemas_are_schemas(schema: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator.check_schema(schema)


def test_the_schemas_accept_what_is_written_and_nothing_else() -> None:
    for record in (image(), failure()):
        good = record.model_dump(mode="json")
        jsonschema.validate(good, record_schema())
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**good, "unheard": 1}, record_schema())
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**good, "kind": "other"}, record_schema())
    jsonschema.validate(run().model_dump(mode="json"), run_schema())


@pytest.mark.parametrize("calibration", [made(), made(forged=high()), made(low(30), fpr=0.2, inconclusive_rate=0.2)])
def test_the_schema_of_a_calibration_accepts_what_is_written_and_nothing_else(calibration: CalibrationFile) -> None:
    good = content(calibration)
    jsonschema.validate(good, calibration_schema())
    for wrong in ({"unheard": 1}, {"fpr": 1.5}, {"model_digest": "x"}, {"scores": []}, {"dtype": "float16"}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(good | wrong, calibration_schema())


def test_every_code_of_a_failure_is_given_by_something() -> None:
    sources = "".join(path.read_text("utf-8") for path in Path(clue_cli.__file__).parent.rglob("*.py"))
    assert [code for code in FailureCode if f"FailureCode.{code.name}" not in sources] == []


def test_the_document_names_every_field_and_type() -> None:
    document = fields_document()
    for name, shape in record_schema()["$defs"].items():
        assert f"## {name}\n" in document
        for field in shape.get("properties", {}):
            assert f"| `{field}` |" in document
