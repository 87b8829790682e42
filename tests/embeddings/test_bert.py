"""Our BERT against transformers' BertModel on the same weights."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from llmwright.core import ModelSourceError
from llmwright.embeddings.bert import load_bert


def copy(folder: Path, to: Path) -> Path:
    return Path(shutil.copytree(folder, to / "model"))


def test_token_vectors_equal_those_of_transformers(tiny_bert: Path) -> None:
    from transformers import BertModel

    reference = BertModel.from_pretrained(tiny_bert).eval()
    encoder = load_bert(tiny_bert)
    generator = torch.Generator().manual_seed(1)
    texts = [
        torch.randint(0, encoder.config.vocab_size, (length,), generator=generator).tolist()
        for length in (64, 17, 17, 17, 2, 1, 5)  # not sorted: groups are runs of equal length
    ]
    with torch.inference_mode():
        groups = encoder(texts)
        assert [tuple(g.shape) for g in groups] == [
            (1, 64, 32), (3, 17, 32), (1, 2, 32), (1, 1, 32), (1, 5, 32)
        ]  # fmt: skip
        ours = [one for group in groups for one in group]
        for text, vectors in zip(texts, ours, strict=True):
            expected = reference(torch.tensor([text])).last_hidden_state[0]
            torch.testing.assert_close(vectors, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["roberta", "xlm-roberta"])
@pytest.mark.parametrize("pad", [0, 1])
def test_roberta_counts_positions_from_behind_its_padding(
    tmp_path: Path, kind: str, pad: int
) -> None:
    from transformers import RobertaConfig, RobertaModel, XLMRobertaConfig, XLMRobertaModel

    roberta = kind == "roberta"
    make, model_of = (
        (RobertaConfig, RobertaModel) if roberta else (XLMRobertaConfig, XLMRobertaModel)
    )
    torch.manual_seed(0)
    config = make(
        vocab_size=90, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=48, max_position_embeddings=40, type_vocab_size=1, pad_token_id=pad,
    )  # fmt: skip
    reference = model_of(config).eval()
    for parameter in reference.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    reference.save_pretrained(tmp_path)
    encoder = load_bert(tmp_path)
    assert encoder.config.max_position_embeddings == 39 - pad
    text = list(range(2, 41 - pad))  # as long as there are positions
    with torch.inference_mode():
        expected = reference(torch.tensor([text])).last_hidden_state[0]
        torch.testing.assert_close(encoder([text])[0][0], expected, atol=1e-4, rtol=1e-4)


def test_weights_in_half_precision_and_with_a_prefix(tiny_bert: Path, tmp_path: Path) -> None:
    folder = copy(tiny_bert, tmp_path)
    weights = load_file(folder / "model.safetensors")
    save_file({f"bert.{k}": v.half() for k, v in weights.items()}, folder / "model.safetensors")
    encoder = load_bert(folder)
    assert {p.dtype for p in encoder.parameters()} == {torch.float32}
    name = "embeddings.word_embeddings.weight"
    assert torch.equal(encoder.words.weight, weights[name].half().float())


def test_broken_weights_are_named(tiny_bert: Path, tmp_path: Path) -> None:
    folder = copy(tiny_bert, tmp_path)
    file = folder / "model.safetensors"
    weights = load_file(file)

    missing = dict(weights)
    del missing["encoder.layer.1.attention.self.key.bias"]
    save_file(missing, file)
    with pytest.raises(
        ModelSourceError, match=r"do not fit .*layer\.1\.attention\.self\.key\.bias"
    ):
        load_bert(folder)

    save_file({**weights, "embeddings.LayerNorm.bias": torch.zeros(31)}, file)
    with pytest.raises(ModelSourceError, match=r"do not fit .*norm\.bias"):
        load_bert(folder)

    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ModelSourceError, match="cannot be read"):
        load_bert(folder)
