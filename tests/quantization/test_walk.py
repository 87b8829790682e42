import pytest
import torch
from torch.nn import functional as F

from llmwright.core import InputError
from llmwright.modeling import ModelConfig, random_decoder
from llmwright.quantization import QuantizationSettings, Scheme, quantize
from llmwright.quantization.walk import fold, linear_layers, walk


def seen(decoder, token_ids):
    """What each linear layer reads in a plain forward pass."""
    inputs, hooks = {}, []
    for name, module in linear_layers(decoder).items():
        hook = module.register_forward_pre_hook(
            lambda _, x, name=name: inputs.__setitem__(name, x[0].detach())
        )
        hooks.append(hook)
    decoder(token_ids)
    for hook in hooks:
        hook.remove()
    return inputs


def test_groups_come_in_order_with_the_inputs_of_a_plain_forward_pass(decoder, token_ids):
    expected = seen(decoder, token_ids)
    names = []
    for group in walk(decoder, token_ids, "test"):
        for name, linear in zip(group.names, group.linears, strict=True):
            assert linear is decoder.get_submodule(name)
            torch.testing.assert_close(group.inputs, expected[name], rtol=1e-4, atol=1e-5)
        names += group.names
    assert names == list(expected)


def test_each_group_sees_what_was_changed_before_it(decoder, token_ids):
    found = {}
    for group in walk(decoder, token_ids, "test"):
        found |= dict.fromkeys(group.names, group.inputs)
        for linear in group.linears:
            with torch.no_grad():
                linear.weight.mul_(1.3)
    # In the model as it is now, each layer reads what the walk had shown.
    for name, inputs in seen(decoder, token_ids).items():
        torch.testing.assert_close(found[name], inputs, rtol=1e-4, atol=1e-4)


def test_a_block_is_what_is_added_to_the_residual_stream(decoder, token_ids):
    layer = decoder.model.layers[0]
    x = decoder.model.embed_tokens(token_ids)
    for group in walk(decoder, token_ids, "test"):
        if group.names[0] == "model.layers.0.mlp.gate_proj":
            after = group.block(group.inputs)
            inner = F.silu(layer.mlp.gate_proj(group.inputs)) * layer.mlp.up_proj(group.inputs)
            torch.testing.assert_close(after, layer.mlp.down_proj(inner))
        if group.names[0] == "model.layers.0.self_attn.q_proj":
            torch.testing.assert_close(group.inputs, layer.input_layernorm(x))


@pytest.mark.parametrize("heads_of_keys", [2, 4])
@pytest.mark.parametrize("bias", [False, True])
def test_factors_folded_away_leave_the_model_as_it_was(token_ids, heads_of_keys, bias):
    config = ModelConfig(
        vocab_size=160, hidden_size=48, intermediate_size=96, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=heads_of_keys, head_dim=12,
        attention_bias=bias, mlp_bias=bias,
    )  # fmt: skip
    decoder = random_decoder(config, seed=1, std=0.15)
    for name, parameter in decoder.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter)
    before = decoder(token_ids)
    folded = set()
    with torch.no_grad():
        for group in walk(decoder, token_ids, "test"):
            if group.before is not None:
                fold(group, torch.rand(group.inputs.shape[-1]) * 3 + 0.1)
                folded |= {name.rpartition(".")[2] for name in group.names}
    torch.testing.assert_close(decoder(token_ids), before, rtol=1e-3, atol=1e-4)
    everything = {"q_proj", "k_proj", "v_proj", "gate_proj", "up_proj", "down_proj"}
    # Values feed the output layer one by one only where every query head has its own.
    assert folded == everything | ({"o_proj"} if heads_of_keys == 4 else set())


def test_a_quantized_model_is_not_quantized_again(decoder, token_ids):
    quantize(decoder, QuantizationSettings("rtn", Scheme(4, 16)))
    with pytest.raises(InputError, match="quantized already"):
        quantize(decoder, QuantizationSettings("gptq", Scheme(4, 16)), token_ids)
