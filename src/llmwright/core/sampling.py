"""How to choose tokens: every decoding method's parameters in one checked value.

The methods themselves are `inference.decoding`'s; other models get the same values by their
OpenAI or vLLM names. What excludes each other is refused here, where the caller can see it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from llmwright.core.errors import ConfigurationError

_WHERE = "sampling parameters"


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How to choose tokens. Temperature 0 is greedy; 1 leaves the distribution as it is.

    Logits pass ``logit_bias``, the penalties and the mask of structured output; then, where
    tokens are drawn, temperature, top-k, top-p, min-p and typical in the order of transformers.
    Every default switches its method off. With ``seed`` set, the answer does not depend on what
    else the engine is doing.

    - ``min_p`` keeps tokens at least so likely as that share of the likeliest; ``typical_p`` the
      mass of tokens whose surprise is nearest the entropy.
    - ``repetition_penalty`` divides positive and multiplies negative logits of tokens in prompt
      or answer; ``presence_penalty`` is subtracted once and ``frequency_penalty`` once for each
      occurrence in the answer. ``logit_bias`` is added by token id.
    - ``n`` answers; of ``best_of`` drawn ones the ``n`` of highest mean log-probability.
    - ``num_beams`` above 1 is beam search, its scores divided by length ** ``length_penalty``;
      ``early_stopping`` True ends it at so many finished answers, "never" only when none can
      become better; ``num_beam_groups`` with ``diversity_penalty`` makes the groups differ.
    - ``penalty_alpha`` with ``top_k`` is contrastive search.
    - ``logprobs`` asks for tokens with log-probabilities and so many alternatives (0: none).
    - ``min_tokens`` come before any end; ``stop_token_ids`` end the answer like the model's own
      end token, which ``ignore_eos`` makes an ordinary token.
    - One of ``json_schema`` (JSON text), ``regex`` and ``grammar`` (Lark) that the answer obeys.
    """

    max_tokens: int = 256
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int | None = None
    min_p: float = 0.0
    typical_p: float = 1.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] | tuple[tuple[int, float], ...] = ()
    n: int = 1
    best_of: int | None = None
    num_beams: int = 1
    length_penalty: float = 1.0
    early_stopping: bool | Literal["never"] = False
    num_beam_groups: int = 1
    diversity_penalty: float = 0.0
    penalty_alpha: float = 0.0
    logprobs: int | None = None
    min_tokens: int = 0
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    json_schema: str | None = None
    regex: str | None = None
    grammar: str | None = None

    def __post_init__(self) -> None:
        bias = dict(self.logit_bias)
        object.__setattr__(self, "logit_bias", tuple(sorted(bias.items())))
        for name, ok, rule in self._ranges(bias):
            if not ok:
                raise ConfigurationError(
                    f"{name} is {getattr(self, name)!r}",
                    where=_WHERE,
                    fix=f"{name} must be {rule}",
                )
        for wrong, what, fix in self._contradictions():
            if wrong:
                raise ConfigurationError(what, where=_WHERE, fix=fix)

    @property
    def sequences(self) -> int:
        """How many answers are drawn to give ``n``."""
        return self.n if self.best_of is None else self.best_of

    @property
    def structured(self) -> bool:
        """Whether the answer has to obey a schema, an expression or a grammar."""
        return any(form is not None for form in (self.json_schema, self.regex, self.grammar))

    def _ranges(self, bias: Mapping[int, float]) -> Iterator[tuple[str, bool, str]]:
        yield "max_tokens", self.max_tokens >= 1, "at least 1"
        yield "temperature", 0.0 <= self.temperature <= 100.0, "between 0 and 100"
        yield "top_k", self.top_k >= 0, "0 (off) or more"
        yield "top_p", 0.0 < self.top_p <= 1.0, "above 0 and at most 1"
        yield "stop", all(self.stop), "strings that are not empty"
        yield "min_p", 0.0 <= self.min_p <= 1.0, "between 0 (off) and 1"
        yield "typical_p", 0.0 < self.typical_p <= 1.0, "above 0 and at most 1 (off)"
        penalty = self.repetition_penalty
        yield "repetition_penalty", 0.0 < penalty <= 100.0, "above 0 and at most 100 (1 is off)"
        yield "presence_penalty", -2.0 <= self.presence_penalty <= 2.0, "between -2 and 2"
        yield "frequency_penalty", -2.0 <= self.frequency_penalty <= 2.0, "between -2 and 2"
        fair = all(token >= 0 and -100 <= value <= 100 for token, value in bias.items())
        yield "logit_bias", fair, "token ids with values between -100 and 100"
        yield "n", 1 <= self.n <= 128, "between 1 and 128"
        at_least_n = self.best_of is None or self.n <= self.best_of <= 128
        yield "best_of", at_least_n, "at least n and at most 128"
        yield "num_beams", 1 <= self.num_beams <= 128, "between 1 (off) and 128"
        yield "length_penalty", math.isfinite(self.length_penalty), "a finite number"
        yield "early_stopping", self.early_stopping in (True, False, "never"), "a bool or 'never'"
        groups = self.num_beam_groups
        divides = 1 <= groups <= self.num_beams and self.num_beams % groups == 0
        yield "num_beam_groups", divides, "a divisor of num_beams"
        finite = 0.0 <= self.diversity_penalty < math.inf
        yield "diversity_penalty", finite, "0 or more"
        yield "penalty_alpha", 0.0 <= self.penalty_alpha <= 1.0, "between 0 (off) and 1"
        yield "logprobs", self.logprobs is None or 0 <= self.logprobs <= 100, "between 0 and 100"
        yield "min_tokens", 0 <= self.min_tokens <= self.max_tokens, "between 0 and max_tokens"
        yield "stop_token_ids", all(t >= 0 for t in self.stop_token_ids), "token ids"
        yield "json_schema", self.json_schema is None or _is_schema(self.json_schema), "JSON text"

    def _contradictions(self) -> Iterator[tuple[bool, str, str]]:
        """(is it so, what is wrong, what to do)."""
        beams, contrastive = self.num_beams > 1, self.penalty_alpha > 0
        forms = sum(form is not None for form in (self.json_schema, self.regex, self.grammar))
        several = self.sequences > 1
        yield (
            forms > 1,
            "json_schema, regex and grammar exclude each other",
            "give one of them",
        )
        yield (
            beams and self.temperature > 0,
            f"num_beams is {self.num_beams} and temperature {self.temperature}",
            "beam search draws nothing: leave the temperature at 0",
        )
        yield (
            beams and contrastive,
            "num_beams and penalty_alpha ask for two searches at once",
            "give one of them",
        )
        yield (
            beams and self.n > self.num_beams,
            f"n is {self.n} and num_beams {self.num_beams}",
            "a search gives as many answers as it has beams: raise num_beams",
        )
        yield (
            beams and self.best_of is not None,
            "num_beams and best_of are two ways to rank answers",
            "give one of them",
        )
        yield (
            not beams and (self.length_penalty != 1.0 or self.early_stopping is not False),
            "length_penalty and early_stopping belong to beam search",
            "set num_beams above 1, or leave them out",
        )
        yield (
            (self.num_beam_groups > 1) != (self.diversity_penalty > 0),
            "num_beam_groups and diversity_penalty work only together",
            "set both, or neither",
        )
        yield (
            contrastive and (self.top_k < 2 or self.temperature > 0 or several),
            "contrastive search gives one answer, without drawing, among top_k candidates",
            "with penalty_alpha set top_k to 2 or more (4 is usual), temperature 0 and n 1",
        )
        yield (
            several and not beams and self.temperature == 0,
            f"{'n' if self.n > 1 else 'best_of'} is {self.sequences} at temperature 0, where all "
            "answers would be the same",
            "set a temperature above 0, or num_beams",
        )
        yield (
            self.structured and self.min_tokens > 0,
            "min_tokens would forbid the end where the structure demands it",
            "leave min_tokens out, and write lengths into the schema",
        )
        yield (
            self.structured and self.ignore_eos,
            "ignore_eos would go on after the structure is complete",
            "leave ignore_eos out",
        )


def _is_schema(text: str) -> bool:
    """A JSON schema is an object, or true or false."""
    try:
        return isinstance(json.loads(text), dict | bool)
    except (ValueError, TypeError):
        return False
