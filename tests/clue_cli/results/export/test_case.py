"""`clue export --format case`: valid CASE/UCO with every file, answer, finding and failure, and hostile strings."""

from __future__ import annotations

import hashlib
import io
import json
import re
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from case_utils.case_validate import validate
from rdflib import RDF, Graph, Namespace, URIRef
from rdflib.term import Node

from clue_cli.app import run as clue
from clue_cli.errors import ExitCode
from clue_cli.records import (
    BoundingBox,
    ExifBrief,
    FailureCode,
    FailureRecord,
    Finding,
    ImageRecord,
    NotExamined,
    Origin,
    Question,
    Region,
    Step,
    Verdict,
)
from clue_cli.results.export import Source
from clue_cli.results.export.case import write
from tests.clue_cli.results.made import SHA, answer, failure, identity, image, open_store, put, run

HOSTILE = 'case/</script>"\\u202e{{x}} \u00e9 写真 {"@id":"urn:x"}, <http:/evil> %41.jpg'
CLAIM = 'Canon"}],"@id":"urn:evil"'

CORE = Namespace("https://ontology.unifiedcyberontology.org/uco/core/")
ACTION = Namespace("https://ontology.unifiedcyberontology.org/uco/action/")
ANALYSIS = Namespace("https://ontology.unifiedcyberontology.org/uco/analysis/")
OBSERVABLE = Namespace("https://ontology.unifiedcyberontology.org/uco/observable/")
TYPES = Namespace("https://ontology.unifiedcyberontology.org/uco/types/")
TOOL = Namespace("https://ontology.unifiedcyberontology.org/uco/tool/")
INVESTIGATION = Namespace("https://ontology.caseontology.org/case/investigation/")
CLUE = Namespace("urn:clue-forensics:terms:")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of case-utils and rdflib


def forged() -> ImageRecord:
    region = Region(
        box=BoundingBox(x=1, y=0, width=2, height=2),
        area=3,
        area_ratio=0.1,
        mean_probability=0.8,
        peak_probability=1e-7,
    )
    return image(
        HOSTILE,
        file=identity().model_copy(
            update={"md5": "d" * 32, "sha1": "e" * 40, "modified": "2025-12-31T23:59:59.123456+00:00"}
        ),
        verdicts={
            Question.LOCALIZATION: answer(score=0.9, confidence=0.93, p_value=1e-5, reason="Score 0.9 > 0.5."),
            Question.SYNTHETIC: answer(
                verdict=Verdict.GENERATED, score=None, method="traces", method_digest="f" * 64, reason="It is."
            ),
        },
        exif=ExifBrief(camera_make=CLAIM, date_time_original="not a time", gps_present=True),
        findings=[
            Finding(kind="odd", source=Origin.METADATA, statement='It says "\x1b".', data={"a": 1, "b": None}),
            Finding(kind="odd", source=Origin.METADATA, statement="Again."),
        ],
        not_examined=[NotExamined(rows=[2, 3], box=BoundingBox(x=0, y=2, width=6, height=2), reason="cut short")],
        regions=[region],
        region_count=1,
    )


@pytest.fixture
def results(tmp_path: Path) -> Path:
    inside = "case/x.zip!/b.zip!"
    with open_store(tmp_path / "results") as store:
        put(store, forged(), synthetic=True)
        put(store, image("case/pages.tif", 0, 2))
        put(store, image("case/pages.tif", 1, 2))
        put(store, image(f"{inside}/c.jpg", verdict=Verdict.INCONCLUSIVE))
        put(store, image(f"{inside}/d.jpg", verdict=Verdict.NO_EVIDENCE))
        put(store, image("case/y.zip!/e.jpg"))
        store.write_failure(failure("case/broken.jpg", message='Cut "short".', advice="Look."))
        store.write_failure(failure("case/gone.jpg", file=None, step=Step.READ, code=FailureCode.UNREADABLE))
        # That of a whole file, which comes before its pages
        store.write_failure(failure("case/pages.tif", file=None, other_pages=2, code=FailureCode.TOO_MANY_PAGES))
        corrupt = {"step": Step.ARCHIVE, "code": FailureCode.ARCHIVE_CORRUPT, "file": None}
        store.write_failure(failure("case/x.zip", **corrupt))
        store.write_failure(failure("case/x.zip!/b.zip", **corrupt))
        store.finish(
            run(
                status="finished",
                finished="2026-01-01T01:00:00+00:00",
                evidence=['evid"ence'],
                settings={"threshold": 0.5, "shard": None},
                archives={"case/x.zip": "7" * 64, "case/y.zip": "8" * 64},
                warnings=["Something."],
            )
        )
    return tmp_path / "results"


