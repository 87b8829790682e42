"""How well a model uses contexts longer than it was trained on, for each rotary scaling.

Perplexity at a length T is taken over the second half of T tokens of text, places T/2 to T, so
every place has at least T/2 tokens before it; the places are the same for all methods, so
differences between methods are paired. Keys of scalings that do not look at the length are the
same in every pass, and one pass over the longest text gives all lengths at once; dynamic NTK
takes a pass a length. Needles: see ``inference.longcontext``.

Each pass is a record in ``context.jsonl``, and a run that was stopped goes on after the last one.
With ``finetune_steps`` each method is also tuned by LoRA on text that is not measured, one text of
``finetune_length`` tokens a step, and measured again. Perplexity over long texts mostly rewards
what is near; only the needles say whether the far is read.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from llmwright.core import (
    ConfigurationError,
    Example,
    InputError,
    Journal,
    Message,
    content_hash,
    progress,
)
from llmwright.evaluation.context_report import ContextReport, Record
from llmwright.inference import Needle, find_needles, hide, logprobs_at, make_needles
from llmwright.modeling import (
    SCALING_METHODS,
    Model,
    RopeScaling,
    extend_context,
    merge_adapter,
    scaling_by_name,
    trained_length,
)
from llmwright.training import LoraSettings, train_lora

OWN = "own"
"""The scaling that the checkpoint names: how LongRoPE and Llama 3 are measured."""

_CHAT_ROOM = 64  # tokens that a chat template may put around a tuning text
_ADAPTER = "adapter_model.safetensors"


@dataclass(frozen=True, slots=True)
class ContextSettings:
    """What to measure. ``methods`` are those of ``modeling.SCALING_METHODS``, and "own" for the
    scaling that the checkpoint names itself. ``lengths`` count tokens; ``factor`` is what the
    scalings are set to, by default the longest length over the trained one. ``texts`` passages are
    scored at ``scored`` places for each length. ``needles`` are hidden in each of ``trials`` texts,
    0 for none; ``needle_lengths`` are the same as ``lengths`` by default."""

    lengths: tuple[int, ...]
    methods: tuple[str, ...] = SCALING_METHODS
    factor: float | None = None
    texts: int = 1
    scored: int = 512
    needles: int = 5
    trials: int = 1
    needle_lengths: tuple[int, ...] | None = None
    finetune_steps: int = 0
    finetune_length: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.lengths or min((*self.lengths, *(self.needle_lengths or ()))) < 32:
            raise ConfigurationError(
                f"the lengths are {self.lengths}", where="lengths", fix="give 32 tokens or more"
            )
        for name in ("texts", "scored", "trials"):
            if getattr(self, name) < 1:
                raise ConfigurationError(
                    f"{name} is {getattr(self, name)}", where="settings", fix="it must be 1 or more"
                )


def measure_context(
    model: Model, text: str, settings: ContextSettings, folder: Path
) -> ContextReport:
    """Measure ``model`` on passages of ``text``, and write ``context.jsonl`` into ``folder``.

    ``text`` must hold ``texts`` passages of the longest length, and what tuning reads behind
    them. Raises ``InputError`` where it does not, ``ConfigurationError`` for an unknown method.
    """
    trained = trained_length(model.config)
    needle_lengths = (
        settings.lengths if settings.needle_lengths is None else settings.needle_lengths
    )
    if not settings.needles:
        needle_lengths = ()
    longest = max((*settings.lengths, *needle_lengths))
    factor = settings.factor or max(1.0, longest / trained)
    scalings = {
        name: model.config.rope_scaling if name == OWN else scaling_by_name(name, factor, trained)
        for name in settings.methods
    }
    hay = model.tokenizer.encode(text)
    passages = max(settings.texts, settings.trials if needle_lengths else 0)
    tuning_length = settings.finetune_length or longest
    needed = passages * longest + settings.finetune_steps * tuning_length
    if len(hay) < needed:
        raise InputError(
            f"the measurement reads {needed:,} tokens, and the texts hold {len(hay):,}",
            where="texts",
            fix="give more text, shorter lengths or fewer of them",
        )
    if needle_lengths:  # the shortest haystack is where the needles may not fit
        _Needles(hay, min(needle_lengths), settings, 0).haystack(model)
    folder.mkdir(parents=True, exist_ok=True)
    identity = content_hash(
        {"model": model.fingerprint, "dtype": str(model.dtype), "text": text, **asdict(settings)}
    )
    journal = Journal(folder / "context.jsonl", identity)
    work = _passes(hay, settings, needle_lengths, longest, scalings)
    layers = model.config.num_hidden_layers
    tuning = hay[passages * longest : needed]
    current: tuple[tuple[str, bool], Model] | None = None
    with progress("long context", len(work) * layers, "layers") as advance:
        for place, (name, tuned, measure) in enumerate(work):
            if place in journal.done:
                advance(layers)
                continue
            if current is None or current[0] != (name, tuned):
                extended = extend_context(model, scalings[name], max(longest, trained))
                if tuned:
                    extended = _tuned(
                        extended, tuning, settings, folder / f"tuned-{name}-{identity[:8]}"
                    )
                current = ((name, tuned), extended)
            told = partial(_tell, advance, f"{name}, tuned" if tuned else name)
            journal.add(place, {"method": name, "tuned": tuned, **measure(current[1], told)})
    return ContextReport(tuple(journal.finish()), trained, factor)


def _tell(advance: Callable[[int, str], None], note: str, layer: int) -> None:
    advance(1, note)


def _passes(
    hay: Sequence[int],
    settings: ContextSettings,
    needle_lengths: Sequence[int],
    longest: int,
    scalings: Mapping[str, RopeScaling | None],
) -> list[tuple[str, bool, _Perplexity | _Needles]]:
    """All passes in their order: method, tuned or not, and what to do with that model."""
    passes: list[tuple[str, bool, _Perplexity | _Needles]] = []
    for tuned in (False, True) if settings.finetune_steps else (False,):
        for name, scaling in scalings.items():
            by_length = scaling is not None and scaling.depends_on_length
            groups = [(n,) for n in settings.lengths] if by_length else [settings.lengths]
            for number in range(settings.texts):
                text = hay[number * longest :]
                passes += [
                    (name, tuned, _Perplexity(text[: max(group)], group, settings, number))
                    for group in groups
                ]
            for trial in range(settings.trials):
                text = hay[trial * longest :]
                passes += [
                    (name, tuned, _Needles(text, length, settings, trial))
                    for length in needle_lengths
                ]
    return passes


@dataclass(frozen=True, slots=True)
class _Perplexity:
    """A pass for perplexity at all ``lengths``, the longest of which is the tokens' own."""

    ids: Sequence[int]
    lengths: tuple[int, ...]
    settings: ContextSettings
    number: int

    def __call__(self, model: Model, on_layer: Callable[[int], None]) -> Record:
        every, scored = self.settings.lengths, self.settings.scored
        places = set(_spread(1, min(every) // 2, scored))
        for length in every:
            places |= set(_spread(length // 2, length, scored))
        inside = sorted(place for place in places if place < len(self.ids))
        return {
            "kind": "perplexity",
            "text": self.number,
            "lengths": list(self.lengths),
            "places": inside,
            "logprobs": logprobs_at(model, self.ids, inside, on_layer),
        }


@dataclass(frozen=True, slots=True)
class _Needles:
    """A pass that asks for needles in ``length`` tokens."""

    hay: Sequence[int]
    length: int
    settings: ContextSettings
    trial: int

    def haystack(self, model: Model) -> tuple[tuple[Needle, ...], list[int]]:
        """The needles, the same for every method and length, and the text that hides them."""
        count = self.settings.needles
        depths = [number / max(1, count - 1) for number in range(count)]
        needles = make_needles(depths, self.settings.seed * 1_000_003 + self.trial)
        return needles, hide(model.tokenizer, self.hay, needles, self.length)

    def __call__(self, model: Model, on_layer: Callable[[int], None]) -> Record:
        needles, text = self.haystack(model)
        found = find_needles(model, text, needles, on_layer)
        return {
            "kind": "needles",
            "trial": self.trial,
            "length": self.length,
            "found": [
                {
                    **asdict(one.needle),
                    "rank": one.rank,
                    "choices": one.choices,
                    "written": one.written,
                }
                for one in found
            ],
        }


def _spread(begin: int, end: int, count: int) -> list[int]:
    """``count`` places evenly from ``begin`` to before ``end``.

    >>> _spread(4, 8, 2)
    [4, 6]
    """
    count = min(count, end - begin)
    return [begin + number * (end - begin) // count for number in range(count)]


def _tuned(model: Model, ids: Sequence[int], settings: ContextSettings, folder: Path) -> Model:
    """``model`` with a LoRA adapter trained on ``ids`` merged into weights of its own."""
    steps = settings.finetune_steps
    length = len(ids) // steps
    decode = model.tokenizer.decode
    examples = [
        Example(
            (
                Message("user", "Write a page of the document."),
                Message("assistant", decode(ids[n * length : (n + 1) * length - _CHAT_ROOM])),
            ),
            id=str(n),
        )
        for n in range(steps)
    ]
    lora = LoraSettings(
        epochs=1, batch_size=1, max_length=length, recompute=True, seed=settings.seed
    )
    if not (folder / _ADAPTER).is_file():
        train_lora(model, examples, lora, folder)
    tuned = replace(model, decoder=copy.deepcopy(model.decoder))
    merge_adapter(tuned.decoder, folder)
    return tuned
