"""Queries in training: the embeddings of the texts of a mix, computed once into the run folder, and read by text.

Experimental. Worker processes hand out texts; the training process reads their embeddings, so that no process holds a
text encoder while it trains, and a mix may have more texts than fit into memory. The empty prompt is the base's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from model.branches.network import Prompts
from model.clue import CLUE
from model.query import text_encoders
from model.registry import Base, BasesError
from model.reporter import Reporter
from model.tensor_files import opened
from model.training.errors import OptionsError
from model.training.run_folder import writing
from model.whole_file import remove_parts, write_whole

QUERIES = "queries"
"""Folder of the embeddings in a run folder: one file for each group of texts."""
GROUP = 256
"""Texts whose embeddings are in memory at a time: with SD3's T5, 5.5 MB each."""


def digest_of(texts: Sequence[str]) -> str:
    """SHA-256 of texts, hex."""
    return hashlib.sha256(json.dumps(list(texts)).encode()).hexdigest()


class Queries:
    """The embeddings of texts, and those of the empty prompt.

    Args:
        folder: where they are, or are to be stored.
        texts: of the mix, sorted.
        model: on registered base weights; its own prompt is the empty one.
    """

    def __init__(self, folder: Path, texts: Sequence[str], model: CLUE) -> None:
        self._folder, self._texts, self._model = folder, list(texts), model
        self._empty: Prompts | None = None
        self._place = {text: number for number, text in enumerate(self._texts)}

    def prepare(self, reporter: Reporter) -> None:
        """Compute what is not stored yet, or is of other texts or another base.

        Raises:
            OptionsError: the network stands on no registered base, or its empty prompt has another length.
            QueryError, BasesError: as of `text_encoders` and `embed`.
            CannotWriteError: they cannot be stored.
        """
        from model.branches.sd3_prompt import embed

        remove_parts(self._folder)
        base = self._base()
        preset = self._model.preset
        encoders, t5 = text_encoders(preset, self._model.branches, base)
        groups = [self._texts[at : at + GROUP] for at in range(0, len(self._texts), GROUP)]
        missing = [(number, group) for number, group in enumerate(groups) if not self._stored(number, group, base)]
        if not missing:
            return
        reporter.stage("Embedding the texts of the mix", "texts", sum(len(group) for _, group in missing))
        cut: list[str] = []
        for number, group in missing:
            found = embed(encoders, preset.transformer, group, "the embeddings of the mix's texts", t5=t5)
            own = self._model.get_submodule("sd3").get_buffer("prompt").shape[1]
            if found[0].prompt.shape[1] != own:
                raise OptionsError(
                    f"The empty prompt of {base.name} has {own} tokens, and a query has {found[0].prompt.shape[1]}: "
                    "they do not fit into one batch.",
                    f"Register it again without --prompt: clue models add {base.name}",
                )
            cut += [text for text, one in zip(group, found, strict=True) if one.unread]
            tensors = {"prompt": torch.cat([p.prompt for p in found]), "pooled": torch.cat([p.pooled for p in found])}
            path = self._file(number)
            with writing(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                write_whole(path, lambda part, t=tensors, g=group: save_file(t, part, self._notes(g, base)))  # type: ignore[misc]
            reporter.advance(len(group))
        reporter.finish()
        if cut:
            longer = "texts are longer than a text encoder reads, and are cut"
            reporter.note(f"{len(cut)} of {len(self._texts)} {longer}; one is {cut[0][:80]!r}.", "warning")

    def __call__(self, texts: Sequence[str], device: torch.device) -> Prompts | None:
        """The embeddings of a batch, B×N×D and B×P float32; None: it is asked nothing.

        Raises:
            BasesError: the file is damaged.
        """
        if not any(texts):
            return None
        if self._empty is None:
            network = self._model.get_submodule("sd3")
            self._empty = network.get_buffer("prompt").float().cpu(), network.get_buffer("pooled").float().cpu()
        rows = [self._read(text) if text else self._empty for text in texts]
        prompt, pooled = (torch.cat([row[part] for row in rows]).to(device, non_blocking=True) for part in (0, 1))
        return prompt, pooled

    def _read(self, text: str) -> Prompts:
        number, row = divmod(self._place[text], GROUP)
        with opened(self._file(number)) as file:
            found: list[Tensor] = [file.get_slice(name)[row : row + 1] for name in ("prompt", "pooled")]
        return found[0], found[1]

    def _stored(self, number: int, group: Sequence[str], base: Base) -> bool:
        try:
            with opened(self._file(number)) as file:
                return bool(file.metadata() == self._notes(group, base))
        except BasesError:
            return False

    def _file(self, number: int) -> Path:
        return self._folder / f"{number:06d}.safetensors"

    def _notes(self, group: Sequence[str], base: Base) -> dict[str, str]:
        return {"texts": digest_of(group), "base": json.dumps(base.digests(), sort_keys=True)}

    def _base(self) -> Base:
        if self._model.base is None:
            raise OptionsError(
                f"queries needs a network on registered base weights with text encoders; {self._model.preset.name} "
                "has none here.",
                "Set queries to 0, or train a preset such as sd3-medium, or --init from adapters.",
            )
        return self._model.base
