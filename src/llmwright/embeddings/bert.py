"""BERT, the encoder behind most small embedding models, computed without padding.

Embeddings are the sum of word, position and token-type vectors, normalised. Each layer attends
in both directions and normalises after each residual ("post-LN"):

    x = LayerNorm(x + W_o softmax(Q K^T / sqrt(d)) V)        Q, K, V = x W_q, x W_k, x W_v
    x = LayerNorm(x + W_2 gelu(W_1 x))

Devlin, Chang, Lee, Toutanova (2018), "BERT", arXiv 1810.04805; MiniLM: Wang et al. (2020),
arXiv 2002.10957.

All tokens of a batch lie one after another in one matrix, as in FlashAttention's "varlen" form:
the linear layers see no padding, and attention runs over each group of equally long texts, which
is a view and needs no mask. Costs 2 * parameters without embeddings floating-point operations a
token (21 million for MiniLM-L6), and 4 * tokens * hidden a token for attention.

This file knows nothing about tokenizers, pooling or files of sentence-transformers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Self

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from llmwright.core import ModelSourceError, read_json

# Rows of the token matrix come in multiples of this. With fewer than eight rows, matrix
# multiplication takes other kernels, which add in another order: the vector of a short text
# would depend (in the last bit) on whether it was embedded alone.
_ROWS = 16


@dataclass(frozen=True, slots=True)
class BertConfig:
    """The part of a ``config.json`` that shapes the encoder."""

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    layer_norm_eps: float = 1e-12

    @classmethod
    def from_json(cls, values: Mapping[str, Any], where: str) -> Self:
        """Of a model that ``encoder.fits``. Raises ``ModelSourceError`` for a missing field."""
        known = {name: values[name] for name in cls.__slots__ if name in values}
        if "max_position_embeddings" in known:
            known["max_position_embeddings"] -= _first_position(values)
        try:
            return cls(**known)
        except TypeError as error:
            raise ModelSourceError(
                f"a field is missing ({error})", where=where, fix="fetch the model again"
            ) from error


def _first_position(values: Mapping[str, Any]) -> int:
    """RoBERTa (Liu et al., 2019, arXiv 1907.11692) and XLM-RoBERTa (1911.02116) are this network
    too, but that they count positions from the one behind the padding token's number."""
    roberta = values.get("model_type") in ("roberta", "xlm-roberta")
    return int(values.get("pad_token_id", 1)) + 1 if roberta else 0


class BertLayer(nn.Module):
    """Attention and feed-forward, each with its residual and normalisation."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        hidden = config.hidden_size
        self.heads = config.num_attention_heads
        self.qkv = nn.Linear(hidden, 3 * hidden)  # one product instead of three
        self.out = nn.Linear(hidden, hidden)
        self.norm_attention = nn.LayerNorm(hidden, config.layer_norm_eps)
        self.up = nn.Linear(hidden, config.intermediate_size)
        self.down = nn.Linear(config.intermediate_size, hidden)
        self.norm_output = nn.LayerNorm(hidden, config.layer_norm_eps)

    def forward(self, x: Tensor, groups: Sequence[tuple[int, int]]) -> Tensor:
        """``x``: [rows, hidden]; ``groups``: (texts, tokens in each) in the order of rows."""
        x = self.norm_attention(x + self.out(self.attend(self.qkv(x), groups)))
        return self.norm_output(x + self.down(F.gelu(self.up(x))))  # type: ignore[no-any-return]

    def attend(self, qkv: Tensor, groups: Sequence[tuple[int, int]]) -> Tensor:
        """[rows, 3 * hidden] -> [rows, hidden]; rows of padding stay zero."""
        rows, width = qkv.shape
        mixed = qkv.new_zeros(rows, width // 3)
        for part, texts, length in _parts(qkv, groups):
            # [texts, length, 3, heads, head_dim] -> 3 of [texts, heads, length, head_dim]
            q, k, v = part.view(texts, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
            attended = F.scaled_dot_product_attention(q, k, v)
            start = part.storage_offset() // width
            mixed[start : start + texts * length] = attended.transpose(1, 2).reshape(
                texts * length, -1
            )
        return mixed


class BertEncoder(nn.Module):
    """Token ids to one vector a token."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.config = config
        hidden = config.hidden_size
        self.words = nn.Embedding(config.vocab_size, hidden)
        self.positions = nn.Embedding(config.max_position_embeddings, hidden)
        self.types = nn.Embedding(config.type_vocab_size, hidden)
        self.norm = nn.LayerNorm(hidden, config.layer_norm_eps)
        self.layers = nn.ModuleList(BertLayer(config) for _ in range(config.num_hidden_layers))

    def forward(
        self, texts: Sequence[Sequence[int]], firsts: Sequence[int] | None = None
    ) -> list[Tensor]:
        """Encode texts given as token ids, none empty or above ``max_position_embeddings``.

        ``firsts`` says how many tokens of each text are of the first kind, where the others are of
        the second (a question and a passage, read together); without it, all are of the first.
        Returns one tensor [texts, tokens, hidden] for each run of equally long texts, in order;
        sort by length to get few of them.
        """
        groups = [(len(list(run)), length) for length, run in groupby(map(len, texts))]
        flat = [token for text in texts for token in text]
        places = [place for text in texts for place in range(len(text))]
        padding = [0] * (-len(flat) % _ROWS)
        device = self.words.weight.device
        ids = torch.tensor(flat + padding, device=device)  # [rows]
        positions = torch.tensor(places + padding, device=device)  # [rows]
        x = self.words(ids) + self.positions(positions)
        if firsts is None:
            x = x + self.types.weight[0]
        else:
            kinds = [
                int(place >= first)
                for text, first in zip(texts, firsts, strict=True)
                for place in range(len(text))
            ]
            x = x + self.types(torch.tensor(kinds + padding, device=device))
        x = self.norm(x)  # [rows, hidden]
        for layer in self.layers:
            x = layer(x, groups)
        return [part.view(texts, length, -1) for part, texts, length in _parts(x, groups)]


