"""Decoders in child processes: what hostile bytes do there, they do to one item only.

A decoder that crashes, hangs or runs out of memory costs the page it was at. It is started again and goes on with the
next page, or the next item; the run never notices. Pixels come back through a pipe into an array of the right size.
"""

from __future__ import annotations

import base64
import queue
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from types import TracebackType
from typing import Any, Self, cast

import numpy as np
from numpy.typing import NDArray

from clue_cli.errors import ClueError
from clue_cli.evidence.item import THUMBNAIL_SIDE, Photo, Unreadable
from clue_cli.evidence.locator import clean_text
from clue_cli.evidence.reader import type_finding
from clue_cli.evidence.sandbox.process import START_SECONDS, WORKER, Child, ChildDied, ChildTimeout, checked, whole
from clue_cli.evidence.streams import DecodeLimits
from clue_cli.records import ExifBrief, FailureCode, FileIdentity, Finding, Origin, Step, Weight

_RESTARTS = 3
"""How often a decoder is started again for the pages of one file. A file that kills more of them is given up."""
_MOST_FINDINGS, _MOST_VALUES = 100, 20
_STATEMENT = 4000  # characters; a history of eight steps has 1,700
_NAME = re.compile("[a-z][a-z0-9_]{0,40}")

Levels = NDArray[np.uint8] | NDArray[np.uint16]
"""An array that a child sends."""


class Unanswered(Exception):
    """A request failed, or its child died; the message says why."""


