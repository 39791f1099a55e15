"""The card of a method: what it is, what it learned from, its error rates, for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from model.synthetic import Method

NOT_MEASURED = "Not measured. `clue eval --task synthetic` measures a method, and says it here."


def card(method: Method, figures: dict[str, Any] | None) -> str:
    """Markdown; without figures it says that nothing was measured.

    Args:
        method: what is described.
        figures: set → figure, in words → `value`, and where known the interval `low` to `high` and the number of
            pictures `n`: `{"own": {"real called generated": {"value": 0.01, "low": 0, "high": 0.03, "n": 90}}}`.
    """
    calibration, training = method.calibration, method.training
    lines = [
        f"# {_plain(method.name)}",
        "",
        "Says whether a whole picture was generated. What it says is a lead, and no proof.",
        "",
    ]
    lines += _table(
        ("", ""),
        [("Kind", method.kind), ("Base", method.base or "none")]
        + ([("SHA-256", method.digest)] if method.digest else []),
    )
    lines += ["", "## Training", ""]
    seen = training.get("generators")
    names = "none named" if not isinstance(seen, list) else ", ".join(map(str, seen)) or "none"
    rest = [(str(key), _short(value)) for key, value in training.items() if key != "generators"]
    lines += _table(("", ""), [("Generators seen", names), *rest])
    lines += ["", "## Calibration", ""]
    if calibration.fitted:
        low, high = calibration.no_evidence_below, calibration.score_threshold
        on = f"Fitted on {_plain(calibration.fitted_on)}." if calibration.fitted_on else "It gives no confidence."
        lines.append(f"`generated` above {high:.3f}, `no_evidence` up to {low:.3f}, between them `inconclusive`. {on}")
    else:
        lines.append("Nothing was fitted: every verdict is `inconclusive`.")
    lines += ["", "## Error rates", ""]
    if not figures:
        lines.append(NOT_MEASURED)
    for name, rows in (figures or {}).items():
        lines += [f"### {_plain(name)}", ""]
        lines += _table(("Figure", "Value", "95 % interval", "Pictures"), [_row(key, row) for key, row in rows.items()])
        lines.append("")
    lines += ["", "## Limits", "", *(f"- {_plain(limit)}" for limit in method.limits)]
    return "\n".join(lines).rstrip() + "\n"


def _row(name: str, row: dict[str, Any]) -> tuple[str, ...]:
    known = row.get("low") is not None and row.get("high") is not None
    interval = f"{row['low']:.3f} to {row['high']:.3f}" if known else "unknown"
    value = row.get("value")
    return name, "not defined" if value is None else f"{value:.3f}", interval, str(row.get("n", "unknown"))


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    lines = [head, tuple("---" for _ in head), *rows]
    return ["| " + " | ".join(map(_plain, line)) + " |" for line in lines]


def _short(value: object) -> str:
    if isinstance(value, dict):
        value = ", ".join(f"{key} {item}" for key, item in value.items())
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 200 else text[:200] + " …"


def _plain(text: str) -> str:
    """Without what would break out of a line or a cell, or be markup: names come from folders and mixes."""
    kept = "".join(character if character.isprintable() else " " for character in text)
    return kept.replace("|", "\\|").replace("<", "&lt;").replace("`", "'")
