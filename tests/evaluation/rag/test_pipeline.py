"""Each part of a pipeline broken in turn: the part that is named is the part that was broken."""

from __future__ import annotations

import json

import pytest

from llmwright.core import Chunk, Completion, ConfigurationError, Hit, InputError
from llmwright.data import Question
from llmwright.evaluation.rag import (
    Facts,
    RagRecord,
    blame,
    evaluate_rag,
    evaluate_rag_records,
)
from llmwright.providers import ScriptedModel

FACTS = {
    "tea": "Green tea is brewed at eighty degrees.",
    "sea": "Two high tides come each day, after the moon.",
    "sun": "Sunlight needs eight minutes to reach Earth.",
}
CHUNKS = {name: Chunk(name, name, text, 0, len(text)) for name, text in FACTS.items()}
NOISE = [Chunk(f"n{i}", f"n{i}", f"Nothing of interest, part {i}.", 0, 30) for i in range(120)]
ANSWERS = {"tea": "eighty degrees", "sea": "two", "sun": "eight minutes"}
QUESTIONS = [Question(n, f"About {n}?", a, (n,)) for n, a in ANSWERS.items()]
QUESTIONS.append(Question("none", "About gold?", "I do not know.", (), answerable=False))


def spans(label):
    return label, 0, len(FACTS[label])


def search_with(places):
    """A search that puts the passage of each topic at a place of its own, from 0."""

    def search(query, top):
        hits = [Hit(chunk, 1.0) for chunk in NOISE]
        for name, place in places.items():
            if name in query and place is not None:
                hits.insert(place, Hit(CHUNKS[name], 1.0))
        return hits[:top]

    return search


class Reader:
    """Answers from the passages it is given, with every flaw that is asked for."""

    def __init__(self, search, *, loses=(), deaf=(), first_only=(), top=3):
        self.search, self.top = search, top
        self.loses, self.deaf, self.first_only = loses, deaf, first_only
        self.name = "reader"

    async def complete(self, messages, params=None):
        topic = messages[-1].content.split()[-1].rstrip("?")
        hits = [h for h in self.search(messages[-1].content, self.top)
                if h.chunk.id not in self.loses]  # fmt: skip
        at = next((n for n, h in enumerate(hits, 1) if h.chunk.id == topic), None)
        if at is None or topic in self.deaf or (topic in self.first_only and at > 1):
            return Completion("I do not know.", sources=tuple(hits))
        return Completion(f"{FACTS[topic].rstrip('.')} [{at}].", sources=tuple(hits))


def ask(tmp_path, places, **flaws):
    return evaluate_rag(
        QUESTIONS, search_with(places), spans, records_path=tmp_path / "records.jsonl",
        answerer=lambda search: Reader(search, **flaws),
        passages=lambda span: [CHUNKS[span[0]]],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("place", "flaws", "part", "mended"),
    [
        (None, {}, "retrieval", True),
        (50, {}, "ranking", True),
        (1, {"loses": ("sea",)}, "context", False),
        (1, {"first_only": ("sea",)}, "context", True),
        (0, {"deaf": ("sea",)}, "generation", False),
        (2, {}, "right", None),
    ],
)
def test_the_part_that_was_broken_is_named(tmp_path, place, flaws, part, mended):
    report = ask(tmp_path, {"tea": 0, "sun": 1, "sea": place}, **flaws)
    parts = {record["id"]: record["part"] for record in report.records}
    assert parts == {"tea": "right", "sun": "right", "sea": part, "none": "right"}
    shares = {score.name: score.value for score in report.parts}
    assert sum(v for v in shares.values() if v is not None) == pytest.approx(1.0)
    assert report.bottleneck == (None if part == "right" else part)
    sea = report.records[1]
    assert sea["right_with_gold"] is mended
    perfect = {score.name: score.value for score in report.perfect}
    if part != "right":
        assert perfect.pop(f"perfect {part}") == (1.0 if mended or part == "generation" else 0.75)
        assert set(perfect.values()) == {0.75}
    assert json.loads((tmp_path / "records.jsonl").read_text().splitlines()[1])["part"] == part


