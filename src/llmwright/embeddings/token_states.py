"""One vector for each token of a text, before any pooling: what learned sparse retrieval and late
interaction are computed from.

Costs what embedding the texts costs; 4 * hidden bytes a token are kept (1.5 KB for MiniLM).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor

from llmwright.core import ConfigurationError, progress
from llmwright.embeddings.bert import BertEncoder, load_bert
from llmwright.embeddings.encoder import load_tokenizer

_BATCH_TOKENS = 2048
_AT_ONCE = 512  # texts tokenized at once


class TokenStates:
    """A BERT folder that gives the last layer's vectors of all tokens."""

    def __init__(self, encoder: BertEncoder, tokenizer: Tokenizer, max_tokens: int = 512) -> None:
        self.encoder = encoder
        self.tokenizer = tokenizer
        self.max_tokens = min(max_tokens, encoder.config.max_position_embeddings)
        self.hidden = encoder.config.hidden_size
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(self.max_tokens)
        # Marks such as [CLS] stand for no word of the text.
        self.special = frozenset(tokenizer.encode("").ids)

    @classmethod
    def load(cls, folder: Path, max_tokens: int = 512) -> TokenStates:
        """Raises ``ModelSourceError`` where the folder is no BERT."""
        return cls(load_bert(folder), load_tokenizer(folder), max_tokens)

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text with [CLS] and [SEP], cut at ``max_tokens``."""
        clean = [text.encode(errors="replace").decode() for text in texts]
        return [encoding.ids for encoding in self.tokenizer.encode_batch(clean)]

    def of_texts(self, texts: Sequence[str]) -> Iterator[tuple[int, list[int], Tensor]]:
        """For each text, in no set order: its place, its token ids, and [tokens, hidden]."""
        with progress("embedding", total=len(texts), unit="texts") as advance:
            for begin in range(0, len(texts), _AT_ONCE):
                part = self.token_ids(texts[begin : begin + _AT_ONCE])
                for place, states in self.of_ids(part):
                    yield begin + place, part[place], states
                    advance(1)

    def of_ids(self, texts: Sequence[Sequence[int]]) -> Iterator[tuple[int, Tensor]]:
        """For each text given as token ids, in no set order: its place and [tokens, hidden]."""
        order = sorted(range(len(texts)), key=lambda i: (len(texts[i]), i))
        for batch in _batches(order, [len(text) for text in texts]):
            with torch.inference_mode():  # not around the yield: it would hold for the caller too
                groups = self.encoder([texts[i] for i in batch])
            rows = (states for group in groups for states in group)
            yield from zip(batch, rows, strict=True)


def _batches(order: Sequence[int], lengths: Sequence[int]) -> Iterator[list[int]]:
    batch: list[int] = []
    tokens = 0
    for i in order:
        if not lengths[i]:
            raise ConfigurationError(
                "a text has no tokens", where="token states", fix="give each text [CLS] and [SEP]"
            )
        if batch and tokens + lengths[i] > _BATCH_TOKENS:
            yield batch
            batch, tokens = [], 0
        batch.append(i)
        tokens += lengths[i]
    if batch:
        yield batch
