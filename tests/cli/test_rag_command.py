"""Two searches held against each other, by index and by TREC run, as a user runs it."""

import json

import pytest

from llmwright.core import write_jsonl

PAGES = [
    {"id": "tea", "text": "Green tea is brewed at eighty degrees. Boiling water makes it bitter."},
    {"id": "sea", "text": "The tide follows the moon. Two high tides come each day."},
    {"id": "sun", "text": "The sun gives light to the moon, which has none of its own."},
]
QUESTIONS = [
    {"id": "a", "question": "When do high tides come?", "answer": "each day", "relevant": ["sea"]},
    {"id": "b", "question": "How hot is green tea brewed?", "answer": "eighty degrees",
     "relevant": ["tea"]},
]  # fmt: skip


@pytest.fixture
def index(llmwright, tmp_path, tiny_bert):
    write_jsonl(tmp_path / "docs.jsonl", PAGES)
    write_jsonl(tmp_path / "q.jsonl", QUESTIONS)
    code, _, err = llmwright(
        "index", tmp_path / "docs.jsonl", "--out", tmp_path / "index", "--embedder", tiny_bert,
    )  # fmt: skip
    assert code == 0, err
    return tmp_path / "index"


def test_two_ways_of_searching_are_paired_by_question(llmwright, index, tmp_path):
    command = (
        "eval", "retrieval", index, "--questions", tmp_path / "q.jsonl", "--mode", "lexical",
        "--against", index, "--against-mode", "dense",
    )  # fmt: skip
    code, out, err = llmwright(*command, "--json")
    assert code == 0, err
    shown = json.loads(out)
    first = {score["name"]: score["value"] for score in shown["first"]}
    assert first["map@10"] == first["recall@1"] == 1.0
    for one, two, difference in zip(*shown.values(), strict=True):
        assert difference["name"] == one["name"] and difference["n"] == 2
        assert difference["value"] == pytest.approx(two["value"] - one["value"])
    _, out, _ = llmwright(*command)
    assert "difference" in out and max(map(len, out.splitlines())) <= 80


def test_runs_of_any_program(llmwright, tmp_path):
    (tmp_path / "one").write_text("q1 Q0 a 1 2.0 x\nq1 Q0 b 2 1.0 x\n")
    (tmp_path / "two").write_text("q1 Q0 b 1 2.0 x\nq1 Q0 a 2 1.0 x\n")
    (tmp_path / "qrels").write_text("q1 0 b 1\nq2 0 a 1\n")
    qrels = ("--qrels", tmp_path / "qrels", "--json")
    code, out, err = llmwright("eval", "run", tmp_path / "one", *qrels)
    assert code == 0, err
    assert {s["name"]: s["value"] for s in json.loads(out)}["map"] == 0.25  # q2 found nothing
    _, out, _ = llmwright("eval", "run", tmp_path / "one", tmp_path / "two", *qrels)
    assert {s["name"]: s["value"] for s in json.loads(out)["difference"]}["map"] == 0.25
    _, out, _ = llmwright(
        "eval", "run", tmp_path / "one", *qrels[:2], "--out", tmp_path / "records.jsonl"
    )
    assert "map" in out and (tmp_path / "records.jsonl").read_text().count("\n") == 2


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_rag_eval_of_an_index_and_a_model(llmwright, index, tmp_path, tiny_model_path, tiny_bert):
    command = ("rag", "eval", index, "--questions", tmp_path / "q.jsonl", "--split", "eval")
    search = ("--mode", "lexical", "--top", 1, "--out", tmp_path / "rag")
    code, out, err = llmwright(*command, *search, "--json")
    assert code == 0, err
    shown = json.loads(out)
    assert {s["name"]: s["value"] for s in shown["parts"]} == {
        "retrieval": 0.0, "ranking": 0.0, "reached": 1.0,
    }  # fmt: skip
    assert shown["bottleneck"] is None
    assert [r["part"] for r in rows(tmp_path / "rag" / "records.jsonl")] == ["reached"] * 2
    assert (tmp_path / "rag" / "rag.svg").exists() and (tmp_path / "rag" / "rag.png").exists()

    code, out, err = llmwright(
        *command, *search, "--model", tiny_model_path, "--max-tokens", 4, "--embedder", tiny_bert,
    )  # fmt: skip
    assert code == 0, err
    *table, _ = out.splitlines()  # the last line names the folder
    assert "bottleneck: generation" in out and max(map(len, table)) <= 80
    assert all(r["answer"] for r in rows(tmp_path / "rag" / "records.jsonl"))


