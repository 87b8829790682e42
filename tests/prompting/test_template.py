from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmwright.core import ConfigurationError, InputError
from llmwright.prompting import PromptTemplate

# Text that UTF-8 can hold, and that a text file gives back as it was (no byte order mark).
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufeff"))


def escape(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def test_variables_are_named_once_in_order_and_braces_escape() -> None:
    template = PromptTemplate("{b} {{a}} {a}{b}")
    assert template.variables == ("b", "a")
    assert template.render(a=1, b="x") == "x {a} 1x"


@given(before=TEXT, value=TEXT, after=TEXT)
def test_what_is_put_in_comes_out_untouched(before: str, value: str, after: str) -> None:
    template = PromptTemplate(f"{escape(before)}{{x}}{escape(after)}{{y}}")
    assert template.render(x=value, y="{x}") == f"{before}{value}{after}{{x}}"


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"question": "q", "pasages": "p"}, "did you mean 'passages'?"),
        ({"question": "q", "passages": "p", "zebra": 1}, "variables are: passages, question"),
        ({"question": "q"}, "no value for passages"),
        ({"question": "q", "passages": None}, "passages is a NoneType"),
        ({"question": "q", "passages": ["p"]}, "passages is a list"),
        ({"question": True, "passages": "p"}, "question is a bool"),
    ],
)
def test_wrong_values_are_named(values: dict[str, str], sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^prompt 'cited': ") as error:
        PromptTemplate("{passages} {question}", name="cited").render(**values)
    assert sentence in str(error.value)


@pytest.mark.parametrize(
    "text", ["a\nb {", "a\n}", "a\n{0}", "a\n{x.__class__}", "a\n{x!r}", "a\n{}"]
)
def test_a_stray_brace_is_told_with_its_line(text: str) -> None:
    with pytest.raises(ConfigurationError, match="line 2"):
        PromptTemplate(text)


def test_the_digest_is_of_the_text_alone() -> None:
    assert PromptTemplate("a", "x").digest == PromptTemplate("a", "y").digest
    assert PromptTemplate("a").digest != PromptTemplate("b").digest


@given(text=TEXT, name=TEXT)
def test_saved_and_loaded_is_the_same(
    tmp_path_factory: pytest.TempPathFactory, text: str, name: str
) -> None:
    folder = tmp_path_factory.mktemp("prompt")
    template = PromptTemplate(escape(text) + "{x}", name=name)
    template.save(folder / "p.toml")
    assert PromptTemplate.load(folder / "p.toml") == template
    template.save(folder / "p.txt")
    assert PromptTemplate.load(folder / "p.txt") == PromptTemplate(template.text, name="p")


def test_lines_stay_lines_in_toml(tmp_path: Path) -> None:
    PromptTemplate("one\ntwo\\n {x}").save(tmp_path / "p.toml")
    assert len((tmp_path / "p.toml").read_text().splitlines()) == 4


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("text = ", "not valid TOML"),
        ("text = 3", "'text' is a number"),
        ("name = 'x'", "the key 'text' is missing"),
        ("text = 'a'\ntemperature = 1", "unknown key 'temperature'"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, content: str, sentence: str) -> None:
    file = tmp_path / "p.toml"
    file.write_text(content)
    with pytest.raises(InputError, match=sentence) as error:
        PromptTemplate.load(file)
    assert str(file) in str(error.value)
