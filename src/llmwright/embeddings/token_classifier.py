"""A label for every token: BERT with a linear layer on each token's vector, and softmax.

    P(label | token t) = softmax(h_t W^T + b)

Devlin et al. (2018), arXiv 1810.04805. LLMLingua-2 (Pan et al. 2024, arXiv 2403.12968) trains
such a model to tell which words of a text may be left out; named-entity recognisers are others.
Reads what ``BertForTokenClassification.save_pretrained`` writes, in safetensors.

A text longer than the model's window is cut into windows at word borders. Costs one pass of the
encoder over the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from tokenizers import Encoding, Tokenizer
from torch import Tensor

from llmwright.core import ModelSourceError, read_json
from llmwright.embeddings.bert import BertEncoder, load_bert
from llmwright.embeddings.encoder import load_tokenizer


@dataclass(frozen=True)
class TokenClassifier:
    """``encoder`` with its head ``weight`` [labels, hidden] and ``bias`` [labels]."""

    encoder: BertEncoder
    tokenizer: Tokenizer
    weight: Tensor
    bias: Tensor
    labels: tuple[str, ...]

    @classmethod
    def load(cls, folder: Path) -> TokenClassifier:
        """Read a folder. Raises ``ModelSourceError`` where it holds no such model."""
        config = read_json(folder / "config.json")
        encoder = load_bert(folder)
        head = _head(folder)
        labels = config.get("id2label") or {str(i): str(i) for i in range(len(head["weight"]))}
        tokenizer = load_tokenizer(folder)
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return cls(
            encoder,
            tokenizer,
            head["weight"],
            head["bias"],
            tuple(str(labels[str(i)]) for i in range(len(labels))),
        )

    def words(self, text: str) -> list[tuple[int, int, list[float]]]:
        """Each word (a run without white space) as start, end and the mean probability of each
        label over its tokens: [labels]. A word of which the tokenizer keeps nothing is left out."""
        encoding = self.tokenizer.encode(text, add_special_tokens=False)
        probabilities = torch.cat([torch.empty(0, len(self.bias)), *self._windows(text, encoding)])
        found = []
        for first, last in _words(text, encoding.offsets):
            mean = probabilities[first:last].mean(0).tolist()  # [labels]
            found.append((encoding.offsets[first][0], encoding.offsets[last - 1][1], mean))
        return found

    def _windows(self, text: str, encoding: Encoding) -> Iterator[Tensor]:
        """Probabilities [tokens, labels] of each window of the text."""
        begin, end = self.tokenizer.encode("").ids  # [CLS] and [SEP]
        room = self.encoder.config.max_position_embeddings - 2
        batch: list[int] = []
        for first, last in _words(text, encoding.offsets):
            for at in range(first, last, room):  # a word longer than a window is cut
                ids = encoding.ids[at : min(at + room, last)]
                if len(batch) + len(ids) > room:
                    yield self._probabilities([begin, *batch, end])
                    batch = []
                batch += ids
        if batch:
            yield self._probabilities([begin, *batch, end])

    @torch.inference_mode()
    def _probabilities(self, ids: list[int]) -> Tensor:
        (hidden,) = self.encoder([ids])  # [1, tokens, hidden]
        logits = hidden[0, 1:-1] @ self.weight.T + self.bias  # [tokens, labels]
        probabilities: Tensor = logits.softmax(-1)
        return probabilities


def _words(text: str, offsets: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """First and last (exclusive) token of each word: tokens with no white space between them."""
    first = 0
    for at in range(1, len(offsets) + 1):
        if at == len(offsets) or re.search(r"\s", text[offsets[at - 1][1] : offsets[at][0]]):
            yield first, at
            first = at


def _head(folder: Path) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - no mapping
                if name in ("classifier.weight", "classifier.bias"):
                    found[name.rpartition(".")[2]] = tensors.get_tensor(name).float()
    if found.keys() != {"weight", "bias"}:
        raise ModelSourceError(
            "the weights hold no classifier of tokens",
            where=str(folder),
            fix="name a folder written for BertForTokenClassification",
        )
    return found
