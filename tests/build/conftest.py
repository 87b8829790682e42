"""A whole recipe over tiny random models and real pages: every stage runs for real in seconds.
And a smaller one over stand-ins for the models, where a stage runs in milliseconds."""

import json
from pathlib import Path

import numpy as np
import pytest

from llmwright.build import Models
from llmwright.providers import ScriptedModel

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


PAGES = {
    "tea.md": "# Tea\n\nTea is a drink.\n\n## Green\n\nGreen tea is brewed at eighty degrees.\n",
    "sea.md": "# Sea\n\nThe sea is salty.\n\n## Tides\n\nTides follow the moon, twice a day.\n",
}
QUESTIONS = [
    {"id": "t1", "question": "How hot is green tea brewed?", "answer": "At eighty degrees.",
     "relevant": ["tea.md#green"], "split": "tune"},
    {"id": "t2", "question": "Is the sea salty?", "answer": "Yes.", "relevant": ["sea.md"],
     "split": "tune"},
    {"id": "e1", "question": "What do tides follow?", "answer": "The moon.",
     "relevant": ["sea.md#tides"], "split": "eval"},
]  # fmt: skip
TOML = """\
[project]
name = "small"
description = "About tea and the sea."
seed = 5

[documents]
paths = ["docs"]
include = ["*.md"]

[retrieval]
mode = "lexical"
chunk_size = 40
top = 2

[adapt]
method = "lora"
rank = 2

[evaluation]
questions = "questions.jsonl"
max_tokens = 7
gates = ["recall@10 >= 0.5"]
"""


class Letters:
    """Embeds a text as how often it holds each letter."""

    name, dimension, languages, fingerprint = "letters", 26, frozenset({"en"}), "letters-1"

    def embed(self, texts, *, kind="document"):
        counts = np.array([[1e-3 + t.lower().count(chr(97 + i)) for i in range(26)] for t in texts])
        return (counts / np.linalg.norm(counts, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def folder(tmp_path):
    """The folder of a recipe over ``Models`` that are stand-ins; see ``models``."""
    folder = tmp_path / "recipe"
    (folder / "docs").mkdir(parents=True)
    for name, text in PAGES.items():
        (folder / "docs" / name).write_text(text)
    (folder / "docs" / "notes.txt").write_text("No page.")
    (folder / "questions.jsonl").write_text("".join(json.dumps(q) + "\n" for q in QUESTIONS))
    (folder / "llmwright.toml").write_text(TOML)
    return folder


class Opened:
    """What was loaded, in order: (kind, source, ...)."""

    def __init__(self):
        self.loads = []
        self.chat = ScriptedModel(lambda messages: "They follow the moon.")


@pytest.fixture
def opened(monkeypatch):
    """Stand-ins in the places where models are loaded."""
    opened = Opened()

    def chat(source, adapter=None, dtype="auto"):
        opened.loads.append(("chat", source, adapter, dtype))
        return opened.chat

    def embedder(source):
        opened.loads.append(("embedder", source))
        return Letters()

    monkeypatch.setattr("llmwright.providers.open_chat_model", chat)
    monkeypatch.setattr("llmwright.embeddings.load_embedder", embedder)
    return opened


@pytest.fixture
def models():
    return Models("chat-source", "chat-print", "embedder-source", "embedder-print", "float32")
