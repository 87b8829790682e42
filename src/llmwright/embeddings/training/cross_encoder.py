"""Training of a cross-encoder on queries with a passage that answers and some that do not.

Each record gives a group: the positive and ``negatives`` of its hard negatives, drawn anew every
epoch. One of two objectives judges the logits s of the group, the positive's first:

    pairs  (binary cross-entropy)   - log sigma(s_0) - 1/n * sum over i of log sigma(-s_i)
    groups (InfoNCE, listwise)      - log exp(s_0) / sum over i of exp(s_i)

The first gives logits that mean something by themselves (and can be calibrated from few
questions), the second only orders, which is what a ranking needs. Nogueira and Cho (2019), arXiv
1901.04085; van den Oord, Li and Vinyals (2018), "Representation Learning with Contrastive
Predictive Coding", arXiv 1807.03748; Gao, Dai and Callan (2021), "Rethink Training of BERT
Rerankers", arXiv 2101.08751, for groups with negatives of the retriever that is to be reranked.

A step reads batch_size * (1 + negatives) pairs at 6 operations a weight and token: for MiniLM-L6
and pairs of 160 tokens 10 GFLOP a pair, some 5 pairs a second on one core.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llmwright.core import (
    ConfigurationError,
    DType,
    InputError,
    atomic_folder,
    content_hash,
    progress,
    sweep,
    write_jsonl,
    writing,
)
from llmwright.embeddings.cross_encoder import CrossEncoder
from llmwright.embeddings.training.pairs import Pair
from llmwright.modeling import Curve, choose_dtype, load_run, save_run

RerankObjective = Literal["pairs", "groups"]

_CHECKPOINT = "checkpoint.safetensors"
_CURVE = "curve.jsonl"
_FORMAT = 1  # raised when the same settings and data would give other weights


@dataclass(frozen=True, slots=True)
class CrossEncoderSettings:
    """How to train. ``batch_size`` counts groups. A pair is cut at ``max_tokens`` tokens. The new
    layers learn at ``head_rate`` times the rate, which rises over a share ``warmup`` of the steps
    and then falls in a line. ``dtype`` says what activations are computed in; weights are float32.
    """

    objective: RerankObjective = "groups"
    negatives: int = 4
    epochs: int = 2
    batch_size: int = 8
    learning_rate: float = 3e-5
    head_rate: float = 10.0
    warmup: float = 0.1
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    max_tokens: int = 192
    dtype: DType = "auto"
    checkpoint_every: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        for name, ok, rule in (
            ("objective", self.objective in get_args(RerankObjective), "pairs or groups"),
            ("negatives", self.negatives >= 1, "at least 1"),
            ("epochs", self.epochs >= 1, "at least 1"),
            ("batch_size", self.batch_size >= 1, "at least 1"),
            ("learning_rate", 0 < self.learning_rate <= 1, "above 0 and at most 1"),
            ("head_rate", self.head_rate > 0, "above 0"),
            ("warmup", 0 <= self.warmup <= 1, "a share between 0 and 1"),
            ("weight_decay", 0 <= self.weight_decay <= 1, "between 0 and 1"),
            ("max_grad_norm", self.max_grad_norm > 0, "above 0"),
            ("max_tokens", self.max_tokens >= 8, "at least 8 tokens"),
            ("dtype", self.dtype in get_args(DType), "auto, float32 or bfloat16"),
            ("checkpoint_every", self.checkpoint_every >= 1, "at least 1 step"),
        ):
            if not ok:
                raise ConfigurationError(
                    f"{name} is {getattr(self, name)!r}",
                    where="cross-encoder settings",
                    fix=f"{name} must be {rule}",
                )

    def identity(self) -> dict[str, Any]:
        """All that decides the result; how often it is saved on the way does not."""
        values = asdict(self)
        del values["checkpoint_every"]
        return values


@dataclass(frozen=True, slots=True)
class RerankStep:
    """One step of the curve. ``loss`` is the mean of the batch's groups before the step."""

    step: int
    epoch: int
    loss: float
    learning_rate: float
    gradient_norm: float


@dataclass(frozen=True, slots=True)
class CrossEncoderResult:
    """What came out. ``left_out`` records had no negative; ``resumed_from`` steps were found
    done; ``seconds`` measure this process alone."""

    folder: Path
    curve: tuple[RerankStep, ...]
    groups: int
    left_out: int
    resumed_from: int
    seconds: float


def train_cross_encoder(
    model: CrossEncoder,
    pairs: Sequence[Pair],
    settings: CrossEncoderSettings,
    folder: Path,
    *,
    on_step: Callable[[RerankStep], None] | None = None,
) -> CrossEncoderResult:
    """Train ``model`` (``CrossEncoder.fresh``) in place and write it into ``folder``.

    ``pairs`` carry hard negatives, such as ``mine_negatives`` or the hits of a search give; one
    without is left out. Called again after a kill with the same arguments, it goes on after the
    last checkpoint, and the weights come out as those of an undisturbed run on this machine.

    Raises ``InputError`` where no pair has a negative, or the folder holds other files or cannot
    be written, ``ConfigurationError`` for a checkpoint of another run or a run that diverges.
    """
    usable = [pair for pair in pairs if pair.negatives]
    if not usable:
        raise InputError(
            "no pair has a negative to be told from", fix="mine negatives with a search first"
        )
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        sweep(folder)
        found = {path.name for path in folder.iterdir()}
        if found and not found & {_CHECKPOINT, _CURVE}:
            raise InputError(
                "the folder holds other files", where=str(folder), fix="name a new folder"
            )
    began = time.perf_counter()
    run = _Run(model, usable, settings, folder)
    records, done = run.run(on_step)
    model.requires_grad_(False).eval()
    with atomic_folder(folder) as place:
        model.write(place)
        write_jsonl(place / _CURVE, records)
    return CrossEncoderResult(
        folder=folder,
        curve=tuple(RerankStep(**record) for record in records),
        groups=len(usable),
        left_out=len(pairs) - len(usable),
        resumed_from=done,
        seconds=time.perf_counter() - began,
    )


