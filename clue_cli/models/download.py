"""Fetch base weights because a person asked for it, with their own token. `clue scan` never comes here."""

from __future__ import annotations

import hashlib
import importlib.util
import urllib.request
from http.client import HTTPException
from pathlib import Path
from urllib.error import URLError

from clue_cli.errors import OutputError, UsageError, WeightsError
from clue_cli.models.sources import SamFile, repository, sam_file
from model.presets import Preset
from model.reporter import Reporter
from model.whole_file import write_whole

_THREE = ("", "_2", "_3")
_PARTS = ["transformer", "vae", "scheduler", *(f"{part}{n}" for part in ("text_encoder", "tokenizer") for n in _THREE)]
WANTED = ["model_index.json", *(f"{part}/*" for part in _PARTS)]
"""By name: some repositories have the text encoders again, all in one folder text_encoders/."""
UNWANTED = ["*.fp16*", "*.bin", "*.msgpack", "*.onnx*"]
_CHUNK = 1 << 20


def download(preset: Preset, folder: Path, reporter: Reporter) -> tuple[Path, Path]:
    """Fetch SD3 from the Hugging Face Hub and SAM from its authors, into a folder. What is there already is kept.

    Returns:
        The folder of SD3 and the file of SAM.

    Raises:
        UsageError: huggingface_hub is not installed, or nobody publishes weights of these sizes.
        WeightsError: the gate refuses, or the network fails.
        OutputError: the folder cannot be written.
    """
    name, sam = repository(preset), sam_file(preset)
    if name is None or sam is None:
        raise UsageError(f"There are no published weights of the sizes of {preset.name}.", "See clue models add --help")
    if importlib.util.find_spec("huggingface_hub") is None:
        raise UsageError("huggingface_hub is not installed.", "pip install 'clue-forensics[models]'")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        sd3 = _snapshot(name, folder / name.rpartition("/")[2])
        return sd3, _fetch(sam, folder / sam.url.rpartition("/")[2], reporter)
    except URLError as error:
        raise WeightsError(f"{sam.url} cannot be fetched: {error.reason}.", "The same command goes on.") from error
    except (HTTPException, ConnectionError, TimeoutError) as error:
        raise WeightsError(
            f"{sam.url} cannot be fetched: {str(error) or 'it broke off'}.", "The same command goes on."
        ) from error
    except OSError as error:
        raise OutputError(f"{folder} cannot be written: {error.strerror or error}.") from error


def _snapshot(name: str, folder: Path) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalTokenNotFoundError, RepositoryNotFoundError

    page = f"https://huggingface.co/{name}"
    try:
        snapshot_download(name, local_dir=folder, allow_patterns=WANTED, ignore_patterns=UNWANTED)
    except (GatedRepoError, LocalTokenNotFoundError, RepositoryNotFoundError) as error:
        raise WeightsError(
            f"The Hugging Face Hub does not hand out {name} to you: its licence must be accepted there first.",
            f"Log in at {page} and accept the licence; make a token at https://huggingface.co/settings/tokens; "
            "then `hf auth login`, or the environment variable HF_TOKEN.",
        ) from error
    except HfHubHTTPError as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise WeightsError(f"{page} cannot be fetched: {reason}.", "The same command goes on.") from error
    except Exception as error:  # the hub's HTTP client has its own exceptions, of another kind in each version
        # Its own errors are OSErrors as well: without network it says that a file was not found.
        if isinstance(error, OSError) and error.errno and not isinstance(error, ConnectionError | TimeoutError):
            raise
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise WeightsError(f"{page} cannot be fetched: {reason}.", "The same command goes on.") from error
    return folder


def _fetch(sam: SamFile, path: Path, reporter: Reporter) -> Path:
    if path.is_file():
        return path

    def write(temporary: str) -> None:
        with urllib.request.urlopen(sam.url, timeout=60) as answer, Path(temporary).open("wb") as file:
            expected, there, digest = answer.headers.get("Content-Length"), 0, hashlib.sha256()
            reporter.stage(f"Fetching {sam.url}", "bytes", None if expected is None else int(expected))
            while chunk := answer.read(_CHUNK):
                there += file.write(chunk)
                digest.update(chunk)
                reporter.advance(len(chunk))
        if expected is not None and there != int(expected):  # a connection that ends early is no error to http.client
            raise HTTPException(f"{there} of {expected} bytes came")
        if digest.hexdigest() != sam.sha256:
            raise HTTPException(f"what came has SHA-256 {digest.hexdigest()}, its authors' has {sam.sha256}")

    write_whole(path, write)
    return path
