"""The tuner finds a difference that is there, keeps the defaults where there is none, judges on
unseen questions, and goes on where it was stopped."""

from __future__ import annotations

import hashlib
import re

import numpy as np
import pytest

from llmwright.core import Chunk, ConfigurationError, Document, Hit
from llmwright.data import Question
from llmwright.evaluation.rag.tuning import Trial, _Bench, tune_retrieval, within
from llmwright.retrieval import ChunkSettings


class WordEmbedder:
    """Counts words by hash."""

    name, dimension, languages, fingerprint = "words", 64, None, "words-1"

    def embed(self, texts, *, kind="document"):
        vectors = np.full((len(texts), self.dimension), 1e-3, np.float32)
        for row, text in enumerate(texts):
            for word in re.findall(r"\w+", text.lower()):
                vectors[row, hashlib.sha256(word.encode()).digest()[0] % 64] += 1
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


TOPICS = ("amber", "basalt", "cedar", "dahlia", "ember", "fjord", "garnet", "heron")
DOCUMENTS = [
    Document(topic, " ".join(f"The {topic} has the property number{n}." for n in range(9)))
    for topic in TOPICS
]
QUESTIONS = [
    Question(f"{topic}-{n}", f"property number{n} of {topic}", "", (topic,), split)
    for topic in TOPICS
    for n, split in ((2, "tune"), (4, "tune"), (5, "eval"), (7, "eval"))
]


def tune(folder, **options):
    options = {"sizes": (60,), "strategies": ("sentence",), **options}
    return tune_retrieval(DOCUMENTS, QUESTIONS, WordEmbedder(), folder, **options)


def worse(query, hits):
    """A reranker that puts the best last."""
    return list(range(len(hits)))


def test_defaults_stand_where_nothing_is_gained(tmp_path):
    tuning = tune(tmp_path, reranker=worse, reranker_key="worse")
    assert tuning.best == tuning.trials[0] and tuning.best.chunking == ChunkSettings()
    assert any(trial.reranked for trial in tuning.trials)
    assert all(difference.value == 0 for _, _, difference in tuning.figures.values())
    assert [default.n for default, _, _ in tuning.figures.values()] == [16] * 3


def test_a_reranker_that_helps_is_taken_and_judged_on_unseen_questions(tmp_path):
    asked = []

    def oracle(query, hits):
        asked.append(query)
        return [float(hit.chunk.document_id in query) for hit in hits]

    lost = [Question(q.id, f"the {q.relevant[0]}", "", q.relevant, q.split) for q in QUESTIONS]
    confused = [Document(d.id, d.text.replace(d.id, "thing")) for d in DOCUMENTS]
    tuning = tune_retrieval(
        confused,
        lost,
        WordEmbedder(),
        tmp_path,
        reranker=oracle,
        reranker_key="o",
        sizes=(),
        strategies=(),
    )
    default, best, difference = tuning.figures["ndcg@10"]
    assert tuning.best.reranked and best.value == 1.0 and difference.low > 0
    assert default.value < 0.7 and difference.value == pytest.approx(best.value - default.value)
    assert {q.question for q in lost if q.split == "eval"} <= set(asked)


def test_finished_trials_are_not_repeated(tmp_path, monkeypatch):
    first, judged, judge = tune(tmp_path), [], _Bench.judge
    monkeypatch.setattr(_Bench, "judge", lambda *given: judged.append(given) or judge(*given))
    said = []
    again = tune(tmp_path, say=said.append)
    assert [(t.label, t.values, t.seconds) for t in again.trials] == [
        (t.label, t.values, t.seconds) for t in first.trials
    ]
    assert len(judged) == 2  # the default and the choice, on the half kept for them
    assert len(said) == len(again.trials) and said[0].endswith("recursive 220, hybrid")


def test_without_time_only_the_defaults_are_tried(tmp_path):
    tuning = tune(tmp_path, minutes=0)
    assert [trial.label for trial in tuning.trials] == ["recursive 220, hybrid"]
    assert "recursive 60, hybrid" in tuning.skipped and tuning.best == tuning.trials[0]


def test_both_halves_are_needed(tmp_path):
    for split in ("tune", "eval"):
        half = [question for question in QUESTIONS if question.split != split]
        with pytest.raises(ConfigurationError, match=f"has the split '{split}'"):
            tune_retrieval(DOCUMENTS, half, WordEmbedder(), tmp_path)


def test_hits_are_taken_while_the_context_has_room():
    hits = [
        Hit(Chunk(str(n), "d", "word " * n, 0, 5 * n, heading="head"), 1.0) for n in (4, 3, 9, 1)
    ]
    search = within(lambda query, top: hits[:top], 10)
    assert [hit.chunk.id for hit in search("q", 10)] == ["4", "3"]  # 5 and 4 tokens
    assert [hit.chunk.id for hit in within(lambda q, top: hits[2:], 3)("q", 2)] == ["9"]


def test_what_a_trial_is_called():
    assert Trial().label == "recursive 220, hybrid"
    assert Trial(ChunkSettings("sentence", 110), reranked=True).label == (
        "sentence 110, hybrid, reranked 1"
    )
