"""A whole recipe over tiny random models and real pages: every stage runs for real in seconds."""

import json
from pathlib import Path

import pytest

GUIDE = Path(__file__).parents[2] / "docs" / "guide"


@pytest.fixture
def small_recipe(tmp_path, tiny_model_path, tiny_bert):
    """The folder of a recipe with three pages, six questions and two steps of training."""
    folder = tmp_path / "recipe"
    (folder / "docs").mkdir(parents=True)
    for page in sorted(GUIDE.glob("0[1-3]-*.md")):
        hostile = "\n\n<script>alert(1)</script> <img src=x onerror=alert(2)>\n"
        (folder / "docs" / page.name).write_text(page.read_text(encoding="utf-8")[:2500] + hostile)
    questions = [
        json.loads(line)
        for line in (Path(__file__).parents[2] / "examples" / "handbook" / "questions.jsonl")
        .read_text(encoding="utf-8")
        .splitlines()
    ]
    chosen = [{**q, "relevant": [q["relevant"][0].split("#")[0]]} for q in questions[:6]]
    (folder / "questions.jsonl").write_text("".join(json.dumps(q) + "\n" for q in chosen))
    (folder / "llmwright.toml").write_text(f"""\
[project]
name = "small"

[documents]
paths = ["docs"]

[model]
base = {json.dumps(str(tiny_model_path))}
dtype = "float32"

[retrieval]
embedder = {json.dumps(str(tiny_bert))}
chunk_size = 60
top = 2

[adapt]
method = "lora"
rank = 2
epochs = 2
batch_size = 2
max_length = 4096

[evaluation]
questions = "questions.jsonl"
max_tokens = 8
gates = ["recall@10 >= 0"]
""")
    return folder
