"""Errors of an evaluation, and its problems: named in the result, never silently dropped.

EvaluationError (ValueError)     an error described in one sentence
 ├── BenchmarkNotFound           a data set is not where it was looked for; says where to get it and how to lay it out
 └── StrictError                 strict mode met a problem
"""

from __future__ import annotations

from collections.abc import Iterable

from model.datasets.sample import Kind, Problem
from model.errors import UserError


class EvaluationError(UserError, ValueError):
    """An error described in one sentence."""


class BenchmarkNotFound(EvaluationError):
    """A data set is unknown, or not where it was looked for."""


class StrictError(EvaluationError):
    """Strict mode met a problem."""


def merged(*lists: Iterable[Problem]) -> list[Problem]:
    """Each kind once for each name, with the first details: what finding a set said, measuring it says again."""
    first: dict[tuple[Kind, str], Problem] = {}
    for problem in (problem for problems in lists for problem in problems):
        first.setdefault((problem.kind, problem.name), problem)
    return list(first.values())


def raise_if_any(problems: Iterable[Problem]) -> None:
    """Strict mode.

    Raises:
        StrictError: there is a problem; the message names the first ten.
    """
    listed = list(problems)
    if listed:
        more = f"\nand {len(listed) - 10} more" if len(listed) > 10 else ""
        raise StrictError("\n".join(str(problem) for problem in listed[:10]) + more)
