"""A cross-encoder: BERT reads a query and a passage together and says how well they match.

    s(q, d) = w . tanh(W h_[CLS] + b) + c,        h = BERT([CLS] q [SEP] d [SEP])

Nogueira and Cho (2019), "Passage Re-ranking with BERT", arXiv 1901.04085. Every token of the query
attends to every token of the passage, so it is judged what an embedder has to guess from two
vectors; in exchange nothing can be computed beforehand. A pair costs 2 operations a weight and
token: 4 GFLOP for 200 tokens and MiniLM-L6, some 10 milliseconds on one core. It is made for the
first 50 hits or so.

Reads and writes folders of transformers' ``BertForSequenceClassification`` with one label, which is
what sentence-transformers' ``CrossEncoder`` opens (``cross-encoder/ms-marco-MiniLM-L6-v2`` and its
like). A pair too long is cut at the end of the passage, never in the query, unless the query alone
fills the window. Pairs are sorted by length and nothing is padded, so a score depends on what it is
computed with by rounding at most.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor, nn

from llmwright.core import DType, ModelSourceError, atomic_folder, progress, read_json
from llmwright.embeddings.bert import BertEncoder, checkpoint_tensors, load_bert
from llmwright.embeddings.encoder import load_tokenizer
from llmwright.modeling import choose_dtype, resolve

Activation = Literal["sigmoid", "identity"]

_BATCH_TOKENS = 4096
_AT_ONCE = 2048  # pairs tokenized at once
_PATHS = {
    "sigmoid": "torch.nn.modules.activation.Sigmoid",
    "identity": "torch.nn.modules.linear.Identity",
}
_COPIED = ("tokenizer_config.json", "special_tokens_map.json", "vocab.txt")


class CrossEncoder(nn.Module):
    """Scores of (query, passage) pairs. Use :meth:`load`, :meth:`fresh`, then :meth:`predict`."""

    def __init__(
        self,
        encoder: BertEncoder,
        tokenizer: Tokenizer,
        *,
        max_tokens: int = 512,
        activation: Activation = "sigmoid",
        fingerprint: str = "",
        files: Path | None = None,
    ) -> None:
        super().__init__()
        hidden = encoder.config.hidden_size
        self.encoder = encoder
        self.pooler = nn.Linear(hidden, hidden)
        self.classifier = nn.Linear(hidden, 1)
        self.tokenizer = tokenizer
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        self.max_tokens = min(max_tokens, encoder.config.max_position_embeddings)
        self.activation = activation
        self.fingerprint = fingerprint
        self._files = files  # whose tokenizer's settings are kept when it is saved

    @classmethod
    def load(cls, source: str | Path, *, dtype: DType = "float32") -> CrossEncoder:
        """Open a folder, ``hf:owner/name`` or another source of a trained cross-encoder.

        ``dtype`` "auto" computes in bfloat16 where the processor multiplies it: about twice as
        fast, with scores that differ in the third digit. Raises ``ModelSourceError`` where it is
        something else.
        """
        found = resolve(source)
        folder = found.path
        config = _config(folder, str(source))
        model = cls(
            load_bert(folder),
            load_tokenizer(folder),
            max_tokens=window(folder),
            activation=_activation(config),
            fingerprint=found.fingerprint,
            files=folder,
        )
        load_head(model, folder)
        model.requires_grad_(False).eval()
        model.encoder.to(choose_dtype(dtype))
        return model

    @classmethod
    def fresh(
        cls, source: str | Path, *, seed: int = 0, activation: Activation = "sigmoid"
    ) -> CrossEncoder:
        """A model to be trained: an embedder's (or any BERT's) weights with a new head, or those
        of a cross-encoder with its own. Raises ``ModelSourceError``."""
        found = resolve(source)
        config = _config(found.path, str(source), trained=False)
        model = cls(
            load_bert(found.path).requires_grad_(True),
            load_tokenizer(found.path),
            max_tokens=window(found.path),
            activation=activation,
            fingerprint=found.fingerprint,
            files=found.path,
        )
        if _is_cross_encoder(config):
            load_head(model, found.path)
            return model
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            # The identity at first: the mean-pooling models have no pooler of their own, and a
            # random one would have to be unlearned from few pairs.
            model.pooler.weight.copy_(torch.eye(len(model.pooler.weight)))
            model.pooler.bias.zero_()
            model.classifier.weight.normal_(0.0, 0.02, generator=generator)
            model.classifier.bias.zero_()
        return model

    def __repr__(self) -> str:
        config = self.encoder.config
        return f"CrossEncoder({config.num_hidden_layers} layers of {config.hidden_size})"

    def predict(
        self, pairs: Sequence[tuple[str, str]], *, activation: Activation | None = None
    ) -> NDArray[np.float32]:  # [pairs]
        """Scores of (query, passage) pairs, in order.

        They pass the activation that the model was made with; "identity" leaves them as logits,
        which still tell apart what the sigmoid rounds to 1. An empty text is a text like others.
        """
        scores = np.empty(len(pairs), np.float32)
        with torch.inference_mode(), progress("scoring", total=len(pairs), unit="pairs") as advance:
            for start in range(0, len(pairs), _AT_ONCE):
                ids, firsts = self.token_ids(pairs[start : start + _AT_ONCE])
                order = sorted(range(len(ids)), key=lambda i: (-len(ids[i]), i))
                for batch in batched(order, [len(i) for i in ids], _BATCH_TOKENS):
                    found = self([ids[i] for i in batch], [firsts[i] for i in batch])
                    scores[[start + i for i in batch]] = found.numpy()
                    advance(len(batch))
        if (activation or self.activation) == "sigmoid":
            return np.asarray(torch.sigmoid(torch.from_numpy(scores)).numpy(), np.float32)
        return scores

    def rank(
        self, query: str, documents: Sequence[str], top: int | None = None
    ) -> list[tuple[int, float]]:
        """Places of the documents with their scores, best first; equal ones keep their order."""
        scores = self.predict([(query, document) for document in documents])
        order = np.argsort(-scores, kind="stable")[:top]
        return [(int(place), float(scores[place])) for place in order]

    def forward(self, pairs: Sequence[Sequence[int]], firsts: Sequence[int]) -> Tensor:
        """Logits [pairs] of pairs as token ids; sorted by length they cost least.

        ``firsts`` is how many tokens of each belong to the query, with [CLS] and its [SEP].
        """
        groups = self.encoder(pairs, firsts)  # each [pairs, tokens, hidden]
        first = torch.cat([group[:, 0] for group in groups]).to(self.pooler.weight.dtype)
        logits: Tensor = self.classifier(torch.tanh(self.pooler(first)))[:, 0]
        return logits.float()

    def token_ids(
        self, pairs: Sequence[tuple[str, str]], max_tokens: int | None = None
    ) -> tuple[list[list[int]], list[int]]:
        """Token ids of each pair with [CLS] and both [SEP], and how many are the query's."""
        begin, end = self.tokenizer.encode("").ids
        room = min(max_tokens or self.max_tokens, self.max_tokens) - 3
        # Half of a surrogate pair is no character; the tokenizer would refuse the whole batch.
        clean = [part.encode(errors="replace").decode() for pair in pairs for part in pair]
        texts = list(dict.fromkeys(clean))  # a query stands in many pairs
        encoded = self.tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        ids = {text: one.ids for text, one in zip(texts, encoded, strict=True)}
        found, firsts = [], []
        for query, passage in zip(clean[::2], clean[1::2], strict=True):
            asked = ids[query][:room]
            found.append([begin, *asked, end, *ids[passage][: room - len(asked)], end])
            firsts.append(len(asked) + 2)
        return found, firsts

    def save(self, folder: Path) -> None:
        """Write a folder that :meth:`load`, transformers and sentence-transformers open."""
        with atomic_folder(folder) as place:
            self.write(place)

    def write(self, place: Path) -> None:
        """Write the model into an empty folder."""
        config = self.encoder.config
        values = {
            "architectures": ["BertForSequenceClassification"],
            "model_type": "bert",
            "hidden_act": "gelu",
            "pad_token_id": 0,
            "id2label": {"0": "LABEL_0"},
            "label2id": {"LABEL_0": 0},
            "sentence_transformers": {"activation_fn": _PATHS[self.activation]},
            **{name: getattr(config, name) for name in type(config).__slots__},
        }
        _write(place / "config.json", values)
        tensors = {f"bert.{name}": t for name, t in checkpoint_tensors(self.encoder)}
        for name, layer in (("bert.pooler.dense", self.pooler), ("classifier", self.classifier)):
            tensors[f"{name}.weight"] = layer.weight.detach().cpu().float()
            tensors[f"{name}.bias"] = layer.bias.detach().cpu().float()
        save_file(
            {name: t.contiguous() for name, t in tensors.items()},
            place / "model.safetensors",
            {"format": "pt"},
        )
        self.tokenizer.save(str(place / "tokenizer.json"))
        for name in _COPIED:
            if self._files is not None and (self._files / name).is_file():
                shutil.copyfile(self._files / name, place / name)
        about = place / "tokenizer_config.json"
        limits = read_json(about) if about.is_file() else {"tokenizer_class": "BertTokenizer"}
        _write(about, {**limits, "model_max_length": self.max_tokens})


