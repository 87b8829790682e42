"""Tokenizers as GGUF metadata, against the metadata that llama.cpp's converter wrote."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from llmwright.core import InputError
from llmwright.tokenization import GGUFHeader, gguf_vocabulary, load_tokenizer, read_gguf
from llmwright.tokenization.vocabulary import EXPRESSIONS


def test_smollm2_s_vocabulary_is_the_one_of_its_file(smollm2_path: Path) -> None:
    header = read_gguf(smollm2_path)
    written = gguf_vocabulary(load_tokenizer(header), 49_152)
    published = {k: v for k, v in header.metadata.items() if k.startswith("tokenizer.")}
    assert written == {**published, "tokenizer.ggml.add_eos_token": False}


def folder_with(path: Path, tokenizer: Tokenizer, config: dict | None = None) -> Path:
    tokenizer.save(str(path / "tokenizer.json"))
    (path / "tokenizer_config.json").write_text(json.dumps(config or {}))
    return path


def byte_level(pre_tokenizer: object, ignore_merges: bool = False) -> Tokenizer:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("t", "h"), ("th", "e"), ("Ġ", "a"), ("2", "0"), ("20", "2"), ("Ñ", "Ģ")]
    vocabulary = {t: n for n, t in enumerate([*letters, *("".join(m) for m in merges)])}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, ignore_merges=ignore_merges))
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|end|>"])
    return tokenizer


def split(name: str) -> object:
    parts = pre_tokenizers.Split(Regex(EXPRESSIONS[name]), behavior="isolated")
    return pre_tokenizers.Sequence(
        [parts, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )


@pytest.mark.parametrize(
    ("name", "pre_tokenizer", "ignore_merges"),
    [
        ("gpt-2", pre_tokenizers.ByteLevel(add_prefix_space=False), False),
        (
            "smollm",
            pre_tokenizers.Sequence(
                [
                    pre_tokenizers.Digits(individual_digits=True),
                    pre_tokenizers.ByteLevel(add_prefix_space=False),
                ]
            ),
            False,
        ),
        ("llama-bpe", split("llama-bpe"), True),
        ("qwen2", split("qwen2"), False),
    ],
)
def test_pre_tokenizers_by_name(tmp_path: Path, name, pre_tokenizer, ignore_merges) -> None:
    folder = folder_with(
        tmp_path, byte_level(pre_tokenizer, ignore_merges), {"eos_token": "<|end|>"}
    )
    tokenizer = load_tokenizer(folder)
    metadata = gguf_vocabulary(tokenizer, tokenizer.vocab_size + 3)
    assert metadata["tokenizer.ggml.pre"] == name
    assert metadata["tokenizer.ggml.eos_token_id"] == tokenizer.vocab_size - 1
    assert metadata["tokenizer.ggml.token_type"][-4:] == [3, 5, 5, 5]
    again = load_tokenizer(GGUFHeader(Path("x"), metadata, {}))
    for text in ("the 2024 the", "a<|end|>b", "Привет,  мир\n\n 12345 don't"):
        assert again.encode(text) == tokenizer.encode(text)
    assert again.eos_ids == tokenizer.eos_ids


def sentencepiece() -> Tokenizer:
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{n:02X}>" for n in range(256))]
    tokens += ["▁", "t", "h", "e", "a", "th", "the", "▁the", "▁a", "he"]
    merges = [("t", "h"), ("th", "e"), ("▁", "the"), ("▁", "a"), ("h", "e")]
    tokenizer = Tokenizer(
        models.BPE(
            {t: n for n, t in enumerate(tokens)}, merges, unk_token="<unk>", byte_fallback=True,
            fuse_unk=True,
        )
    )  # fmt: skip
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    undo = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*undo, decoders.Strip(" ", 1, 0)])
    tokenizer.add_special_tokens(["<s>", "</s>"])
    return tokenizer


def test_sentencepiece_gets_scores(tmp_path: Path) -> None:
    config = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    tokenizer = load_tokenizer(folder_with(tmp_path, sentencepiece(), config))
    metadata = gguf_vocabulary(tokenizer, tokenizer.vocab_size)
    assert metadata["tokenizer.ggml.model"] == "llama"
    assert metadata["tokenizer.ggml.add_space_prefix"] is True
    assert metadata["tokenizer.ggml.token_type"][:4] == [2, 3, 3, 6]
    scores = dict(
        zip(metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.scores"], strict=True)
    )
    assert scores["th"] > scores["the"] > scores["▁the"] > scores["▁a"] > scores["he"]
    again = load_tokenizer(GGUFHeader(Path("x"), metadata, {}))
    for text in ("the hat", "thé", "ath he"):
        assert again.encode(text) == tokenizer.encode(text)


def test_what_gguf_cannot_say_is_an_error(tmp_path: Path) -> None:
    for number, (tokenizer, says) in enumerate(
        (
            (Tokenizer(models.WordLevel({"a": 0}, unk_token="a")), "its model is WordLevel"),
            (byte_level(pre_tokenizers.Whitespace()), "no name for its pre-tokenizer"),
            (lowercase(), "cuts texts in another way"),
        )
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        loaded = load_tokenizer(folder_with(folder, tokenizer))
        with pytest.raises(InputError, match=says) as caught:
            gguf_vocabulary(loaded, 400)
        assert str(folder) in str(caught.value)


def lowercase() -> Tokenizer:
    tokenizer = byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False))
    tokenizer.normalizer = normalizers.Lowercase()
    return tokenizer
