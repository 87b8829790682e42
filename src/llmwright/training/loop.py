"""Supervised LoRA tuning from beginning to end, and on from wherever it was stopped.

Each step: the batch's passes add up their gradients of one loss (``objectives/sft.py``), the
gradient's norm is bounded (Pascanu et al., 2012, arXiv 1211.5063), and AdamW moves the factors
(Loshchilov & Hutter, 2017, arXiv 1711.05101) at the rate of ``schedule.py``.

The folder holds ``adapter_config.json``, ``adapter_model.safetensors`` and ``curve.jsonl`` (a
record a step), and ``checkpoint.safetensors`` while unfinished. All are functions of model, data
and settings: figures that differ between two runs, such as seconds, are only in the result.

With a frozen base a step costs about ``4 * weights`` operations a token: 2 forward, 2 back through
the activations, none for the gradient of the weights.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn

from llmwright.core import (
    ConfigurationError,
    Example,
    content_hash,
    progress,
    write_jsonl,
    writing,
)
from llmwright.modeling import Curve, Decoder, Model, load_run, save_run
from llmwright.training.batching import TokenizedExample, TrainingData, batches, passes, tokenize
from llmwright.training.config import LoraSettings
from llmwright.training.lora import FILES, add_lora, lora_parameters, remove_lora, save_adapter
from llmwright.training.objectives.logprobs import token_logprobs
from llmwright.training.objectives.sft import sft_loss
from llmwright.training.recompute import recomputed
from llmwright.training.schedule import cosine_rate

_CHECKPOINT = "checkpoint.safetensors"
_CURVE = "curve.jsonl"
_FORMAT = 1  # raised when the same settings and data would give other weights


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the curve. ``loss`` is the mean over the ``targets`` learnt, before the step;
    ``tokens`` were read for it, padding not counted."""

    step: int
    epoch: int
    loss: float
    learning_rate: float
    gradient_norm: float
    tokens: int
    targets: int


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """What came out. ``resumed_from`` is the number of steps found done; ``seconds`` and
    ``tokens_per_second`` measure this process alone, ``padding`` is the share of places that
    held no token."""

    folder: Path
    curve: tuple[Step, ...]
    parameters: int
    examples: int
    cut: int
    dropped: int
    resumed_from: int
    seconds: float
    tokens_per_second: float
    padding: float

    @property
    def steps(self) -> int:
        return len(self.curve)

    @property
    def losses(self) -> tuple[float, ...]:
        return tuple(step.loss for step in self.curve)

    @property
    def tokens(self) -> int:
        return sum(step.tokens for step in self.curve)


def train_lora(
    model: Model,
    examples: Sequence[Example],
    settings: LoraSettings,
    folder: Path,
    *,
    on_step: Callable[[Step], None] | None = None,
) -> TrainingResult:
    """Tune ``model`` on the answers of ``examples`` and write the adapter into ``folder``.

    The model itself is given back as it was, frozen. Called again after a kill, with the same
    arguments, it goes on after the last checkpoint, and the files come out byte for byte as those
    of an undisturbed run on this machine.

    Raises ``InputError`` for data that cannot be learnt from or a folder that cannot be written,
    ``ConfigurationError`` for targets the model lacks, a checkpoint of another run, or a run that
    diverges.
    """
    data = tokenize(examples, model.tokenizer, settings)
    _prepare(folder)
    identity = _identity(model, data, settings)
    was_training = model.decoder.training
    add_lora(model.decoder, settings)
    layers = model.decoder.model.layers
    try:
        model.decoder.train()
        with recomputed(layers) if settings.recompute else nullcontext():
            result = _Run(model.decoder, data, settings, folder, identity).run(on_step)
        save_adapter(model.decoder, settings, model.source, folder)
        write_jsonl(folder / _CURVE, (asdict(step) for step in result.curve))
        (folder / _CHECKPOINT).unlink()
    finally:
        remove_lora(model.decoder)
        model.decoder.train(was_training)
    return result