def exported(results: Path, *options: str) -> bytes:
    out = results.parent / "case.jsonld"
    assert clue(["export", str(results), "--format", "case", "--out", str(out), *options]) == ExitCode.OK
    return out.read_bytes()


def graph(content: bytes) -> Graph:
    return Graph().parse(data=content, format="json-ld")


def named(found: Graph, name: str) -> URIRef:
    (node,) = (node for node in found.subjects(CORE.name, None) if str(found.value(node, CORE.name)) == name)
    assert isinstance(node, URIRef)
    return node


def facet(found: Graph, node: Node, kind: URIRef) -> Node:
    (one,) = (facet for facet in found.objects(node, CORE.hasFacet) if (facet, RDF.type, kind) in found)
    return one


def about(found: Graph, node: Node) -> dict[str, Node]:
    """The assertions about a file, by their names."""
    return {
        str(found.value(one, CORE.name)): one for one in found.subjects(CORE.object, node) if _is_result(found, one)
    }


def _is_result(found: Graph, node: Node) -> bool:
    return (node, RDF.type, ANALYSIS.AnalyticResult) in found


def hashes(found: Graph, node: Node) -> dict[str, str]:
    content = facet(found, node, OBSERVABLE.ContentDataFacet)
    return {
        str(found.value(one, TYPES.hashMethod)): str(found.value(one, TYPES.hashValue)).lower()
        for one in found.objects(content, OBSERVABLE.hash)
    }


def check(content: Path, version: str = "case-1.5.0") -> None:
    done = validate(str(content), case_version=version)
    assert done.conforms, done.text
    assert not done.undefined_concepts


@pytest.mark.parametrize("version", ["case-1.4.0", "case-1.5.0"])
def test_it_is_valid(version: str, results: Path) -> None:
    exported(results)
    check(results.parent / "case.jsonld", version)


def test_without_any_record_it_is_valid(results: Path) -> None:
    assert b"InvestigativeAction" in exported(results, "--where", "score>2")
    check(results.parent / "case.jsonld")


def test_the_check_of_these_tests_finds_what_is_wrong(results: Path, tmp_path: Path) -> None:
    content = exported(results, "--where", "score>2").replace(b"xsd:dateTime", b"xsd:date")
    (tmp_path / "wrong.jsonld").write_bytes(content)
    with pytest.raises(AssertionError, match="startTime"):
        check(tmp_path / "wrong.jsonld")


def test_every_node_is_written_once_and_named_by_a_uuid(results: Path) -> None:
    content = exported(results)
    assert exported(results) == content
    nodes = json.loads(content)["@graph"]
    assert len(content.splitlines()) == len(nodes) + 3  # a node a line

    def identified(value: Any) -> Iterator[dict[str, Any]]:
        if isinstance(value, dict):
            if "@id" in value:
                yield value
            for one in value.values():
                yield from identified(one)
        elif isinstance(value, list):
            for one in value:
                yield from identified(one)

    found = list(identified(nodes))
    assert all(re.fullmatch(r"urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", one["@id"]) for one in found)
    written = [one["@id"] for one in found if len(one) > 1]
    assert len(set(written)) == len(written)
    assert {one["@id"] for one in found} == set(written)  # nothing refers to what is not there