def group_loss(logits: Tensor, objective: RerankObjective) -> Tensor:
    """Of logits [groups, 1 + negatives], each row's first of the positive; missing negatives are
    -inf. The mean over groups."""
    if objective == "groups":
        return -F.log_softmax(logits, dim=1)[:, 0].mean()
    there = torch.isfinite(logits[:, 1:])
    wrong = F.softplus(logits[:, 1:].masked_fill(~there, 0.0)) * there  # -log sigma(-s)
    return (F.softplus(-logits[:, 0]) + wrong.sum(1) / there.sum(1)).mean()


class _Run:
    """One run's moving parts."""

    def __init__(
        self,
        model: CrossEncoder,
        pairs: Sequence[Pair],
        settings: CrossEncoderSettings,
        folder: Path,
    ) -> None:
        self.model = model.train().requires_grad_(True)
        model.activation = "sigmoid" if settings.objective == "pairs" else "identity"
        self.pairs, self.settings = pairs, settings
        self.checkpoint = folder / _CHECKPOINT
        self.bfloat16 = choose_dtype(settings.dtype) == torch.bfloat16
        self.identity = content_hash(
            {
                "format": _FORMAT,
                "model": model.fingerprint,
                "head": [float(p.detach().double().sum()) for p in model.classifier.parameters()],
                "settings": settings.identity(),
                "pairs": [asdict(pair) for pair in pairs],
            }
        )
        self.parameters = dict(model.named_parameters())
        head = [p for n, p in self.parameters.items() if not n.startswith("encoder.")]
        body = [p for n, p in self.parameters.items() if n.startswith("encoder.")]
        self.optimizer = torch.optim.AdamW(
            [{"params": body, "share": 1.0}, {"params": head, "share": settings.head_rate}],
            weight_decay=settings.weight_decay,
        )
        size, count = settings.batch_size, len(pairs)
        orders = [
            np.random.default_rng([settings.seed, epoch]).permutation(count).tolist()
            for epoch in range(settings.epochs)
        ]
        self.plan: list[tuple[int, list[int]]] = [
            (epoch, order[start : start + size])
            for epoch, order in enumerate(orders)
            for start in range(0, count, size)
        ]

    def run(self, on_step: Callable[[RerankStep], None] | None) -> tuple[Curve, int]:
        records: Curve = []
        if self.checkpoint.exists():
            records = load_run(self.checkpoint, self.parameters, self.optimizer, self.identity)
        done = len(records)
        with progress("training", total=len(self.plan), unit="steps") as advance:
            advance(done)
            for number in range(done, len(self.plan)):
                step = self._step(number)
                records.append(asdict(step))
                if (number + 1) % self.settings.checkpoint_every == 0:
                    save_run(
                        self.checkpoint, self.parameters, self.optimizer, records, self.identity
                    )
                advance(1, f"loss {step.loss:.3f}")
                if on_step is not None:
                    on_step(step)
        return records, done

    def _step(self, number: int) -> RerankStep:
        settings = self.settings
        epoch, places = self.plan[number]
        warm = math.ceil(settings.warmup * len(self.plan))
        left = (len(self.plan) - number) / max(len(self.plan) - warm, 1)
        rate = settings.learning_rate * ((number + 1) / warm if number < warm else left)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["share"]
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16):
            logits = self._logits(places, epoch)
        loss = group_loss(logits.float(), settings.objective)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self.parameters.values(), settings.max_grad_norm).item()
        value = loss.item()
        if not (math.isfinite(value) and math.isfinite(norm)):
            self.checkpoint.unlink(missing_ok=True)  # it would diverge again
            raise ConfigurationError(
                f"training diverged at step {number + 1} (loss {value}, gradient norm {norm})",
                where="training",
                fix=f"lower learning_rate, now {settings.learning_rate:g}",
            )
        self.optimizer.step()
        return RerankStep(number + 1, epoch + 1, value, rate, norm)

    def _logits(self, places: Sequence[int], epoch: int) -> Tensor:
        """[groups, 1 + negatives], the positives first; -inf where a group has fewer."""
        pairs: list[tuple[str, str]] = []
        cells: list[tuple[int, int]] = []
        for row, place in enumerate(places):
            pair = self.pairs[place]
            draw = np.random.default_rng([self.settings.seed, epoch, place])
            drawn = draw.permutation(len(pair.negatives))[: self.settings.negatives]
            texts = [pair.positive, *(pair.negatives[i] for i in sorted(drawn))]
            pairs += [(pair.query, text) for text in texts]
            cells += [(row, column) for column in range(len(texts))]
        ids, firsts = self.model.token_ids(pairs, self.settings.max_tokens)
        order = sorted(range(len(ids)), key=lambda i: (len(ids[i]), i))
        scores = self.model([ids[i] for i in order], [firsts[i] for i in order])
        logits = scores.new_full((len(places), 1 + self.settings.negatives), -math.inf)
        rows, columns = zip(*(cells[i] for i in order), strict=True)
        filled: Tensor = logits.index_put((torch.tensor(rows), torch.tensor(columns)), scores)
        return filled
