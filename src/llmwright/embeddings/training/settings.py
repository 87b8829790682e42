"""The settings of a training run of an encoder, checked when they are made."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from llmwright.core import ConfigurationError, DType

Objective = Literal["ranking", "cosent", "triplet", "distillation", "margin-mse"]
Parts = Literal["all", "projection"]
OBJECTIVES: tuple[Objective, ...] = ("ranking", "cosent", "triplet", "distillation", "margin-mse")


@dataclass(frozen=True, slots=True)
class EncoderSettings:
    """How to train.

    ``parts`` is what learns: all weights, or the projection alone, for which every text is read
    once and not once an epoch. That is a small, safe change: with few documents it is often the
    better one.

    ``matryoshka`` names the dimensions that the objective is also to hold for (none: only the full
    vector), each weighing the same or as ``weights`` say; ``rotate`` turns the space beforehand,
    so that the leading dimensions start out carrying the most, without changing a cosine.

    ``scale`` is 1 / temperature of ranking and CoSENT, ``margin`` the triplet's. ``symmetric`` lets
    ranking ask for the query of a document too. A query is cut at ``query_tokens`` tokens, a
    document at ``max_tokens``; training on less than what is embedded later costs little quality
    and saves most of the time.

    ``warmup`` is a share of all steps; the rate then falls linearly to nothing. The projection
    behind pooling learns at ``projection_rate`` times the rate. Weights are float32; ``dtype`` says
    what activations are computed in, "auto" being bfloat16 where the processor multiplies it.
    """

    objective: Objective = "ranking"
    parts: Parts = "all"
    matryoshka: tuple[int, ...] = ()
    weights: tuple[float, ...] | None = None
    rotate: bool = True
    scale: float = 20.0
    margin: float = 0.2
    symmetric: bool = False
    epochs: int = 1
    batch_size: int = 32
    learning_rate: float = 2e-5
    projection_rate: float = 10.0
    warmup: float = 0.1
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    query_tokens: int = 64
    max_tokens: int = 128
    dtype: DType = "auto"
    checkpoint_every: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "matryoshka", tuple(self.matryoshka))
        object.__setattr__(self, "weights", tuple(self.weights) if self.weights else None)
        for name, ok, rule in (
            ("objective", self.objective in OBJECTIVES, f"one of {', '.join(OBJECTIVES)}"),
            ("parts", self.parts in get_args(Parts), '"all" or "projection"'),
            ("matryoshka", all(d >= 1 for d in self.matryoshka), "dimensions of at least 1"),
            (
                "weights",
                self.weights is None
                or (len(self.weights) == len(self.matryoshka) and min(self.weights) >= 0),
                "one number of at least 0 for each dimension",
            ),
            ("scale", self.scale > 0, "above 0"),
            ("margin", self.margin >= 0, "at least 0"),
            ("epochs", self.epochs >= 1, "at least 1"),
            ("batch_size", self.batch_size >= 2, "at least 2, for pairs are told from each other"),
            ("learning_rate", 0 < self.learning_rate <= 1, "above 0 and at most 1"),
            ("projection_rate", self.projection_rate >= 0, "at least 0"),
            ("warmup", 0 <= self.warmup <= 1, "a share between 0 and 1"),
            ("weight_decay", 0 <= self.weight_decay <= 1, "between 0 and 1"),
            ("max_grad_norm", self.max_grad_norm > 0, "above 0"),
            ("query_tokens", self.query_tokens >= 3, "at least 3 tokens"),
            ("max_tokens", self.max_tokens >= 3, "at least 3 tokens"),
            ("dtype", self.dtype in get_args(DType), "auto, float32 or bfloat16"),
            ("checkpoint_every", self.checkpoint_every >= 1, "at least 1 step"),
        ):
            if not ok:
                raise ConfigurationError(
                    f"{name} is {getattr(self, name)!r}",
                    where="training settings",
                    fix=f"{name} must be {rule}",
                )

    def identity(self) -> dict[str, Any]:
        """All that decides the result; how often it is saved on the way does not."""
        values = asdict(self)
        del values["checkpoint_every"]
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}
