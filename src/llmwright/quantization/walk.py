"""Through a decoder layer by layer, with what flows through it on calibration text.

Methods that look at data change one group of linear layers at a time, those that read the same
input, and want that input as it is after everything before has been changed already. ``walk``
goes over these groups, four a layer, in the order of computation::

    q_proj, k_proj, v_proj   read   input_layernorm(x)
    o_proj                   reads  what attention mixed
    gate_proj, up_proj       read   post_attention_layernorm(x)
    down_proj                reads  silu(gate) * up

The caller may change weights and norms of the group while it has it: the walk computes on with
what it finds. Held in memory are the hidden states of all calibration tokens and one group's
inputs; the cost is about two forward passes over the calibration text.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llmwright.core import InputError, progress
from llmwright.modeling import Decoder, DecoderLayer, QuantizedLinear, RMSNorm, causal_attention

_ROWS = 4  # sequences computed at once


@dataclass(frozen=True, slots=True)
class Group:
    """Linear layers that read one input.

    ``before`` makes the input: a norm whose weights, or a linear layer whose rows, match the
    input's channels one by one, so that a factor of a channel can be moved into it; None where
    nothing does. ``block(inputs)`` is the part of the model that starts with these linear layers,
    up to the residual sum: [sequences, time, in] -> [sequences, time, hidden]. ``last`` is true of
    the layer's last group, after which the layer's output is computed.
    """

    names: tuple[str, ...]
    linears: tuple[nn.Linear, ...]
    inputs: Tensor  # [sequences, time, in]
    before: RMSNorm | nn.Linear | None
    block: Callable[[Tensor], Tensor]
    last: bool

    @property
    def stacked(self) -> Tensor:
        """The weights on top of each other: [sum of out, in]."""
        return torch.cat([linear.weight for linear in self.linears])


@torch.no_grad()
def walk(decoder: Decoder, token_ids: Tensor, label: str) -> Iterator[Group]:
    """The groups of linear layers of ``decoder``, with their inputs on ``token_ids``
    [sequences, time]. Shows progress under ``label``."""
    model = decoder.model
    token_ids = token_ids.to(decoder.device)
    positions = torch.arange(token_ids.shape[1], device=decoder.device).unsqueeze(0)
    with progress(label, len(model.layers), "layers") as advance:
        x = model.embed_tokens(token_ids)  # [sequences, time, hidden]
        cos, sin = model.rotary(positions, x.dtype)
        for number, layer in enumerate(model.layers):
            assert isinstance(layer, DecoderLayer)
            x = yield from _layer(number, layer, x, cos, sin)
            advance(1)


def _layer(
    number: int, layer: DecoderLayer, x: Tensor, cos: Tensor, sin: Tensor
) -> Generator[Group, None, Tensor]:
    """The groups of one layer; returns its output, with what the groups have become."""
    attn, mlp = layer.self_attn, layer.mlp
    first, second = layer.input_layernorm, layer.post_attention_layernorm

    def attend(inputs: Tensor) -> Tensor:
        return _in_parts(lambda part: attn(part, cos, sin, causal_attention), inputs)

    def group(
        own: str,
        names: str,
        inputs: Tensor,
        before: RMSNorm | nn.Linear | None,
        block: Callable[[Tensor], Tensor],
    ) -> Group:
        parent = layer.get_submodule(own)
        linears = tuple(_linear(parent.get_submodule(name)) for name in names.split())
        full = tuple(f"model.layers.{number}.{own}.{name}" for name in names.split())
        return Group(full, linears, inputs, before, block, names == "down_proj")

    yield group("self_attn", "q_proj k_proj v_proj", first(x), first, attend)
    with _seen_by(attn.o_proj) as parts:
        attend(first(x))
    mixed = torch.cat(parts)  # [sequences, time, heads * head_dim]
    # With grouped queries one value channel feeds several of these.
    matches = attn.v_proj.out_features == attn.o_proj.in_features
    yield group("self_attn", "o_proj", mixed, attn.v_proj if matches else None, attn.o_proj)
    x = x + attend(first(x))
    yield group("mlp", "gate_proj up_proj", second(x), second, lambda h: _in_parts(mlp, h))
    inner = _in_parts(lambda h: F.silu(mlp.gate_proj(h)) * mlp.up_proj(h), second(x))
    yield group("mlp", "down_proj", inner, mlp.up_proj, mlp.down_proj)
    return x + _in_parts(mlp, second(x))


def _in_parts(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """``function`` over ``x`` [sequences, ...], a few at a time."""
    return torch.cat([function(part) for part in torch.split(x, _ROWS)])


def _linear(module: nn.Module) -> nn.Linear:
    if isinstance(module, nn.Linear):
        return module
    raise InputError(
        "the model's weights are quantized already", fix="start from the unquantized model"
    )


@contextmanager
def _seen_by(module: nn.Module) -> Iterator[list[Tensor]]:
    """The inputs of ``module`` in the calls within the block."""
    seen: list[Tensor] = []
    hook = module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        yield seen
    finally:
        hook.remove()


def fold(group: Group, factors: Tensor) -> None:
    """Multiply the weights' columns by ``factors`` [in] and divide what makes the input by them:
    the model computes the same."""
    assert group.before is not None
    for linear in group.linears:
        linear.weight.mul_(factors)
    before = group.before
    by_row = before.weight if before.weight.ndim == 1 else before.weight.T
    by_row.div_(factors)
    bias = getattr(before, "bias", None)
    if bias is not None:
        bias.div_(factors)


def linear_layers(decoder: Decoder) -> dict[str, nn.Linear]:
    """The linear layers by name, lm_head left out. Raises ``InputError`` where one is quantized."""
    kinds = (nn.Linear, QuantizedLinear)
    layers = ((n, m) for n, m in decoder.named_modules() if isinstance(m, kinds))
    return {name: _linear(module) for name, module in layers if name != "lm_head"}
