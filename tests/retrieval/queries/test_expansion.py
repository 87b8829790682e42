"""Expansion: the question keeps its vote, whatever a model writes; parsing; HyDE by its equation."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hashing_embedder import HashingEmbedder
from hypothesis import given
from hypothesis import strategies as st

from llmwright.core import Chunk, ConfigurationError, Document, Embedder, Hit, Usage
from llmwright.providers.scripted import ScriptedModel
from llmwright.retrieval import Index
from llmwright.retrieval.queries.counting import Counted
from llmwright.retrieval.queries.expansion import distinct, expanded, fuse_hits, in_turn
from llmwright.retrieval.queries.hyde import HydeEmbedder, hypothetical_answers
from llmwright.retrieval.queries.rewriting import (
    LONGEST,
    paraphrases,
    queries_of,
    step_back,
    sub_questions,
)
from llmwright.retrieval.queries.splitting import MOST, clauses
from llmwright.retrieval.ranking.fusion import Fusion


def searching(found: dict[str, list[str]], asked: list[tuple[str, int]] | None = None):
    def search(query: str, top: int) -> list[Hit]:
        if asked is not None:
            asked.append((query, top))
        ids = found.get(query, [])[:top]
        return [Hit(Chunk(i, "d", i, 0, 1), 1 / n) for n, i in enumerate(ids, 1)]

    return search


def ids(hits) -> list[str]:
    return [hit.chunk.id for hit in hits]


RANKING = st.lists(st.sampled_from("abcdefghij"), unique=True, max_size=8)


@given(
    RANKING,
    st.lists(RANKING, min_size=1, max_size=4),
    st.sampled_from([0.1, 0.5, 1.0]),
    st.booleans(),
)
def test_nonsense_costs_no_more_than_its_vote(own, others, vote, parts):
    found = {"question": own} | {f"other {n}": ranking for n, ranking in enumerate(others)}
    search = searching(found)
    rewritten = list(found)[1:]
    hits = expanded(search, lambda _: rewritten, vote=vote, parts=parts, depth=20)("question", 20)
    assert set(ids(hits)) == {i for ranking in found.values() for i in ranking}
    score = {hit.chunk.id: hit.score for hit in hits}
    for rank, identity in enumerate(own, 1):
        assert 0 <= score[identity] - 1 / (10 + rank) <= vote / 11 + 1e-12
    strangers = [i for i in score if i not in own]
    assert all(score[i] <= vote / 11 + 1e-12 for i in strangers)
    if own and vote < 1:
        assert all(ids(hits).index(own[0]) < ids(hits).index(i) for i in strangers)


def test_worked_example():
    asked: list[tuple[str, int]] = []
    search = searching({"q": ["a", "b"], "r1": ["b", "c"], "r2": ["b"]}, asked)
    hits = expanded(search, lambda _: ["r1", "Q?", "", "r2", "R1!"], depth=30)("q", 2)
    assert asked == [("q", 30), ("r1", 30), ("r2", 30)]
    assert ids(hits) == ["b", "a"]
    assert hits[0].score == pytest.approx(1 / 12 + 0.5 / 11 + 0.5 / 11)
    assert dict(hits[0].ranks) == {"question": 2, "rewriting 1": 1, "rewriting 2": 1}
    assert hits[1].score == pytest.approx(1 / 11)


def test_parts_take_turns():
    search = searching({"q": ["a", "b"], "r1": ["c", "d", "a"], "r2": ["e", "c", "f"]})
    assert ids(in_turn([search("r1", 9), search("r2", 9)])) == ["c", "e", "d", "a", "f"]
    hits = expanded(search, lambda _: ["r1", "r2"], parts=True)("q", 9)
    # a: 1/11 + 1/14; c: 1/11; b before e: 1/12 each; d: 1/13; f: 1/15
    assert ids(hits) == ["a", "c", "b", "e", "d", "f"]
    assert dict(hits[0].ranks) == {"question": 1, "parts": 4}
    assert in_turn([]) == in_turn([[]]) == []


def test_without_a_rewriting_the_search_is_the_plain_one():
    asked: list[tuple[str, int]] = []
    search = searching({"q": ["a", "b"]}, asked)
    assert expanded(search, lambda _: ["q", " Q "])("q", 1) == search("q", 1)
    assert asked == [("q", 1), ("q", 1)]
    for vote in (0, 1.5, float("nan")):
        with pytest.raises(ConfigurationError, match=r"vote is .*; give more than 0, up to 1"):
            expanded(search, clauses, vote=vote)


def test_equal_scores_go_to_the_search_asked_first():
    found = {name: searching({"q": [i]})("q", 1) for name, i in (("one", "z"), ("two", "a"))}
    assert ids(fuse_hits(found, Fusion())) == ["z", "a"]
    assert distinct(["A b", "a-b", "c", "..."], besides="C") == ["A b"]


def test_what_a_model_writes_becomes_queries():
    answer = (
        '1. "Where is the Louvre?"\n2) In which city lies the Louvre?\n\n- `Louvre location`\n'
        "***\nQ: 3 musketeers\n" + "word " * (LONGEST + 1) + "\nBonjour"
    )
    assert queries_of(answer, 9) == [
        "Where is the Louvre?",
        "In which city lies the Louvre?",
        "Louvre location",
        "3 musketeers",
        "Bonjour",
    ]
    assert queries_of(answer, 2) == queries_of(answer, 9)[:2]
    assert queries_of("", 3) == queries_of("?!\n--", 3) == []
    assert queries_of("1984 by Orwell\n2.5 percent", 2) == ["1984 by Orwell", "2.5 percent"]


@pytest.mark.parametrize(
    ("rewrite", "count", "says"),
    [
        (paraphrases, 2, "other ways"),
        (sub_questions, 2, "simple questions"),
        (step_back, 1, "more"),
    ],
)
def test_each_kind_of_rewriting_asks_once(rewrite, count, says):
    model = Counted(ScriptedModel(lambda messages: "1. one thing\n2. another"))
    search = searching({"q": ["a"], "one thing": ["b"], "another": ["c"]})
    hits = expanded(search, rewrite(model, *([2] if count == 2 else [])))("q", 9)
    assert ids(hits) == ["a", "b", "c"][: count + 1]
    assert model.calls == 1 and model.usage.completion_tokens > 0
    ((system, user),) = model._model.calls
    assert says in system.content and user.content == "q"
    assert rewrite(model)("  ") == [] and model.calls == 1


def test_hyde_averages_as_its_equation_says():
    answers = {"q": ["an answer", "another answer"], "r": []}
    plain = HashingEmbedder(fingerprint="f")
    hyde = HydeEmbedder(plain, lambda question: answers[question])
    assert isinstance(hyde, Embedder)
    assert (hyde.name, hyde.dimension, hyde.fingerprint) == (plain.name, plain.dimension, "f")
    found = hyde.embed(["q", "r"], kind="query")
    mean = plain.embed(["q", "an answer", "another answer"]).mean(axis=0)
    assert found[0] == pytest.approx(mean / np.linalg.norm(mean), abs=1e-6)
    assert found[1] == pytest.approx(plain.embed(["r"])[0], abs=1e-6)
    assert (hyde.embed(["q"]) == plain.embed(["q"])).all()
    assert hyde.embed([], kind="query").shape == (0, plain.dimension)


def test_an_index_opens_with_hyde(tmp_path):
    index = Index.create(tmp_path / "i", HashingEmbedder())
    index.upsert([Document("a", "felines purr softly"), Document("b", "engines roar loudly")])
    model = Counted(ScriptedModel(lambda messages: "engines roar"))
    moved = Index.open(tmp_path / "i", HydeEmbedder(HashingEmbedder(), hypothetical_answers(model)))
    hits = moved.search("zzz", mode="dense")
    assert hits[0].chunk.document_id == "b" and model.calls == 1
    search = expanded(partial(index.search, mode="lexical"), hypothetical_answers(model, 2))
    assert search("zzz", 1)[0].chunk.document_id == "b" and model.calls == 3
    nothing = hypothetical_answers(ScriptedModel(lambda messages: " ... "))
    assert nothing("zzz") == nothing(" ") == []


def test_tokens_of_a_streamed_answer_count():
    import asyncio

    model = Counted(ScriptedModel(lambda messages: "one two"))

    async def read() -> str:
        return "".join([delta.text async for delta in model.stream([])])

    assert asyncio.run(read()) == "one two"
    assert model.calls == 1 and model.usage != Usage() and model.name == "scripted"


@pytest.mark.parametrize(
    ("question", "parts"),
    [
        (
            "Which is older, the Eiffel Tower or the Brooklyn Bridge?",
            ["the Eiffel Tower", "the Brooklyn Bridge"],
        ),
        ("Are Ann Lee and Bo Dahl both painters?", ["Are Ann Lee", "Bo Dahl"]),
        ("Кто старше, Лев Толстой или Антон Чехов?", ["Лев Толстой", "Антон Чехов"]),
        ('Who wrote "War and Peace" and "Dead Souls"?', ['Who wrote "War and Peace"', '"Dead Souls"']),
        ("What is the capital of France?", []),
        ("Salt and pepper?", []),
        ("", []),
    ],
)  # fmt: skip
def test_clauses(question, parts):
    assert clauses(question) == parts


@given(st.text(max_size=60))
def test_clauses_are_pieces_of_the_question(question):
    parts = clauses(question)
    assert len(parts) <= MOST and len(parts) != 1
    assert all(part in question.replace("\x00", "") for part in parts)
