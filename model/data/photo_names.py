"""The source photo of each image, found in its name by a pattern of the user's, in limited time.

Python's `re` can take longer than the universe has existed for a pattern such as `(.+)+_x` and one long name, and
nothing in the same process can stop it. So the names of a source are gone through in a process of its own.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence

SECONDS, NAMES_A_SECOND = 10.0, 20_000
"""How long the names of a source may take: so many seconds, and one more for so many names."""

_SEARCH = """
import json, re, sys
pattern, stems = json.load(sys.stdin)
found = map(re.compile(pattern).search, stems)
json.dump([match and match[1] for match in found], sys.stdout)
"""


class SlowPatternError(ValueError):
    """A pattern that does not get through the names in time."""


def photo_names(stems: Sequence[str], pattern: re.Pattern[str] | None, seconds: float | None = None) -> list[str]:
    """The source photo of each stem: what the pattern's group finds in it; where it finds nothing, the stem itself.

    Args:
        stems: file names without their endings.
        pattern: one group; None: each stem is a photo of its own.
        seconds: the limit, if another than SECONDS and NAMES_A_SECOND give.

    Raises:
        SlowPatternError: the limit was reached; or the memory's.
    """
    if pattern is None or not stems:
        return list(stems)
    limit = SECONDS + len(stems) / NAMES_A_SECOND if seconds is None else seconds
    try:
        found = subprocess.run(
            [sys.executable, "-I", "-c", _SEARCH],
            input=json.dumps([pattern.pattern, list(stems)]),  # ASCII: names need not be UTF-8
            capture_output=True,
            text=True,
            timeout=limit,
            check=True,
        ).stdout
    except subprocess.TimeoutExpired as error:
        raise SlowPatternError(f"`{pattern.pattern}` takes more than {limit:.0f} s for {len(stems)} names") from error
    except subprocess.CalledProcessError as error:
        raise SlowPatternError(f"`{pattern.pattern}` cannot be applied: {_last_line(error.stderr)}") from error
    return [photo or stem for photo, stem in zip(json.loads(found), stems, strict=True)]


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["the process ended"])[-1][:200]
