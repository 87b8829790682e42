"""The decoder: tokens in, logits out. It knows nothing of tokenization, caching or sampling.

A pre-norm transformer of the Llama family, each layer being

    x = x + o_proj(attention(rotate(q_proj(norm x)), rotate(k_proj(norm x)), v_proj(norm x)))
    x = x + down_proj(silu(gate_proj(norm x)) * up_proj(norm x))

with RMSNorm (Zhang & Sennrich, 2019, arXiv 1910.07467), rotary embedding (Su et al., 2021,
arXiv 2104.09864), grouped-query attention (Ainslie et al., 2023, arXiv 2305.13245) and SwiGLU
(Shazeer, 2020, arXiv 2002.05202), as in Llama (Touvron et al., 2023, arXiv 2302.13971).

Attention is an argument. Given none, each row attends causally within the call, so right padding
needs no mask: no real token looks to the right. A cache is an ``Attention`` that lives outside
(``cache.KVCache``, and the paged one of ``inference/``).

Modules carry Hugging Face's names (``model.layers.0.self_attn.q_proj``), so checkpoints and PEFT
adapters match by name. A forward costs about 2 operations per weight and token, plus
``4 * time * context * heads * head_dim`` per layer for attention.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llmwright.modeling.config import ModelConfig
from llmwright.modeling.products import products_for
from llmwright.modeling.rope import RotaryEmbedding, rotate


class Attention(Protocol):
    """How the queries of one layer look at keys and values, its cache included."""

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """``q`` [batch, heads, time, head_dim] and ``k``, ``v`` [batch, kv_heads, time, head_dim]
        are this call's tokens, ``q`` and ``k`` rotated; gives [batch, heads, time, head_dim]."""
        ...


def causal_attention(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Each token attends to itself and to what stands before it in this call."""
    return F.scaled_dot_product_attention(
        q, k, v, is_causal=True, enable_gqa=q.shape[1] != k.shape[1]
    )


class RMSNorm(nn.Module):
    """``x / sqrt(mean(x^2) + eps) * weight``; the mean is taken in float32."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)


class SelfAttention(nn.Module):
    """Grouped-query attention: several query heads share one head of keys and values."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.head_dim = config.head_dim
        hidden, bias = config.hidden_size, config.attention_bias
        q = config.num_attention_heads * config.head_dim
        kv = config.num_key_value_heads * config.head_dim
        self.q_proj = nn.Linear(hidden, q, bias=bias)
        self.k_proj = nn.Linear(hidden, kv, bias=bias)
        self.v_proj = nn.Linear(hidden, kv, bias=bias)
        self.o_proj = nn.Linear(q, hidden, bias=bias)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, attention: Attention) -> Tensor:
        batch, time, _ = x.shape
        split = (batch, time, -1, self.head_dim)
        q = self.q_proj(x).view(split).transpose(1, 2)  # [batch, heads, time, head_dim]
        k = self.k_proj(x).view(split).transpose(1, 2)  # [batch, kv_heads, time, head_dim]
        v = self.v_proj(x).view(split).transpose(1, 2)
        mixed = attention(self.layer, rotate(q, cos, sin), rotate(k, cos, sin), v)
        return self.o_proj(mixed.transpose(1, 2).reshape(batch, time, -1))  # type: ignore[no-any-return]


class MLP(nn.Module):
    """SwiGLU: one projection, through SiLU, gates another."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        hidden, inner, bias = config.hidden_size, config.intermediate_size, config.mlp_bias
        self.gate_proj = nn.Linear(hidden, inner, bias=bias)
        self.up_proj = nn.Linear(hidden, inner, bias=bias)
        self.down_proj = nn.Linear(inner, hidden, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))  # type: ignore[no-any-return]


class DecoderLayer(nn.Module):
    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.self_attn = SelfAttention(config, layer)
        self.mlp = MLP(config)
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, attention: Attention) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, attention)
        return x + self.mlp(self.post_attention_layernorm(x))  # type: ignore[no-any-return]