def test_rag_eval_of_stored_answers_by_words_and_by_a_model(llmwright, tmp_path, tiny_model_path):
    write_jsonl(tmp_path / "s.jsonl", [
        {"question": "When do high tides come?", "answer": "Each day [1].", "gold": "each day",
         "contexts": [PAGES[1]["text"]], "relevant": [True]},
        {"question": "How hot?", "answer": "At ninety.", "gold": "eighty degrees",
         "contexts": [PAGES[1]["text"]], "relevant": [False]},
    ])  # fmt: skip
    out_to = ("--out", tmp_path / "o")
    code, out, err = llmwright("rag", "eval", tmp_path / "s.jsonl", *out_to, "--json")
    assert code == 0, err
    shown = json.loads(out)
    assert shown["bottleneck"] == "retrieval or ranking"
    generation = {s["name"]: s["value"] for s in shown["generation"]}
    assert generation["correct"] == 0.5 and generation["answer_relevancy"] is None
    code, out, err = llmwright(
        "rag", "eval", tmp_path / "s.jsonl", *out_to, "--judge", tiny_model_path
    )
    assert code == 0, err  # noise by noise, but of the right form or unscored
    assert "bottleneck" in out
    code, _, err = llmwright(
        "rag", "eval", tmp_path / "s.jsonl", *out_to, "--judge", "a", "--entailment", "b"
    )
    assert code == 2 and "not both" in err
    code, _, err = llmwright("rag", "eval", tmp_path, *out_to)
    assert code == 2 and "--questions" in err


def test_rag_testset_without_a_model(llmwright, tmp_path):
    text = "Green tea came to Europe with Dutch merchants in 1610, long before London. " * 4
    for name in ("a.txt", "b.md"):
        (tmp_path / name).write_text(text)
    command = (
        "rag", "testset", tmp_path, "--out", tmp_path / "q.jsonl", "--count", 3, "--tune", 1,
        "--seed", 4, "--include", "*.txt",
    )  # fmt: skip
    code, out, err = llmwright(*command)
    assert code == 0, err
    (record,) = rows(tmp_path / "q.jsonl")
    assert record["split"] == "tune" and "____" in record["question"]
    _, out, _ = llmwright(*command, "--json")
    assert json.loads(out)["questions"] == 1
    (tmp_path / "a.txt").write_text("Too short.")
    code, _, err = llmwright(*command)
    assert code == 2 and "no question stood every check" in err


def test_rag_eval_of_a_release_uses_its_own_search_and_top(llmwright, index, tmp_path, monkeypatch):
    from llmwright.answering import CitedAnswerer
    from llmwright.providers import ScriptedModel
    from llmwright.retrieval import Index

    opened = Index.open(index)

    class Release:
        answerer = CitedAnswerer(
            ScriptedModel(lambda messages: "Two high tides come each day [1]."),
            lambda query, top: opened.search(query, top, mode="lexical"), top=1,
        )  # fmt: skip
        closed = False

        def searching(self, search):
            from dataclasses import replace

            return replace(self.answerer, search=search)

        async def aclose(self):
            Release.closed = True

    monkeypatch.setattr("llmwright.build.open_release", lambda folder: Release())
    monkeypatch.setattr("llmwright.cli.rag.is_release", lambda folder: True)
    code, out, err = llmwright(
        "rag", "eval", index, "--questions", tmp_path / "q.jsonl", "--out", tmp_path / "r", "--json"
    )
    assert code == 0, err
    parts = {record["id"]: record["part"] for record in rows(tmp_path / "r" / "records.jsonl")}
    assert parts == {"a": "right", "b": "generation"} and Release.closed
    assert json.loads(out)["bottleneck"] == "generation"