def batched(order: Sequence[int], lengths: Sequence[int], most: int) -> list[list[int]]:
    """Places in batches of up to ``most`` tokens each."""
    batches: list[list[int]] = []
    tokens = most
    for place in order:
        if tokens + lengths[place] > most:
            batches.append([])
            tokens = 0
        batches[-1].append(place)
        tokens += lengths[place]
    return batches


def _is_cross_encoder(config: dict[str, Any]) -> bool:
    return config.get("architectures") == ["BertForSequenceClassification"]


def _config(folder: Path, where: str, trained: bool = True) -> dict[str, Any]:
    path = folder / "config.json"
    config = dict(read_json(path)) if folder.is_dir() and path.is_file() else {}
    labels = len(config.get("id2label") or {}) or config.get("num_labels", 2)
    fits = config.get("model_type") == "bert" and config.get("hidden_act", "gelu") == "gelu"
    if not fits or (trained and not (_is_cross_encoder(config) and labels == 1)):
        raise ModelSourceError(
            "is no cross-encoder that we compute" if trained else "is no BERT to start from",
            where=where,
            fix="name a BertForSequenceClassification with one label, in safetensors"
            if trained
            else "name an embedder or cross-encoder of the BERT family, in safetensors",
        )
    return config


def _activation(config: dict[str, Any]) -> Activation:
    """As sentence-transformers finds it; the second name is that of its versions before 4."""
    named = (config.get("sentence_transformers") or {}).get("activation_fn")
    named = named or config.get("sbert_ce_default_activation_function") or ""
    return "identity" if str(named).endswith("Identity") else "sigmoid"


