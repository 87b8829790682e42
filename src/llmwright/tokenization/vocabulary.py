"""The vocabulary inside a GGUF file, as a tokenizer of the ``tokenizers`` library.

Two kinds are read. ``gpt2`` is byte-level BPE (Sennrich et al., 2016, arXiv 1508.07909; Radford et
al., 2019): text is split by the pre-tokenizer that ``tokenizer.ggml.pre`` names, bytes become
printable letters, and merges apply in the order of the file. ``llama`` is SentencePiece's BPE
(Kudo & Richardson, 2018, arXiv 1808.06226): spaces become U+2581, the file holds scores in place
of merges, and what no token covers falls back to bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Any

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)

from llmwright.core import ModelSourceError


class TokenType(IntEnum):
    """``tokenizer.ggml.token_type``."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


# The pre-tokenizers by llama.cpp's names. GPT-2's expression is the one built into ByteLevel.
_GPT2 = {"gpt-2", "olmo", "mpt", "jais", "phi-2"}
_GPT2_SINGLE_DIGITS = {"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone"}
_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
EXPRESSIONS = {
    "llama-bpe": _CONTRACTIONS + r"\p{N}{1,3}" + _REST,
    "qwen2": _CONTRACTIONS + r"\p{N}" + _REST,
}


def tokenizer_from_gguf(metadata: Mapping[str, Any], where: str) -> Tokenizer:
    """Build the tokenizer that GGUF metadata describe.

    Raises ``ModelSourceError`` where there is none, or it is of a kind that is not read here.
    """
    kind = metadata.get("tokenizer.ggml.model")
    tokens = metadata.get("tokenizer.ggml.tokens")
    if not kind or not tokens:
        raise ModelSourceError("holds no vocabulary", where=where, fix="use a whole model file")
    types = metadata.get("tokenizer.ggml.token_type") or [TokenType.NORMAL] * len(tokens)
    if kind == "gpt2":
        tokenizer = _byte_level(metadata, tokens, where)
    elif kind == "llama":
        tokenizer = _sentencepiece(metadata, tokens, types)
    else:
        raise ModelSourceError(
            f"its vocabulary is of the kind {kind!r}",
            where=where,
            fix="kinds read here: gpt2 (byte-level BPE), llama (SentencePiece BPE)",
        )
    # Tokens which are written out in text and never merged. Already in the vocabulary, so that
    # adding them keeps their ids.
    added = [
        AddedToken(token, special=kind == TokenType.CONTROL, normalized=False)
        for token, kind in zip(tokens, types, strict=True)
        if kind in (TokenType.CONTROL, TokenType.USER_DEFINED)
    ]
    tokenizer.add_tokens(added)
    _add_ends(tokenizer, metadata, tokens)
    return tokenizer


def _byte_level(metadata: Mapping[str, Any], tokens: list[str], where: str) -> Tokenizer:
    name = metadata.get("tokenizer.ggml.pre")
    name = {"llama3": "llama-bpe", "llama-v3": "llama-bpe", "deepseek-r1-qwen": "qwen2"}.get(
        str(name), name
    )
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    if name in _GPT2_SINGLE_DIGITS:
        parts = [pre_tokenizers.Digits(individual_digits=True), byte_level]
    elif name in _GPT2:
        parts = [byte_level]
    elif name in EXPRESSIONS:
        split = pre_tokenizers.Split(Regex(EXPRESSIONS[name]), behavior="isolated")
        parts = [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    else:
        known = ", ".join(sorted(_GPT2 | _GPT2_SINGLE_DIGITS | set(EXPRESSIONS)))
        raise ModelSourceError(
            f"its pre-tokenizer is {name!r}, and guessing it would split text wrongly",
            where=where,
            fix=f"known: {known}",
        )
    merges = [tuple(merge.split(" ", 1)) for merge in metadata.get("tokenizer.ggml.merges", [])]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    model = models.BPE(vocabulary, merges, ignore_merges=name == "llama-bpe")
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(parts)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _sentencepiece(metadata: Mapping[str, Any], tokens: list[str], types: list[int]) -> Tokenizer:
    vocabulary = {token: number for number, token in enumerate(tokens)}
    scores = metadata.get("tokenizer.ggml.scores") or [0.0] * len(tokens)
    # SentencePiece merges the pair whose result scores highest; as a list of merges that is every
    # way to split a token into two tokens, best score first.
    merges = []
    for token, score in zip(tokens, scores, strict=True):
        for cut in range(1, len(token)):
            left, right = token[:cut], token[cut:]
            if left in vocabulary and right in vocabulary:
                merges.append((-score, vocabulary[left], vocabulary[right]))
    merges.sort()
    unknown = next((t for t, k in zip(tokens, types, strict=True) if k == TokenType.UNKNOWN), None)
    tokenizer = Tokenizer(
        models.BPE(
            vocabulary,
            [(tokens[left], tokens[right]) for _, left, right in merges],
            unk_token=unknown,
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    prefix = bool(metadata.get("tokenizer.ggml.add_space_prefix", True))
    steps: list[Any] = [normalizers.Prepend("\u2581")] if prefix else []
    tokenizer.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", "\u2581")])
    undo: list[Any] = [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*undo, *([decoders.Strip(" ", 1, 0)] if prefix else [])])
    return tokenizer


def _add_ends(tokenizer: Tokenizer, metadata: Mapping[str, Any], tokens: list[str]) -> None:
    """Begin and end tokens, set around a text where special tokens are asked for."""
    sentencepiece = metadata.get("tokenizer.ggml.model") == "llama"
    template, specials = "$A", []
    for end, default in (("bos", sentencepiece), ("eos", False)):
        number = metadata.get(f"tokenizer.ggml.{end}_token_id")
        if number is None or not metadata.get(f"tokenizer.ggml.add_{end}_token", default):
            continue
        token = tokens[number]
        specials.append((token, number))
        template = f"{token} {template}" if end == "bos" else f"{template} {token}"
    if specials:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=template, special_tokens=specials
        )
