"""From the log to the result."""

from __future__ import annotations

import pytest

from clue_cli.eval.aggregate import PROBLEMS, problem_records
from model.datasets.sample import Kind, Problem


@pytest.mark.parametrize("others", ["", "; per_image.csv names all"])
def test_problems_are_named_once_and_beyond_the_most_counted(others: str) -> None:
    problems = [Problem(Kind.MASK_MISSING, f"\x1b{number}.jpg") for number in range(PROBLEMS + 2)]
    *listed, rest = problem_records(problems * 2, others)
    assert len({one.name for one in listed}) == len(listed) == PROBLEMS
    assert "\x1b" not in "".join(one.name for one in listed)
    assert (rest.kind, rest.detail) == ("more", f"and 2 more{others}")
    assert problem_records(problems[:PROBLEMS], others) == listed