class DecodePool:
    """Decodes pictures in worker processes.

    `decode` may be called from several threads at once; each call holds one worker until its iterator is exhausted
    or closed, so a thread must not hold more than one iterator unless there are workers to spare.

    Args:
        workers: number of processes.
        limits: what one picture may cost.
        gif_all_frames, as_evidence: as in `decode.decode_pages`.
        worker_module: the module that a worker runs; tests put a bad one here.
    """

    def __init__(
        self,
        workers: int,
        limits: DecodeLimits | None = None,
        *,
        gif_all_frames: bool = False,
        as_evidence: bool = False,
        worker_module: str = WORKER,
    ) -> None:
        self._limits = limits or DecodeLimits()
        self._options = {"gif_all_frames": gif_all_frames, "as_evidence": as_evidence}
        setup = {"address_space": self._limits.address_space()}
        self._children = [Child(worker_module, setup) for _ in range(workers)]
        self._free: queue.LifoQueue[Child] = queue.LifoQueue()
        for child in self._children:
            self._free.put(child)

    def __enter__(self) -> Self:
        """Start all workers; raises ClueError if they cannot run here at all."""
        for child in self._children:
            child.start()
        try:
            for child in self._children:
                child.ready(START_SECONDS)
        except ChildDied as error:
            self.close()
            raise ClueError(f"The decoder {error}.", "Check the installation: `pip check`.") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all workers. Decoding that is under way ends with a failure."""
        for child in self._children:
            child.close()
        idle = []
        while not self._free.empty():
            idle.append(self._free.get_nowait())
        for child in idle:
            child.stop()
            self._free.put(child)

    @contextmanager
    def _child(self) -> Iterator[Child]:
        child = self._free.get()
        try:
            yield child
        finally:
            if child.closed or child.busy:
                child.stop()  # it is in the middle of something nobody wants any more
            self._free.put(child)

    def decode(
        self, locator: str, data: bytes, identity: FileIdentity, findings: Sequence[Finding] = ()
    ) -> Iterator[Photo | Unreadable]:
        """The pages of one picture file, one after the other.

        Args:
            locator: of the item.
            data: the file's bytes.
            identity: what they are; `sniffed_type` must be of kind PICTURE.
            findings: what the walk noticed, for each page.

        Yields:
            A `Photo` per page, or an `Unreadable` for a page that failed (`page` is None if it is the whole file, or
            the rest of its pages).
        """
        with self._child() as child:
            yield from _Job(child, locator, data, identity, findings, self._limits, self._options).pages()

    def ask(self, operation: str, data: bytes = b"", **arguments: Any) -> tuple[dict[str, Any], Levels | None]:
        """The one reply to any operation of `worker` but `picture`.

        Returns:
            Its header, not checked, and the array that came with it.

        Raises:
            Unanswered: the operation failed, or the child died.
        """
        with self._child() as child:
            try:
                with checked():
                    ((reply, levels),) = _replies(child, operation, data, arguments, self._limits)
                    failure = "failure" in reply and (clean_text(reply["failure"]["message"]) or "")
            except ChildDied as error:
                child.stop()
                raise Unanswered(f"The decoder {error}.") from error
        if failure is not False:
            raise Unanswered(failure)
        return reply, levels


def _replies(
    child: Child, operation: str, data: bytes, arguments: dict[str, Any], limits: DecodeLimits
) -> Iterator[tuple[dict[str, Any], Levels | None]]:
    """Headers and arrays of the replies; raises ChildDied, or what wrong types raise (`checked`)."""
    child.ready(START_SECONDS)
    request = {"operation": operation, "arguments": arguments, "limits": asdict(limits), "size": len(data)}
    for reply in child.ask(request, data, limits.seconds):
        yield reply, _array(child, reply, limits) if "shape" in reply else None


def _array(child: Child, reply: dict[str, Any], limits: DecodeLimits) -> Levels:
    height, width, *channels = (whole(side, 1) for side in reply["shape"])
    if height * width > limits.max_megapixels * 1e6 or channels not in ([], [3]):
        raise ValueError("a picture beyond the limits")
    dtype = {"uint8": np.uint8, "uint16": np.uint16}[reply["dtype"]]
    levels: Levels = np.empty((height, width, *channels), dtype)
    child.receive_into(levels.reshape(-1).view(np.uint8).data, limits.seconds)
    return levels


class _Job:
    """One picture file that a child decodes."""

    def __init__(
        self,
        child: Child,
        locator: str,
        data: bytes,
        identity: FileIdentity,
        findings: Sequence[Finding],
        limits: DecodeLimits,
        options: dict[str, bool],
    ) -> None:
        self._child, self._locator, self._data, self._identity = child, locator, data, identity
        self._limits, self._options = limits, options
        said = type_finding(identity)
        self._findings = (*findings, *([said] if said else []))
        self._next_page = 0
        self._page_count: int | None = None
        self._failed = False

    def pages(self) -> Iterator[Photo | Unreadable]:
        for _ in range(_RESTARTS + 1):
            try:
                with checked():
                    yield from self._attempt()
                return
            except ChildDied as error:
                self._child.stop()
                yield self._died(error)
                if self._page_count is None or self._next_page >= self._page_count:
                    return
        message = f"The file stopped {_RESTARTS + 1} decoders; its pages from {self._next_page} on were not tried."
        yield self._unreadable(FailureCode.DECODER_CRASHED, message, None, None)

    def _attempt(self) -> Iterator[Photo | Unreadable]:
        arguments = {"sniffed_type": self._identity.sniffed_type, "first_page": self._next_page, **self._options}
        for reply, pixels in _replies(self._child, "picture", self._data, arguments, self._limits):
            if "failure" in reply:
                yield self._failure(reply["failure"])
            elif "page" in reply:
                yield self._photo(reply, pixels)
            else:
                self._page_count = whole(reply["page_count"], 1)

    def _photo(self, reply: dict[str, Any], pixels: Levels | None) -> Photo:
        page, page_count = whole(reply["page"], 0), whole(reply["page_count"], 1)
        if page < self._next_page or page >= page_count:
            raise ValueError("a page that was not asked for")
        orientation = whole(reply["orientation"], 1)
        if orientation > 8 or pixels is None or pixels.ndim != 3 or pixels.dtype != np.uint8:
            raise ValueError("no picture")
        self._next_page, self._page_count = page + 1, page_count
        rows = None if reply["rows"] is None else (whole(reply["rows"][0], 0), whole(reply["rows"][1], 0))
        if rows is not None and not rows[0] <= rows[1] < len(pixels):
            raise ValueError("rows that cannot be")
        thumbnail, differs = _thumbnail(reply["thumbnail"])
        return Photo(
            locator=self._locator,
            file=self._identity,
            page=page,
            page_count=page_count,
            pixels=cast(NDArray[np.uint8], pixels),
            orientation=orientation,
            decoding=_texts(reply["decoding"]),
            findings=(*differs, *self._findings, *_findings(reply["findings"])),
            exif=_exif(reply["exif"]),
            rows=rows,
            missing=clean_text(reply["missing"]) or "",
            doubt=None if reply["doubt"] is None else clean_text(reply["doubt"]),
            thumbnail=thumbnail,
            seconds_decode=max(0.0, float(reply["seconds"])),
        )

    def _failure(self, said: dict[str, Any]) -> Unreadable:
        page = None if said["page"] is None else whole(said["page"], 0)
        if self._failed or (page is not None and page < self._next_page):
            raise ValueError("a failure that cannot be")
        self._failed = page is None
        if page is not None:
            self._next_page, self._page_count = page + 1, whole(said["page_count"], 1)
        message = clean_text(said["message"], _STATEMENT) or ""
        advice = None if said["advice"] is None else clean_text(said["advice"], _STATEMENT)
        return self._unreadable(FailureCode(said["code"]), message, advice, page)

    def _died(self, error: ChildDied) -> Unreadable:
        timeout = isinstance(error, ChildTimeout)
        code = FailureCode.DECODER_TIMEOUT if timeout else FailureCode.DECODER_CRASHED
        page = None if self._page_count is None else self._next_page
        self._next_page += 1
        return self._unreadable(code, f"The decoder {error}.", None, page)

    def _unreadable(self, code: FailureCode, message: str, advice: str | None, page: int | None) -> Unreadable:
        return Unreadable(self._locator, Step.DECODE, code, message, advice, self._identity, page, self._page_count)


def _findings(values: object) -> tuple[Finding, ...]:
    """The decoder's findings: hostile bytes may own it, so each is checked, cleaned and counted.

    It may accuse its own file, as what stands in the file may; it cannot speak for the pixels, or against an edit.
    """
    if not isinstance(values, list):
        raise TypeError("not a list")
    found = (Finding.model_validate(value) for value in values[:_MOST_FINDINGS])
    return tuple(
        finding.model_copy(update={"statement": text, "data": _data(finding), "weight": _weight(finding)})
        for finding in found
        if finding.source is not Origin.PIXELS and (text := clean_text(finding.statement, _STATEMENT))
    )


def _weight(finding: Finding) -> Weight:
    return finding.weight if finding.weight is Weight.SUPPORTS_EDIT else Weight.INFORMATION


def _data(finding: Finding) -> dict[str, str | int | float | bool | None]:
    return {
        name: clean_text(value) if isinstance(value, str) else value
        for name, value in [*finding.data.items()][:_MOST_VALUES]
        if _NAME.fullmatch(name)
    }


def _thumbnail(value: dict[str, Any] | None) -> tuple[NDArray[np.uint8] | None, list[Finding]]:
    """The file's own thumbnail that shows something else, H×W×3, and the finding that says so."""
    if value is None:
        return None, []
    width, height = (whole(side, 1) for side in value["size"])
    if max(width, height) > THUMBNAIL_SIDE:
        raise ValueError("a thumbnail beyond the limits")
    pixels = np.frombuffer(base64.b64decode(value["rgb"]), np.uint8).reshape(height, width, 3)
    statement = (
        f"The embedded thumbnail ({clean_text(value['where'])}) shows something else than the picture: it may be that "
        "of the picture before it was cropped or edited. A program that copies the data of one file to another, or a "
        "damaged thumbnail, would explain it as well."
    )
    kind, weight = "thumbnail_differs", Weight.SUPPORTS_EDIT
    return pixels, [Finding(kind=kind, source=Origin.METADATA, statement=statement, weight=weight)]


def _exif(values: dict[str, Any]) -> ExifBrief:
    return ExifBrief.model_validate(
        {name: clean_text(value) if isinstance(value, str) else value for name, value in values.items()}
    )


def _texts(values: object) -> tuple[str, ...]:
    if not isinstance(values, list):
        raise TypeError("not a list")
    return tuple(text for value in values[:100] if (text := clean_text(value)))
