"""SPLADE: the language model's head says which words a text is about, said or not.

BERT's masked-language-model head gives each token i a logit w_ij for each term j of the
vocabulary; the text's weight of a term is the greatest of its saturated logits:

    w_j = max over tokens i of  ln(1 + relu(w_ij)),       score(q, d) = sum over j of w_j(q) w_j(d)

    logits = E gelu_norm(W h) + b                         E: the word embeddings, tied

Formal, Lassance, Piwowarski and Clinchant, "SPLADE v2", 2021, arXiv 2109.10086 (max in place of
the sum of Formal et al., 2107.05720). Reads a folder of a BERT with that head
(``BertForMaskedLM``), as sentence-transformers' ``SparseEncoder`` writes and reads it.

Costs the encoder and one product of tokens by vocabulary (for BERT-base as much again).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from llmwright.core import ModelSourceError
from llmwright.embeddings.sparse import SparseVectors
from llmwright.embeddings.token_states import TokenStates

_HEAD = {
    "weight": "cls.predictions.transform.dense.weight",
    "bias": "cls.predictions.transform.dense.bias",
    "norm_weight": "cls.predictions.transform.LayerNorm.weight",
    "norm_bias": "cls.predictions.transform.LayerNorm.bias",
}
_OUT_BIAS = ("cls.predictions.bias", "cls.predictions.decoder.bias")
_OUT = "cls.predictions.decoder.weight"  # absent where tied to the word embeddings


class SpladeEncoder:
    """A ``SparseEncoder`` over the vocabulary of its tokenizer."""

    def __init__(self, states: TokenStates, head: dict[str, Tensor]) -> None:
        self._states = states
        self._head = head
        self.vocabulary = len(head["out"])

    @classmethod
    def load(cls, folder: Path, max_tokens: int = 256) -> SpladeEncoder:
        """Raises ``ModelSourceError`` where the folder has no masked-language-model head."""
        states = TokenStates.load(folder, max_tokens)
        return cls(states, _load_head(folder, states.encoder.words.weight))

    def encode(self, texts: Sequence[str]) -> SparseVectors:
        """The terms of each text; a text is cut at ``max_tokens``."""
        rows: list[tuple[np.ndarray, np.ndarray]] = [_NOTHING] * len(texts)
        for place, _, states in self._states.of_texts(texts):
            weights = self._weights(states)
            terms = np.flatnonzero(weights).astype(np.int32)
            rows[place] = terms, weights[terms]
        return SparseVectors.of_rows(rows)

    @torch.inference_mode()
    def _weights(self, states: Tensor) -> np.ndarray:  # [tokens, hidden] -> [vocabulary]
        head = self._head
        hidden = F.gelu(F.linear(states, head["weight"], head["bias"]))
        eps = self._states.encoder.config.layer_norm_eps
        hidden = F.layer_norm(
            hidden, hidden.shape[-1:], head["norm_weight"], head["norm_bias"], eps
        )
        logits = F.linear(hidden, head["out"], head["out_bias"])  # [tokens, vocabulary]
        # Both functions grow with the logit, so the greatest logit gives the greatest weight.
        return np.asarray(logits.amax(0).relu().log1p().numpy(), np.float32)


_NOTHING = (np.empty(0, np.int32), np.empty(0, np.float32))


def _load_head(folder: Path, words: Tensor) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    try:
        for file in sorted(folder.glob("*.safetensors")):
            tensors |= load_file(file)
        head = {ours: tensors[theirs].float() for ours, theirs in _HEAD.items()}
        out_bias = next(name for name in _OUT_BIAS if name in tensors)
    except (SafetensorError, OSError, KeyError, StopIteration) as error:
        raise ModelSourceError(
            f"it has no masked-language-model head that can be read ({error})",
            where=str(folder),
            fix="give a SPLADE model: a BERT with the tensors cls.predictions",
        ) from error
    return head | {
        "out": tensors.get(_OUT, words).float(),
        "out_bias": tensors[out_bias].float(),
    }