def window(folder: Path) -> int:
    """Tokens of a pair, at most, as the tokenizer's settings say."""
    path = folder / "tokenizer_config.json"
    limit = read_json(path).get("model_max_length") if path.is_file() else None
    return int(limit) if isinstance(limit, int | float) and 4 <= limit <= 1_000_000 else 512


def load_head(model: CrossEncoder, folder: Path) -> None:
    """Read pooler and classifier. Raises ``ModelSourceError`` where they do not fit the model."""
    found: dict[str, Tensor] = {}
    try:
        for file in sorted(folder.glob("*.safetensors")):
            with safe_open(file, framework="pt") as tensors:
                for name in tensors.keys():  # noqa: SIM118 - no mapping
                    if "pooler.dense." in name or name.startswith("classifier."):
                        found[name] = tensors.get_tensor(name).float()
        for name, layer in (("bert.pooler.dense", model.pooler), ("classifier", model.classifier)):
            layer.load_state_dict(
                {kind: found[f"{name}.{kind}"] for kind in ("weight", "bias")}, assign=True
            )
    except (SafetensorError, OSError, KeyError, RuntimeError) as error:
        reason = f"{error}".replace("\n", " ")
        raise ModelSourceError(
            f"the pooler or the classifier is missing or of another shape ({reason})",
            where=str(folder),
            fix="fetch the model again",
        ) from error


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
