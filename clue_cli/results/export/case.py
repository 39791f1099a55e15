"""CASE/UCO 1.x as JSON-LD: who examined which files with what, and what was found; for programs of digital forensics.

    Investigation ── object ──> InvestigativeAction, one for each run, and two ProvenanceRecords
    InvestigativeAction: instrument ConfiguredTool (of the AnalyticTool clue), object the evidence files,
        result the files that were written and the AnalyticResults, error what could not be read or judged
    AnalyticResult: also an Annotation, whose object is the evidence file; one for each answer and each finding

Nodes are written one at a time, and the lists of an action are streamed from a temporary database. An IRI is a UUID
made of the latest run's id and the locator, so that two exports of the same results are equal. What CASE has no term
for (score, thresholds) is in the namespace `clue`.
"""

from __future__ import annotations

import json
import sqlite3
import uuid
from collections.abc import Iterable, Iterator
from datetime import datetime
from decimal import Decimal
from itertools import chain, groupby, islice
from typing import Any, BinaryIO

from clue_cli.records import Answer, FailureRecord, FileIdentity, Finding, ImageRecord, Question, RunRecord, Step
from clue_cli.results.export import Source

_UCO = "https://ontology.unifiedcyberontology.org/uco/"
_CONTEXT = {
    "case-investigation": "https://ontology.caseontology.org/case/investigation/",
    **{f"uco-{name}": f"{_UCO}{name}/" for name in ("action", "analysis", "configuration", "core", "observable")},
    "uco-tool": f"{_UCO}tool/",
    "uco-types": f"{_UCO}types/",
    "xsd": "http://www.w3.org/2001/XMLSchema#",
    "clue": "urn:clue-forensics:terms:",
}
_NAMESPACE = uuid.UUID("3d4c0b0e-5f0c-5b7e-9a55-0b6c1f2d7e41")
"""Of the UUIDs; never to be changed."""
_MEMBER = "!/"
_OBJECT, _RESULT, _ERROR = "object", "result", "error"
_WRITTEN = {
    "mask": "Mask: white where the picture is marked.",
    "heatmap": "Heatmap: value / 65535 is the probability of an edit.",
    "synthetic_heatmap": "Map of the evidence that the picture was generated.",
    "verdict": "The record of the image as JSON.",
    "embedded_thumbnail": "The thumbnail that the file itself holds.",
    "error_level_analysis": "Map of error level analysis, an aid and no verdict.",
    "jpeg_ghosts": "Map of JPEG ghosts, an aid and no verdict.",
    "noise_inconsistency": "Map of noise inconsistency, an aid and no verdict.",
}
_EXIF = {
    "Make": "camera_make",
    "Model": "camera_model",
    "Software": "software",
    "DateTimeOriginal": "date_time_original",
    "DateTimeDigitized": "date_time_digitized",
    "DateTime": "date_time_modified",
}
_QUESTIONS = {
    Question.LOCALIZATION: "Was a part of the picture edited, and where?",
    Question.SYNTHETIC: "Was the whole picture generated?",
}
_CLAIMS = "EXIF values are claims of the file itself, which anybody can set."

_Node = dict[str, Any]
_Record = ImageRecord | FailureRecord


def write(to: BinaryIO, records: Iterable[ImageRecord | FailureRecord], source: Source) -> None:
    """Write one JSON object with `@context` and `@graph`, a node a line."""
    with _References() as references:
        to.write(b'{"@context": ' + _json(_CONTEXT) + b',\n"@graph": [')
        _Export(to, source, references).write(records)
        to.write(b"\n]}\n")


