"""A tiny random BERT as a folder of sentence-transformers: the real code paths at no cost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny matrices on many threads only wait for each other, above all where tests run side by
    side."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch
    from tokenizers import BertWordPieceTokenizer
    from tokenizers.processors import BertProcessing
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("tiny-bert")
    tokenizer = BertWordPieceTokenizer()
    guide = Path(__file__).parents[2] / "docs" / "guide"
    pages = [str(path) for path in sorted(guide.glob("0[1-3]-*.md"))]
    tokenizer.train(pages, vocab_size=600, show_progress=False)
    ends = [(token, tokenizer.token_to_id(token)) for token in ("[SEP]", "[CLS]")]
    tokenizer.post_processor = BertProcessing(*ends)
    tokenizer.save(str(folder / "tokenizer.json"))
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=tokenizer.get_vocab_size(), hidden_size=32, num_hidden_layers=3,
        num_attention_heads=4, intermediate_size=64, max_position_embeddings=64,
    )  # fmt: skip
    model = BertModel(config)
    for name, parameter in model.named_parameters():
        # The usual 0.02 would hide most mistakes; normalisation stays near the identity, or else
        # all tokens would end as the same vector.
        is_norm_weight = name.endswith("LayerNorm.weight")
        torch.nn.init.normal_(
            parameter, mean=float(is_norm_weight), std=0.1 if parameter.dim() == 1 else 0.3
        )
    model.save_pretrained(folder)
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 48}))
    return folder
