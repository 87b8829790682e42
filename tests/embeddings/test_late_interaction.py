"""Token vectors of a ColBERT checkpoint against transformers, and of any BERT."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import BertModel

from llmwright.core import ModelSourceError
from llmwright.embeddings.late_interaction import LateInteractionEncoder

TEXTS = ["Retrieval, finds: passages!", "tokens", "the weights of a model " * 10]
QUERY_MARK, DOCUMENT_MARK = "ret", "the"


def colbert(tiny_bert, folder, **settings):
    folder.mkdir()
    for name in ("config.json", "tokenizer.json"):
        (folder / name).write_bytes((tiny_bert / name).read_bytes())
    tensors = {f"bert.{k}": v for k, v in load_file(tiny_bert / "model.safetensors").items()}
    generator = torch.Generator().manual_seed(2)
    tensors["linear.weight"] = torch.randn(8, 32, generator=generator)
    save_file(tensors, folder / "model.safetensors")
    about = {"query_maxlen": 12, "doc_maxlen": 20, "dim": 8} | settings
    about |= {"query_token_id": "[UNK]", "doc_token_id": "[PAD]"}
    (folder / "artifact.metadata").write_text(json.dumps(about))
    return folder


@pytest.mark.parametrize("attend", [False, True])
def test_a_colbert_checkpoint_is_computed_as_colbert_does(tiny_bert, tmp_path, attend):
    folder = colbert(tiny_bert, tmp_path / "c", attend_to_mask_tokens=attend)
    encoder = LateInteractionEncoder.load(folder)
    bert = BertModel.from_pretrained(tiny_bert, attn_implementation="eager").eval()
    linear = load_file(folder / "model.safetensors")["linear.weight"]
    tokenizer = Tokenizer.from_file(str(tiny_bert / "tokenizer.json"))
    ids_of = tokenizer.token_to_id

    def vectors(ids, heard):
        mask = torch.tensor([[int(i < heard) for i in range(len(ids))]])
        with torch.no_grad():
            hidden = bert(torch.tensor([ids]), attention_mask=mask).last_hidden_state[0]
        return torch.nn.functional.normalize(hidden @ linear.T, dim=-1).numpy()

    marks = [ids_of(c) for c in "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"]
    for text, query, document in zip(
        TEXTS, encoder.queries(TEXTS), encoder.documents(TEXTS), strict=True
    ):
        words = tokenizer.encode(text, add_special_tokens=False).ids
        cls, sep, mask = (ids_of(name) for name in ("[CLS]", "[SEP]", "[MASK]"))
        asked = [cls, ids_of("[UNK]"), *words[:9], sep]
        filled = asked + [mask] * (12 - len(asked))
        heard = 12 if attend else len(asked)
        assert query == pytest.approx(vectors(filled, heard), abs=1e-5)
        whole = [cls, ids_of("[PAD]"), *words[:17], sep]
        kept = [i for i, token in enumerate(whole) if token not in marks]
        assert document == pytest.approx(vectors(whole, len(whole))[kept], abs=1e-5)
    assert encoder.dimension == 8 and len(encoder.documents(TEXTS)[0]) < len(whole)


def test_any_bert_gives_the_vectors_of_its_words(tiny_bert):
    encoder = LateInteractionEncoder.load(tiny_bert, 48)
    first, empty = encoder.documents(["tokens", ""])
    assert encoder.dimension == 32 and empty.shape == (0, 32)
    assert np.linalg.norm(first, axis=1) == pytest.approx(np.ones(len(first)), abs=1e-5)
    assert (encoder.queries(["tokens"])[0] == first).all()


def test_what_is_no_colbert(tiny_bert, tmp_path):
    folder = colbert(tiny_bert, tmp_path / "c")
    (folder / "artifact.metadata").write_text('{"query_token_id": "[unused0]"}')
    with pytest.raises(ModelSourceError, match=r"no token \[unused0\]"):
        LateInteractionEncoder.load(folder)
    tensors = load_file(folder / "model.safetensors")
    save_file(tensors | {"linear.weight": torch.zeros(8, 5)}, folder / "model.safetensors")
    with pytest.raises(ModelSourceError, match=r"linear.weight is \[8, 5\] for 32 hidden"):
        LateInteractionEncoder.load(folder)
