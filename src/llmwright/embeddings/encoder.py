"""A BERT folder of sentence-transformers as an embedder: tokenize, encode, pool, normalise.

Sentence-BERT (Reimers and Gurevych, 2019, arXiv 1908.10084): a text's vector is the mean of its
token vectors, or that of ``[CLS]``, scaled to length 1, so that a dot product is the cosine.

Texts are sorted by length and cut into batches of about ``BATCH_TOKENS`` tokens. Since nothing is
padded (see ``bert.py``), a text's vector does not depend on what else is embedded with it: bit
for bit where the compiled encoder computes, and within 1e-6 where the matrix library of torch
picks its kernels by the number of rows.

``precision`` is what it is computed in (``native/encoder.py``): ``auto`` is bfloat16 on processors
that multiply it, float32 elsewhere; their vectors are told apart only by noise (a cosine of
0.9999 and more), so an index made with one is searched with the other, and they share a
fingerprint. ``int8`` is for speed above all; its vectors have a fingerprint of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from llmwright.core import (
    ConfigurationError,
    ModelSourceError,
    content_hash,
    progress,
    read_json,
    settings,
)
from llmwright.embeddings.bert import BertEncoder, load_bert
from llmwright.embeddings.native.encoder import NativeEncoder, int8_in_torch, native_fits
from llmwright.embeddings.projection import is_plain, load_projection, projection_folder
from llmwright.embeddings.spans import span_means

# Large enough to keep the cores busy, small enough for the activations to stay in cache.
BATCH_TOKENS = 2048
_NATIVE_TOKENS = 512  # the compiled encoder has no other cost of a batch
SPAN_OVERLAP = 64  # tokens that two windows of a long text share, at least
_TOKENIZED_AT_ONCE = 4096  # texts; bounds the memory of a long run
# What may stand in modules.json, in this order.
_MODULES = {
    (),
    ("Transformer",),
    ("Transformer", "Pooling"),
    ("Transformer", "Pooling", "Normalize"),
    ("Transformer", "Pooling", "Dense"),
    ("Transformer", "Pooling", "Dense", "Normalize"),
}
_POOLINGS: dict[str, Literal["mean", "cls"]] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
}

# What a model's folder calls the instruction for each kind, as sentence-transformers looks for it.
PROMPTS = {"query": ("query",), "document": ("document", "passage", "corpus")}

Precision = Literal["auto", "float32", "int8"]


class BertEmbedder:
    """An ``Embedder`` on this machine's processor. Safe to use from many threads."""

    def __init__(
        self,
        encoder: BertEncoder,
        tokenizer: Tokenizer,
        *,
        name: str,
        fingerprint: str,
        languages: frozenset[str] | None = None,
        max_tokens: int = 512,
        pooling: Literal["mean", "cls"] = "mean",
        prompts: dict[str, str] | None = None,
        lower_case: bool = False,
        projection: Tensor | None = None,
        precision: Precision = "auto",
    ) -> None:
        if precision not in ("auto", "float32", "int8"):
            raise ConfigurationError(
                f"{precision!r} is no precision", where=name, fix="use auto, float32 or int8"
            )
        int8 = precision == "int8"
        self.name = name
        self.fingerprint = content_hash([fingerprint, precision]) if int8 else fingerprint
        self.languages = languages
        # [dimension, hidden], behind pooling
        self._projection = projection
        self.dimension = encoder.config.hidden_size if projection is None else len(projection)
        self.max_tokens = min(max_tokens, encoder.config.max_position_embeddings)
        self._encoder = encoder
        self._native: NativeEncoder | None = None
        if precision != "float32" and native_fits(encoder.config):
            self._native = NativeEncoder(encoder, int8=int8)
        elif int8:
            self._encoder = int8_in_torch(encoder)
        self._tokenizer = tokenizer
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(self.max_tokens)
        self._pooling = pooling
        self._prompts = prompts or {}
        self._lower_case = lower_case

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        name: str,
        fingerprint: str,
        languages: frozenset[str] | None,
        precision: Precision = "auto",
    ) -> BertEmbedder:
        """Read a folder for which ``fits`` holds. Raises ``ModelSourceError``."""
        if threads := settings().threads:
            torch.set_num_threads(threads)
        encoder = load_bert(folder)
        limits = _optional(folder / "sentence_bert_config.json")
        asked = _optional(folder / "config_sentence_transformers.json")
        dense = projection_folder(folder)
        return cls(
            encoder,
            load_tokenizer(folder),
            name=name,
            fingerprint=fingerprint,
            languages=languages,
            max_tokens=limits.get("max_seq_length") or encoder.config.max_position_embeddings,
            pooling=pooling_of(folder) or "mean",
            prompts={kind: prompt_of(asked, kind) for kind in PROMPTS},
            lower_case=bool(limits.get("do_lower_case")),
            projection=load_projection(dense, encoder.config.hidden_size) if dense else None,
            precision=precision,
        )

    def __repr__(self) -> str:
        return f"BertEmbedder({self.name!r}, dimension={self.dimension})"

    def embed(
        self, texts: Sequence[str], *, kind: Literal["query", "document"] = "document"
    ) -> NDArray[np.float32]:
        """Vectors of ``texts``: [texts, dimension], each of length 1.

        A text is cut at ``max_tokens`` tokens. A model that was trained with instructions for
        queries or documents gets them put in front by ``kind``.
        """
        vectors = np.empty((len(texts), self.dimension), dtype=np.float32)
        ids = self._token_ids(texts, self._prompts.get(kind, ""))
        # By length, then by place: the same texts make the same batches each time.
        order = sorted(range(len(ids)), key=lambda i: (-len(ids[i]), i))
        most = BATCH_TOKENS if self._native is None else min(BATCH_TOKENS, _NATIVE_TOKENS)
        batches = list(_batches(order, [len(i) for i in ids], most))
        # Torch computes one batch on all threads; the compiled encoder a batch on each.
        workers = 1 if self._native is None else min(torch.get_num_threads(), len(batches))

        def work(batch: list[int]) -> int:
            vectors[batch] = self._batch([ids[i] for i in batch])
            return len(batch)

        with _shown(len(texts), len(batches)) as advance:
            if workers < 2:
                for batch in batches:
                    advance(work(batch))
            else:
                with ThreadPoolExecutor(workers) as pool:
                    for done in pool.map(work, batches):
                        advance(done)
        return vectors

    def _batch(self, ids: list[list[int]]) -> NDArray[np.float32]:
        """[texts, dimension] of texts that are sorted by length."""
        with torch.inference_mode():
            if self._native is None:
                return self._pool(self._encoder(ids)).numpy()
            pooled = self._native.pooled(ids, first=self._pooling == "cls")
            return self._project([torch.from_numpy(pooled)]).numpy()

    def embed_spans(
        self,
        text: str,
        spans: Sequence[tuple[int, int]],
        *,
        context: str = "",
        window: int | None = None,
        overlap: int = SPAN_OVERLAP,
    ) -> NDArray[np.float32]:
        """Vectors of spans of ``text``, in its order, each read in the text around it: [spans,
        dimension] (late chunking, ``spans.py``).

        ``window`` tokens are encoded together (all that the model has positions for, unless
        fewer are asked for), ``context`` in front of each. A span without a token of its own is
        embedded as an ordinary text. Raises ``ConfigurationError`` for a model that pools
        ``[CLS]``, which has no token vectors to average.
        """
        if self._pooling != "mean":
            raise ConfigurationError(
                "late chunks are means of token vectors, and this model has only that of [CLS]",
                where=self.name,
                fix="choose another way of cutting, or a model that pools by mean",
            )
        marks = self._whole.encode("").ids
        prefix = self._prompts.get("document", "") + context
        before = self._tokenize(prefix)[0] if prefix.strip() else []
        longest = self._encoder.config.max_position_embeddings
        window = min(window or longest, longest)
        means, known = span_means(
            text,
            spans,
            self._tokenize,
            self._encode_windows,
            ends=([*marks[:1], *before[: window // 4]], marks[1:]),
            hidden=self._encoder.config.hidden_size,
            window=window,
            overlap=overlap,
        )
        vectors = self._project([torch.from_numpy(means)]).numpy()
        if not known.all():
            lost = np.flatnonzero(~known)
            vectors[lost] = self.embed([text[spans[int(i)][0] : spans[int(i)][1]] for i in lost])
        return vectors

    @cached_property
    def _whole(self) -> Tokenizer:
        """The tokenizer without its limit."""
        tokenizer = Tokenizer.from_str(self._tokenizer.to_str())
        tokenizer.no_truncation()
        return tokenizer

    def _tokenize(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Token ids without marks, however many, and the characters each stands for."""
        text = text.encode(errors="replace").decode()  # half of a surrogate pair is no character
        if self._lower_case:  # some letters grow in lower case, which would move all behind them
            text = "".join(c if len(c.lower()) > 1 else c.lower() for c in text)
        found = self._whole.encode(text, add_special_tokens=False)
        return found.ids, found.offsets

    def _encode_windows(self, windows: Sequence[Sequence[int]]) -> list[NDArray[np.float32]]:
        if self._native is not None:
            return self._native.tokens(windows)
        vectors: list[NDArray[np.float32]] = []
        with torch.inference_mode():
            for hidden in self._encoder(windows):  # [windows of one length, tokens, hidden]
                vectors += list(hidden.numpy())
        return vectors

    def _token_ids(self, texts: Sequence[str], prompt: str) -> list[list[int]]:
        ids: list[list[int]] = []
        for start in range(0, len(texts), _TOKENIZED_AT_ONCE):
            part = [prompt + text for text in texts[start : start + _TOKENIZED_AT_ONCE]]
            if self._lower_case:
                part = [text.lower() for text in part]
            ids += [encoding.ids for encoding in self._tokenizer.encode_batch_fast(part)]
        return ids

    def _pool(self, hidden: list[Tensor]) -> Tensor:
        # each [texts, tokens, hidden] -> [texts, hidden]
        return self._project([h.mean(1) if self._pooling == "mean" else h[:, 0] for h in hidden])

    def _project(self, pooled: list[Tensor]) -> Tensor:
        vectors = torch.cat(pooled)
        if self._projection is not None:
            vectors = vectors @ self._projection.T  # [texts, dimension]
        return F.normalize(vectors, dim=1)


def _batches(order: Sequence[int], lengths: Sequence[int], most: int) -> Iterator[list[int]]:
    batch: list[int] = []
    tokens = 0
    for index in order:
        if batch and tokens + lengths[index] > most:
            yield batch
            batch, tokens = [], 0
        batch.append(index)
        tokens += lengths[index]
    if batch:
        yield batch


def _shown(texts: int, batches: int) -> Any:
    """A progress bar, unless the work is that of a query and done at once."""
    if batches < 8:
        return nullcontext(lambda _: None)
    return progress("embedding", total=texts, unit="texts")


def fits(folder: Path) -> bool:
    """Whether ``BertEmbedder`` computes what the folder describes: BERT, one pooling of those
    we know, and no further module than a plain projection and normalisation."""
    config = read_json(folder / "config.json")
    kinds = [str(module.get("type", "")).rpartition(".")[2] for module in _modules(folder)]
    return (
        config.get("model_type") in ("bert", "roberta", "xlm-roberta")
        and config.get("hidden_act", "gelu") == "gelu"
        and config.get("position_embedding_type", "absolute") == "absolute"
        and not config.get("is_decoder")
        and (folder / "tokenizer.json").is_file()
        and tuple(kinds) in _MODULES
        and ((dense := projection_folder(folder)) is None or is_plain(dense))
        and pooling_of(folder) is not None
        and _optional(folder / "1_Pooling" / "config.json").get("include_prompt") is not False
    )


def pooling_of(folder: Path) -> Literal["mean", "cls"] | None:
    """How the folder says that token vectors become one; mean where it says nothing."""
    values = _optional(folder / "1_Pooling" / "config.json")
    if mode := values.get("pooling_mode"):  # sentence-transformers 6 writes a word
        return mode if mode in ("mean", "cls") else None
    chosen = [name for name, on in values.items() if name.startswith("pooling_mode") and on is True]
    if not chosen:
        return "mean"
    return _POOLINGS.get(chosen[0]) if len(chosen) == 1 else None


def prompt_of(asked: Mapping[str, Any], kind: str) -> str:
    """What config_sentence_transformers.json says to put in front of texts of a kind."""
    prompts = asked.get("prompts") or {}
    names = (*PROMPTS[kind], asked.get("default_prompt_name"))
    return next((str(prompts[name]) for name in names if name in prompts), "")


def _modules(folder: Path) -> list[dict[str, Any]]:
    path = folder / "modules.json"
    return list(read_json(path)) if path.is_file() else []


def _optional(path: Path) -> dict[str, Any]:
    return dict(read_json(path)) if path.is_file() else {}


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of an encoder's folder. Raises ``ModelSourceError``."""
    where, fix = str(folder), "fetch the model again"
    try:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as error:  # the library raises bare Exception
        what = f"tokenizer.json cannot be read ({error})"
        raise ModelSourceError(what, where=where, fix=fix) from error
    if not tokenizer.encode("").ids:  # the encoder was trained with them, and needs one token
        what = "tokenizer.json adds no [CLS] and [SEP] to a text"
        raise ModelSourceError(what, where=where, fix=fix)
    return tokenizer
