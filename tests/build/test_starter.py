"""What `llmwright init` writes: a recipe that can be built, and never over another."""

import pytest

from llmwright.build import load_recipe, write_starter
from llmwright.core import ConfigurationError


def test_a_recipe_over_documents_that_are_named(tmp_path):
    folder = tmp_path / 'My "first" Assistant!'
    documents = tmp_path / 'die "Übersicht"'
    documents.mkdir()
    assert write_starter(folder, documents) == [folder / "llmwright.toml"]
    assert sorted(path.name for path in folder.iterdir()) == ["llmwright.toml"]
    text = (folder / "llmwright.toml").read_bytes().decode("utf-8")
    assert 'paths = ["../die \\"Übersicht\\""]' in text
    recipe = load_recipe(folder)
    assert recipe.project.name == "my-first-assistant"
    assert recipe.locate(recipe.documents.paths[0]).resolve() == documents
    assert (recipe.adapt.method, recipe.guards.injection) == ("none", "block")


@pytest.mark.parametrize(
    ("folder", "name"),
    [("!!!", "assistant"), ("-a_b.c-", "a_b.c"), ("x" * 70, "x" * 64), ("A  B", "a-b")],
)
def test_the_project_is_called_after_its_folder(tmp_path, folder, name):
    write_starter(tmp_path / folder)
    assert load_recipe(tmp_path / folder).project.name == name


def test_a_first_document_where_none_are_named(tmp_path):
    recipe, page = write_starter(tmp_path / "own")
    assert recipe == tmp_path / "own" / "llmwright.toml"
    assert page == tmp_path / "own" / "documents" / "start-here.md"
    assert page.read_text().startswith("# Put your documents here\n")
    assert load_recipe(tmp_path / "own").documents.paths == ["documents"]


def test_documents_that_stand_there_already_are_left_alone(tmp_path):
    (tmp_path / "documents").mkdir()
    assert write_starter(tmp_path) == [tmp_path / "llmwright.toml"]
    assert load_recipe(tmp_path).documents.paths == ["documents"]
    assert not list((tmp_path / "documents").iterdir())


def test_what_is_refused(tmp_path):
    write_starter(tmp_path)
    before = (tmp_path / "llmwright.toml").read_bytes()
    with pytest.raises(ConfigurationError, match="there is a recipe here already; name another"):
        write_starter(tmp_path)
    assert (tmp_path / "llmwright.toml").read_bytes() == before
    with pytest.raises(ConfigurationError, match="no such documents; check the path") as caught:
        write_starter(tmp_path / "other", tmp_path / "nowhere")
    assert caught.value.where == str(tmp_path / "nowhere")
    assert not (tmp_path / "other").exists()
