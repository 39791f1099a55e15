"""A sandboxed child whose zip container misbehaves when it comes to a member whose name says so.

To be given to `ArchiveReader(worker_module=…)`. `abort` and `hang` happen while the archive is listed, `… inside` while
a member is read; `circle` reads the archive for ever, and `lie` sends more than there is.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import BinaryIO, cast

from clue_cli.evidence.containers import Archive, Member, zip
from clue_cli.evidence.sandbox.worker import main
from clue_cli.evidence.streams import Budget

sound = zip.members


class Endless(io.RawIOBase):
    def read(self, size: int | None = -1, /) -> bytes:
        return b"PK\x03\x04" + bytes((size or 0) - 4)


def act(what: str, archive: Archive) -> Endless:
    if what == "abort":
        os.abort()
    while what == "hang":
        time.sleep(1)
    while what == "circle":
        archive.seekable().seek(0)
        archive.seekable().read(1 << 20)
    return Endless()


def members(archive: Archive, budget: Budget) -> Iterator[Member]:
    for member in sound(archive, budget):
        what, _, inside = member.name.removesuffix(".jpg").partition(" ")

        def opened(what: str = what) -> BinaryIO:
            return cast(BinaryIO, act(what, archive))

        if what in ("abort", "hang", "circle", "lie"):
            if not inside:
                act(what, archive)
            yield replace(member, open=opened)
        else:
            yield member


if __name__ == "__main__":
    zip.members = members
    main()
