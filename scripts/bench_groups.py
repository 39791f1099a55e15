"""Groups of a million perceptual hashes: seconds and peak memory.

    python scripts/bench_groups.py [--count N] [--only KIND]

Each kind in a process of its own: `random`; `planted`, a third of them copies with up to four other bits; `clumped`,
100,000 kinds of pictures with up to ten other bits; `equal`; `ball`, the numbers from 0; `code`, words of a BCH code of
distance 5 in 32 bits: hashes that are all apart, in as few bits as can be. `records` adds records to `Groups`;
`compare` compares as many records with as many others, a third of which are copies.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from clue_cli.records import ImageRecord

KINDS = ("random", "planted", "clumped", "equal", "ball", "code", "records", "compare")


def hashes_of(kind: str, count: int) -> NDArray[np.uint64]:
    rng = np.random.default_rng(0)

    def spread(centres: NDArray[np.uint64], flips: int) -> NDArray[np.uint64]:
        made = centres.copy()
        for _ in range(flips):
            made ^= np.uint64(1) << rng.integers(0, 64, len(made), dtype=np.uint64)
        return made

    def drawn(number: int) -> NDArray[np.uint64]:
        return rng.integers(0, 2**64, number, dtype=np.uint64)

    if kind == "planted":
        alone = drawn(count - count // 3)
        made = np.concatenate([alone, spread(alone[rng.integers(0, len(alone), count // 3)], 4)])
    elif kind == "clumped":
        made = spread(drawn(max(1, count // 10))[rng.integers(0, max(1, count // 10), count)], 10)
    elif kind == "equal":
        made = np.full(count, 12345, np.uint64)
    elif kind == "ball":
        made = np.arange(count, dtype=np.uint64)
    elif kind == "code":
        made = words(count)
    else:
        made = drawn(count)
    rng.shuffle(made)
    return made


def words(count: int) -> NDArray[np.uint64]:
    """Systematic words of the BCH code (63, 51) of distance 5, whose generator is 12471 in octal."""
    made = np.arange(count, dtype=np.uint64) << np.uint64(12)
    rest = made.copy()
    for bit in range(63, 11, -1):
        rest ^= (rest >> np.uint64(bit) & np.uint64(1)) * np.uint64(0o12471 << (bit - 12))
    return made | rest


def groups(count: int, kind: str) -> dict[str, Any]:
    """Seconds, peak memory and the number of groups, in this process."""
    from clue_cli.results.groups import Groups

    if kind == "compare":
        return compared(count)
    hashes = hashes_of(kind, count)
    made = Groups()
    start = time.perf_counter()
    if kind == "records":
        for record in records(hashes, 0):
            made.add(record)
    else:
        made._images = count
        made._keys += b"".join(number.to_bytes(36, "big") for number in range(count))
        made._hashes.frombytes(hashes.tobytes())
        made._hashed += b"\1" * count
        made._verdicts += bytes(count)
        made._seconds += b"\4" * count
    added, cpu = time.perf_counter(), time.process_time()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    number = len(made)
    cpu = time.process_time() - cpu
    return {
        "kind": kind,
        "count": count,
        "adding_s": round(added - start, 1),
        "grouping_s": round(time.perf_counter() - added, 1),
        "grouping_cpu_s": round(cpu, 1),
        "groups": number,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
        "peak_before_grouping_mb": before >> 10,
    }


def compared(count: int) -> dict[str, Any]:
    """Seconds and peak memory of comparing records with as many others; making the records is counted in."""
    from clue_cli.comparing import Comparison

    hashes = hashes_of("random", count)
    copies = hashes.copy()
    copies[count // 3 :] = hashes_of("clumped", count - count // 3)
    start, cpu = time.perf_counter(), time.process_time()
    with Comparison(records(hashes, 0)) as comparison:
        read = time.perf_counter()
        matches = sum(1 for _ in comparison.matches(records(copies, count)))
    return {
        "kind": "compare",
        "count": count,
        "reading_b_s": round(read - start, 1),
        "comparing_a_s": round(time.perf_counter() - read, 1),
        "cpu_s": round(time.process_time() - cpu, 1),
        "matches": matches,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
    }


def records(hashes: NDArray[np.uint64], first: int) -> Iterator[ImageRecord]:
    """A record of other bytes for each hash; what `ResultsReader` gives, without reading it."""
    made = import_module("tests.clue_cli.results.made")  # the records that tests are made of

    for number, value in enumerate(hashes):
        sha256 = f"{first + number:064x}"
        yield made.image(f"case/{number}.jpg", file=made.identity(sha256), perceptual_hash=f"{int(value):016x}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--only", choices=KINDS)
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        print(json.dumps(groups(options.count, options.only)))
        return
    for kind in KINDS if options.only is None else (options.only,):
        subprocess.run([sys.executable, __file__, "--here", "--only", kind, "--count", str(options.count)], check=True)


if __name__ == "__main__":
    main()
