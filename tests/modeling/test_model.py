"""The embedded model itself: equal to transformers on the weights that transformers reads."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from llmwright.core import ConfigurationError, Message
from llmwright.modeling import KVCache, Model, load_model
from llmwright.modeling.model import choose_dtype

pytestmark = pytest.mark.xdist_group("smollm2")  # one process loads it

PROMPTS = (
    "What is the capital of France?",
    "def fibonacci(n):\n    if n < 2:\n        return n\n",
    "Объясни, что такое токенизация. 12345 🎉",
)


@pytest.fixture(scope="module")
def model(smollm2_path: Path) -> Model:
    return load_model(smollm2_path, "float32")


@pytest.fixture(scope="module")
def reference(smollm2_path: Path) -> torch.nn.Module:
    """transformers' own reading of the GGUF file: its dequantizer, its row order."""
    transformers = pytest.importorskip("transformers")
    return transformers.AutoModelForCausalLM.from_pretrained(
        smollm2_path.parent, gguf_file=smollm2_path.name, dtype=torch.float32
    ).eval()


@torch.inference_mode()
def test_logits_equal_transformers_on_three_prompts(model: Model, reference) -> None:
    for prompt in PROMPTS:
        ids = model.tokenizer.encode_chat([Message("user", prompt)])
        x = torch.tensor([ids])
        theirs = reference(x).logits
        assert (model.decoder(x) - theirs).abs().max() < 1e-3
        # Left-over length 1: the prompt cached, its last token alone, then chunks of a prompt.
        cache = KVCache(model.config, model.dtype)
        parts = [model.decoder(x[:, :-1], cache.positions(len(ids) - 1), cache)]
        parts.append(model.decoder(x[:, -1:], cache.positions(1), cache))
        assert (torch.cat(parts, 1) - theirs).abs().max() < 1e-3
        cache.truncate(0)
        parts = [
            model.decoder(part, cache.positions(part.shape[1]), cache) for part in x.split(7, 1)
        ]
        assert (torch.cat(parts, 1) - theirs).abs().max() < 1e-3


@torch.inference_mode()
def test_logits_equal_transformers_at_two_thousand_tokens(model: Model, reference) -> None:
    text = "\n".join(f"{n}. {PROMPTS[n % 3]}" for n in range(400))
    x = torch.tensor([model.tokenizer.encode(text)[:2000]])
    assert x.shape == (1, 2000)
    places = torch.tensor([0, 1, 500, 1000, 1500, 1998, 1999])
    hidden = reference.model(x).last_hidden_state  # [1, 2000, hidden]
    theirs = reference.lm_head(hidden[:, places])
    cache = KVCache(model.config, model.dtype)
    prefill = model.decoder(x[:, :1999], cache.positions(1999), cache, logits_at=places[:-1])
    last = model.decoder(x[:, 1999:], cache.positions(1), cache)
    assert (torch.cat((prefill, last), 1) - theirs).abs().max() < 1e-3


@torch.inference_mode()
def test_bfloat16_answers_the_same(model: Model, smollm2_path: Path) -> None:
    rough = load_model(smollm2_path, "bfloat16")
    assert rough.decoder.dtype == torch.bfloat16
    answers = []
    for each in (model, rough):
        x = torch.tensor([each.tokenizer.encode_chat([Message("user", PROMPTS[0])])])
        cache, said = KVCache(each.config, each.dtype), []
        for _ in range(8):
            logits = each.decoder(
                x, cache.positions(x.shape[1]), cache, logits_at=torch.tensor([-1])
            )
            x = logits[:, -1].argmax(-1, keepdim=True)
            if int(x) in each.tokenizer.eos_ids:
                break
            said.append(int(x))
        answers.append(each.tokenizer.decode(said))
    assert answers == ["The capital of France is Paris."] * 2


def test_what_a_model_says_of_itself(model: Model, smollm2_path: Path) -> None:
    assert model.source == str(smollm2_path)
    assert len(model.fingerprint) == 64
    assert model.config.parameters == 134_515_008
    assert model.config.max_position_embeddings == 8192
    assert model.config.rms_norm_eps == 1e-5


def test_dtypes_have_names() -> None:
    assert choose_dtype("float32") == torch.float32
    assert choose_dtype("auto") in (torch.float32, torch.bfloat16)
    with pytest.raises(ConfigurationError, match="'float16' is no dtype"):
        choose_dtype("float16")  # type: ignore[arg-type]


def test_the_thread_setting_holds(tiny_model_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    monkeypatch.setenv("LLMWRIGHT_THREADS", "1")
    try:
        load_model(tiny_model_path)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
