import json

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from llmwright.core import ConfigurationError
from llmwright.modeling import Decoder, ModelConfig, merge_adapter
from llmwright.training import LoraSettings, add_lora, lora_parameters, remove_lora, save_adapter
from llmwright.training.lora import LoraLinear

TOKENS = torch.tensor([[5, 17, 200, 3, 9, 42], [7, 7, 300, 11, 0, 1]])


def trained(decoder: Decoder, settings: LoraSettings) -> dict[str, nn.Parameter]:
    """Factors with something in both, as after training."""
    add_lora(decoder, settings)
    parameters = lora_parameters(decoder)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in parameters.items():
            if "lora_B" in name:
                parameter.normal_(0, 0.1, generator=generator)
    return parameters


@pytest.mark.parametrize("targets", ["all-linear", ["q_proj", "v_proj"], "mlp.up_proj"])
def test_transformers_and_peft_read_our_files_and_give_our_logits(
    tiny, tiny_model_path, tmp_path, targets
):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    settings = LoraSettings(rank=4, alpha=6, targets=targets)
    trained(tiny.decoder, settings)
    ours = tiny.decoder(TOKENS)
    save_adapter(tiny.decoder, settings, tiny.source, tmp_path)

    base = AutoModelForCausalLM.from_pretrained(tiny_model_path, dtype=torch.float32)
    plain = base(TOKENS).logits
    theirs = PeftModel.from_pretrained(base, tmp_path)(TOKENS).logits
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    assert (theirs - plain).abs().max() > 0.01


@pytest.mark.parametrize("targets", ["all-linear", ["q_proj", "v_proj"], "mlp.up_proj"])
def test_merged_the_adapter_gives_the_logits_it_was_trained_with(tiny, tmp_path, targets):
    settings = LoraSettings(rank=4, alpha=6, targets=targets)
    before = tiny.decoder(TOKENS)
    trained(tiny.decoder, settings)
    beside = tiny.decoder(TOKENS)
    save_adapter(tiny.decoder, settings, tiny.source, tmp_path)
    remove_lora(tiny.decoder)
    assert torch.equal(tiny.decoder(TOKENS), before)
    merge_adapter(tiny.decoder, tmp_path)
    torch.testing.assert_close(tiny.decoder(TOKENS), beside, atol=1e-5, rtol=1e-5)


def test_files_names_and_targets_are_those_peft_writes(tiny, tiny_model_path, tmp_path):
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    settings = LoraSettings(rank=3, alpha=5, dropout=0.25)
    add_lora(tiny.decoder, settings)
    save_adapter(tiny.decoder, settings, "pypi:some-model", tmp_path / "ours")
    base = AutoModelForCausalLM.from_pretrained(tiny_model_path)
    peft = get_peft_model(
        base,
        LoraConfig(
            r=3, lora_alpha=5, lora_dropout=0.25, target_modules="all-linear", task_type="CAUSAL_LM"
        ),
    )
    peft.save_pretrained(tmp_path / "theirs")
    ours, theirs = (
        load_file(tmp_path / w / "adapter_model.safetensors") for w in ("ours", "theirs")
    )
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}
    # A starts in the same distribution: uniform within 1/sqrt(in).
    for name, tensor in ours.items():
        if "lora_A" in name:
            bound = tensor.shape[1] ** -0.5
            assert tensor.abs().max() <= bound
            assert tensor.std().item() == pytest.approx(theirs[name].std().item(), rel=0.3)
        else:
            assert not tensor.any()
    our_config = json.loads((tmp_path / "ours" / "adapter_config.json").read_text())
    their_config = json.loads((tmp_path / "theirs" / "adapter_config.json").read_text())
    assert our_config.pop("base_model_name_or_path") == "pypi:some-model"
    # PEFT may name modules by their whole path; ours are the last parts of the same.
    last = {name.rpartition(".")[2] for name in their_config["target_modules"]}
    assert set(our_config.pop("target_modules")) == last
    assert our_config == {key: their_config[key] for key in our_config}


