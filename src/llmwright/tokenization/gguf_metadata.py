"""A tokenizer as GGUF metadata: what ``vocabulary`` reads, written.

Token types follow llama.cpp's converter: special tokens are CONTROL, other added ones
USER_DEFINED, and rows of the embedding beyond the vocabulary are filled up with UNUSED ones. A
SentencePiece vocabulary that came as merges gets scores in their order, the first being the best.

GGUF names a pre-tokenizer instead of holding it, and llama.cpp ends texts at tokens it knows by
name. Whatever it could not say is found out at once: the metadata are read back, and must cut a
text of many scripts into the same tokens.
"""

from __future__ import annotations

import re
from typing import Any

from llmwright.core import InputError
from llmwright.tokenization.loading import KNOWN_ENDS, ROLES
from llmwright.tokenization.tokenizer import Tokenizer
from llmwright.tokenization.vocabulary import EXPRESSIONS, TokenType, tokenizer_from_gguf

_PROBE = (
    "The year 2024's report:\n\n\tif x >= 10_000: y(x**2)  # 3.14, don't WE'LL\r\n   indented\n"
    "Größe naïve; Привет, мир! 今天天气很好。 مرحبا हिन्दी 🙂🚀 ²½ --> ... !!!  end "
)


def gguf_vocabulary(tokenizer: Tokenizer, size: int) -> dict[str, Any]:
    """GGUF metadata (``tokenizer.`` keys) for a model with ``size`` embeddings.

    Raises ``InputError`` where the format cannot say what the tokenizer does.
    """
    raw = tokenizer.definition()
    model = raw["model"]
    if model["type"] != "BPE":
        raise _cannot(f"its model is {model['type']}", tokenizer)
    sentencepiece = bool(model.get("byte_fallback"))
    tokens, types = _tokens(raw, size, sentencepiece, tokenizer)
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    metadata: dict[str, Any] = {
        "tokenizer.ggml.model": "llama" if sentencepiece else "gpt2",
        "tokenizer.ggml.pre": "default" if sentencepiece else _pre_tokenizer(raw, tokenizer),
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": types,
    }
    if sentencepiece:
        rank = {merge.replace(" ", ""): -float(n) for n, merge in reversed([*enumerate(merges)])}
        last = -float(len(merges))
        metadata["tokenizer.ggml.scores"] = [rank.get(token, last) for token in tokens]
    else:
        metadata["tokenizer.ggml.merges"] = merges
    metadata |= _ends(tokenizer, tokens)
    if tokenizer.chat_template is not None:
        metadata["tokenizer.chat_template"] = tokenizer.chat_template
    again = tokenizer_from_gguf(metadata, "its GGUF form").encode(_PROBE, add_special_tokens=False)
    if again.ids != tokenizer.encode(_PROBE, parse_special=False):
        raise _cannot("it cuts texts in another way than any that GGUF has a name for", tokenizer)
    return metadata


def _cannot(what: str, tokenizer: Tokenizer) -> InputError:
    return InputError(
        f"the tokenizer has no GGUF form: {what}",
        where=tokenizer.where,
        fix="GGUF here holds byte-level BPE and SentencePiece BPE; export safetensors instead",
    )


def _tokens(
    raw: dict[str, Any], size: int, sentencepiece: bool, tokenizer: Tokenizer
) -> tuple[list[str], list[int]]:
    """Tokens and their types, one for each row of the embedding."""
    model = raw["model"]
    tokens = [f"[PAD{number}]" for number in range(size)]
    types = [TokenType.UNUSED] * size
    added = {token["content"]: token for token in raw["added_tokens"]}
    numbers = {**model["vocab"], **{name: token["id"] for name, token in added.items()}}
    if max(numbers.values()) >= size:
        raise InputError(
            f"the tokenizer has a token {max(numbers.values())} and the model {size} embeddings",
            where=tokenizer.where,
            fix="use the model's own tokenizer",
        )
    for token, number in numbers.items():
        tokens[number] = token
        if token == model.get("unk_token"):
            types[number] = TokenType.UNKNOWN
        elif token in added:
            special = added[token]["special"]
            types[number] = TokenType.CONTROL if special else TokenType.USER_DEFINED
        elif sentencepiece and re.fullmatch(r"<0x[0-9A-F]{2}>", token):
            types[number] = TokenType.BYTE
        else:
            types[number] = TokenType.NORMAL
    return tokens, [int(kind) for kind in types]


def _pre_tokenizer(raw: dict[str, Any], tokenizer: Tokenizer) -> str:
    """llama.cpp's name for how a text is split before its words are merged."""
    parts = raw["pre_tokenizer"] or {}
    parts = parts.get("pretokenizers", [parts])
    kinds = [part.get("type") for part in parts]
    if kinds == ["ByteLevel"] and parts[0]["use_regex"]:
        return "gpt-2"
    if kinds == ["Digits", "ByteLevel"] and parts[0]["individual_digits"] and parts[1]["use_regex"]:
        return "smollm"
    if kinds == ["Split", "ByteLevel"] and not parts[1]["use_regex"]:
        expression = parts[0]["pattern"].get("Regex")
        for name, known in EXPRESSIONS.items():
            if known == expression:
                return name
    raise _cannot(
        f"llama.cpp has no name for its pre-tokenizer ({raw['pre_tokenizer']})", tokenizer
    )


def _ends(tokenizer: Tokenizer, tokens: list[str]) -> dict[str, Any]:
    """Begin and end tokens, and whether they are set around a text."""
    numbers = {token: number for number, token in enumerate(tokens)}
    found: dict[str, Any] = {}
    for role, key in ROLES.items():
        if tokenizer.special.get(role) in numbers:
            found[f"tokenizer.ggml.{key}_token_id"] = numbers[tokenizer.special[role]]
    eos = found.get("tokenizer.ggml.eos_token_id", min(tokenizer.eos_ids, default=None))
    if eos is not None:
        found["tokenizer.ggml.eos_token_id"] = eos
    # Further ends, but for those that every reader knows by name.
    others = [n for n in sorted(tokenizer.eos_ids - {eos}) if tokens[n] not in KNOWN_ENDS]
    for key, number in zip(("eot", "eom"), others, strict=False):
        found[f"tokenizer.ggml.{key}_token_id"] = number
    plain, whole = tokenizer.encode("a"), tokenizer.encode("a", add_special=True)
    found["tokenizer.ggml.add_bos_token"] = whole[:1] != plain[:1]
    found["tokenizer.ggml.add_eos_token"] = whole[-1:] != plain[-1:]
    found["tokenizer.ggml.add_space_prefix"] = tokenizer.token(plain[0]).startswith("\u2581")
    return found
