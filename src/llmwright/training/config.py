"""The settings of a LoRA run, checked when they are made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from llmwright.core import ConfigurationError


@dataclass(frozen=True, slots=True)
class LoraSettings:
    """How to train.

    ``targets`` is ``"all-linear"`` (every linear layer but the output matrix) or names of modules,
    whole or their last parts, as in PEFT. A step learns from ``batch_size`` examples, in as many
    passes as ``tokens_per_pass`` asks for: that bounds memory and, apart from rounding, changes
    nothing else. ``warmup`` is a share of all steps. ``recompute`` computes each layer's
    activations a second time in the backward pass instead of keeping them.

    ``max_length`` counts tokens. A longer example is left out (``too_long="drop"``) or loses the
    beginning of its prompt (``"cut"``); an answer is never cut, so an example whose first answer
    would be reached is left out under both. ``TrainingResult`` counts them.
    """

    rank: int = 8
    alpha: float = 16
    dropout: float = 0.0
    targets: str | Sequence[str] = "all-linear"
    epochs: int = 3
    batch_size: int = 4
    tokens_per_pass: int = 2048
    learning_rate: float = 2e-4
    warmup: float = 0.1
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    max_length: int = 1024
    too_long: Literal["drop", "cut"] = "drop"
    recompute: bool = False
    checkpoint_every: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        for name, ok, rule in (
            ("rank", self.rank >= 1, "at least 1"),
            ("alpha", self.alpha > 0, "above 0"),
            ("dropout", 0 <= self.dropout < 1, "at least 0 and below 1"),
            ("targets", bool(self.targets) and all(self.targets), '"all-linear" or module names'),
            ("epochs", self.epochs >= 1, "at least 1"),
            ("batch_size", self.batch_size >= 1, "at least 1"),
            ("tokens_per_pass", self.tokens_per_pass >= 1, "at least 1"),
            ("learning_rate", 0 < self.learning_rate <= 1, "above 0 and at most 1"),
            ("warmup", 0 <= self.warmup <= 1, "a share between 0 and 1"),
            ("weight_decay", 0 <= self.weight_decay <= 1, "between 0 and 1"),
            ("max_grad_norm", self.max_grad_norm > 0, "above 0"),
            ("max_length", self.max_length >= 2, "at least 2 tokens"),
            ("too_long", self.too_long in ("drop", "cut"), '"drop" or "cut"'),
            ("checkpoint_every", self.checkpoint_every >= 1, "at least 1 step"),
        ):
            if not ok:
                raise ConfigurationError(
                    f"{name} is {getattr(self, name)!r}",
                    where="training settings",
                    fix=f"{name} must be {rule}",
                )

    @property
    def scale(self) -> float:
        """What the product of the two factors is multiplied by."""
        return self.alpha / self.rank

    def identity(self) -> dict[str, Any]:
        """All that decides the result; how often it is saved on the way does not."""
        values = asdict(self)
        del values["checkpoint_every"]
        if not isinstance(self.targets, str):
            values["targets"] = list(self.targets)
        return values