def test_a_file_with_all_that_is_known_of_it(results: Path) -> None:
    found = graph(exported(results))
    file = named(found, HOSTILE)
    assert (file, RDF.type, OBSERVABLE.ObservableObject) in found
    assert hashes(found, file) == {"SHA256": SHA, "SHA1": "e" * 40, "MD5": "d" * 32}
    on_disk = facet(found, file, OBSERVABLE.FileFacet)
    assert str(found.value(on_disk, OBSERVABLE.filePath)) == HOSTILE
    assert str(found.value(on_disk, OBSERVABLE.modifiedTime)).startswith("2025-12-31T23:59:59.123456")
    picture = facet(found, file, OBSERVABLE.RasterPictureFacet)
    assert [int(str(found.value(picture, OBSERVABLE[f"picture{side}"]))) for side in ("Width", "Height")] == [6, 4]
    data = found.value(facet(found, file, OBSERVABLE.EXIFFacet), OBSERVABLE.exifData)
    entries = {
        str(found.value(one, TYPES.key)): str(found.value(one, TYPES.value)) for one in found.objects(data, TYPES.entry)
    }
    assert entries == {"Make": CLAIM, "DateTimeOriginal": "not a time"}
    assert any("claims" in str(text) for text in found.objects(file, CORE.description))


def test_answers_and_findings(results: Path) -> None:
    found = graph(exported(results))
    file = named(found, HOSTILE)
    answers = about(found, file)
    assert set(answers) == {"localization", "synthetic", "odd", "not_examined"}
    assert len([one for one in found.subjects(CORE.object, file) if _is_result(found, one)]) == 5
    result = facet(found, answers["localization"], ANALYSIS.ArtifactClassificationResultFacet)
    classification = found.value(result, ANALYSIS.classification)
    assert str(found.value(classification, ANALYSIS["class"])) == "forged"
    assert float(str(found.value(classification, ANALYSIS.classificationConfidence))) == 0.93
    numbers = {name: float(str(found.value(result, CLUE[name]))) for name in ("score", "scoreThreshold", "pValue")}
    assert numbers == {"score": 0.9, "scoreThreshold": 0.5, "pValue": 1e-5}
    assert str(found.value(result, CLUE.method)) == "mini"
    statements = " ".join(map(str, found.objects(answers["localization"], CORE.statement)))
    assert "Score 0.9 > 0.5." in statements and "Region 1: 2×2 pixels at x 1, y 0" in statements
    second = facet(found, answers["synthetic"], ANALYSIS.ArtifactClassificationResultFacet)
    assert (str(found.value(second, CLUE.method)), found.value(second, CLUE.score)) == ("traces", None)
    content = {
        str(found.value(one, CORE.name)) for one in found.objects(answers["localization"], ANALYSIS.resultContent)
    }
    assert {name.partition("/")[0] for name in content} == {"masks", "heatmaps", "verdicts"}
    for one in found.objects(answers["localization"], ANALYSIS.resultContent):
        name = str(found.value(one, CORE.name))
        if name.startswith("verdicts/"):  # it holds the record, which cannot hold the hash of itself
            continue
        written = (results / name).read_bytes()
        assert hashes(found, one) == {"SHA256": hashlib.sha256(written).hexdigest()}


def test_what_could_not_be_read_is_there(results: Path) -> None:
    found = graph(exported(results))
    action = named(found, "Examination of pictures for edits")
    failures = {
        str(found.value(one, CORE.name)): str(found.value(found.value(one, CORE.object), CORE.name))
        for one in found.objects(action, ACTION.error)
    }
    assert failures["corrupt_image"] == "case/broken.jpg" and failures["unreadable"] == "case/gone.jpg"
    assert failures["too_many_pages"] == "case/pages.tif"
    assert len(list(found.objects(action, ACTION.error))) == 5
    broken = about(found, named(found, "case/broken.jpg"))["corrupt_image"]
    assert {str(text) for text in found.objects(broken, CORE.statement)} == {'Cut "short".', "Look."}
    assert hashes(found, named(found, "case/pages.tif")) == {"SHA256": SHA}  # its pages know the bytes