class _References:
    """Which nodes belong to the action of which run, and what is known of archives: in a temporary file."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.executescript(
            """
            CREATE TABLE reference (run TEXT, role TEXT, node BLOB);
            CREATE TABLE file (locator TEXT PRIMARY KEY, sha256 TEXT, written INTEGER DEFAULT 0) WITHOUT ROWID;
            CREATE TABLE run (run TEXT PRIMARY KEY) WITHOUT ROWID;
            BEGIN;
            """
        )
        self._run: str | None = None

    def __enter__(self) -> _References:
        return self

    def __exit__(self, *error: object) -> None:
        self._database.close()

    def add(self, run: str, role: str, node: str) -> None:
        self._database.execute("INSERT INTO reference VALUES (?, ?, ?)", (run, role, uuid.UUID(node).bytes))
        if run != self._run:
            self._run = run
            self._database.execute("INSERT OR IGNORE INTO run VALUES (?)", (run,))

    def runs(self) -> list[str]:
        self._database.execute("CREATE INDEX by_run ON reference (run, role)")
        return [run for (run,) in self._database.execute("SELECT run FROM run ORDER BY run")]

    def of(self, run: str, *roles: str) -> Iterator[str]:
        for role in roles:
            rows = self._database.execute(
                "SELECT node FROM reference WHERE run = ? AND role = ? ORDER BY rowid", (run, role)
            )
            for (node,) in rows:
                yield uuid.UUID(bytes=node).urn

    def know_archives(self, hashes: Iterable[tuple[str, str]]) -> None:
        self._database.executemany("INSERT OR IGNORE INTO file (locator, sha256) VALUES (?, ?)", hashes)

    def take_file(self, locator: str) -> tuple[bool, str | None]:
        """Whether a file is to be written, which it is once, and its SHA-256 if it is a known archive."""
        row = self._database.execute("SELECT written, sha256 FROM file WHERE locator = ?", (locator,)).fetchone()
        self._database.execute(
            "INSERT INTO file (locator, written) VALUES (?, 1) ON CONFLICT DO UPDATE SET written = 1", (locator,)
        )
        return (True, None) if row is None else (not row[0], row[1])


class _Export:
    """One export."""

    def __init__(self, to: BinaryIO, source: Source, references: _References) -> None:
        self._to, self._source, self._references = to, source, references
        self._case = source.run.run_id if source.run is not None else ""  # else that of the first record
        self._first = True
        self._open: list[str] = []
        """The archives around the last file, from the outermost."""

    def write(self, records: Iterable[_Record]) -> None:
        for run in self._runs():
            self._references.know_archives(run.archives.items())
        for locator, group in groupby(self._of_case(records), key=lambda record: record.locator):
            self._file_and_records(locator, group)
        known = self._references.runs()
        if self._source.run is not None and self._case not in known:
            known.append(self._case)  # none of its records is exported
        described: set[str] = set()
        actions: list[str] = []
        for run in self._runs():
            if run.run_id in known and run.run_id not in described:
                described.add(run.run_id)
                actions.append(self._action(run.run_id, run))
        actions += [self._action(run_id, None) for run_id in known if run_id not in described]
        self._investigation(actions, known)

    def _of_case(self, records: Iterable[_Record]) -> Iterator[_Record]:
        for record in records:
            self._case = self._case or record.run_id
            yield record

    def _runs(self) -> Iterator[RunRecord]:
        """The runs of the folder, the latest first, one at a time."""
        from clue_cli.results.merging import runs_in

        return runs_in(self._source.folder)

    # ── evidence ──

    def _file_and_records(self, locator: str, group: Iterator[_Record]) -> None:
        """A file of the evidence, then what was found in it."""
        # The failure of a whole file comes before its pages, and may not know the bytes that they know.
        first = list(islice(group, 2))
        best = max(first, key=lambda record: (isinstance(record, ImageRecord), record.file is not None))
        file = self._file_id(locator)
        new, sha256 = self._references.take_file(locator)
        self._around(locator, file, best.run_id)
        if new:
            self._put(self._evidence(file, locator, best, sha256))
            self._references.add(best.run_id, _OBJECT, file)
        for record in chain(first, group):
            if isinstance(record, ImageRecord):
                self._image(record, file)
            else:
                self._failure(record, file)

    def _evidence(self, node: str, locator: str, record: _Record, archive_sha256: str | None) -> _Node:
        facets = [_file_facet(node, locator, record.file)]
        if record.file is not None:
            facets.append(_content(node, record.file.byte_size, _hashes(record.file), record.file.sniffed_type))
        elif archive_sha256 is not None:
            facets.append(_content(node, None, {"SHA256": archive_sha256}, None))
        description = []
        if isinstance(record, ImageRecord):
            if record.page_count == 1:
                facets.append(_raster(node, record.width, record.height, record.file.sniffed_type))
            if exif := _exif(node, record):
                facets.append(exif)
                description.append(_CLAIMS)
            if record.exif.gps_present:
                description.append("The file holds GPS fields; their values are not copied here.")
        elif record.step is Step.ARCHIVE:
            facets.append(_facet(node, "ArchiveFileFacet", {}))
        return _observable(node, locator, facets, description)

    def _file_id(self, locator: str) -> str:
        return _id("file", self._case, locator)

    def _around(self, locator: str, node: str, run: str) -> None:
        """The archives that a file is in, unless they were written before, and that the file is in the innermost."""
        steps = locator.split(_MEMBER)
        archives = [_MEMBER.join(steps[:end]) for end in range(1, len(steps))]
        if not archives:
            return
        outer: str | None = None
        for archive in archives:
            here = self._file_id(archive)
            if archive not in self._open:
                new, sha256 = self._references.take_file(archive)
                if new:
                    hashes = {} if sha256 is None else {"SHA256": sha256}
                    facets = [_file_facet(here, archive, None), _facet(here, "ArchiveFileFacet", {})]
                    facets += [_content(here, None, hashes, None)] if hashes else []
                    self._put(_observable(here, archive, facets, []))
                    self._references.add(run, _OBJECT, here)
                if new and outer is not None:
                    self._relate(here, outer)
            outer = here
        self._open = archives
        if outer is not None:
            self._relate(node, outer)

    def _relate(self, inner: str, outer: str) -> None:
        self._put(
            {
                "@id": _id("contained", inner, outer),
                "@type": "uco-observable:ObservableRelationship",
                "uco-core:source": {"@id": inner},
                "uco-core:target": {"@id": outer},
                "uco-core:kindOfRelationship": "Contained_Within",
                "uco-core:isDirectional": True,
            }
        )

    # ── results ──

    def _image(self, record: ImageRecord, file: str) -> None:
        about = file
        if record.page_count > 1:
            about = _id("page", file, record.page)
            facets = [_raster(about, record.width, record.height, record.file.sniffed_type)]
            self._put(_observable(about, f"{record.locator}, page {record.page} of {record.page_count}", facets, []))
            self._relate(about, file)
        outputs = self._outputs(record, about)
        for question, answer in record.verdicts.items():
            shown = ("synthetic_heatmap",) if question is Question.SYNTHETIC else ("mask", "heatmap")
            content = [outputs[name] for name in (*shown, "verdict") if name in outputs]
            self._result(record, _answer(record, question, answer, about, content))
        for number, finding in enumerate(record.findings):
            self._result(record, _finding(finding, about, number))
        for number, band in enumerate(record.not_examined):
            statement = f"Rows {band.rows[0]} to {band.rows[1]}, as stored, were not examined: {band.reason}"
            self._result(record, _assertion(_id("not_examined", about, number), "not_examined", [statement], about))

    def _result(self, record: ImageRecord, node: _Node) -> None:
        self._put(node)
        self._references.add(record.run_id, _RESULT, node["@id"])

    def _outputs(self, record: ImageRecord, about: str) -> dict[str, str]:
        """The files that were written about an image: their nodes by the names of outputs."""
        written = {one.output: one for one in record.written}
        found: dict[str, str] = {}
        for name, meaning in _WRITTEN.items():
            path = getattr(record.outputs, name)
            if path is None:
                continue
            node = found[name] = _id("output", about, name)
            facets = [_facet(node, "FileFacet", {"fileName": path.rpartition("/")[2], "filePath": path})]
            if (file := written.get(name)) is not None:
                facets[0]["uco-observable:sizeInBytes"] = file.byte_size
                facets.append(_content(node, file.byte_size, {"SHA256": file.sha256}, None))
            if name in ("mask", "heatmap", "synthetic_heatmap"):
                facets.append(_raster(node, record.width, record.height, "png"))
            self._put(_observable(node, path, facets, [meaning]))
            self._references.add(record.run_id, _RESULT, node)
        return found

    def _failure(self, record: FailureRecord, file: str) -> None:
        where = "the whole file" if record.page is None else f"page {record.page}"
        statements = [record.message] if record.advice is None else [record.message, record.advice]
        node = _assertion(_id("failure", file, where, record.step, record.code), record.code.value, statements, file)
        node["uco-core:description"] = f"Not examined: {where}; it failed at the step {record.step.value}."
        node["uco-core:tag"] = ["failure", record.step.value, record.code.value]
        self._put(node)
        self._references.add(record.run_id, _ERROR, node["@id"])

    # ── what was done ──

    def _action(self, run_id: str, run: RunRecord | None) -> str:
        action = _id("action", run_id)
        tool = self._tool(run_id, run)
        collected = self._provenance(run_id, "evidence", "Files of the evidence that the run met.", (_OBJECT,))
        made = self._provenance(run_id, "results", "Files and results of the run.", (_RESULT, _ERROR))
        node: _Node = {
            "@id": action,
            "@type": "case-investigation:InvestigativeAction",
            "uco-core:name": "Examination of pictures for edits",
            "uco-core:description": f"Run {run_id or 'without an id'} of clue.",
            "uco-action:instrument": {"@id": tool},
        }
        if run is not None:
            evidence = ", ".join(run.evidence)
            node["uco-core:description"] = f"Run {run_id} of clue, which is {run.status}, on: {evidence}"
            status = {"finished": "Complete/Finish", "running": "Ongoing", "failed": "Fail"}.get(run.status, "Error")
            node["uco-action:actionStatus"] = status
            node |= _times("uco-action", run)
        self._put_lists(
            node,
            {
                "uco-action:object": ((collected,), (_OBJECT,)),
                "uco-action:result": ((made,), (_RESULT,)),
                "uco-action:error": ((), (_ERROR,)),
            },
            run_id,
        )
        return action

    def _provenance(self, run_id: str, name: str, description: str, roles: tuple[str, ...]) -> str:
        node = {
            "@id": _id("provenance", run_id, name),
            "@type": "case-investigation:ProvenanceRecord",
            "uco-core:name": name,
            "uco-core:description": description,
        }
        self._put_lists(node, {"uco-core:object": ((), roles)}, run_id)
        return str(node["@id"])

    def _tool(self, run_id: str, run: RunRecord | None) -> str:
        tool, configured = _id("tool", run_id), _id("configured_tool", run_id)
        node = {"@id": tool, "@type": "uco-tool:AnalyticTool", "uco-core:name": "clue"}
        if run is None:
            self._put(node | {"uco-core:description": "The run's settings are not in the results folder."})
            return tool
        self._put(node | {"uco-tool:version": run.version, "uco-tool:toolType": "image forensics"})
        values: dict[str, object] = {"command_line": json.dumps(run.command_line, ensure_ascii=False)}
        values |= {f"settings.{name}": value for name, value in run.settings.items()}
        values |= {f"model.{name}": value for name, value in run.model.items()}
        values |= {f"machine.{name}": value for name, value in run.machine.items()}
        if run.synthetic is not None:
            values |= {f"synthetic.{name}": value for name, value in run.synthetic.model_dump(mode="json").items()}
        values |= {"settings_digest": run.settings_digest, "evidence_unchanged": run.evidence_unchanged}
        entries = [
            {
                "@id": _id("setting", run_id, name),
                "@type": "uco-configuration:ConfigurationEntry",
                "uco-configuration:itemName": name,
                "uco-configuration:itemValue": value if isinstance(value, str) else json.dumps(value, allow_nan=False),
            }
            for name, value in values.items()
            if value is not None
        ]
        configuration = {
            "@id": _id("configuration", run_id),
            "@type": "uco-configuration:Configuration",
            "uco-configuration:configurationEntry": entries,
        }
        self._put(
            {
                "@id": configured,
                "@type": "uco-tool:ConfiguredTool",
                "uco-core:name": f"clue {run.version} as configured for run {run_id}",
                "uco-tool:version": run.version,
                "uco-configuration:isConfigurationOf": {"@id": tool},
                "uco-configuration:usesConfiguration": configuration,
            }
        )
        return configured

    def _investigation(self, actions: list[str], runs: list[str]) -> None:
        run = self._source.run
        descriptions = ["Not finding a trace of an edit does not prove that there is none."]
        if self._source.selection:
            descriptions.append(f"A selection of the records, not all of them: {self._source.selection}")
        if run is not None:
            descriptions += run.warnings
        provenance = [_id("provenance", run_id, name) for run_id in runs for name in ("evidence", "results")]
        node = {
            "@id": _id("investigation", self._case),
            "@type": "case-investigation:Investigation",
            "uco-core:name": f"Examination of pictures by clue, run {self._case or 'unknown'}",
            "uco-core:description": descriptions,
            "case-investigation:focus": list(_QUESTIONS.values()),
            "uco-core:object": [{"@id": one} for one in (*actions, *provenance)],
        }
        self._put(node | ({} if run is None else _times("uco-core", run)))

    def _put(self, node: _Node) -> None:
        self._begin()
        self._to.write(_json(node))

    def _put_lists(self, node: _Node, lists: dict[str, tuple[tuple[str, ...], tuple[str, ...]]], run_id: str) -> None:
        """Write a node with lists of nodes: those named, and those of a run by their roles, one at a time."""
        self._begin()
        self._to.write(_json(node)[:-1])
        for name, (named, roles) in lists.items():
            first = True
            for one in chain(named, self._references.of(run_id, *roles)):
                first = self._put_reference(name, one, first=first)
            if not first:
                self._to.write(b"]")
        self._to.write(b"}")

    def _put_reference(self, name: str, node: str, *, first: bool) -> bool:
        self._to.write((b', "%s": [' % name.encode() if first else b", ") + b'{"@id": "%s"}' % node.encode())
        return False

    def _begin(self) -> None:
        self._to.write(b"\n" if self._first else b",\n")
        self._first = False


def _id(*parts: object) -> str:
    """The IRI of a thing: equal for equal parts."""
    return uuid.uuid5(_NAMESPACE, json.dumps([str(part) for part in parts])).urn


def _json(value: object) -> bytes:
    return json.dumps(value, allow_nan=False).encode()


def _typed(kind: str, value: str) -> _Node:
    return {"@type": f"xsd:{kind}", "@value": value}


def _decimal(value: float) -> _Node:
    return _typed("decimal", format(Decimal(repr(value)), "f"))


def _time(text: str | None) -> _Node | None:
    """A time; None for what is none."""
    if text is None:
        return None
    try:
        return _typed("dateTime", datetime.fromisoformat(text).isoformat())
    except ValueError:
        return None


def _times(prefix: str, run: RunRecord) -> _Node:
    found = {f"{prefix}:startTime": _time(run.started), f"{prefix}:endTime": _time(run.finished)}
    return {name: time for name, time in found.items() if time is not None}


def _observable(node: str, name: str, facets: list[_Node], description: list[str]) -> _Node:
    found: _Node = {"@id": node, "@type": "uco-observable:ObservableObject", "uco-core:name": name}
    if description:
        found["uco-core:description"] = description
    return found | {"uco-core:hasFacet": facets}


def _facet(node: str, kind: str, values: _Node) -> _Node:
    named = {f"uco-observable:{name}": value for name, value in values.items() if value is not None}
    return {"@id": _id(kind, node), "@type": f"uco-observable:{kind}", **named}


def _file_facet(node: str, locator: str, file: FileIdentity | None) -> _Node:
    path = locator.rpartition(_MEMBER)[2]
    name = path.rpartition("/")[2]
    values = {"fileName": name, "filePath": locator, "isDirectory": False}
    if file is not None:
        values |= {"sizeInBytes": file.byte_size, "modifiedTime": _time(file.modified)}
    return _facet(node, "FileFacet", values)


def _hashes(file: FileIdentity) -> dict[str, str]:
    found = {"SHA256": file.sha256, "SHA1": file.sha1, "MD5": file.md5}
    return {method: value for method, value in found.items() if value is not None}


def _content(node: str, size: int | None, hashes: dict[str, str], kind: str | None) -> _Node:
    listed = [
        {
            "@id": _id("hash", node, method),
            "@type": "uco-types:Hash",
            "uco-types:hashMethod": method,
            "uco-types:hashValue": _typed("hexBinary", value),
        }
        for method, value in hashes.items()
    ]
    return _facet(node, "ContentDataFacet", {"sizeInBytes": size, "hash": listed, "mimeType": _mime(kind)})


def _mime(kind: str | None) -> str | None:
    """The type of a picture by its content; None where it has no registered name."""
    known = ("jpeg", "png", "tiff", "webp", "gif", "bmp", "avif", "heic", "jxl")
    return f"image/{kind}" if kind in known else None


def _raster(node: str, width: int, height: int, kind: str) -> _Node:
    return _facet(node, "RasterPictureFacet", {"pictureType": kind, "pictureWidth": width, "pictureHeight": height})


def _exif(node: str, record: ImageRecord) -> _Node | None:
    values = {key: getattr(record.exif, name) for key, name in _EXIF.items()}
    entries = [
        {
            "@id": _id("exif", node, key),
            "@type": "uco-types:ControlledDictionaryEntry",
            "uco-types:key": key,
            "uco-types:value": value,
        }
        for key, value in values.items()
        if value is not None
    ]
    if not entries:
        return None
    data = {"@id": _id("exif", node), "@type": "uco-types:ControlledDictionary", "uco-types:entry": entries}
    return _facet(node, "EXIFFacet", {"exifData": data})


def _assertion(node: str, name: str, statements: list[str], about: str) -> _Node:
    return {
        "@id": node,
        "@type": ["uco-analysis:AnalyticResult", "uco-core:Annotation"],
        "uco-core:name": name,
        "uco-core:statement": statements,
        "uco-core:object": {"@id": about},
    }


def _finding(finding: Finding, about: str, number: int) -> _Node:
    node = _assertion(_id("finding", about, number), finding.kind, [finding.statement], about)
    node["uco-core:tag"] = ["finding", f"source: {finding.source.value}", f"weight: {finding.weight.value}"]
    if finding.data:
        node["clue:data"] = json.dumps(finding.data, ensure_ascii=False, allow_nan=False)
    return node


def _answer(record: ImageRecord, question: Question, answer: Answer, about: str, content: list[str]) -> _Node:
    node = _assertion(_id("answer", about, question), question.value, _statements(record, question, answer), about)
    node["uco-core:description"] = _QUESTIONS[question]
    node["uco-core:tag"] = ["verdict", f"verdict: {answer.verdict.value}"]
    if content:
        node["uco-analysis:resultContent"] = [{"@id": one} for one in content]
    classification: _Node = {
        "@id": _id("classification", node["@id"]),
        "@type": "uco-analysis:ArtifactClassification",
        "uco-analysis:class": answer.verdict.value,
    }
    if answer.confidence is not None:
        classification["uco-analysis:classificationConfidence"] = _decimal(answer.confidence)
    method, digest = record.model.name, record.model.digest
    if question is Question.SYNTHETIC:
        method, digest = answer.method or "", answer.method_digest or ""
    numbers = {
        "score": answer.score,
        "scoreThreshold": answer.score_threshold,
        "noEvidenceBelow": answer.no_evidence_below,
        "pValue": answer.p_value,
        "forgedAreaRatio": record.forged_area_ratio if question is Question.LOCALIZATION else None,
    }
    facet = {
        "@id": _id("result", node["@id"]),
        "@type": "uco-analysis:ArtifactClassificationResultFacet",
        "uco-analysis:classification": classification,
        "clue:question": question.value,
        "clue:verdict": answer.verdict.value,
        "clue:method": method,
        "clue:methodDigest": digest,
        "clue:settingsDigest": record.settings_digest,
        **{f"clue:{name}": _decimal(value) for name, value in numbers.items() if value is not None},
    }
    return node | {"uco-core:hasFacet": [facet]}


def _statements(record: ImageRecord, question: Question, answer: Answer) -> list[str]:
    lines = [f"{answer.verdict.value}: {answer.reason}"]
    if question is Question.SYNTHETIC:
        return lines
    lines.append(f"{record.region_count} marked regions; {record.forged_area_ratio:.6g} of the examined pixels marked.")
    for number, region in enumerate(record.regions, 1):
        box = region.box
        lines.append(
            f"Region {number}: {box.width}×{box.height} pixels at x {box.x}, y {box.y} of the image as displayed, "
            f"{region.area} marked, mean {region.mean_probability:.6g}, peak {region.peak_probability:.6g}."
        )
    return lines + record.plain_words
