"""`llmwright rag tune` as a user runs it."""

import json

import pytest

from llmwright.build import load_recipe
from llmwright.core import write_jsonl
from llmwright.embeddings import CrossEncoder

PAGES = [
    {"id": name, "text": f"The {name} is a thing. Of the {name} one knows number{n}."}
    for n, name in enumerate(("amber", "basalt", "cedar", "dahlia"))
]


@pytest.fixture
def files(tmp_path, tiny_bert):
    write_jsonl(tmp_path / "docs.jsonl", PAGES)
    questions = [
        {"id": f"{page['id']}-{split}", "question": f"What of {page['id']}?", "answer": "number",
         "relevant": [page["id"]], "split": split}
        for page in PAGES for split in ("tune", "eval")
    ]  # fmt: skip
    write_jsonl(tmp_path / "q.jsonl", questions)
    CrossEncoder.fresh(tiny_bert).save(tmp_path / "judge")
    return tmp_path


def test_the_choice_is_held_against_the_defaults_and_said_as_a_recipe(llmwright, files, tiny_bert):
    command = (
        "rag", "tune", files / "docs.jsonl", "--questions", files / "q.jsonl",
        "--out", files / "tuning", "--embedder", tiny_bert, "--rerank", files / "judge",
        "--context", 400, "--minutes", 5, "--seed", 3,
    )  # fmt: skip
    code, out, err = llmwright(*command, "--json")
    assert code == 0, err
    shown = json.loads(out)
    labels = [trial["label"] for trial in shown["trials"]]
    assert labels[0] == "recursive 220, hybrid" and "recursive 220, lexical" in labels
    assert any(label.endswith("reranked 0.6") for label in labels)
    figures = shown["eval"]["ndcg@10"]
    assert figures["default"]["n"] == 4 and figures["difference"]["low"] is not None
    section = (files / "tuning" / "retrieval.toml").read_text()
    assert section == shown["recipe"] + "\n"
    recipe = files / "llmwright.toml"
    recipe.write_text(f'[project]\nname = "a"\n[documents]\npaths = ["d"]\n{section}')
    assert load_recipe(recipe).retrieval.chunk_size == 220
    code, out, err = llmwright(*command)
    assert code == 0, err
    assert "On unseen questions" in out and "[retrieval]" in out and "ndcg@10" in out
    assert max(map(len, out.splitlines())) <= 80


def test_only_files_that_are_asked_for(llmwright, files, tmp_path):
    command = ("rag", "tune", files, "--questions", files / "q.jsonl", "--out", files / "t")
    code, _, err = llmwright(*command, "--include", "*.md")
    assert code == 2 and "*.md" in err
