"""The example recipe against the guide it is built over: what a build would trip on, quickly."""

from pathlib import Path

import pytest

from llmwright.build import load_recipe
from llmwright.data import read_documents, read_questions
from llmwright.safety import check_input

HANDBOOK = Path(__file__).parents[2] / "examples" / "handbook"


@pytest.fixture(scope="module")
def recipe():
    return load_recipe(HANDBOOK)


@pytest.fixture(scope="module")
def questions(recipe):
    return read_questions(recipe.locate(recipe.evaluation.questions))


def test_every_question_names_a_section_that_stands(recipe, questions):
    paths = [recipe.locate(path) for path in recipe.documents.paths]
    documents = list(read_documents(paths, recipe.documents.include))
    assert len(documents) == 23
    anchors = {f"{d.id}#{section.anchor}" for d in documents for section in d.sections}
    assert [label for q in questions for label in q.relevant if label not in anchors] == []


def test_half_the_questions_are_for_tuning_and_no_section_is_in_both_halves(questions):
    tune = {label for q in questions if q.split == "tune" for label in q.relevant}
    held_out = {label for q in questions if q.split == "eval" for label in q.relevant}
    assert len(tune) == len(held_out) == 30
    assert not tune & held_out


def test_the_guard_lets_every_question_through(recipe, questions):
    refused = [q.id for q in questions if not check_input(q.question, recipe.guards).allowed]
    assert refused == []


def test_the_pages_have_the_length_that_readers_were_promised(recipe):
    for path in sorted(recipe.locate(recipe.documents.paths[0]).glob("*.md")):
        assert 300 <= len(path.read_text(encoding="utf-8").split()) <= 1800, path.name
