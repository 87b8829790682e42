"""Training of a sentence encoder from beginning to end, and on from wherever it was stopped.

Each step: a batch of pairs is read in one pass of the encoder, the objective gives one number, the
gradient's norm is bounded, and AdamW (Loshchilov and Hutter, 2017, arXiv 1711.05101) moves all
weights; the rate rises over ``warmup`` and then falls in a line to nothing.

The folder holds a checkpoint while unfinished, and in the end the model as sentence-transformers
reads it, with ``curve.jsonl`` (a record a step). All are functions of model, data and settings.
A step costs about 6 operations a weight and token: for MiniLM-L6 (10.6 million weights without its
vocabulary) 64 million a token, on one core some thousand tokens a second.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llmwright.core import (
    ConfigurationError,
    Embedder,
    InputError,
    atomic_folder,
    content_hash,
    progress,
    sweep,
    write_jsonl,
    writing,
)
from llmwright.embeddings.native.encoder import NativeEncoder, native_fits
from llmwright.embeddings.training.encoder import SentenceEncoder
from llmwright.embeddings.training.objectives import (
    cosent,
    distillation,
    margin_mse,
    matryoshka,
    ranking,
    triplet,
)
from llmwright.embeddings.training.pairs import Pair, Relevance, batches
from llmwright.embeddings.training.rotation import principal_rotation
from llmwright.embeddings.training.settings import EncoderSettings
from llmwright.modeling import Curve, choose_dtype, load_run, save_run

_CHECKPOINT = "checkpoint.safetensors"
_CURVE = "curve.jsonl"
_FORMAT = 1  # raised when the same settings and data would give other weights
_SAMPLE = 2000  # texts that a rotation is taken from
_AT_ONCE = 32  # texts in a pass without gradients


@dataclass(frozen=True, slots=True)
class EncoderStep:
    """One step of the curve. ``loss`` is that of the batch before the step."""

    step: int
    epoch: int
    loss: float
    learning_rate: float
    gradient_norm: float


@dataclass(frozen=True, slots=True)
class EncoderResult:
    """What came out: the folder of the model and the curve. ``resumed_from`` steps were found
    done; ``seconds`` measure this process alone."""

    folder: Path
    curve: tuple[EncoderStep, ...]
    pairs: int
    dimension: int
    resumed_from: int
    seconds: float


def train_encoder(
    encoder: SentenceEncoder,
    pairs: Sequence[Pair],
    settings: EncoderSettings,
    folder: Path,
    *,
    teacher: Embedder | None = None,
    on_step: Callable[[EncoderStep], None] | None = None,
) -> EncoderResult:
    """Train ``encoder`` in place on ``pairs`` and write it into ``folder``.

    ``teacher`` gives the vectors of a distillation, and the margins of pairs that have none.
    Called again after a kill with the same arguments, it goes on after the last checkpoint, and
    the weights come out as those of an undisturbed run on this machine.

    Raises ``InputError`` for too few pairs or a folder that is in use or cannot be written,
    ``ConfigurationError`` for settings that do not fit the model, a checkpoint of another run, or
    a run that diverges.
    """
    if len(pairs) < 2:
        raise InputError(f"{len(pairs)} pair to train on", fix="give at least 2")
    if max(settings.matryoshka, default=0) > encoder.dimension:
        raise ConfigurationError(
            f"{max(settings.matryoshka)} dimensions of vectors of {encoder.dimension}",
            where="matryoshka",
            fix=f"give dimensions up to {encoder.dimension}",
        )
    _prepare(folder)
    run = _Run(encoder, pairs, settings, folder, teacher)
    return run.run(on_step)


def _prepare(folder: Path) -> None:
    """See before the first step, not after the last, that the folder is free and can be written."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        sweep(folder)
        found = {path.name for path in folder.iterdir()}
        if found and not found & {_CHECKPOINT, "modules.json"}:
            raise InputError(
                "the folder holds other files", where=str(folder), fix="name a new folder"
            )
        with atomic_folder(folder / "probe"):
            pass
        (folder / "probe").rmdir()


