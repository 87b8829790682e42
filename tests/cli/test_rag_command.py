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
