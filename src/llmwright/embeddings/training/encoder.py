"""A sentence encoder that can be trained: token ids, BERT, pooling, projection, length 1.

It computes what ``BertEmbedder`` computes of the same folder, with gradients, and is written as a
folder of sentence-transformers that both open. Texts of a batch are sorted by length and equal
ones are read once: in-batch negatives repeat texts, and nothing here is padded.

This file knows nothing of objectives or data.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor, nn

from llmwright.core import ModelSourceError, atomic_folder, read_json
from llmwright.embeddings.bert import BertEncoder, checkpoint_tensors, load_bert
from llmwright.embeddings.encoder import PROMPTS, fits, load_tokenizer, pooling_of, prompt_of
from llmwright.embeddings.languages import model_languages
from llmwright.embeddings.load import model_name
from llmwright.embeddings.projection import load_projection, projection_folder, save_projection
from llmwright.modeling import resolve

_COPIED = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")


class SentenceEncoder(nn.Module):
    """The model of a training run. ``forward`` maps texts to unit vectors [texts, dimension]."""

    def __init__(
        self,
        bert: BertEncoder,
        tokenizer: Tokenizer,
        *,
        pooling: Literal["mean", "cls"] = "mean",
        projection: Tensor | None = None,
        lower_case: bool = False,
        max_tokens: int = 512,
        prompts: dict[str, str] | None = None,
        languages: frozenset[str] | None = None,
        source: str = "",
        fingerprint: str = "",
        files: Path | None = None,
    ) -> None:
        super().__init__()
        self.bert = bert
        self.tokenizer = tokenizer
        self.pooling = pooling
        self.projection = None if projection is None else nn.Parameter(projection)
        self.lower_case = lower_case
        self.max_tokens = min(max_tokens, bert.config.max_position_embeddings)
        self.prompts = prompts or {}
        self.languages = languages
        self.source = source  # what it was made from, for the model's card
        self.fingerprint = fingerprint
        self._files = files  # the folder whose tokenizer's settings are kept

    @classmethod
    def load(cls, source: str | Path) -> SentenceEncoder:
        """Open a model that our BERT computes, with gradients on.

        Raises ``ModelSourceError`` where it is of another kind or broken.
        """
        found = resolve(source)
        folder = found.path
        if found.kind != "safetensors" or not fits(folder):
            raise ModelSourceError(
                "is no BERT encoder that can be trained here",
                where=str(source),
                fix="name a BERT model of sentence-transformers with mean or [CLS] pooling",
            )
        bert = load_bert(folder).requires_grad_(True)
        dense = projection_folder(folder)
        asked = _optional(folder / "config_sentence_transformers.json")
        limits = _optional(folder / "sentence_bert_config.json")
        names = [str(source), str(read_json(folder / "config.json").get("_name_or_path", ""))]
        return cls(
            bert,
            load_tokenizer(folder),
            pooling=pooling_of(folder) or "mean",
            projection=load_projection(dense, bert.config.hidden_size) if dense else None,
            lower_case=bool(limits.get("do_lower_case")),
            max_tokens=limits.get("max_seq_length") or bert.config.max_position_embeddings,
            prompts={kind: prompt_of(asked, kind) for kind in PROMPTS},
            languages=model_languages(names, folder),
            source=model_name(str(source)),
            fingerprint=found.fingerprint,
            files=folder,
        )

    @property
    def dimension(self) -> int:
        """Length of the vectors."""
        if self.projection is not None:
            return len(self.projection)
        return self.bert.config.hidden_size

    def token_ids(
        self, texts: Sequence[str], max_tokens: int, kind: Literal["query", "document"]
    ) -> list[list[int]]:
        """Token ids of ``texts``, each cut at ``max_tokens``."""
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(min(max_tokens, self.bert.config.max_position_embeddings))
        asked = [self.prompts.get(kind, "") + text for text in texts]
        if self.lower_case:
            asked = [text.lower() for text in asked]
        return [encoding.ids for encoding in self.tokenizer.encode_batch_fast(asked)]

    def forward(self, texts: Sequence[Sequence[int]]) -> Tensor:
        """Texts as token ids -> [texts, dimension], each of length 1."""
        rows = {ids: row for row, ids in enumerate(sorted({*map(tuple, texts)}, key=_by_length))}
        wanted = [rows[tuple(ids)] for ids in texts]
        return self.project(self.pool(list(rows)))[wanted]

    def pool(self, texts: Sequence[Sequence[int]]) -> Tensor:
        """Texts as token ids -> [texts, hidden], in order; sorted by length they cost least."""
        hidden = self.bert(texts)  # each [texts, tokens, hidden]
        pooled = [h.mean(1) if self.pooling == "mean" else h[:, 0] for h in hidden]
        return torch.cat(pooled).float()

    def project(self, pooled: Tensor) -> Tensor:
        """[texts, hidden] -> [texts, dimension], each of length 1."""
        if self.projection is not None:
            pooled = pooled @ self.projection.T
        return F.normalize(pooled, dim=1)

    def save(self, folder: Path, card: str = "") -> None:
        """Write the model; an existing folder is replaced. ``card`` goes into its README."""
        with atomic_folder(folder) as place:
            self.write(place, card)

    def write(self, place: Path, card: str = "") -> None:
        """Write the model into an empty folder. ``card`` goes into its README."""
        config = self.bert.config
        values = {
            "architectures": ["BertModel"],
            "model_type": "bert",
            "hidden_act": "gelu",
            "position_embedding_type": "absolute",
            "pad_token_id": 0,
            **{name: getattr(config, name) for name in type(config).__slots__},
        }
        _write_json(place / "config.json", values)
        save_file(
            {name: t.contiguous() for name, t in checkpoint_tensors(self.bert)},
            place / "model.safetensors",
            {"format": "pt"},
        )
        for name in _COPIED:
            if self._files is not None and (self._files / name).is_file():
                shutil.copyfile(self._files / name, place / name)
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        self.tokenizer.save(str(place / "tokenizer.json"))
        limits = {"max_seq_length": self.max_tokens, "do_lower_case": self.lower_case}
        _write_json(place / "sentence_bert_config.json", limits)
        _write_json(
            place / "config_sentence_transformers.json",
            {"prompts": self.prompts, "similarity_fn_name": "cosine"},
        )
        modules = ["Transformer", "Pooling", "Dense", "Normalize"]
        if self.projection is None:
            modules.remove("Dense")
        described = [
            {
                "idx": number,
                "name": str(number),
                "path": "" if kind == "Transformer" else f"{number}_{kind}",
                "type": f"sentence_transformers.models.{kind}",
            }
            for number, kind in enumerate(modules)
        ]
        _write_json(place / "modules.json", described)
        for module in described[1:]:
            (place / str(module["path"])).mkdir()
        pooling = {
            "word_embedding_dimension": config.hidden_size,
            "pooling_mode_cls_token": self.pooling == "cls",
            "pooling_mode_mean_tokens": self.pooling == "mean",
        }
        _write_json(place / "1_Pooling" / "config.json", pooling)
        if self.projection is not None:
            save_projection(self.projection, place / "2_Dense")
        (place / f"{len(modules) - 1}_Normalize" / "config.json").write_text("{}\n")
        (place / "README.md").write_text(self._card(card), encoding="utf-8")

    def _card(self, text: str) -> str:
        """The model's card; its front matter tells which languages the model knows."""
        codes = "".join(f"\n- {code}" for code in sorted(self.languages or ()))
        language = f"language:{codes}\n" if codes else ""
        return (
            f"---\n{language}library_name: sentence-transformers\n"
            "pipeline_tag: sentence-similarity\n---\n\n"
            f"A sentence encoder, trained from {self.source or 'random weights'} by LLMwright.\n\n"
            f"{text}".rstrip()
            + "\n"
        )


def _by_length(ids: tuple[int, ...]) -> tuple[int, tuple[int, ...]]:
    return len(ids), ids


def _optional(path: Path) -> dict[str, Any]:
    return dict(read_json(path)) if path.is_file() else {}


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
