"""Markdown sections: headings by CommonMark, anchors by GitHub, offsets into the file's text."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmwright.data.readers.markdown import find_sections, read_markdown

TEXT = """\
---
title: "The page"
# not a heading
---

Before.

# One & two

```python
# a comment, no heading
```

## `Code` and *emphasis*

~~~
## neither
~~~

Setext
------

## One & two

> # Quoted

### [Link](http://x) ![p](y.png)

# Конец, №1_a
"""


def test_headings_levels_anchors_and_extent() -> None:
    sections = find_sections(TEXT)
    assert [(s.level, s.title, s.anchor) for s in sections] == [
        (1, "One & two", "one--two"),
        (2, "Code and emphasis", "code-and-emphasis"),
        (2, "Setext", "setext"),
        (2, "One & two", "one--two-1"),
        (3, "Link", "link"),
        (1, "Конец, №1_a", "конец-1_a"),
    ]
    starts = ["# One", "## `Code`", "Setext\n---", "## One", "### [Link]", "# Конец"]
    assert [TEXT[s.start :].startswith(b) for s, b in zip(sections, starts, strict=True)] == [
        True
    ] * 6
    first, code, setext, second, link, last = sections
    assert first.end == last.start  # down to the next of its level, over the lower ones
    assert code.end == setext.start
    assert setext.end == second.start
    assert second.end == link.end == last.start
    assert last.end == len(TEXT)


def test_anchors_repeat_as_on_github() -> None:
    text = "# a\n# a\n# a-1\n# a\n# A!\n"
    anchors = [s.anchor for s in find_sections(text)]
    assert anchors == ["a", "a-1", "a-1-1", "a-2", "a-3"]  # what github-slugger gives


def test_title(tmp_path: Path) -> None:
    def title(text: str) -> str:
        (tmp_path / "name.md").write_text(text)
        return next(read_markdown(tmp_path / "name.md")).title

    assert title(TEXT) == "The page"
    assert title("## Low\n\n# High\n") == "High"
    assert title("no heading") == "name"
    assert title("---\n\n# A rule, then a heading\n\n---\n") == "A rule, then a heading"


def test_windows_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "a.md"
    path.write_bytes(b"# A\r\n\r\ntext\r\n\r\n## B\r\n")
    document = next(read_markdown(path))
    assert "\r" not in document.text
    assert [document.text[s.start : s.end] for s in document.sections] == [
        "# A\n\ntext\n\n## B\n",
        "## B\n",
    ]


@pytest.mark.parametrize("text", ["", "\n", "---\n", "---\ntitle: x", "#", "```\n# open fence"])
def test_odd_texts_have_no_section_or_an_empty_heading(text: str) -> None:
    assert all(section.title == "" for section in find_sections(text))


BLOCKS = st.sampled_from(
    ["text", "# H", "## H", "### a b", "```\n# c\n```", "- # item", "> ## q", "T\n===", "    # code",
     "<!-- # x -->", "Ω\x0cx\u2028y"]
)  # fmt: skip


@given(st.lists(BLOCKS, max_size=12))
def test_sections_nest_and_start_at_their_heading(blocks: list[str]) -> None:
    text = "\n\n".join(blocks)
    sections = find_sections(text)
    assert len({s.anchor for s in sections}) == len(sections)
    for section in sections:
        line = text[section.start : section.end].split("\n")[0]
        assert line.lstrip("# ") == section.title
    for before, after in pairwise(sections):
        assert before.start < after.start
        assert before.end == after.start or (before.end >= after.end and before.level < after.level)