def test_outputs_and_gradients_are_those_of_pefts_layer():
    from peft.tuners.lora import LoraConfig
    from peft.tuners.lora.layer import Linear as PeftLinear

    torch.manual_seed(0)
    base = nn.Linear(12, 7)
    ours = LoraLinear(base, 4, 1.5, 0.0)
    theirs = PeftLinear(base, "default", LoraConfig(r=4, lora_alpha=6), r=4, lora_alpha=6)
    a, b = torch.randn(4, 12), torch.randn(7, 4)
    for module_a, module_b in (
        (ours.lora_A, ours.lora_B),
        (theirs.lora_A["default"].weight, theirs.lora_B["default"].weight),
    ):
        module_a.data.copy_(a)
        module_b.data.copy_(b)
    found = []
    for layer, factors in (
        (ours, [ours.lora_A, ours.lora_B]),
        (theirs, [theirs.lora_A["default"].weight, theirs.lora_B["default"].weight]),
    ):
        x = torch.randn(2, 5, 12, generator=torch.Generator().manual_seed(1)).requires_grad_()
        y = layer(x)
        found.append((y, *torch.autograd.grad(y.square().sum(), [x, *factors])))
    for mine, peft in zip(*found, strict=True):
        torch.testing.assert_close(mine, peft, atol=1e-4, rtol=1e-5)


def test_a_fresh_adapter_changes_nothing_and_takes_every_gradient(tiny):
    before = tiny.decoder(TOKENS)
    add_lora(tiny.decoder, LoraSettings())
    assert torch.equal(tiny.decoder(TOKENS), before)
    learning = [n for n, p in tiny.decoder.named_parameters() if p.requires_grad]
    assert learning and all("lora_" in name for name in learning)


def test_the_size_is_rank_times_both_widths():
    """Llama-2-7B, rank 8 on queries and values: 4,194,304 (Hu et al.'s formula, LitGPT's table)."""
    config = ModelConfig(
        vocab_size=32000, hidden_size=4096, intermediate_size=11008, num_hidden_layers=32,
        num_attention_heads=32, num_key_value_heads=32, head_dim=128, tie_word_embeddings=False,
    )  # fmt: skip
    with torch.device("meta"):
        decoder = Decoder(config)
    add_lora(decoder, LoraSettings(rank=8, targets=["q_proj", "v_proj"]))
    assert sum(p.numel() for p in lora_parameters(decoder).values()) == 4_194_304


def test_factors_stay_float32_beside_bfloat16_and_keep_small_steps():
    layer = LoraLinear(nn.Linear(64, 48, bias=False).bfloat16(), 8, 2.0, 0.0)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        layer.lora_A.normal_(generator=generator)
        layer.lora_B.normal_(generator=generator)
    x = torch.randn(10, 64, generator=generator).bfloat16()
    y = layer(x)
    assert y.dtype == torch.bfloat16
    weight = layer.base_layer.weight.double() + 2 * layer.lora_B.double() @ layer.lora_A.double()
    exact = x.double() @ weight.T
    assert (y - exact).norm() / exact.norm() < 0.01
    y.float().sum().backward()
    assert layer.lora_A.grad.dtype == layer.lora_B.grad.dtype == torch.float32
    before = layer.lora_A.detach().clone()
    with torch.no_grad():
        layer.lora_A += 1e-4
    assert not torch.equal(before, layer.lora_A)


def test_dropout_acts_on_the_factors_alone_and_only_in_training():
    layer = LoraLinear(nn.Linear(6, 6), 2, 1.0, 0.5)
    with torch.no_grad():
        layer.lora_A.fill_(1.0)
        layer.lora_B.fill_(1.0)
    x = torch.ones(2000, 6)
    layer.eval()
    still = layer(x)
    assert torch.equal(still, layer(x))
    layer.train()
    torch.manual_seed(0)
    moving = layer(x)
    assert not torch.equal(still, moving)
    assert moving.mean().item() == pytest.approx(still.mean().item(), rel=0.05)


@pytest.mark.parametrize(
    ("targets", "says"),
    [
        (["q_proj", "k_porj"], "'k_porj'; use k_proj"),
        ("qkv", "use q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj or all-linear"),
        ("all-lnear", "all-linear"),
        (["lm_head"], "the output matrix stays frozen"),
        (["input_layernorm"], "no linear layer is called 'input_layernorm'"),
    ],
)
def test_an_unknown_target_is_named_with_the_nearest(tiny, targets, says):
    with pytest.raises(ConfigurationError) as caught:
        add_lora(tiny.decoder, LoraSettings(targets=targets))
    assert says in str(caught.value)
    assert not lora_parameters(tiny.decoder)
