"""The graph on disk: grown and cut by document, at a cost that does not depend on the rest."""

import sqlite3
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from llmwright.core import Chunk, InputError
from llmwright.retrieval.graph import EntityGraph


def chunk(identity, text, number=0):
    return Chunk(f"{identity}:{number}", identity, text, 0, len(text), language="en")


def content(graph):
    """All that the graph says, without its numbers."""
    return (
        graph.rows("SELECT chunk, title, record, document FROM passages ORDER BY chunk"),
        graph.rows("SELECT key FROM names ORDER BY key"),
        graph.rows(
            "SELECT key, chunk, sentence FROM mentions JOIN names ON names.id = name "
            "JOIN passages ON passages.id = passage ORDER BY 1, 2, 3"
        ),
    )


@pytest.fixture
def graph(tmp_path):
    with EntityGraph(tmp_path / "folder" / "g") as opened:
        yield opened


def test_a_name_finds_its_passages_however_it_is_inflected(graph):
    graph.upsert("a", [chunk("a", "The boat Sea Witch sank.")], "Wrecks")
    graph.upsert("b", [chunk("b", "Sea Witches were built here.")], "Yards")
    graph.upsert("c", [chunk("c", "A witch lives by the sea.")], "Tales")
    hits = graph.mentions("Sea Witch", 10)
    assert [hit.chunk.document_id for hit in hits] == ["a", "b"]
    assert len(graph.mentions("Sea Witch", 1)) == 1
    assert hits[0].chunk == chunk("a", "The boat Sea Witch sank.")
    assert graph.title(hits[0].chunk) == "Wrecks"
    assert graph.mentions("Nobody", 5) == [] and graph.mentions("", 5) == []


def test_an_unchanged_document_is_left_alone_and_a_changed_one_replaced(graph):
    assert graph.upsert("a", [chunk("a", "Old Harbour")])
    assert not graph.upsert("a", [chunk("a", "Old Harbour")])
    assert graph.upsert("a", [chunk("a", "New Bridge")])
    assert graph.mentions("Old Harbour", 5) == []
    assert graph.stats()["documents"] == 1


NAMES = st.sampled_from(["Ada Byron", "Paris", "Old Harbour", "BM25", "London", "1815"])
TEXTS = st.lists(NAMES, min_size=1, max_size=4).map(lambda names: "We saw " + " and ".join(names))
STEPS = st.lists(
    st.tuples(st.sampled_from("abc"), st.none() | st.lists(TEXTS, min_size=1, max_size=2)),
    max_size=8,
)


@given(STEPS)
@hypothesis_settings(max_examples=25)
def test_any_history_leaves_what_the_last_state_alone_would(tmp_path_factory, steps):
    folder = tmp_path_factory.mktemp("history")
    last = {}
    with EntityGraph(folder / "grown") as grown, EntityGraph(folder / "fresh") as fresh:
        for identity, texts in steps:
            if texts is None:
                assert grown.delete([identity]) == (identity in last)
                last.pop(identity, None)
            else:
                last[identity] = [chunk(identity, text, n) for n, text in enumerate(texts)]
                grown.upsert(identity, last[identity])
        for identity, chunks in last.items():
            fresh.upsert(identity, chunks)
        assert content(grown) == content(fresh)


def test_a_document_costs_the_same_beside_100_and_beside_3000(tmp_path):
    def work(others):
        """Instructions of the database's machine for one more document."""
        with EntityGraph(tmp_path / str(others)) as graph:
            with graph.transaction():
                for number in range(others):
                    identity = f"d{number}"
                    graph._db.execute("INSERT INTO documents VALUES (?, '')", (identity,))
                    graph._add(
                        chunk(identity, f"Paris and Town {number} lie near Lake {number}."), ""
                    )
            count = 0

            def step():
                nonlocal count
                count += 1

            graph._db.set_progress_handler(step, 1)
            graph.upsert("new", [chunk("new", "Paris lies near Town 7, not near Lake Ontario.")])
            added, count = count, 0
            graph.delete(["new"])
            return added, count

    few, many = work(100), work(3000)
    assert few[0] > 100
    assert many == pytest.approx(few, rel=0.02)


def test_a_write_that_is_killed_leaves_the_state_before(tmp_path):
    with EntityGraph(tmp_path / "g") as graph:
        graph.upsert("a", [chunk("a", "Old Harbour")])
        before = content(graph)
    killed = """
import os, sys
from llmwright.core import Chunk
from llmwright.retrieval.graph import EntityGraph
graph = EntityGraph(sys.argv[1])
def chunks():
    yield Chunk("a:0", "a", "New Bridge", 0, 10, language="en")
graph.rows("PRAGMA cache_spill = 1")
add = graph._add
def add_and_die(chunk, title):
    add(chunk, title)
    os._exit(9)
graph._add = add_and_die
graph.upsert("a", list(chunks()))
"""
    done = subprocess.run([sys.executable, "-c", killed, str(tmp_path / "g")], timeout=60)
    assert done.returncode == 9
    with EntityGraph(tmp_path / "g") as graph:
        assert content(graph) == before
        assert graph.upsert("a", [chunk("a", "New Bridge")])


def test_a_file_that_is_no_graph_is_named(tmp_path):
    (tmp_path / "g").write_text("no database, only words\n" * 100)
    with pytest.raises(InputError, match="is no graph"):
        EntityGraph(tmp_path / "g")
    other = sqlite3.connect(tmp_path / "other")
    other.execute("PRAGMA user_version = 7")
    other.execute("CREATE TABLE t (x)")
    other.close()
    with pytest.raises(InputError, match="version 7"):
        EntityGraph(tmp_path / "other")