class DecoderStack(nn.Module):
    """Everything below the vocabulary: token ids to normalised hidden states."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        # Without values, which ``random_decoder`` or a checkpoint gives: drawing normal ones
        # costs time, and on the meta device an import of a second.
        rows = torch.empty(config.vocab_size, config.hidden_size)
        self.embed_tokens: nn.Embedding = nn.Embedding.from_pretrained(  # type: ignore[no-untyped-call]
            rows, freeze=False
        )
        self.layers = nn.ModuleList(
            DecoderLayer(config, layer) for layer in range(config.num_hidden_layers)
        )
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.rotary = RotaryEmbedding(config.head_dim, config.rope_theta, config.rope_scaling)

    def forward(
        self,
        token_ids: Tensor,
        positions: Tensor | None = None,
        attention: Attention | None = None,
        lengths: Tensor | None = None,
    ) -> Tensor:
        """``token_ids`` [batch, time] -> hidden states [batch, time, hidden]."""
        if positions is None:
            positions = torch.arange(token_ids.shape[1], device=token_ids.device).unsqueeze(0)
        x = self.embed_tokens(token_ids)  # [batch, time, hidden]
        cos, sin = self.rotary(positions, x.dtype, lengths)  # [batch or 1, 1, time, head_dim]
        for layer in self.layers:
            x = layer(x, cos, sin, attention or causal_attention)
        return self.norm(x)  # type: ignore[no-any-return]


class Decoder(nn.Module):
    """A causal language model of the Llama family, its weights without meaningful values until
    ``load_model`` or ``random_decoder`` gives them."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.model = DecoderStack(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.tie_weights()

    def tie_weights(self) -> None:
        """Let the output matrix be the embedding matrix, where the configuration says so."""
        if self.config.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight

    # Read off the last norm: every other weight may be quantized.
    @property
    def dtype(self) -> torch.dtype:
        return self.model.norm.weight.dtype

    @property
    def device(self) -> torch.device:
        return self.model.norm.weight.device

    def forward(
        self,
        token_ids: Tensor,
        positions: Tensor | None = None,
        attention: Attention | None = None,
        *,
        logits_at: Tensor | None = None,
        lengths: Tensor | None = None,
    ) -> Tensor:
        """``token_ids`` [batch, time] -> logits [batch, time, vocab] in float32.

        ``positions`` [batch, time] count from 0 at the first token of each text, by default
        0, 1, 2, ...; a call that continues a cache must give them. ``logits_at`` names the places
        in time whose logits are wanted, [n] for all rows or [batch, n] for each row its own, and
        gives [batch, n, vocab]: after a prompt only the last one matters, and the vocabulary
        is the widest product of a small model. ``lengths`` [batch, 1] or [batch, time] is what
        the sequences will grow to, which a call that continues a cache must give, always the
        same, where ``model.rotary.depends_on_length``.
        """
        with products_for(token_ids.numel(), self.model.norm.weight):
            x = self.model(token_ids, positions, attention, lengths)
            if logits_at is not None:
                if logits_at.ndim == 1:
                    x = x[:, logits_at]  # [batch, n, hidden]
                else:
                    x = x.gather(1, logits_at.unsqueeze(-1).expand(-1, -1, x.shape[-1]))
            return self.lm_head(x).float()  # type: ignore[no-any-return]


def random_decoder(config: ModelConfig, seed: int = 0, std: float = 0.02) -> Decoder:
    """A decoder with fresh weights, normal with deviation ``std``."""
    decoder = Decoder(config)
    generator = torch.Generator().manual_seed(seed)
    for name, weight in decoder.named_parameters():
        with torch.no_grad():
            if name.endswith("norm.weight"):
                weight.fill_(1.0)
            elif name.endswith("bias"):
                weight.zero_()
            else:
                weight.normal_(0.0, std, generator=generator)
    return decoder.eval()
