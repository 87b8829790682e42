"""The shape of a decoder: read from a Hugging Face config.json or from GGUF metadata.

The names are those of Hugging Face's ``LlamaConfig``, so that ``to_dict`` is a config.json which
transformers, vLLM and llama.cpp's converter read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from llmwright.core import ModelSourceError
from llmwright.modeling.rope_format import Rope, rope_from_gguf, rope_from_hf, rope_to_hf
from llmwright.modeling.rope_scaling import RopeScaling

_HERE = "this engine runs the Llama family"


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """A decoder of the Llama family (Touvron et al., 2023, arXiv 2302.13971).

    ``max_position_embeddings`` is the context it serves; under a ``rope_scaling`` that knows the
    trained length, that one stands there.
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    max_position_embeddings: int = 2048
    rope_theta: float = 10_000.0
    rms_norm_eps: float = 1e-5
    tie_word_embeddings: bool = True
    attention_bias: bool = False
    mlp_bias: bool = False
    rope_scaling: RopeScaling | None = None

    def __post_init__(self) -> None:
        if self.num_attention_heads % self.num_key_value_heads:
            raise ModelSourceError(
                f"{self.num_attention_heads} query heads cannot share "
                f"{self.num_key_value_heads} key-value heads evenly",
                where="model configuration",
                fix="the first number must be a multiple of the second",
            )
        if self.head_dim % 2:
            raise ModelSourceError(
                f"the head dimension {self.head_dim} is odd",
                where="model configuration",
                fix="rotary embedding turns pairs of dimensions, so it must be even",
            )

    @property
    def parameters(self) -> int:
        """Number of weights."""
        hidden, head = self.hidden_size, self.head_dim
        q, kv = self.num_attention_heads * head, self.num_key_value_heads * head
        layer = 2 * hidden * (q + kv) + 3 * hidden * self.intermediate_size + 2 * hidden
        layer += (q + 2 * kv + hidden) * self.attention_bias
        layer += (2 * self.intermediate_size + hidden) * self.mlp_bias
        embeddings = (1 if self.tie_word_embeddings else 2) * self.vocab_size * hidden
        return self.num_hidden_layers * layer + embeddings + hidden

    @property
    def rope(self) -> Rope:
        """What decides the rotary embedding, in one."""
        return Rope(self.rope_theta, self.rope_scaling, self.max_position_embeddings)

    def to_dict(self) -> dict[str, Any]:
        """The content of a Hugging Face config.json."""
        values = asdict(self)
        del values["rope_scaling"]
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_act": "silu",
            **values,
            **rope_to_hf(self.rope, self.head_dim),
        }

    @classmethod
    def from_hf(cls, raw: Mapping[str, Any], where: str) -> ModelConfig:
        """Read a config.json. Raises ``ModelSourceError`` for what this decoder cannot run."""
        kind = raw.get("model_type")
        if kind != "llama":
            raise ModelSourceError(f"the architecture is {kind!r}", where=where, fix=_HERE)
        activation = raw.get("hidden_act", "silu")
        if activation != "silu":
            raise ModelSourceError(f"the activation is {activation!r}", where=where, fix=_HERE)
        try:
            rope = rope_from_hf(raw, where)
            heads = int(raw["num_attention_heads"])
            hidden = int(raw["hidden_size"])
            return cls(
                vocab_size=int(raw["vocab_size"]),
                hidden_size=hidden,
                intermediate_size=int(raw["intermediate_size"]),
                num_hidden_layers=int(raw["num_hidden_layers"]),
                num_attention_heads=heads,
                num_key_value_heads=int(raw.get("num_key_value_heads") or heads),
                head_dim=int(raw.get("head_dim") or hidden // heads),
                max_position_embeddings=rope.context,
                rope_theta=rope.theta,
                rms_norm_eps=float(raw.get("rms_norm_eps", 1e-6)),
                tie_word_embeddings=bool(raw.get("tie_word_embeddings", False)),
                attention_bias=bool(raw.get("attention_bias", False)),
                mlp_bias=bool(raw.get("mlp_bias", False)),
                rope_scaling=rope.scaling,
            )
        except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
            raise _incomplete(error, where) from error

    @classmethod
    def from_gguf(
        cls,
        metadata: Mapping[str, Any],
        *,
        tied: bool,
        attention_bias: bool,
        mlp_bias: bool,
        vocab_size: int,
        rope_factors: Mapping[str, Sequence[float]],
        where: str,
    ) -> ModelConfig:
        """Read GGUF metadata; what it leaves to the tensors comes as arguments: whether the output
        matrix is the embedding, which biases there are, how many rows the embedding has, and the
        divisors of rotary frequencies by the names of their tensors."""
        kind = metadata.get("general.architecture")
        if kind != "llama":
            raise ModelSourceError(f"the architecture is {kind!r}", where=where, fix=_HERE)
        experts = metadata.get("llama.expert_count", 0)
        if experts:
            raise ModelSourceError(f"it has experts ({experts!r})", where=where, fix=_HERE)
        try:
            heads = int(metadata["llama.attention.head_count"])
            hidden = int(metadata["llama.embedding_length"])
            head_dim = int(metadata.get("llama.attention.key_length", hidden // heads))
            context = int(metadata.get("llama.context_length", 2048))
            config = cls(
                vocab_size=vocab_size,
                hidden_size=hidden,
                intermediate_size=int(metadata["llama.feed_forward_length"]),
                num_hidden_layers=int(metadata["llama.block_count"]),
                num_attention_heads=heads,
                num_key_value_heads=int(metadata.get("llama.attention.head_count_kv", heads)),
                head_dim=head_dim,
                max_position_embeddings=context,
                # Stored in 32 bits: 1e-5 comes back as 9.99999975e-06.
                rope_theta=_short(metadata.get("llama.rope.freq_base", 10_000.0)),
                rms_norm_eps=_short(metadata["llama.attention.layer_norm_rms_epsilon"]),
                tie_word_embeddings=tied,
                attention_bias=attention_bias,
                mlp_bias=mlp_bias,
                rope_scaling=rope_from_gguf(metadata, rope_factors, context, where),
            )
            turned = int(metadata.get("llama.rope.dimension_count", head_dim))
        except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
            raise _incomplete(error, where) from error
        if turned != head_dim:
            raise ModelSourceError(
                f"only {turned} of {head_dim} head dimensions are rotated", where=where, fix=_HERE
            )
        return config


def _incomplete(error: Exception, where: str) -> ModelSourceError:
    what = f"the field {error} is missing" if isinstance(error, KeyError) else str(error)
    return ModelSourceError(
        f"the model configuration is broken: {what}", where=where, fix="fetch the model again"
    )


def _short(value: float) -> float:
    """The shortest decimal that the 32-bit float stands for."""
    return float(f"{float(value):.7g}")
