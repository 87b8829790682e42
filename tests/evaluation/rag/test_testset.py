"""Questions made from documents: in the form that is read everywhere, checked, and dropped for
the reason that holds."""

from __future__ import annotations

import json

import pytest

from llmwright.core import ConfigurationError, Document, Section, write_jsonl
from llmwright.data import read_questions
from llmwright.evaluation.rag.testset import TestsetSettings, make_testset
from llmwright.providers import ScriptedModel

TEA = (
    "Green tea is brewed at eighty degrees, since boiling water makes the leaves bitter and dark. "
    "The habit came to Europe with Dutch merchants in 1610, long before it reached London. "
    "Leaves are dried in the shade for two days and kept in closed boxes."
)
SEA = (
    "Two high tides come each day, because the moon pulls the water on both sides of the Earth. "
    "At Fundy the water rises by 16 metres, which is the largest range that was ever measured. "
    "Ships wait for it outside of the harbour and come in with the flood."
)


def document(name="seas.md"):
    text = f"# Green tea leaves\n\n{TEA}\n\n# Tides of Fundy\n\n{SEA}\n"
    at = text.index("# Tides")
    sections = (
        Section("Green tea leaves", "green-tea-leaves", 1, 0, at),
        Section("Tides of Fundy", "tides-of-fundy", 1, at, len(text)),
    )
    return Document(name, text, sections=sections)


def test_without_a_model_gaps_and_headings(tmp_path):
    made = make_testset([document()], TestsetSettings(count=9, tune=1.0))
    write_jsonl(tmp_path / "q.jsonl", made.records)
    read = read_questions(tmp_path / "q.jsonl")
    assert {q.split for q in read} == {"tune"} and len(read) == 4
    assert made.counts == {"kept: cloze": 2, "kept: heading": 2}
    for question, record in zip(read, made.records, strict=True):
        (label,) = question.relevant
        body = TEA if "tea" in label else SEA
        assert question.answer in body
        if record["type"] == "cloze":
            said = question.question.removeprefix("Fill the gap: ")
            assert said.replace("____", question.answer) in body
    assert made == make_testset([document()], TestsetSettings(count=9, tune=1.0))


def writer(**drafts):
    """A model that writes given drafts by type and makes the checks honestly."""

    def answer(messages):
        asked = messages[1].content
        if '{"answers"' in asked:
            return json.dumps({"answers": ["1610" in asked.split("Question:")[1]]})
        if '{"answer": "..."}' in asked:
            return json.dumps({"answer": "Paris" if "capital" in asked else "no idea"})
        kind = "multi" if "both texts" in asked else "simple"
        if "does not answer" in asked:
            kind = "unanswerable"
        return json.dumps(drafts[kind]) if kind in drafts else "I would rather not."

    return ScriptedModel(answer)


SIMPLE = {"question": "How hot should water for green leaves be?", "answer": "eighty degrees",
          "quote": "brewed at eighty degrees"}  # fmt: skip


def test_a_good_question_is_kept_once_with_its_section(tmp_path):
    documents = [Document("tea.md", TEA), Document("more.md", TEA.replace("1610", "1611"))]
    made = make_testset(documents, TestsetSettings(count=2), writer(simple=SIMPLE))
    (record,) = made.records
    assert record["quote"] == SIMPLE["quote"] and record["type"] == "simple"
    assert record["relevant"] in (["tea.md"], ["more.md"])
    assert made.counts == {"kept: simple": 1, "dropped: like another": 1}
    write_jsonl(tmp_path / "q.jsonl", made.records)
    assert read_questions(tmp_path / "q.jsonl")[0].answer == "eighty degrees"


@pytest.mark.parametrize(
    ("draft", "reason"),
    [
        ({"answer": "ninety percent"}, "not answered by its own text"),
        ({"question": "Tell me about tea."}, "no question"),
        ({"question": "Leaves are dried in the shade for two days and kept in closed boxes?"},
         "a copy of its text"),
        ({"question": ""}, "not of the form"),
    ],
)  # fmt: skip
def test_what_is_dropped_and_why(draft, reason):
    made = make_testset(
        [Document("tea.md", TEA)], TestsetSettings(count=1), writer(simple=SIMPLE | draft)
    )
    assert made.records == [] and made.counts == {f"dropped: {reason}": 1}


def test_a_question_that_needs_no_text_is_dropped():
    text = "The capital of France is Paris, a city of two million people on the river Seine. " * 3
    draft = {"question": "What is the capital of France?", "answer": "Paris", "quote": "Paris"}
    made = make_testset([Document("p", text)], TestsetSettings(count=1), writer(simple=draft))
    assert made.counts == {"dropped: answered without its text": 1}


def test_multi_and_unanswerable_questions(tmp_path):
    multi = {"question": "How many days do leaves dry, and how far do tides rise at Fundy?",
             "answer": "Dried in the shade two days and kept in closed boxes; rises 16 metres.",
             "quote": "rises by 16 metres"}  # fmt: skip
    unanswerable = {"question": "Which cup do people in Japan prefer?"}
    documents = [document(f"{n}.md") for n in range(2)]
    model = writer(simple=SIMPLE, multi=multi, unanswerable=unanswerable)
    made = make_testset(documents, TestsetSettings(count=9, tune=0.0), model)
    kinds = {record["type"]: record for record in made.records}
    assert len(kinds["multi"]["relevant"]) == 2
    assert kinds["unanswerable"]["answerable"] is False
    write_jsonl(tmp_path / "q.jsonl", made.records)
    read = {q.question: q for q in read_questions(tmp_path / "q.jsonl")}
    assert read[unanswerable["question"]].answerable is False
    assert read[multi["question"]].split == "eval"
    answered = writer(simple=SIMPLE, unanswerable={"question": "Did it come in 1610 or before?"})
    made = make_testset(documents, TestsetSettings(count=9), answered)
    assert made.counts["dropped: answered after all"] == 1


def test_wrong_settings():
    for wrong in ({"count": 0}, {"tune": 1.5}):
        with pytest.raises(ConfigurationError, match="test set"):
            TestsetSettings(**wrong)
