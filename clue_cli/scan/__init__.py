"""What a person can choose about a scan, and the digests by which two runs are compared.

Two digests, because they answer two questions. An image's result depends on the model, the number format, the
threshold and the pictures asked for; that something *failed* depends on the limits as well. Raising a limit because
a message said so therefore computes again what the limit had stopped, and not the hundred thousand images that it
had nothing to do with.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from clue_cli import __version__
from clue_cli.networks import Engine, NetworkOptions, Runtime
from clue_cli.terminal import printable

if TYPE_CHECKING:  # heavy, and `clue --help` needs none of it
    from clue_cli.evidence.hash_lists import HashList
    from clue_cli.evidence.selection import Selection
    from clue_cli.evidence.shard import Shard
    from clue_cli.remote import Url
    from clue_cli.results.record_log import Stamp

Setting = str | int | float | bool | None

DECODE_SECONDS = 60.0
"""The default of `--decode-timeout`."""


class GifFrames(StrEnum):
    """Which frames of an animation are scanned."""

    FIRST = "first"
    ALL = "all"


class FailOn(StrEnum):
    """What `--fail-on` can turn into an exit code of its own."""

    FORGED = "forged"
    GENERATED = "generated"
    UNREAD = "unread"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanOptions(NetworkOptions):
    """All options of `clue scan`, apart from where to read, where to write and which messages to show.

    Attributes:
        workers: decoding processes, None for automatic.
        threshold: a pixel is marked above this probability; None for the model's own.
        calibration: the file that `clue calibrate` wrote; None for the model's own calibration.
        synthetic_calibration: that for the method of the second question.
        query: what to look for, in words; None: nothing is asked.
        hidden: whether hidden files and folders are scanned.
        follow_links: whether symbolic links are followed.
        include_results: whether folders that an earlier run of clue wrote are scanned.
        listed: further paths, from `files_from`.
        files_from: the list that they stand in, as typed.
        selection: which files are scanned, None for all.
        since: the earliest time of `selection`, as typed.
        known: hashes of pictures that are not scanned.
        alert: hashes of pictures that are flagged.
        shard: the part of the evidence that is scanned; None: all of it. No result depends on it.
        archive_depth: how deep archives in archives are opened; 0 opens none.
        video: seconds between the keyframes of a video that are examined; None: videos are not opened.
        gif_frames: which frames of a GIF, or of an animated PNG, WebP or AVIF.
        max_megapixels: larger images are not decoded (10⁶ pixels).
        max_pages: further pages of one file are not read.
        max_file_mib: larger files and members are not read (2²⁰ bytes).
        decode_timeout: longest time for decoding one page, seconds.
        heatmaps: whether heatmaps are kept.
        previews: whether pictures for the page are written.
        panels: whether the maps of classical methods are written.
        hashes: `md5`, `sha1`: of the evidence, beside SHA-256. No result depends on them.
        overwrite: start over: remove what an earlier run recorded in the results folder.
        retry_failed: try again what failed before.
        fail_on: what gets an exit code of its own.
        command_line: the command as typed, printable.
    """

    workers: int | None = None
    threshold: float | None = None
    calibration: Path | None = None
    synthetic_calibration: Path | None = None
    query: str | None = None
    hidden: bool = False
    follow_links: bool = False
    include_results: bool = False
    listed: tuple[Path | Url, ...] = ()
    files_from: str | None = None
    selection: Selection | None = None
    since: str | None = None
    known: HashList | None = None
    alert: HashList | None = None
    shard: Shard | None = None
    archive_depth: int = 3
    video: float | None = None
    gif_frames: GifFrames = GifFrames.FIRST
    max_megapixels: float = 250.0
    max_pages: int = 1000
    max_file_mib: float = 2048.0
    decode_timeout: float = DECODE_SECONDS
    heatmaps: bool = True
    previews: bool = True
    panels: bool = False
    hashes: tuple[str, ...] = ()
    overwrite: bool = False
    retry_failed: bool = False
    fail_on: frozenset[FailOn] = frozenset()
    command_line: tuple[str, ...] = ()

    def settings(self) -> dict[str, Setting]:
        """Every option that can change a result, for `run.json`."""
        walking: dict[str, Setting] = {
            "hidden": self.hidden,
            "follow_links": self.follow_links,
            "include_results": self.include_results,
            "files_from": self.files_from,
            "files_from_paths": len(self.listed) if self.files_from else None,
            "files_from_sha256": _digest_of_paths(self.listed) if self.files_from else None,
            "include": shlex.join(self.selection.include if self.selection else ()) or None,
            "exclude": shlex.join(self.selection.exclude if self.selection else ()) or None,
            "since": self.since,
            "video": self.video,
        }
        for name, hashes in (("known", self.known), ("alert", self.alert)):
            walking[name] = None if hashes is None else printable(str(hashes.path))
            walking[f"{name}_sha256"] = None if hashes is None else hashes.sha256
        if self.shard is not None:
            walking["shard"] = str(self.shard)
        if self.engine is not Engine.LOCAL:  # where, which no result depends on
            walking["engine"] = self.engine.value
            walking["ray_address"] = None if self.ray_address is None else printable(self.ray_address)
            walking["ray_workers"] = self.ray_workers
        # The batch is recorded and not compared: on a CPU it is one, on a GPU it can change the last bits of a mask.
        network: dict[str, Setting] = {"model": self.model, "dtype": self.dtype.value, "batch": self.batch}
        if self.compile is not None:
            network["compile"] = self.compile.value
        if self.runtime is not Runtime.TORCH:
            network["runtime"] = self.runtime.version
        if self.synthetic is not None:
            network["also"] = printable(f"synthetic:{self.synthetic}")
        return network | self._judging() | walking | self._limits() | {"decode_timeout": self.decode_timeout}

    def stamp(self, model_digest: str, dtype: str, settings: dict[str, Setting] | None = None) -> Stamp:
        """The stamp of a new run.

        Args:
            model_digest: SHA-256 of the loaded model, hex.
            dtype: the number format that is really used, e.g. `float32`.
            settings: what else a result depends on and no option shows, e.g. noise levels or tile size.
        """
        from clue_cli.results.record_log import Stamp

        judging = {**self._judging(), **(settings or {}), "dtype": dtype, "model": model_digest, "clue": __version__}
        if self.compile is not None:  # its masks differ in their last bits
            judging["compile"] = self.compile.value
        if self.runtime is not Runtime.TORCH:  # so do those of another library, and of another version of it
            judging["runtime"] = self.runtime.version
        started = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        image, gif = digest(judging), digest(judging | {"gif_frames": self.gif_frames.value})
        return Stamp(
            run_id=f"{started}-{secrets.token_hex(3)}",
            model_digest=model_digest,
            image_digest=image,
            gif_digest=gif,
            animated_digest=gif if self.gif_frames is GifFrames.ALL else image,
            failure_digest=digest(judging | self._limits()),
        )

    def _judging(self) -> dict[str, Setting]:
        return {
            "threshold": self.threshold,
            "heatmaps": self.heatmaps,
            "previews": self.previews,
            "panels": self.panels,
        }

    def _limits(self) -> dict[str, Setting]:
        # Without the default, so that failures recorded before there was this option still count.
        limits: dict[str, Setting] = (
            {} if self.decode_timeout == DECODE_SECONDS else {"decode_timeout": self.decode_timeout}
        )
        return limits | {
            "archive_depth": self.archive_depth,
            "gif_frames": self.gif_frames.value,
            "max_megapixels": self.max_megapixels,
            "max_pages": self.max_pages,
            "max_file_mib": self.max_file_mib,
        }


def _digest_of_paths(paths: Sequence[Path | Url]) -> str:
    return hashlib.sha256(b"\0".join(os.fsencode(str(path)) for path in paths)).hexdigest()


def digest(settings: dict[str, Setting]) -> str:
    """SHA-256 over settings, hex; the order of the keys does not matter."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
