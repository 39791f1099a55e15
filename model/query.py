"""A query in words in the place of the empty prompt: what to look for. Experimental; off unless a person asks.

CLUE's transformer reads the embeddings of SD3's empty prompt. Its authors name queries as their future work: SD3's own
text encoders embed the words, and the same network then looks at the same picture with them. The embeddings depend on
the query alone; they are computed once and stored in a file, which every process that runs the network reads.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from model.branches import branches_of, from_scratch
from model.checkpoint import Checkpoint
from model.errors import UserError
from model.preset import Preset
from model.registry import Base, BasesError, find
from model.reporter import SILENT, Reporter

LONGEST = 1000
"""Characters of a query: no text encoder reads as many, and each record repeats them."""
NOT_MEASURED = "asked about a query; the model's error rates are not measured for queries"


class QueryError(UserError):
    """A query that cannot be asked."""


@dataclass(frozen=True, slots=True)
class Query:
    """What a scan asks.

    Attributes:
        text: as it was typed.
        digest: SHA-256 of its embeddings, float32 values in little-endian order, hex; on another machine they may
            differ in their last bits.
        notes: what a reader should know, sentences: what was not read of it, what the model is not trained for.
    """

    text: str
    digest: str
    notes: tuple[str, ...] = ()


def text_encoders(preset: Preset, branches: str, base: Base) -> tuple[Path, bool | None]:
    """The folder with the text encoders of a base, and whether T5 is one of them (None: if it is there).

    T5 reads a query where it has read the empty prompt: elsewhere the network has learned with zeros in its place.

    Raises:
        QueryError: the network reads no prompt.
        BasesError: the folder is missing, or an encoder in it.
    """
    from model.branches.sd3_prompt import missing_encoders

    if "sd3" not in (branch.name for branch in branches_of(preset, branches)) or from_scratch(preset):
        raise QueryError(f"{preset.name} has no text encoders, so it takes no query.", _ONLY)
    folder = Path(base.sd3)
    if not base.sd3 or not folder.is_dir():
        where = f": {folder} is missing" if base.sd3 else ""
        raise BasesError(f"the text encoders of {base.name} are needed for a query{where}")
    t5 = True if "t5" in base.tokens else False if "zeros" in base.tokens else None
    if missing := missing_encoders(folder, t5):
        empty = " (T5 read the empty prompt when the base was registered)" if "text_encoder_3" in missing else ""
        raise BasesError(f"{folder} has no {', '.join(missing)}, which a query is embedded with{empty}")
    return folder, t5


_ONLY = "Only models trained on registered weights of SD3 take one; leave --query out."


@contextmanager
def asked(checkpoint: Checkpoint, text: str, reporter: Reporter = SILENT) -> Iterator[tuple[Checkpoint, Query]]:
    """Embed a query: the model with it in the place of its prompt, inside the block.

    Args:
        checkpoint: on a registered base with text encoders.
        text: the query.
        reporter: told when the embedding begins.

    Raises:
        QueryError: the model takes no query, or the text is none.
        BasesError: a text encoder is missing or damaged, or transformers is not installed.
    """
    from model.branches.sd3_prompt import embed, write_prompt

    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise QueryError("The query is no valid text: it has bytes that are not UTF-8.") from error
    if not text.strip():
        raise QueryError("The query is empty.", "Say what to look for, or leave --query out.")
    if len(text) > LONGEST:
        raise QueryError(f"The query has {len(text)} characters; at most {LONGEST} are taken.", "Shorten it.")
    preset = checkpoint.preset
    if not checkpoint.base:
        if not from_scratch(preset) and checkpoint.branches != "sam":
            raise QueryError(
                f"{checkpoint.name} is a whole model, which has no text encoders.",
                "Name the adapters that it was merged from: they stand on a registered base, which has them.",
            )
        raise QueryError(f"{checkpoint.name} has no text encoders, so it takes no query.", _ONLY)
    base = find(checkpoint.base)
    folder, t5 = text_encoders(preset, checkpoint.branches, base)
    reporter.note("Embedding the query, once; with SD3's T5 it takes a minute, and the size of T5 in memory.")
    (prompt,) = embed(folder, preset.transformer, [text], "the query's embeddings", t5=t5)
    digest = hashlib.sha256(prompt.prompt.numpy().tobytes() + prompt.pooled.numpy().tobytes()).hexdigest()
    notes = [
        f"{encoder} reads only the beginning of the query; it does not read: {end[:200]}"
        for encoder, end in prompt.unread.items()
    ]
    if "zeros" in prompt.tokens:
        notes.append(f"{base.name} has no T5: two of SD3's three text encoders read the query.")
    options = checkpoint.training.get("options")
    if not (isinstance(options, dict) and options.get("queries")):
        notes.append("The model was not trained with queries: how well its heatmap follows one is not known.")
    with TemporaryDirectory(prefix="clue-query-") as place:
        path = Path(place) / "query.safetensors"
        write_prompt(path, prompt, base.digests())
        yield replace(checkpoint, prompt=path), Query(text, digest, tuple(notes))