class _Run:
    """One run's moving parts."""

    def __init__(
        self,
        decoder: Decoder,
        data: TrainingData,
        settings: LoraSettings,
        folder: Path,
        identity: str,
    ) -> None:
        self.decoder = decoder
        self.data = data
        self.settings = settings
        self.checkpoint = folder / _CHECKPOINT
        self.identity = identity
        self.parameters: Mapping[str, nn.Parameter] = lora_parameters(decoder)
        self.optimizer = torch.optim.AdamW(
            self.parameters.values(),
            lr=settings.learning_rate,
            weight_decay=settings.weight_decay,
        )
        self.steps = settings.epochs * math.ceil(len(data.examples) / settings.batch_size)
        self.places = 0  # tokens and padding read by this process

    def run(self, on_step: Callable[[Step], None] | None) -> TrainingResult:
        records: Curve = []
        if self.checkpoint.exists():
            records = load_run(self.checkpoint, self.parameters, self.optimizer, self.identity)
        done = len(records)
        began = time.perf_counter()
        with progress("training", total=self.steps, unit="steps") as advance:
            advance(done)
            for number, epoch, batch in self._plan():
                if number < done:
                    continue
                step = self._step(number, epoch, batch)
                records.append(asdict(step))
                if (number + 1) % self.settings.checkpoint_every == 0 or number + 1 == self.steps:
                    save_run(
                        self.checkpoint, self.parameters, self.optimizer, records, self.identity
                    )
                advance(1, f"loss {step.loss:.3f}")
                if on_step is not None:
                    on_step(step)
        seconds = time.perf_counter() - began
        curve = tuple(Step(**record) for record in records)
        read = sum(step.tokens for step in curve[done:])
        return TrainingResult(
            folder=self.checkpoint.parent,
            curve=curve,
            parameters=sum(parameter.numel() for parameter in self.parameters.values()),
            examples=len(self.data.examples),
            cut=self.data.cut,
            dropped=self.data.dropped,
            resumed_from=done,
            seconds=seconds,
            tokens_per_second=read / seconds,
            padding=1 - read / self.places if self.places else 0.0,
        )

    def _plan(self) -> Iterator[tuple[int, int, list[TokenizedExample]]]:
        """Every step of the run: its number, its epoch and its batch."""
        number = 0
        for epoch in range(self.settings.epochs):
            for batch in batches(self.data.examples, self.settings, epoch):
                yield number, epoch, [self.data.examples[place] for place in batch]
                number += 1

    def _step(self, number: int, epoch: int, batch: Sequence[TokenizedExample]) -> Step:
        settings, device = self.settings, self.decoder.device
        targets = sum(example.targets for example in batch)
        rate = cosine_rate(number, self.steps, settings.learning_rate, settings.warmup)
        loss = 0.0
        self.optimizer.zero_grad(set_to_none=True)
        with _seeded(settings.seed * 1_000_003 + number, device):
            for part in passes(batch, settings):
                self.places += part.inputs.numel()
                hidden = self.decoder.model(part.inputs.to(device))  # [rows, time, hidden]
                learnt = hidden.flatten(0, 1).index_select(0, part.places.to(device))
                logprobs = token_logprobs(
                    learnt, self.decoder.lm_head.weight, part.targets.to(device)
                )  # [targets of this pass]
                share = sft_loss(logprobs, targets)
                share.backward()  # type: ignore[no-untyped-call]
                loss += share.item()
        norm = nn.utils.clip_grad_norm_(self.parameters.values(), settings.max_grad_norm).item()
        if not (math.isfinite(loss) and math.isfinite(norm)):
            self.checkpoint.unlink(missing_ok=True)  # going on from it would diverge again
            raise ConfigurationError(
                f"training diverged at step {number + 1} (loss {loss}, gradient norm {norm})",
                where="training",
                fix=f"lower learning_rate, now {settings.learning_rate:g}",
            )
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        tokens = sum(example.inputs for example in batch)
        return Step(number + 1, epoch + 1, loss, rate, norm, tokens, targets)


def _prepare(folder: Path) -> None:
    """Make the folder, and see now, not after the first step, that it can be written."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        for name in (_CHECKPOINT, *FILES, _CURVE):  # half-written by a run that was killed
            for left in folder.glob(f".{name}.*"):
                left.unlink()


def _identity(model: Model, data: TrainingData, settings: LoraSettings) -> str:
    """The hash of all that decides the weights."""
    return content_hash(
        {
            "format": _FORMAT,
            "model": model.fingerprint,
            "dtype": str(model.dtype),
            "settings": settings.identity(),
            "data": [[e.ids.tolist(), e.mask.tolist()] for e in data.examples],
        }
    )


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Dropout from a seed of its own, so that a step is the same wherever the run began."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        yield
