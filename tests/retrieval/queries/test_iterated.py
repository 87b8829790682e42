"""Names in what was found lead on to the passages that the question does not name."""

import math

import pytest

from llmwright.core import Chunk, ConfigurationError, Hit
from llmwright.retrieval.graph import EntityGraph
from llmwright.retrieval.queries.iterated import iterated, title_of

PASSAGES = {
    "Edward Baring": "Edward Baring was an English banker, a son of Henry Baring of Cromer Hall.",
    "Henry Baring": "Henry Baring was a banker. His father was Sir Francis of Larkbear.",
    "Larkbear": "Larkbear is a house near Exeter, built by the merchant Weaver Smith.",
    "Weaver Smith": "Weaver Smith sold cloth.",
    "Bankers": "A banker may be the father of bankers; the father decides.",
    "Fishing": "Herring is caught at night.",
}
QUESTION = "Who is the father of Edward Baring's father?"


def chunk(title, text):
    return Chunk(title, title, text, 0, len(text), language="en", metadata={"title": title})


CHUNKS = [chunk(title, text) for title, text in PASSAGES.items()]


def by_words(query, top):
    """Passages by how many words of the query they hold; ties by id."""
    asked = {word.strip("?.,'").lower() for word in query.replace("'", " ").split()}
    scored = []
    for one in CHUNKS:
        held = {word.strip(".,;").lower() for word in f"{one.id} {one.text}".split()}
        scored.append((-len(asked & held), one.id, one))
    return [
        Hit(one, -score, {"words": n})
        for n, (score, _, one) in enumerate(sorted(scored), 1)
        if score
    ][:top]


def only_the_first(query, top):
    return [Hit(CHUNKS[0], 1.0)]


@pytest.fixture
def graph(tmp_path):
    with EntityGraph(tmp_path / "g") as opened:
        for one in CHUNKS:
            opened.upsert(one.id, [one], one.metadata["title"])
        yield opened


def titles(hits):
    return [hit.chunk.id for hit in hits]


def test_a_name_leads_to_the_next_passage_and_a_round_is_a_hop(graph):
    # All that the question finds is the first passage; each round goes one name further.
    for rounds, reached in enumerate(["Henry Baring", "Larkbear", "Weaver Smith"], start=1):
        found = titles(iterated(only_the_first, graph.mentions, rounds=rounds)(QUESTION, 10))
        assert reached in found, rounds
        assert len(found) == rounds + 1 + (rounds > 0 and "Bankers" in found)


def test_the_score_is_the_one_of_the_equation(graph):
    hits = iterated(only_the_first, graph.mentions, rounds=1, fanout=10)(QUESTION, 10)
    best = {hit.chunk.id: hit.score for hit in hits}
    # Found at rank 1 and named in the question.
    assert best["Edward Baring"] == pytest.approx(2.0)
    # One document: every stem of the question weighs log(1 + 0.5 / 1.5), or log(1 + 1.5 / 0.5)
    # where the passage does not hold it. "Henry Baring" stands beside nothing that the question
    # lacks; the best path is by the name that is also the title.
    stems = ["who", "is", "the", "father", "of", "edward", "bare", "s"]
    held = {"of", "edward", "bare"}
    weight = {t: math.log(1 + 0.5 / 1.5) if t in held else math.log(4) for t in set(stems)}
    total = sum(weight.values())
    near = sum(weight[t] for t in ("edward", "bare", "of")) / total
    fresh = {t: w for t, w in weight.items() if t not in held}
    new = sum(w for t, w in fresh.items() if t == "father") / sum(fresh.values())
    rare = 1 - math.log(2) / math.log(11)
    assert best["Henry Baring"] == pytest.approx(rare * (1 + near) * (2 + new))


def test_without_a_graph_the_search_itself_looks_names_up():
    assert "Henry Baring" not in titles(by_words(QUESTION, 2))
    assert "Henry Baring" in titles(iterated(by_words, rounds=1)(QUESTION, 2))


def test_ranks_of_the_first_search_are_kept_and_its_own_is_added():
    hits = iterated(by_words)(QUESTION, 10)
    assert [hit.ranks["iterated"] for hit in hits] == list(range(1, len(hits) + 1))
    assert all("words" in hit.ranks for hit in hits)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_a_common_name_leads_nowhere(graph):
    found = iterated(only_the_first, graph.mentions, rounds=1, fanout=2)
    assert "Henry Baring" in titles(found(QUESTION, 10))
    for number in range(2):
        one = chunk(f"More {number}", "Of Henry Baring more is told.")
        graph.upsert(one.id, [one], one.id)
    assert titles(found(QUESTION, 10)) == ["Edward Baring"]


def test_nothing_found_is_nothing_to_go_on_from(graph):
    assert iterated(lambda query, top: [], graph.mentions)(QUESTION, 5) == []


def test_the_title_is_the_metadata_s_or_the_first_heading():
    assert title_of(CHUNKS[0]) == "Edward Baring"
    assert title_of(Chunk("a", "a", "t", 0, 1, heading="LoRA > Rank")) == "LoRA"


@pytest.mark.parametrize("wrong", [{"rounds": 0}, {"beam": 0}, {"fanout": 1}])
def test_a_number_out_of_range_is_named(wrong):
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        iterated(by_words, **wrong)