def test_retrieval_alone_says_what_reaches_the_prompt(tmp_path):
    report = evaluate_rag(
        QUESTIONS, search_with({"tea": 0, "sun": 40}), spans, records_path=tmp_path / "r.jsonl"
    )
    parts = {score.name: (score.value, score.n, score.unscored) for score in report.parts}
    assert parts == {
        "retrieval": (pytest.approx(1 / 3), 3, 1), "ranking": (pytest.approx(1 / 3), 3, 1),
        "reached": (pytest.approx(1 / 3), 3, 1),
    }  # fmt: skip
    assert {score.value for score in report.perfect} == {None}
    scores = {s.name: s.value for s in report.scores["generation"]}
    assert set(scores.values()) == {None}
    with pytest.raises(ConfigurationError, match="top is 0"):
        evaluate_rag(QUESTIONS, search_with({}), spans, records_path=tmp_path / "r", top=0)


def test_a_model_that_fails_leaves_the_question_unscored_and_a_stopped_run_goes_on(tmp_path):
    asked = []

    def answer(messages):
        asked.append(messages[-1].content)
        if "tea" in messages[-1].content:
            raise InputError("too long", where="here", fix="shorten")
        return "Something else, said at length."

    def stops(query, top):
        if "sun" in query:
            raise KeyboardInterrupt
        return search_with({"tea": 0})(query, top)

    def run(search):
        return evaluate_rag(
            QUESTIONS, search, spans, records_path=tmp_path / "r.jsonl",
            answerer=lambda search: ScriptedModel(answer),
        )  # fmt: skip

    with pytest.raises(KeyboardInterrupt):
        run(stops)
    report = run(search_with({"tea": 0}))
    assert asked.count("About tea?") == 1  # it was kept
    assert report.records[0]["part"] == "unscored" and "too long" in report.records[0]["error"]
    assert [r["part"] for r in report.records[1:]] == ["retrieval", "retrieval", "generation"]


def test_stored_records_are_attributed_as_far_as_they_tell():
    def stored(**more):
        fields = {"id": "1", "question": "How hot?", "answer": "eighty degrees",
                  "contexts": (FACTS["sea"],), "gold": "eighty degrees"}  # fmt: skip
        return RagRecord(**fields | more)

    wrong = {"answer": "Two high tides come each day."}
    report = evaluate_rag_records([
        stored(contexts=(FACTS["tea"],)),
        stored(relevant=(False,), found_at=(None,), **wrong),
        stored(relevant=(False,), found_at=(None,), candidates=100, **wrong),
        stored(relevant=(False,), found_at=(7,), candidates=100, **wrong),
        stored(relevant=(True,), found_at=(1,), **wrong),
        stored(gold=None), stored(answerable=False, answer="I do not know."),
        stored(answerable=False),
    ])  # fmt: skip
    assert [record["part"] for record in report.records] == [
        "right", "retrieval or ranking", "retrieval", "ranking", "generation", "unscored", "right",
        "generation",
    ]  # fmt: skip


def test_an_unfaithful_answer_is_wrong_though_it_holds_the_reference():
    said = (
        "eighty degrees. Marco Polo brought it. Kublai Khan drank gallons. Venice loved porcelain."
    )
    record = RagRecord("1", "How hot?", said, (FACTS["tea"],), "eighty degrees", relevant=(True,),
                       found_at=(1,))  # fmt: skip
    (written,) = evaluate_rag_records([record]).records
    assert written["metrics"]["correct"] == 1.0 and written["metrics"]["faithfulness"] == 0.25
    assert written["part"] == "generation"


def test_who_is_to_blame_is_the_first_that_lost_it():
    facts = Facts(True, (None, 2), 100, 3, False, False)
    assert blame(facts) == "retrieval"
    assert blame(Facts(True, (4, 2), 100, 3, False, False)) == "ranking"
    assert blame(Facts(True, (3, 2), 100, 3, False, False)) == "context"
    assert blame(Facts(True, (), None, 3, None, False)) == "unscored"