def test_who_did_what_with_what(results: Path) -> None:
    found = graph(exported(results))
    action = named(found, "Examination of pictures for edits")
    assert (action, RDF.type, INVESTIGATION.InvestigativeAction) in found
    assert str(found.value(action, ACTION.startTime)).startswith("2026-01-01T00:00:00")
    assert str(found.value(action, ACTION.endTime)).startswith("2026-01-01T01:00:00")
    tool = found.value(action, ACTION.instrument)
    assert (tool, RDF.type, TOOL.ConfiguredTool) in found
    assert str(found.value(tool, TOOL.version)) == "1"
    names = {str(found.value(one, CORE.name)) for one in found.objects(action, ACTION.object)}
    archives = {"case/x.zip", "case/x.zip!/b.zip", "case/y.zip"}
    files = {HOSTILE, "case/pages.tif", "case/broken.jpg", "case/gone.jpg", "case/y.zip!/e.jpg"}
    assert names == {*archives, *files, *(f"case/x.zip!/b.zip!/{one}.jpg" for one in "cd"), "evidence"}
    results_of = list(found.objects(action, ACTION.result))
    assert (
        sum(_is_result(found, one) for one in results_of) == 5 + 5
    )  # those of the first file, one for each other image
    (case,) = found.subjects(RDF.type, INVESTIGATION.Investigation)
    assert action in set(found.objects(case, CORE.object))
    assert "Something." in {str(text) for text in found.objects(case, CORE.description)}


def test_members_are_in_their_archives(results: Path) -> None:
    found = graph(exported(results))
    pairs = {
        (
            str(found.value(found.value(one, CORE.source), CORE.name)),
            str(found.value(found.value(one, CORE.target), CORE.name)),
        )
        for one in found.subjects(CORE.kindOfRelationship, None)
    }
    assert {str(kind) for kind in found.objects(None, CORE.kindOfRelationship)} == {"Contained_Within"}
    assert pairs == {
        ("case/x.zip!/b.zip", "case/x.zip"),
        ("case/x.zip!/b.zip!/c.jpg", "case/x.zip!/b.zip"),
        ("case/x.zip!/b.zip!/d.jpg", "case/x.zip!/b.zip"),
        ("case/y.zip!/e.jpg", "case/y.zip"),
        ("case/pages.tif, page 0 of 2", "case/pages.tif"),
        ("case/pages.tif, page 1 of 2", "case/pages.tif"),
    }
    assert hashes(found, named(found, "case/x.zip")) == {"SHA256": "7" * 64}
    assert hashes(found, named(found, "case/y.zip")) == {"SHA256": "8" * 64}


def test_a_selection_says_so_and_keeps_the_names(results: Path) -> None:
    whole, some = graph(exported(results)), graph(exported(results, "--only", "inconclusive"))
    member = "case/x.zip!/b.zip!/c.jpg"
    assert named(some, member) == named(whole, member)
    assert named(some, "case/x.zip") == named(whole, "case/x.zip")
    (case,) = some.subjects(RDF.type, INVESTIGATION.Investigation)
    assert any("only inconclusive" in str(text) for text in some.objects(case, CORE.description))


def test_without_a_run_that_can_be_read(results: Path) -> None:
    (results / "run.json").write_text("{")
    exported(results, "--only", "failure")
    check(results.parent / "case.jsonld")


def test_memory_stays_flat(tmp_path: Path) -> None:
    class Nowhere(io.RawIOBase):
        def __init__(self) -> None:
            self.digest = hashlib.sha256()

        def write(self, content: Any) -> int:
            self.digest.update(content)
            return len(content)

    def peak(count: int) -> int:
        records: Iterator[ImageRecord | FailureRecord] = (
            image(f"case/{number // 2:06}.zip!/{number:06}.jpg", run_id="r") for number in range(count)
        )
        tracemalloc.start()
        try:
            write(Nowhere(), records, Source(tmp_path, run()))  # type: ignore[arg-type]
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(10)
    assert peak(1000) < peak(100) + 150_000
