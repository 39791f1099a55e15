"""Decoders in processes of their own: what hostile bytes do there, they do to one item only.

A decoder that crashes, hangs or runs out of memory costs the page it was at. It is started anew and goes on with the
next page, or the next item; the run never notices. Pixels come back through a pipe into an array of the right size.
"""

from __future__ import annotations

import queue
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from types import TracebackType
from typing import Any, Self

import numpy as np
from pydantic import ValidationError

from clue_cli.errors import ClueError
from clue_cli.evidence.decode import DecodeLimits
from clue_cli.evidence.decode_process import DecodeProcess, DecoderDied, DecoderTimeout, Watchdog
from clue_cli.evidence.identity import type_finding
from clue_cli.evidence.item import Photo, Unreadable
from clue_cli.evidence.metadata import clean_text
from clue_cli.scan.records import ExifBrief, FailureCode, FileIdentity, Finding, Step

_WORKER = "clue_cli.evidence.decode_worker"
_RESTARTS = 3
_MOST_FINDINGS = 100
"""How often a decoder is started anew for the pages of one file. A file that kills more of them is given up."""


class DecodePool:
    """Decodes pictures in worker processes.

    `decode` may be called from several threads at once; each call holds one worker until its iterator is exhausted
    or closed, so a thread must not hold more than one iterator unless there are workers to spare.

    Args:
        workers: number of processes.
        limits: what one picture may cost.
        gif_all_frames: each frame of a GIF is a page; else only the first one.
        worker_module: the module that a worker runs; tests put a bad one here.
    """

    def __init__(
        self,
        workers: int,
        limits: DecodeLimits | None = None,
        *,
        gif_all_frames: bool = False,
        worker_module: str = _WORKER,
    ) -> None:
        self._limits = limits or DecodeLimits()
        self._gif_all_frames = gif_all_frames
        self._processes = [DecodeProcess(worker_module, self._limits.address_space()) for _ in range(workers)]
        self._watchdog = Watchdog(self._processes)
        self._free: queue.LifoQueue[DecodeProcess] = queue.LifoQueue()
        for process in self._processes:
            self._free.put(process)

    def __enter__(self) -> Self:
        """Start all workers; raises ClueError if they cannot run here at all."""
        self._watchdog.start()
        for process in self._processes:
            process.start()
        try:
            for process in self._processes:
                process.await_ready()
        except DecoderDied as error:
            self.close()
            raise ClueError(f"The decoder {error}.", "Check the installation: `pip check`.") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all workers. Decoding that is under way ends with a failure."""
        if self._watchdog.is_alive():
            self._watchdog.stop()
        for process in self._processes:
            process.close()
        idle = []
        while not self._free.empty():
            idle.append(self._free.get_nowait())
        for process in idle:
            process.stop()
            self._free.put(process)

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
        process = self._free.get()
        job = _Job(process, locator, data, identity, findings, self._limits, self._gif_all_frames)
        try:
            yield from job.pages()
        finally:
            if process.closed or not job.finished:
                process.stop()  # it is in the middle of something nobody wants any more
            self._free.put(process)


class _Job:
    """One file on its way through one worker."""

    def __init__(
        self,
        process: DecodeProcess,
        locator: str,
        data: bytes,
        identity: FileIdentity,
        findings: Sequence[Finding],
        limits: DecodeLimits,
        gif_all_frames: bool,
    ) -> None:
        self._process, self._locator, self._data, self._identity = process, locator, data, identity
        self._limits, self._gif_all_frames = limits, gif_all_frames
        said = type_finding(identity)
        self._findings = (*findings, *([said] if said else []))
        self._next_page = 0
        self._page_count: int | None = None
        self.finished = False

    def pages(self) -> Iterator[Photo | Unreadable]:
        for attempt in range(_RESTARTS + 1):
            try:
                yield from self._attempt()
                return
            except DecoderDied as error:
                self._process.stop()
                yield self._died(error)
                if self._page_count is None or self._next_page >= self._page_count:
                    self.finished = True
                    return
                if attempt == _RESTARTS:
                    yield self._given_up()

    def _attempt(self) -> Iterator[Photo | Unreadable]:
        self._process.await_ready()
        request = {
            "type": self._identity.sniffed_type,
            "size": len(self._data),
            "first_page": self._next_page,
            "limits": asdict(self._limits),
            "gif_all_frames": self._gif_all_frames,
        }
        self._process.send(request, self._data, self._limits.seconds)
        while not (reply := self._process.receive(self._limits.seconds)).get("done"):
            try:
                if "page_count" in reply and "page" not in reply:
                    self._page_count = _whole(reply["page_count"], 1)
                    continue
                yield self._failure(reply["failure"]) if "failure" in reply else self._photo(reply)
            except (KeyError, TypeError, ValueError, ValidationError) as error:
                raise DecoderDied(f"sent nonsense ({type(error).__name__})") from error
        self.finished = True

    def _photo(self, reply: dict[str, Any]) -> Photo | Unreadable:
        page, page_count = self._place(reply)
        width, height, orientation = (_whole(reply[name], 1) for name in ("width", "height", "orientation"))
        if width * height > self._limits.max_megapixels * 1e6 or orientation > 8:
            raise ValueError("a picture beyond the limits")
        pixels = np.empty((height, width, 3), np.uint8)
        self._process.receive_into(pixels.reshape(-1).data, self._limits.seconds)
        self._advance(page, page_count)
        return Photo(
            locator=self._locator,
            file=self._identity,
            page=page,
            page_count=page_count,
            pixels=pixels,
            orientation=orientation,
            decoding=_texts(reply["decoding"]),
            findings=(*self._findings, *_findings(reply["findings"])),
            exif=ExifBrief.model_validate(reply["exif"]),
            seconds_decode=max(0.0, float(reply["seconds"])),
        )

    def _failure(self, said: dict[str, Any]) -> Unreadable:
        page = None if said["page"] is None else _whole(said["page"], 0)
        if page is not None:
            self._advance(page, _whole(said["page_count"], 1))
        message = clean_text(said["message"]) or ""
        advice = None if said["advice"] is None else clean_text(said["advice"])
        return self._unreadable(FailureCode(said["code"]), message, advice, page)

    def _place(self, reply: dict[str, Any]) -> tuple[int, int]:
        page, page_count = _whole(reply["page"], 0), _whole(reply["page_count"], 1)
        if page < self._next_page or page >= page_count:
            raise ValueError("a page that was not asked for")
        return page, page_count

    def _advance(self, page: int, page_count: int) -> None:
        self._next_page, self._page_count = page + 1, page_count

    def _died(self, error: DecoderDied) -> Unreadable:
        timeout = isinstance(error, DecoderTimeout)
        code = FailureCode.DECODER_TIMEOUT if timeout else FailureCode.DECODER_CRASHED
        page = None if self._page_count is None else self._next_page
        self._next_page += 1
        return self._unreadable(code, f"The decoder {error}.", None, page)

    def _given_up(self) -> Unreadable:
        self.finished = True
        message = f"The file stopped {_RESTARTS + 1} decoders; its pages from {self._next_page} on were not tried."
        return self._unreadable(FailureCode.DECODER_CRASHED, message, None, None)

    def _unreadable(self, code: FailureCode, message: str, advice: str | None, page: int | None) -> Unreadable:
        return Unreadable(self._locator, Step.DECODE, code, message, advice, self._identity, page, self._page_count)


def _whole(value: object, least: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{value!r} is no number from {least} on")
    return value


def _findings(values: object) -> tuple[Finding, ...]:
    """The decoder's findings: hostile bytes may own it, so each is checked, cleaned and counted."""
    if not isinstance(values, list):
        raise TypeError("not a list")
    found = (Finding.model_validate(value) for value in values[:_MOST_FINDINGS])
    return tuple(
        finding.model_copy(update={"statement": text, "data": {}})
        for finding in found
        if (text := clean_text(finding.statement))
    )


def _texts(values: object) -> tuple[str, ...]:
    if not isinstance(values, list):
        raise TypeError("not a list")
    return tuple(text for value in values[:100] if (text := clean_text(value)))
