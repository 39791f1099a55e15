"""A BLIP-2 of random weights, a few hundred kB, in the layout of `save_pretrained`, with OPT or T5."""

from __future__ import annotations

from pathlib import Path
from typing import Any

WORDS = ["<pad>", "</s>", "<unk>", "<s>", "<image>", "real", "fake", "a", "dog"]
SIZE = 16
STDS = {"language_model.encoder": 0.02, ".q.": 0.05, ".k.": 0.05, "language_model": 0.3, "": 0.15}
"""T5 does not scale the logits of its attention; its encoder leaves the tokens of the picture different here."""


def write_blip2(folder: Path, kind: str = "opt", width: int = 32, words: list[str] = WORDS, **more: Any) -> Path:
    """kind: `opt` or `t5`; more: of `save_pretrained` of the network."""
    import torch
    from transformers import Blip2Config, Blip2ForConditionalGeneration, BlipImageProcessor, OPTConfig, T5Config

    torch.manual_seed(0)
    shared = {"vocab_size": 16, "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 3}
    opt = OPTConfig(
        hidden_size=width, word_embed_proj_dim=width, ffn_dim=32, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=64, **shared,
    )  # fmt: skip
    t5 = T5Config(
        d_model=width, d_kv=16, d_ff=32, num_layers=2, num_heads=2, decoder_start_token_id=0, is_encoder_decoder=True,
        **shared,
    )  # fmt: skip
    vision = {
        "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
        "image_size": SIZE, "patch_size": 8,
    }  # fmt: skip
    qformer = {
        "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 16,
        "encoder_hidden_size": 32,
    }  # fmt: skip
    config = Blip2Config(
        vision_config=vision, qformer_config=qformer, text_config=(opt if kind == "opt" else t5).to_dict(),
        num_query_tokens=4, image_token_index=4,
    )  # fmt: skip
    network = Blip2ForConditionalGeneration(config)
    for name, parameter in network.named_parameters():
        if parameter.ndim > 1:  # as initialized, hardly anything of the picture comes through to the captions
            torch.nn.init.normal_(parameter, std=next(std for part, std in STDS.items() if part in name))
    _teach_words(network)
    network.save_pretrained(folder, **more)
    write_tokenizer(folder, words)
    BlipImageProcessor(size={"height": SIZE, "width": SIZE}).save_pretrained(folder)
    return folder


def _teach_words(network: Any) -> None:
    """Let the last layer say `real` or `fake`, each as often, whatever the picture shows."""
    import torch

    model, draw = network.language_model, torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(model.get_output_embeddings().parameters(), lr=3e-2)
    for _ in range(80):
        context = torch.randn(8, 5, model.config.hidden_size, generator=draw)
        word = torch.randint(5, 7, (8, 1), generator=draw)
        labels = torch.cat([word, torch.ones_like(word)], 1)
        if model.config.is_encoder_decoder:
            loss = model(inputs_embeds=context, labels=labels).loss
        else:
            inputs = torch.cat([context, model.get_input_embeddings()(word)], 1)
            logits = model(inputs_embeds=inputs).logits[:, -2:]
            loss = torch.nn.functional.cross_entropy(logits.transpose(1, 2), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def write_tokenizer(folder: Path, words: list[str] = WORDS) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", bos_token="<s>", unk_token="<unk>"
    ).save_pretrained(folder)
