"""Frames of a video: the first keyframe at or after every step of time, as members named `t=12.48s`.

Keyframes are compressed on their own, like pictures; the frames between them are made of their neighbours. FFmpeg
reads the video, through OpenCV (extra `video`).
"""

from __future__ import annotations

import importlib
import io
import os
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, cast

from clue_cli.evidence.containers import Archive, Member, oddity
from clue_cli.evidence.item import VIDEO_FRAME
from clue_cli.evidence.streams import Budget, Metered, ReadFailure
from clue_cli.records import FailureCode

_CLOSED = "protocol_whitelist;none|format_whitelist;mov,mp4,matroska,webm,flv,asf,mpeg,avi,mpegts"
"""FFmpeg opens nothing but the stream that it is given, and no format that names other files."""

_MOST_PACKETS = 20_000_000
_WORDS = (
    "It is a frame of a video. The model learned from photographs, not from video compression: what it marks here is "
    "weak evidence."
)


def members(archive: Archive, budget: Budget) -> Iterator[Member]:
    """The keyframes of a video, one for each step of `budget.limits.video_step` seconds."""
    try:
        cv2 = importlib.import_module("cv2")
    except ImportError as error:
        message = "Videos need the extra `video`, which is not installed."
        raise ReadFailure(FailureCode.MISSING_EXTRA, message, "pip install 'clue-forensics[video]'") from error
    os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] = _CLOSED
    source = archive.seekable()
    times = [*_steps(_keyframes(cv2, source), (budget.limits.video_step or 1.0) * 1000)]
    if not times:
        raise ReadFailure(
            FailureCode.UNSUPPORTED_FORMAT,
            "No frame of the video can be decoded: it is cut, or of a kind that is not read.",
        )
    finding = oddity(VIDEO_FRAME, _WORDS)
    source.seek(0)
    video = cv2.VideoCapture(source, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    try:
        for time in times:
            yield Member(f"t={time / 1000:.2f}s", None, _opener(cv2, video, time, budget), findings=(finding,))
    finally:
        video.release()


def _keyframes(cv2: Any, source: BinaryIO) -> Iterator[float]:
    """Times of the keyframes in milliseconds, without decoding anything."""
    source.seek(0)
    packets = cv2.VideoCapture(source, cv2.CAP_FFMPEG, [cv2.CAP_PROP_FORMAT, -1])
    try:
        for _ in range(_MOST_PACKETS):
            if not packets.isOpened() or not packets.grab():
                return
            if packets.get(cv2.CAP_PROP_LRF_HAS_KEY_FRAME):
                yield float(packets.get(cv2.CAP_PROP_POS_MSEC))
    finally:
        packets.release()


def _steps(times: Iterator[float], step: float) -> Iterator[float]:
    """The first time at or after each multiple of the step; every time if there are fewer than one a step."""
    wanted = 0.0
    for time in times:
        if time >= wanted - 1e-3:
            yield time
            wanted = (time // step + 1) * step


def _opener(cv2: Any, video: Any, time: float, budget: Budget) -> Callable[[], BinaryIO]:
    def open_frame() -> BinaryIO:
        video.set(cv2.CAP_PROP_POS_MSEC, time)
        read, frame = video.read()
        if not read:
            raise ReadFailure(FailureCode.CORRUPT_IMAGE, "This frame of the video cannot be decoded.")
        written, png = cv2.imencode(".png", frame, [cv2.IMWRITE_PNG_COMPRESSION, 1])
        if not written:
            raise ReadFailure(FailureCode.CORRUPT_IMAGE, "This frame of the video cannot be decoded.")
        return cast(BinaryIO, Metered(io.BytesIO(png.tobytes()), budget, lambda: len(png)))

    return open_frame