class _Run:
    """One run's moving parts."""

    def __init__(
        self,
        encoder: SentenceEncoder,
        pairs: Sequence[Pair],
        settings: EncoderSettings,
        folder: Path,
        teacher: Embedder | None,
    ) -> None:
        self.encoder = encoder
        self.pairs = pairs
        self.settings = settings
        self.folder = folder
        self.device = next(encoder.parameters()).device
        self.bfloat16 = choose_dtype(settings.dtype) == torch.bfloat16
        self.taught = self._taught(teacher)  # [pairs, dimension] or [pairs]
        self.identity = content_hash(
            {
                "format": _FORMAT,
                "model": encoder.fingerprint,
                "taught": hashlib.sha256(self.taught.numpy().tobytes()).hexdigest(),
                "settings": settings.identity(),
                "pairs": [asdict(pair) for pair in pairs],
            }
        )
        self._rotate()
        self.relevance = Relevance(pairs)
        self.parameters = dict(encoder.named_parameters())
        self.read: dict[tuple[int, ...], int] = {}  # texts read beforehand, to rows of `pooled`
        if settings.parts == "projection":
            self._read_all()
        projected = [p for name, p in self.parameters.items() if name == "projection"]
        others = [p for name, p in self.parameters.items() if name != "projection"]
        self.optimizer = torch.optim.AdamW(
            [{"params": others, "share": 1.0}]
            + [{"params": [p], "share": settings.projection_rate} for p in projected],
            weight_decay=settings.weight_decay,
        )
        self.plan = [
            (epoch, batch)
            for epoch in range(settings.epochs)
            for batch in batches(len(pairs), settings.batch_size, epoch, settings.seed)
        ]

    def run(self, on_step: Callable[[EncoderStep], None] | None) -> EncoderResult:
        checkpoint = self.folder / _CHECKPOINT
        records: Curve = []
        if checkpoint.exists():
            records = load_run(checkpoint, self.parameters, self.optimizer, self.identity)
        done, began = len(records), time.perf_counter()
        with progress("training", total=len(self.plan), unit="steps") as advance:
            advance(done)
            for number in range(done, len(self.plan)):
                step = self._step(number)
                records.append(asdict(step))
                if (number + 1) % self.settings.checkpoint_every == 0:
                    save_run(checkpoint, self.parameters, self.optimizer, records, self.identity)
                advance(1, f"loss {step.loss:.3f}")
                if on_step is not None:
                    on_step(step)
        with atomic_folder(self.folder) as place:
            self.encoder.write(place, self._card())
            write_jsonl(place / _CURVE, records)
        return EncoderResult(
            folder=self.folder,
            curve=tuple(EncoderStep(**record) for record in records),
            pairs=len(self.pairs),
            dimension=self.encoder.dimension,
            resumed_from=done,
            seconds=time.perf_counter() - began,
        )

    def _step(self, number: int) -> EncoderStep:
        settings = self.settings
        epoch, places = self.plan[number]
        rate = _rate(number, len(self.plan), settings.learning_rate, settings.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["share"]
        self.optimizer.zero_grad(set_to_none=True)
        loss = self._loss(places)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self.parameters.values(), settings.max_grad_norm).item()
        value = loss.item()
        if not (math.isfinite(value) and math.isfinite(norm)):
            (self.folder / _CHECKPOINT).unlink(missing_ok=True)  # it would diverge again
            raise ConfigurationError(
                f"training diverged at step {number + 1} (loss {value}, gradient norm {norm})",
                where="training",
                fix=f"lower learning_rate, now {settings.learning_rate:g}",
            )
        self.optimizer.step()
        return EncoderStep(number + 1, epoch + 1, value, rate, norm)

    def _loss(self, places: Sequence[int]) -> Tensor:
        settings, pairs = self.settings, [self.pairs[place] for place in places]
        negatives = [n for pair in pairs for n in pair.negatives]
        if settings.objective in ("triplet", "margin-mse"):
            negatives = [pair.negatives[0] for pair in pairs]
        elif settings.objective != "ranking":
            negatives = []
        ids = self._ids([p.query for p in pairs], "query")
        ids += self._ids([p.positive for p in pairs] + negatives, "document")
        vectors = self._encode(ids)  # [queries + documents, dimension]
        queries, documents = vectors[: len(pairs)], vectors[len(pairs) :]
        positives, wrong = documents[: len(pairs)], documents[len(pairs) :]
        if settings.objective == "ranking":
            known = self.relevance.known(pairs).to(self.device)
            objective = self._wrapped(
                partial(ranking, scale=settings.scale, symmetric=settings.symmetric)
            )
            return objective(queries, documents, known=known)
        if settings.objective == "triplet":
            objective = self._wrapped(partial(triplet, margin=settings.margin))
            return objective(queries, positives, wrong)
        if settings.objective == "cosent":
            scores = torch.tensor([pair.score for pair in pairs], device=self.device)
            objective = self._wrapped(partial(cosent, scale=settings.scale))
            return objective(queries, positives, scores=scores)
        taught = self.taught[torch.tensor(list(places))].to(self.device)
        if settings.objective == "margin-mse":
            return self._wrapped(margin_mse)(queries, positives, wrong, margins=taught)
        # A text and its translation are both drawn to the teacher's vector of the text.
        return self._wrapped(distillation)(torch.cat([queries, positives]), taught.repeat(2, 1))

    def _wrapped(self, objective: Callable[..., Tensor]) -> Callable[..., Tensor]:
        if not self.settings.matryoshka:
            return objective
        return matryoshka(objective, self.settings.matryoshka, self.settings.weights)

    def _ids(self, texts: Sequence[str], kind: str) -> list[list[int]]:
        if self.settings.objective in ("cosent", "distillation"):  # no part is a query
            return self.encoder.token_ids(texts, self.settings.max_tokens, "document")
        if kind == "query":
            return self.encoder.token_ids(texts, self.settings.query_tokens, "query")
        return self.encoder.token_ids(texts, self.settings.max_tokens, "document")

    def _taught(self, teacher: Embedder | None) -> Tensor:
        """What the teacher says: its vectors of the texts, or the margins of the pairs."""
        if self.settings.objective == "distillation":
            if teacher is None or teacher.dimension != self.encoder.dimension:
                said = "no teacher" if teacher is None else f"vectors of {teacher.dimension}"
                raise ConfigurationError(
                    f"{said} for a student of {self.encoder.dimension} dimensions",
                    where="distillation",
                    fix="give a teacher whose vectors have the student's size",
                )
            return torch.from_numpy(teacher.embed([pair.query for pair in self.pairs]))
        if self.settings.objective != "margin-mse":
            return torch.empty(0)
        if all(pair.margin is not None for pair in self.pairs):
            return torch.tensor([float(pair.margin or 0) for pair in self.pairs])
        if teacher is None:
            raise ConfigurationError(
                "pairs without a margin, and no teacher to give it",
                where="margin-mse",
                fix='add "margin" to every record, or name a teacher',
            )
        queries = teacher.embed([pair.query for pair in self.pairs], kind="query")
        apart = teacher.embed([pair.positive for pair in self.pairs]) - teacher.embed(
            [pair.negatives[0] for pair in self.pairs]
        )
        return torch.from_numpy(np.einsum("nd,nd->n", queries, apart))

    def _rotate(self) -> None:
        """Turn the space by the principal directions of the documents, or of the teacher's."""
        if not self.settings.rotate:
            return
        if self.settings.objective == "distillation":
            sample = self.taught.numpy()
        else:
            texts = sorted(
                {text for pair in self.pairs for text in (pair.positive, *pair.negatives)}
            )
            chosen = np.random.default_rng(self.settings.seed).permutation(len(texts))[:_SAMPLE]
            ids = sorted(self._ids([texts[place] for place in chosen], "document"))
            pooled = self._pooled(sorted(ids, key=len))
            sample = self.encoder.project(pooled).detach().cpu().numpy()
        turn = torch.from_numpy(principal_rotation(sample)).to(self.device)  # [d, d]
        before = self.encoder.projection
        self.encoder.projection = nn.Parameter(turn if before is None else turn @ before.detach())
        if self.settings.objective == "distillation":
            self.taught = F.normalize(self.taught @ turn.cpu().T, dim=1)

    def _read_all(self) -> None:
        """Let the projection learn alone: the vectors it maps stay what they are."""
        if self.encoder.projection is None:
            eye = torch.eye(self.encoder.dimension, device=self.device)
            self.encoder.projection = nn.Parameter(eye)
        self.parameters = {"projection": self.encoder.projection}
        texts = [(p.query, "query") for p in self.pairs]
        texts += [(t, "document") for p in self.pairs for t in (p.positive, *p.negatives)]
        ids: set[tuple[int, ...]] = set()
        for kind in ("query", "document"):
            ids.update(map(tuple, self._ids([t for t, k in texts if k == kind], kind)))
        ordered = sorted(ids, key=lambda one: (len(one), one))
        self.pooled = self._pooled(ordered)
        self.read = {one: row for row, one in enumerate(ordered)}

    def _encode(self, ids: Sequence[Sequence[int]]) -> Tensor:
        if self.read:
            return self.encoder.project(self.pooled[[self.read[tuple(one)] for one in ids]])
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            vectors: Tensor = self.encoder(ids)
        return vectors

    def _pooled(self, ids: Sequence[Sequence[int]]) -> Tensor:
        """Without gradients: [texts, hidden]."""
        bert, parts = self.encoder.bert, []
        native = None
        if self.bfloat16 and self.device.type == "cpu" and native_fits(bert.config):
            native = NativeEncoder(bert)  # several times as fast as PyTorch
        with (
            progress("reading", total=len(ids), unit="texts") as advance,
            torch.no_grad(),
            torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16),
        ):
            for start in range(0, len(ids), _AT_ONCE):
                batch = ids[start : start + _AT_ONCE]
                if native is None:
                    parts.append(self.encoder.pool(batch))
                else:
                    pooled = native.pooled(batch, first=self.encoder.pooling == "cls")
                    parts.append(torch.from_numpy(pooled))
                advance(len(batch))
        return torch.cat(parts)

    def _card(self) -> str:
        settings = self.settings
        short = ", ".join(map(str, settings.matryoshka))
        return (
            f"Objective: {settings.objective}, {len(self.pairs)} pairs, {settings.epochs} epochs."
            + (
                f" Its vectors may be cut to {short} dimensions and normalised again."
                if short
                else ""
            )
        )


def _rate(step: int, steps: int, peak: float, warmup: float) -> float:
    """Linear warm-up over a share of the steps, then linearly down; never quite 0."""
    warm = math.ceil(steps * warmup)
    if step < warm:
        return peak * (step + 1) / warm
    return peak * (steps - step) / (steps - warm)
