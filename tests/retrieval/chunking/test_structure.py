"""Chunks by structure: what of Markdown and of source code stays whole."""

from __future__ import annotations

from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from llmwright.core import Document
from llmwright.data.readers.markdown import find_sections
from llmwright.retrieval.chunking import ChunkSettings, chunk_document
from llmwright.retrieval.chunking.code import LANGUAGES, language_of, outline
from llmwright.retrieval.chunking.structure import blocks


def cut(text: str, size: int, name: str = "d.md", overlap: int = 0) -> list[str]:
    sections = find_sections(text) if name.endswith(".md") else ()
    document = Document(name, text, sections=sections)
    return [c.text for c in chunk_document(document, ChunkSettings("structure", size, overlap))]


def kinds(text: str) -> list[tuple[str, str]]:
    return [(kind, text[a:b].strip("\n")) for kind, _, (a, b) in blocks(text, (0, len(text)))]


LINES = ["text", "more text", "", "```", "````", "~~~", "```python", "```a`b", "   ```", "    code",
         "```  ", "| a |", "  ", "~~~ info ~~~"]  # fmt: skip


@settings(max_examples=200)
@given(st.lists(st.sampled_from(LINES), max_size=14))
def test_fences_are_those_of_commonmark(lines):
    text = "\n".join(lines) + "\n"
    starts = list(accumulate((len(line) + 1 for line in lines), initial=0))
    theirs = [
        text[starts[t.map[0]] : starts[t.map[1]]].strip()
        for t in MarkdownIt("commonmark").parse(text)
        if t.type == "fence"
    ]
    ours = [text[a:b].strip() for kind, _, (a, b) in blocks(text, (0, len(text))) if kind == "code"]
    assert ours == theirs


def test_blocks():
    text = (
        "Intro text,\ntwo lines.\n| a | b |\n|---|:-:|\n| 1 | 2 |\n\nNot | a table.\n\n"
        "- one\n  more\n\n  still one\n- two\n\n      code of two\n\nAfter.\n1. first\n2. second\n"
        "```python\n- no list\n\n| a |\n```\nEnd.\n***\n"
    )
    assert kinds(text) == [
        ("text", "Intro text,\ntwo lines."),
        ("table", "| a | b |\n|---|:-:|\n| 1 | 2 |"),
        ("text", "Not | a table."),
        ("list", "- one\n  more\n\n  still one\n- two\n\n      code of two"),
        ("text", "After."),
        ("list", "1. first\n2. second"),
        ("code", "```python\n- no list\n\n| a |\n```"),
        ("text", "End.\n***"),
    ]


def test_fenced_code_is_not_cut_where_it_fits():
    code = "```python\nfirst = 1\n\n\nsecond = 2\n\nthird = 3\n```"
    text = f"# Head\n\nA line of text before the code stands here.\n\n{code}\n\nAnd one behind it."
    for size in range(21, 60):
        assert any(code in chunk for chunk in cut(text, size)), size
    recursive = chunk_document(Document("d.md", text), 25)
    assert not any(code in chunk.text for chunk in recursive)


def test_a_table_is_cut_between_rows_and_a_list_between_items():
    rows = [f"| row {i} | value {i} |" for i in range(6)]
    table = "| name | value |\n|---|---|\n" + "\n".join(rows)
    chunks = cut(table, 24)
    assert len(chunks) > 1 and all(chunk.endswith("|") for chunk in chunks)
    items = [f"- item {i} says\n  this and that" for i in range(6)]
    chunks = cut("\n".join(items), 20)
    assert len(chunks) > 1 and all(chunk.startswith("- item") for chunk in chunks)


def test_code_in_a_fence_is_cut_between_its_definitions():
    code = "\n\n".join(f"def f{i}(x):\n    y = x + {i}\n    return y" for i in range(4))
    chunks = cut(f"```python\n{code}\n```", 24)
    assert len(chunks) > 1
    assert all("def" in chunk and chunk.count("return y") == chunk.count("def") for chunk in chunks)
    plain = cut("```\n" + "one two\n\nthree four\n" * 4 + "```", 9)
    assert "\n".join(plain).split() == ("```\n" + "one two\n\nthree four\n" * 4 + "```").split()


PYTHON = '''"""Module."""

import os

# About the first.
@decorated
def first(a, b):
    text = """
def not_one():
    """
    return (
a)


class Second:
    """Of it."""

    def one(self):
        if self:
            return 1
        else:
            return 2

    # About two.
    def two(self):
        return 2
'''


def test_python_is_cut_between_definitions():
    assert cut(PYTHON, 36, "d.py") == [
        '"""Module."""\n\nimport os',
        PYTHON[PYTHON.index("# About the first") : PYTHON.index("class")].strip(),
        PYTHON[PYTHON.index("class") : PYTHON.index("    # About two")].strip(),
        PYTHON[PYTHON.index("# About two") :].strip(),
    ]
    assert cut(PYTHON, 60, "d.py")[-1] == PYTHON[PYTHON.index("class") :].strip()


BRACES = {
    "a.js": "// One.\nfunction one(a) {\n  return `{ ${a}\n}`; // {\n}\n\nconst two = () => {\n  return '}';\n};\n",
    "a.ts": "export function one<T>(a: T): T {\n  return a;\n}\n\nexport const two = (a: string) => {\n  return a + \"{\";\n};\n",
    "a.java": "/** One { */\n@Test\nvoid one() {\n  call(\"}\");\n}\n\nvoid two() {\n  call('{');\n}\n",
    "a.c": "#include <a.h>\nint one(int a) {\n  return a; /* } */\n}\n\nstatic int two(void)\n{\n  return '{';\n}\n",
    "a.go": "func one(a int) int {\n\treturn len(`}`)\n}\n\nfunc two() {\n\treturn\n}\n",
    "a.rs": "fn one<'a>(x: &'a str) -> char {\n    '}'\n}\n\nfn two() -> u8 {\n    1\n}\n",
}  # fmt: skip


@pytest.mark.parametrize("name", BRACES)
def test_code_with_brackets_is_cut_between_definitions(name):
    text = BRACES[name]
    halves = [text[: text.index("}\n\n") + 2], text[text.index("}\n\n") + 2 :]]
    size = 20 if name.endswith(".go") else 30
    assert [chunk.strip() for chunk in cut(text, size, name)] == [half.strip() for half in halves]


def test_what_is_outermost_is_told_by_brackets_or_indentation():
    def depths(text: str, language: str) -> list[tuple[str, int]]:
        return [
            (text[line.start :].split("\n")[0], line.depth)
            for line in outline(text, (0, len(text)), language)
        ]

    assert depths("if (a) {\n b();\n} else {\n c();\n}\nd();\n", "c") == [
        ("if (a) {", 0), (" b();", 1), (" c();", 1), ("d();", 0),
    ]  # fmt: skip
    assert depths("if a:\n    b(\n  c)\nelse:\n    d\n", "python") == [
        ("if a:", 0), ("    b(", 4), ("    d", 4),
    ]  # fmt: skip


def test_languages_are_known_by_ending_and_by_name():
    assert {
        language_of(name) for name in ("py", "Python", "python3", "{.python .numberLines}")
    } == {"python"}
    assert language_of("c++ title=x") == "c" and language_of("mermaid") == language_of("") == ""
    assert set(LANGUAGES.values()) >= {"python", "javascript", "java", "c", "go"}


def test_a_deep_nest_of_brackets_ends_in_lines():
    text = "{\n" * 300 + "x\n" + "}\n" * 300
    assert "".join(cut(text, 10, "d.js")).replace("\n", "") == text.replace("\n", "")
