"""Late interaction: a text stays as many vectors as it has tokens, compared when it is asked for.

    score(q, d) = sum over tokens i of q of  max over tokens j of d of  q_i . d_j       (MaxSim)

Khattab and Zaharia, "ColBERT", 2020, arXiv 2004.12832. Vectors are the encoder's last layer, put
through the checkpoint's projection ``linear.weight`` [dimension, hidden] where it has one, each of
length 1. Of a ColBERT checkpoint (its settings in ``artifact.metadata``), a query is "[CLS] [Q]
words [SEP]" filled up with [MASK] to ``query_maxlen``, where the model puts words it would add;
nothing attends to the masks unless the settings say so. A document is "[CLS] [D] words [SEP]"
without the vectors of punctuation. Any other BERT gives the vectors of its words alone.

Costs what embedding costs; the product of the scores is tokens of the query by tokens of all
documents (``retrieval.sparse.late``).
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from llmwright.core import ModelSourceError, read_json
from llmwright.embeddings.bert import BertEncoder
from llmwright.embeddings.token_states import TokenStates

TokenVectors = NDArray[np.float32]
"""[tokens, dimension], each row of length 1."""


@dataclass(frozen=True, slots=True)
class ColbertSettings:
    """What a ColBERT checkpoint was trained with."""

    query_maxlen: int = 32
    doc_maxlen: int = 220
    query_token_id: str = "[unused0]"  # noqa: S105 (a word of the vocabulary)
    doc_token_id: str = "[unused1]"  # noqa: S105
    mask_punctuation: bool = True
    attend_to_mask_tokens: bool = False


class LateInteractionEncoder:
    """Texts to token vectors. ``settings`` None: a BERT that knows nothing of ColBERT's marks."""

    def __init__(
        self,
        states: TokenStates,
        projection: Tensor | None = None,
        settings: ColbertSettings | None = None,
    ) -> None:
        self._states = states
        self._projection = projection
        self._settings = settings
        self.dimension = states.hidden if projection is None else len(projection)
        tokenizer = states.tokenizer
        found = [tokenizer.token_to_id(mark) for mark in string.punctuation]
        self._punctuation = frozenset(number for number in found if number is not None)
        if settings is not None:
            self._marks = {}
            for name in (settings.query_token_id, settings.doc_token_id, "[MASK]"):
                number = tokenizer.token_to_id(name)
                if number is None:
                    raise ModelSourceError(
                        f"its tokenizer has no token {name}",
                        where="ColBERT checkpoint",
                        fix="fetch the model again",
                    )
                self._marks[name] = int(number)

    @classmethod
    def load(cls, folder: Path, max_tokens: int = 512) -> LateInteractionEncoder:
        """Read a ColBERT checkpoint, or any BERT folder. Raises ``ModelSourceError``."""
        states = TokenStates.load(folder, max_tokens)
        projection = _projection(folder, states.hidden)
        settings = None
        if projection is not None:
            path = folder / "artifact.metadata"
            values = read_json(path) if path.is_file() else {}
            known = {k: v for k, v in values.items() if k in ColbertSettings.__slots__}
            settings = ColbertSettings(**known)
        return cls(states, projection, settings)

    def documents(self, texts: Sequence[str]) -> list[TokenVectors]:
        """The token vectors of each text; those of marks that stand for no word are left out,
        but for ColBERT's own."""
        settings, states = self._settings, self._states
        ids = states.token_ids(texts)
        if settings is not None:
            mark = self._marks[settings.doc_token_id]
            ids = [_marked(text, mark, settings.doc_maxlen) for text in ids]
        left_out = states.special if settings is None else frozenset()
        if settings is None or settings.mask_punctuation:
            left_out |= self._punctuation
        vectors: list[TokenVectors] = [_none(self.dimension)] * len(texts)
        for place, hidden in states.of_ids(ids):
            kept = [i for i, token in enumerate(ids[place]) if token not in left_out]
            vectors[place] = self._projected(hidden[kept])
        return vectors

    def queries(self, texts: Sequence[str]) -> list[TokenVectors]:
        """The token vectors of each query."""
        settings, states = self._settings, self._states
        if settings is None:
            return self.documents(texts)
        mark, mask = self._marks[settings.query_token_id], self._marks["[MASK]"]
        found = []
        for ids in states.token_ids(texts):
            asked = _marked(ids, mark, settings.query_maxlen)
            filled = asked + [mask] * (settings.query_maxlen - len(asked))
            heard = len(filled) if settings.attend_to_mask_tokens else len(asked)
            found.append(self._projected(_forward(states.encoder, filled, heard)))
        return found

    def _projected(self, hidden: Tensor) -> TokenVectors:
        if self._projection is not None:
            hidden = F.linear(hidden, self._projection)
        return np.asarray(F.normalize(hidden, dim=-1).numpy(), np.float32)


def _marked(ids: Sequence[int], mark: int, longest: int) -> list[int]:
    """[CLS] mark words [SEP], in all at most ``longest`` tokens."""
    words = list(ids[1:-1])[: longest - 3]
    return [ids[0], mark, *words, ids[-1]]


@torch.inference_mode()
def _forward(encoder: BertEncoder, ids: Sequence[int], heard: int) -> Tensor:
    """One text [tokens, hidden] of which only the first ``heard`` tokens are attended to; the
    others attend and are not attended to, which ``BertEncoder`` has no use for."""
    tokens = torch.tensor(ids)
    x = encoder.words(tokens) + encoder.positions.weight[: len(ids)] + encoder.types.weight[0]
    x = encoder.norm(x)  # [tokens, hidden]
    for layer in encoder.layers:
        # [tokens, 3, heads, head_dim] -> 3 of [heads, tokens, head_dim]
        q, k, v = layer.qkv(x).view(len(ids), 3, layer.heads, -1).permute(1, 2, 0, 3)  # type: ignore[operator]
        mixed = F.scaled_dot_product_attention(q, k[:, :heard], v[:, :heard])
        mixed = mixed.transpose(0, 1).reshape(len(ids), -1)
        x = layer.norm_attention(x + layer.out(mixed))  # type: ignore[operator]
        x = layer.norm_output(x + layer.down(F.gelu(layer.up(x))))  # type: ignore[operator]
    return torch.as_tensor(x)


def _projection(folder: Path, hidden: int) -> Tensor | None:
    """The checkpoint's projection [dimension, hidden], or None where it has none."""
    try:
        for file in sorted(folder.glob("*.safetensors")):
            weight = load_file(file).get("linear.weight")
            if weight is not None:
                if weight.dim() != 2 or weight.shape[1] != hidden:
                    raise ModelSourceError(
                        f"linear.weight is {list(weight.shape)} for {hidden} hidden units",
                        where=str(file),
                        fix="fetch the model again",
                    )
                return weight.float()
    except (SafetensorError, OSError) as error:
        raise ModelSourceError(
            f"the weights cannot be read ({error})", where=str(folder), fix="fetch the model again"
        ) from error
    return None


def _none(dimension: int) -> TokenVectors:
    return np.empty((0, dimension), np.float32)