def _parts(x: Tensor, groups: Sequence[tuple[int, int]]) -> Iterator[tuple[Tensor, int, int]]:
    """The rows of each group as a view, with its number of texts and their length."""
    start = 0
    for texts, length in groups:
        yield x[start : start + texts * length], texts, length
        start += texts * length


# Names in a checkpoint and here. The pooler and the language model's head are not needed.
_NAMES = (
    ("embeddings.word_embeddings", "words"),
    ("embeddings.position_embeddings", "positions"),
    ("embeddings.token_type_embeddings", "types"),
    ("embeddings.LayerNorm", "norm"),
)
_LAYER_NAMES = (
    ("attention.output.dense", "out"),
    ("attention.output.LayerNorm", "norm_attention"),
    ("intermediate.dense", "up"),
    ("output.dense", "down"),
    ("output.LayerNorm", "norm_output"),
)


def load_bert(folder: Path) -> BertEncoder:
    """Read ``config.json`` and the safetensors files of a BERT or RoBERTa folder, into float32.

    Raises ``ModelSourceError`` where weights are missing, broken or of another shape.
    """
    values = read_json(folder / "config.json")
    config = BertConfig.from_json(values, str(folder / "config.json"))
    tensors: dict[str, Tensor] = {}
    try:
        for file in sorted(folder.glob("*.safetensors")):
            for name, tensor in load_file(file).items():
                tensors[name.removeprefix("bert.").removeprefix("roberta.")] = tensor
    except (SafetensorError, OSError) as error:
        raise ModelSourceError(
            f"the weights cannot be read ({error})", where=str(folder), fix="fetch the model again"
        ) from error
    places = "embeddings.position_embeddings.weight"
    if places in tensors:
        tensors[places] = tensors[places][_first_position(values) :]
    with torch.device("meta"):  # no time spent on random weights that are replaced at once
        encoder = BertEncoder(config)
    try:
        encoder.load_state_dict(
            {name: t.float().contiguous() for name, t in _renamed(tensors, config)}, assign=True
        )
    except (KeyError, RuntimeError) as error:
        reason = f"{error}".replace("\n", " ")
        raise ModelSourceError(
            f"the weights do not fit the configuration ({reason})",
            where=str(folder),
            fix="fetch the model again",
        ) from error
    return encoder.requires_grad_(False).eval()


def _renamed(tensors: Mapping[str, Tensor], config: BertConfig) -> Iterator[tuple[str, Tensor]]:
    for theirs, ours in _NAMES:
        for kind in ("weight", "bias") if "LayerNorm" in theirs else ("weight",):
            yield f"{ours}.{kind}", tensors[f"{theirs}.{kind}"]
    for index in range(config.num_hidden_layers):
        old, new = f"encoder.layer.{index}", f"layers.{index}"
        for kind in ("weight", "bias"):
            for theirs, ours in _LAYER_NAMES:
                yield f"{new}.{ours}.{kind}", tensors[f"{old}.{theirs}.{kind}"]
            qkv = [tensors[f"{old}.attention.self.{n}.{kind}"] for n in ("query", "key", "value")]
            yield f"{new}.qkv.{kind}", torch.cat(qkv)


def checkpoint_tensors(encoder: BertEncoder) -> Iterator[tuple[str, Tensor]]:
    """The weights under the names that ``load_bert`` and transformers read, in float32."""
    weights = {name: t.detach().cpu().float() for name, t in encoder.state_dict().items()}
    for theirs, ours in _NAMES:
        for kind in ("weight", "bias") if "LayerNorm" in theirs else ("weight",):
            yield f"{theirs}.{kind}", weights[f"{ours}.{kind}"]
    for index in range(encoder.config.num_hidden_layers):
        old, new = f"encoder.layer.{index}", f"layers.{index}"
        for kind in ("weight", "bias"):
            for theirs, ours in _LAYER_NAMES:
                yield f"{old}.{theirs}.{kind}", weights[f"{new}.{ours}.{kind}"]
            parts = weights[f"{new}.qkv.{kind}"].chunk(3)
            for name, part in zip(("query", "key", "value"), parts, strict=True):
                yield f"{old}.attention.self.{name}.{kind}", part
