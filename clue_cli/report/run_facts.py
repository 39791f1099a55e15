"""What the page says of the run as a whole, in words."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from clue_cli.records import MethodInfo, RunRecord
from clue_cli.report.inert import printable
from clue_cli.report.spool import Spool

Scalar = str | int | float | bool | list[float] | None

STATUS = {
    "finished": "Finished.",
    "running": "Not finished when this page was written: it shows what there was.",
    "interrupted": "Interrupted before the end: the page shows what was finished until then.",
    "failed": "Stopped by an error before the end: the page shows what was finished until then.",
}

_UNCHANGED = {
    True: "Unchanged: read again after it was judged, every file and archive still had the SHA-256 it was judged by.",
    False: "CHANGED: read again after it was judged, a file or archive no longer had the SHA-256 it was judged by.",
    None: "Not all of it was checked again.",
}


def facts(run: RunRecord) -> list[tuple[str, str]]:
    """What stands at the top of the page about the run, as (label, text)."""
    end = "" if run.finished is None else f" to {_moment(run.finished)}"
    took = "" if run.seconds is None else f" ({_duration(run.seconds)})"
    return [
        ("Evidence", "\n".join(map(printable, run.evidence))),
        ("Evidence after the run", _UNCHANGED[run.evidence_unchanged]),
        ("Scanned", f"{_moment(run.started)}{end}{took}"),
        ("Tool", f"{run.tool} {run.version}"),
        ("Model", shown(run.model.get("name"))),
        ("Model digest", shown(run.model.get("digest"))),
        *promise(run),
    ]


def promise(run: RunRecord) -> list[tuple[str, str]]:
    """What a calibration on one's own photos promises; nothing for the model's own."""
    promise, digest = run.model.get("calibration_promise"), run.model.get("calibration_sha256")
    if not promise:
        return []
    name = shown(run.model.get("calibration"))
    return [("Promised error rate", f"{promise}\n(calibration {name}, SHA-256 {digest})")]


def method_facts(method: MethodInfo) -> dict[str, Any]:
    """What the page says of the method of the second question."""
    smallest, largest = method.fitted_megapixels
    lines = [
        ("Method", method.name if method.name == method.kind else f"{method.name} ({method.kind})"),
        ("Digest", method.digest),
        ("Stands on", method.base),
        ("Calibration", method.calibration),
        ("Calibrated on", method.fitted_on),
        ("Sizes there", f"{smallest:.2g} to {largest:.2g} megapixels" if largest else ""),
        ("Generated", f"a score above {method.score_threshold:.6g}"),
        ("No evidence", f"a score of at most {method.no_evidence_below:.6g}"),
        ("Learned from", ", ".join(method.generators)),
    ]
    if method.calibration_promise:
        file = f"(calibration {method.calibration}, SHA-256 {method.calibration_file_sha256})"
        lines.append(("Promised error rate", f"{method.calibration_promise} {file}"))
    return {
        "name": method.name,
        "calibrated": bool(method.fitted_on),
        "promised": bool(method.calibration_promise),
        "facts": [(label, text) for label, text in lines if text],
        "figures": [(name.replace("_", " "), shown(value)) for name, value in method.figures.items()],
        "limits": method.limits,
    }


def disagreement(run: RunRecord, spool: Spool, verdicts: dict[str, int], second: dict[str, int]) -> str | None:
    """A sentence if the run counted something else than the page shows; a reader must not have to guess."""
    here = {"images": len(spool.images), **verdicts, "failures": len(spool.failures)}
    if run.synthetic is not None:
        here |= {word if word == "generated" else f"synthetic_{word}": count for word, count in second.items()}
    counts = run.counts.model_dump()
    differences = [f"{name}: {counts[name]:,} in run.json, {value:,} here" for name, value in here.items()
                   if counts[name] != value]  # fmt: skip
    if not differences:
        return None
    text = "The counts of the run differ from the records this page was made from (" + "; ".join(differences) + ")."
    if run.counts.not_met:
        text += (
            f" {run.counts.not_met:,} of the records here are of earlier runs: their evidence was not met by this one"
            " (moved, deleted, or not among its paths), and was not checked again."
        )
    return text


def shown(value: Scalar) -> str:
    """A value of run.json as a person reads it."""
    match value:
        case None:
            return "–"
        case bool():
            return "yes" if value else "no"
        case list():
            return ", ".join(f"{number:g}" for number in value)
        case float():
            return f"{value:.6g}"
        case _:
            return str(value)


def _moment(text: str) -> str:
    """`2026-11-21T04:28:38+01:00` as `2026-11-21 04:28:38 (UTC+01:00)`; any other text stays as it is."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return text
    zone = moment.strftime("%z")
    return f"{moment:%Y-%m-%d %H:%M:%S}" + (f" (UTC{zone[:3]}:{zone[3:5]})" if zone else "")


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min {rest:02d} s" if hours else f"{minutes} min {rest:02d} s"
