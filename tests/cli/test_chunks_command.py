"""`llmwright chunks`: the comparison, its options, and a look at chunks."""

from __future__ import annotations

import json

import pytest

from llmwright.core import write_jsonl

TEXT = "# One\n\nApples grow on trees. They are red.\n\n# Two\n\nRivers run to the sea. They are long.\n"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text(TEXT)
    (tmp_path / "docs" / "b.txt").write_text("Stones lie on the ground. " * 9)
    write_jsonl(
        tmp_path / "q.jsonl",
        [
            {"id": "1", "question": "Where do apples grow?", "answer": "x", "relevant": ["a.md#one"], "split": "tune"},
            {"id": "2", "question": "Where do rivers run?", "answer": "x", "relevant": ["a.md#two"], "split": "eval"},
        ],
    )  # fmt: skip
    return tmp_path


def test_ways_are_compared(llmwright, folder, tiny_bert):
    command = (
        "chunks", folder / "docs", "--questions", folder / "q.jsonl", "--embedder", tiny_bert,
        "--strategies", "recursive,late,sentence", "--sizes", "10,20", "--overlaps", "0,20%",
        "--top", 2, "--tokens", 30, "--mode", "lexical", "--out", folder / "out", "--seed", 1,
    )  # fmt: skip
    code, said, errors = llmwright(*command)
    assert code == 0, errors
    assert all(len(line) <= 80 for line in said.splitlines() if "figures" not in line)
    lines = [
        line
        for line in map(str.strip, said.splitlines())
        if line.startswith(("recursive", "late", "sente"))
    ]
    names = [
        "recursive 220",
        "recursive 10",
        "recursive 10+2",
        "recursive 20",
        "recursive 20+4",
        "late 10",
    ]
    assert [line.partition("  ")[0] for line in lines][:6] == names
    assert "at 2 hits" in said and "at 30 tokens of context; gain: 95%" in said
    stored = json.loads((folder / "out" / "chunks.json").read_text())
    assert (folder / "out" / "chunks.svg").is_file()
    code, said, _ = llmwright(*command, "--json")
    assert json.loads(said) == stored
    assert len(stored["ways"]) == 11
    first = stored["ways"][0]
    assert first["settings"]["size"] == 220 and first["scores"]["recall@2"]["n"] == 2
    code, said, _ = llmwright(*command, "--json", "--split", "tune")
    assert json.loads(said)["ways"][0]["scores"]["recall@2"]["n"] == 1


def test_chunks_are_shown(llmwright, folder):
    command = ("chunks", folder / "docs", "--show", "--strategies", "structure", "--sizes", 20)
    code, said, errors = llmwright(*command, "--include", "*.md")
    assert code == 0, errors
    assert "─── 1. a.md:0-42 · 11 tokens · One\n# One\n\nApples grow on trees." in said
    assert "─── 2 chunks by structure 20" in said
    code, said, _ = llmwright(*command, "--json")
    records = json.loads(said)
    assert {r["document_id"] for r in records} == {"a.md", "b.txt"}
    assert all(
        TEXT[r["start"] : r["end"]] == r["text"] for r in records if r["document_id"] == "a.md"
    )


def test_what_is_wrong_is_one_sentence(llmwright, folder):
    code, _, errors = llmwright("chunks", folder / "docs")
    assert code == 2 and "give --questions FILE to compare, or --show to look" in errors
    code, _, errors = llmwright("chunks", folder / "docs", "--show", "--sizes", "big")
    assert code == 2 and "--sizes: 'big' is no list of numbers; write them as 110,220." in errors
    code, _, errors = llmwright("chunks", folder / "docs", "--show", "--strategies", "clever")
    assert code == 2 and "the strategy 'clever' is unknown" in errors
    write_jsonl(
        folder / "e.jsonl",
        [{"question": "q", "answer": "x", "relevant": ["a.md"], "split": "eval"}],
    )
    code, _, errors = llmwright(
        "chunks", folder / "docs", "--questions", folder / "e.jsonl", "--split", "tune"
    )
    assert code == 2 and "no question is of split tune; choose another --split." in errors
