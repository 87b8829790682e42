"""Rotary frequencies for contexts longer than the trained one.

Pair i of d/2 turns by ``f_i = base^(-2i/d)`` a position. Trained on L positions, a model knows
angles up to ``L f_i``: all of the circle for the fast pairs, a part of it for the slow ones. At s
times the length the slow pairs meet angles never seen, and the fast ones must stay, since they
tell neighbours apart. With extrapolation ``f_i`` and interpolation ``f_i / s`` as the two ends:

    linear    f_i / s for all                          Chen et al., 2023, arXiv 2306.15595
    NTK       base' = base s^(d/(d-2)): the fastest pair stays, the slowest becomes f_i / s
                                                       bloc97, 2023 (a forum post; see YaRN, 3.1)
    dynamic   the same with s L'/L - (s - 1) in place of s, once the length L' passes L
                                                       emozilla, 2023 (a forum post; YaRN, 3.3)
    YaRN      by turns within L, ``r = L f_i / 2 pi``: f_i above 32, f_i / s below 1, a ramp over i
              between; cosines and sines times 0.1 ln s + 1   Peng et al., 2023, arXiv 2309.00071
    LongRoPE  f_i / lambda_i, the lambdas found by search: short ones up to L, long ones beyond;
              times sqrt(1 + ln s / ln L)              Ding et al., 2024, arXiv 2402.13753
    Llama 3   f_i above 4 turns, f_i / s below 1, a ramp over r between
                                                       Dubey et al., 2024, arXiv 2407.21783

All cost nothing at run time. Fields carry the names of transformers' ``rope_parameters``, and the
frequencies are those of its ``ROPE_INIT_FUNCTIONS``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from llmwright.core import ModelSourceError


class RopeScaling(Protocol):
    """How rotary frequencies differ from the plain ones."""

    @property
    def depends_on_length(self) -> bool:
        """Whether a sequence's length decides its frequencies: then it must be fixed before the
        first key is cached, or the keys cached earlier are stale."""
        ...

    @property
    def amplitude(self) -> float:
        """What cosines and sines are multiplied by (attention logits by its square)."""
        ...

    def frequencies(self, head_dim: int, theta: float, lengths: Tensor) -> Tensor:
        """``lengths`` [...], of whole sequences -> angle a position, [..., head_dim / 2] float32;
        without its leading dimensions where the length decides nothing."""
        ...


class _Fixed:
    """What most scalings are: the same for every length, with cosines and sines as they are."""

    __slots__ = ()

    @property
    def depends_on_length(self) -> bool:
        return False

    @property
    def amplitude(self) -> float:
        return 1.0


def plain_frequencies(
    head_dim: int, theta: float | Tensor, device: torch.device | str = "cpu"
) -> Tensor:
    """``theta^(-2i/d)``: [head_dim / 2], or [..., head_dim / 2] for ``theta`` [..., 1]."""
    pair = torch.arange(0, head_dim, 2, dtype=torch.float32, device=device)
    return 1.0 / theta ** (pair / head_dim)


def ntk_theta(theta: float, factor: float, head_dim: int) -> float:
    """The base that NTK-aware scaling by ``factor`` puts in place of ``theta``.

    >>> round(ntk_theta(10_000, 4, 128), 2)
    40889.94
    """
    return float(theta * factor ** (head_dim / (head_dim - 2)))


@dataclass(frozen=True, slots=True)
class LinearScaling(_Fixed):
    """Every position divided by ``factor``."""

    factor: float

    def __post_init__(self) -> None:
        _at_least_one(self.factor)

    def frequencies(self, head_dim: int, theta: float, lengths: Tensor) -> Tensor:
        return plain_frequencies(head_dim, theta, lengths.device) / self.factor


@dataclass(frozen=True, slots=True)
class NTKScaling(_Fixed):
    """A larger base: high frequencies stay, the lowest is divided by ``factor``."""

    factor: float

    def __post_init__(self) -> None:
        _at_least_one(self.factor)

    def frequencies(self, head_dim: int, theta: float, lengths: Tensor) -> Tensor:
        return plain_frequencies(head_dim, ntk_theta(theta, self.factor, head_dim), lengths.device)


@dataclass(frozen=True, slots=True)
class DynamicScaling:
    """NTK-aware scaling that grows with the sequence; plain up to the trained length."""

    factor: float
    original_max_position_embeddings: int

    depends_on_length: ClassVar[bool] = True
    amplitude: ClassVar[float] = 1.0

    def __post_init__(self) -> None:
        _at_least_one(self.factor)

    def frequencies(self, head_dim: int, theta: float, lengths: Tensor) -> Tensor:
        trained = self.original_max_position_embeddings
        longer = lengths.double().clamp(min=trained).unsqueeze(-1)  # [..., 1]
        stretch = self.factor * longer / trained - (self.factor - 1)
        base = theta * stretch ** (head_dim / (head_dim - 2))
        return plain_frequencies(head_dim, base, lengths.device).float()


@dataclass(frozen=True, slots=True)
class YarnScaling(_Fixed):
    """NTK by parts, and sharper attention.

    An ``attention_factor`` given wins over the one computed; ``mscale`` and ``mscale_all_dim``
    (DeepSeek-V2) replace the 1 before ``0.1 ln s`` where both are given. ``truncate`` rounds the
    ends of the ramp outwards to whole pairs.
    """

    factor: float
    original_max_position_embeddings: int
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float | None = None
    mscale: float | None = None
    mscale_all_dim: float | None = None
    truncate: bool = True

    def __post_init__(self) -> None:
        _at_least_one(self.factor)

    @property
    def amplitude(self) -> float:
        if self.attention_factor is not None:
            return self.attention_factor
        if self.mscale and self.mscale_all_dim:
            return self._sharper(self.mscale) / self._sharper(self.mscale_all_dim)
        return self._sharper(1.0)

    def _sharper(self, scale: float) -> float:
        return 0.1 * scale * math.log(self.factor) + 1.0

    def frequencies(self, head_dim: int, theta: float, lengths: Tensor) -> Tensor:
        plain = plain_frequencies(head_dim, theta, lengths.device)  # [head_dim / 2]
        low = self._pair(self.beta_fast, head_dim, theta)
        high = self._pair(self.beta_slow, head_dim, theta)
        if self.truncate:
            low, high = math.floor(low), math.ceil(high)
        # The bound of high is d - 1, not d/2 - 1, in the authors' code and in all that followed.
        low, high = max(low, 0), min(high, head_dim - 1)
        if low == high:
            high += 0.001
        place = torch.arange(head_dim // 2, dtype=torch.float32, device=lengths.device)
        ramp = ((place - low) / (high - low)).clamp(0, 1)  # 0 for fast pairs, 1 for slow ones
        return plain / self.factor * ramp + plain * (1 - ramp)

    def _pair(self, turns: float, head_dim: int, theta: float) -> float:
        """The pair, as a real number, that turns so often within the trained length."""
        wavelength = self.original_max_position_embeddings / (turns * 2 * math.pi)
        return head_dim * math.log(wavelength) / (2 * math.log(theta))


@dataclass(frozen=True, slots=True)
class LongRopeScaling:
    """A divisor of its own for each pair: ``short_factor`` for sequences up to the trained
    length, ``long_factor`` for longer ones. ``factor`` is by how much the context was extended."""

    short_factor: tuple[float, ...]
    long_factor: tuple[float, ...]
    original_max_position_embeddings: int
    factor: float
    attention_factor: float | None = None

    def __post_init__(self) -> None:
        if not all(0 < value < math.inf for value in self.short_factor + self.long_factor):
            raise ModelSourceError(
                "a divisor of a rotary frequency is not above 0",
                where="model configuration",
                fix="fetch the model again",
            )

    @property
    def depends_on_length(self) -> bool:
        return self.short_factor != self.long_factor

    @property
    def amplitude(self) -> float:
        if self.attention_factor is not None:
            return self.attention_factor
        if self.factor <= 1:
            return 1.0
        trained = self.original_max_position_embeddings
        return math.sqrt(1 + math.log(self.factor) / math.log(trained))

    def frequencies(self, head_dim: int, theta: float, lengths: Tensor) -> Tensor:
        for name, factors in (("short", self.short_factor), ("long", self.long_factor)):
            if len(factors) != head_dim // 2:
                raise ModelSourceError(
                    f"LongRoPE has {len(factors)} {name} factors, and the head turns "
                    f"{head_dim // 2} pairs",
                    where="model configuration",
                    fix="there must be one factor a pair",
                )
        plain = plain_frequencies(head_dim, theta, lengths.device)
        short = plain / plain.new_tensor(self.short_factor)
        if not self.depends_on_length:
            return short
        beyond = (lengths > self.original_max_position_embeddings).unsqueeze(-1)  # [..., 1]
        return torch.where(beyond, plain / plain.new_tensor(self.long_factor), short)


@dataclass(frozen=True, slots=True)
class Llama3Scaling(_Fixed):
    """By turns within the trained length, the ramp running over turns rather than over pairs."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_position_embeddings: int

    def __post_init__(self) -> None:
        _at_least_one(self.factor)
        if not self.low_freq_factor < self.high_freq_factor:
            raise ModelSourceError(
                f"low_freq_factor {self.low_freq_factor} is not below high_freq_factor "
                f"{self.high_freq_factor}",
                where="model configuration",
                fix="Llama 3 has 1 and 4",
            )

    def frequencies(self, head_dim: int, theta: float, lengths: Tensor) -> Tensor:
        plain = plain_frequencies(head_dim, theta, lengths.device)
        turns = self.original_max_position_embeddings * plain / (2 * math.pi)
        width = self.high_freq_factor - self.low_freq_factor
        kept = ((turns - self.low_freq_factor) / width).clamp(0, 1)  # 1 for fast pairs
        return plain / self.factor * (1 - kept) + plain * kept


def _at_least_one(factor: float) -> None:
    if not (math.isfinite(factor) and factor >= 1):
        raise ModelSourceError(
            f"the rotary scaling factor is {factor}",
            where="model configuration",
            fix="it must be 1 or more: by how much the context is extended",
        )
