"""Vocabularies in GGUF metadata: SentencePiece's kind against its definition, begin tokens,
Llama 3's and Qwen's splits."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmwright.tokenization import Tokenizer
from llmwright.tokenization.vocabulary import tokenizer_from_gguf

PIECES = ["\u2581", "a", "b", "ab", "\u2581a", "\u2581ab", "ba", "abab", "c", "bc", "\u2581c"]
TOKENS = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *PIECES]
SCORES = {
    piece: -float(rank)
    for rank, piece in enumerate(["ab", "\u2581a", "ba", "\u2581ab", "bc", "abab", "\u2581c"])
}
METADATA: dict[str, Any] = {
    "tokenizer.ggml.model": "llama",
    "tokenizer.ggml.tokens": TOKENS,
    "tokenizer.ggml.scores": [SCORES.get(token, -100.0) for token in TOKENS],
    "tokenizer.ggml.token_type": [2, 3, 3, *([6] * 256), *([1] * len(PIECES))],
    "tokenizer.ggml.bos_token_id": 1,
    "tokenizer.ggml.eos_token_id": 2,
}
SENTENCEPIECE = Tokenizer(
    tokenizer_from_gguf(METADATA, "x"), special={"eos_token": "</s>"}, chat_template=None
)


def by_definition(text: str) -> list[str]:
    """SentencePiece's BPE: join the neighbours whose union scores highest, leftmost first."""
    symbols = list(("\u2581" + text.replace(" ", "\u2581")) if text else "")
    while True:
        options = [
            (SCORES[left + right], -place)
            for place, (left, right) in enumerate(pairwise(symbols))
            if left + right in SCORES
        ]
        if not options:
            break
        place = -max(options)[1]
        symbols[place : place + 2] = ["".join(symbols[place : place + 2])]
    out: list[str] = []
    for symbol in symbols:
        known = symbol in TOKENS
        out += [symbol] if known else [f"<0x{byte:02X}>" for byte in symbol.encode()]
    return out


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="ab c é🎉", max_size=14))
def test_sentencepiece_merges_by_score_and_falls_back_to_bytes(text: str) -> None:
    ids = SENTENCEPIECE.encode(text)
    assert [SENTENCEPIECE.token(i) for i in ids] == by_definition(text)
    assert SENTENCEPIECE.decode(ids) == text
    stream = SENTENCEPIECE.stream_decoder()
    assert "".join(map(stream.push, ids)) + stream.flush() == text


def test_begin_and_end_tokens_are_added_where_asked_for() -> None:
    assert SENTENCEPIECE.encode("ab", add_special=True)[0] == 1
    assert 1 not in SENTENCEPIECE.encode("ab")
    both = tokenizer_from_gguf({**METADATA, "tokenizer.ggml.add_eos_token": True}, "x")
    ids = both.encode("ab").ids
    assert (ids[0], ids[-1]) == (1, 2)
    none = tokenizer_from_gguf({**METADATA, "tokenizer.ggml.add_bos_token": False}, "x")
    assert 1 not in none.encode("ab").ids


@pytest.mark.parametrize(
    ("pre", "text", "pieces"),
    [
        ("gpt-2", "it's 1234 x\n\n y", ["it", "'s", "Ġ1234", "Ġx", "ĊĊ", "Ġy"]),
        ("smollm", "it's 12 x", ["it", "'s", "Ġ", "1", "2", "Ġx"]),
        ("llama-bpe", "IT'S 1234 (x)\n\n y", ["IT", "'S", "Ġ", "123", "4", "Ġ(", "x", ")ĊĊ", "Ġy"]),
        ("qwen2", "a12 b", ["a", "1", "2", "Ġb"]),
    ],
)
def test_text_is_split_as_the_file_names_it(pre: str, text: str, pieces: list[str]) -> None:
    metadata = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": ["a"],
        "tokenizer.ggml.merges": [],
    }
    split = tokenizer_from_gguf(metadata, "x").pre_tokenizer.pre_tokenize_str(text)
    assert [piece for piece, _ in split] == pieces


def test_user_defined_tokens_stay_whole_but_are_not_special() -> None:
    tokens = ["a", "b", "<tool>", "<end>"]
    metadata = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.merges": [],
        "tokenizer.ggml.token_type": [1, 1, 4, 3],
    }
    tokenizer = Tokenizer(tokenizer_from_gguf(metadata, "x"), special={}, chat_template=None)
    assert tokenizer.encode("a<tool>b<end>") == [0, 2, 1, 3]
    assert tokenizer.decode([0, 2, 1, 3]) == "a<tool>b"
