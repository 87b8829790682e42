"""Natural-language inference: does a premise entail a hypothesis? BERT on the pair, three labels.

    P(label | premise, hypothesis) = softmax(W tanh(P h_[CLS]) + b)

Bowman et al. (2015), arXiv 1508.05326, and Williams et al. (2018), arXiv 1704.05426, made the data
that such models are trained on. Reads what ``BertForSequenceClassification.save_pretrained``
writes, in safetensors; the label of entailment is found by its name in ``id2label``. The network
and its tokens are those of `cross_encoder`, which has one label instead.

A pair longer than the window loses the end of the hypothesis, so cut premises short. Costs one
pass of the encoder a pair.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from llmwright.core import ModelSourceError, read_json
from llmwright.embeddings.bert import load_bert
from llmwright.embeddings.cross_encoder import CrossEncoder, batched, load_head, window
from llmwright.embeddings.encoder import load_tokenizer
from llmwright.modeling import resolve

_BATCH_TOKENS = 4096


@dataclass(frozen=True)
class EntailmentModel:
    """Called with pairs, gives the probability that each premise entails its hypothesis."""

    encoder: CrossEncoder
    labels: tuple[str, ...]
    entailment: int

    @classmethod
    def load(cls, source: str | Path) -> EntailmentModel:
        """Open a folder or another source. Raises ``ModelSourceError`` where it is something
        else, or no label is called entailment."""
        folder = resolve(source).path
        path = folder / "config.json"
        config = read_json(path) if path.is_file() else {}
        names = config.get("id2label") or {}
        labels = tuple(str(names[str(i)]).lower() for i in range(len(names)) if str(i) in names)
        entailing = [i for i, label in enumerate(labels) if label == "entailment"]
        fits = config.get("model_type") == "bert" and config.get("hidden_act", "gelu") == "gelu"
        if not fits or len(labels) != len(names) or len(entailing) != 1:
            raise ModelSourceError(
                "is no entailment model that we compute",
                where=str(source),
                fix="name a BertForSequenceClassification with a label named entailment",
            )
        encoder = CrossEncoder(load_bert(folder), load_tokenizer(folder), max_tokens=window(folder))
        encoder.classifier = nn.Linear(encoder.encoder.config.hidden_size, len(labels))
        load_head(encoder, folder)
        encoder.requires_grad_(False).eval()
        return cls(encoder, labels, entailing[0])

    def __call__(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        return [float(p) for p in self.probabilities(pairs)[:, self.entailment]]

    def probabilities(self, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float32]:
        """Of each label, in their order: [pairs, labels]."""
        found = np.empty((len(pairs), len(self.labels)), np.float32)
        ids, firsts = self.encoder.token_ids(pairs) if pairs else ([], [])
        order = sorted(range(len(ids)), key=lambda i: (-len(ids[i]), i))
        with torch.inference_mode():
            for batch in batched(order, [len(i) for i in ids], _BATCH_TOKENS):
                groups = self.encoder.encoder([ids[i] for i in batch], [firsts[i] for i in batch])
                first = torch.cat([group[:, 0] for group in groups])  # [pairs, hidden]
                pooled = torch.tanh(self.encoder.pooler(first))
                found[batch] = self.encoder.classifier(pooled).softmax(-1).numpy()
        return found
