"""From a recipe to a release in one call, over stand-ins for the models."""

import dataclasses

import pytest

from llmwright.build import Models, build, load_recipe, read_manifest


@pytest.fixture
def found(models, opened, monkeypatch):
    """What models a build asks for; all of them are stand-ins."""
    asked = []

    def find(*sources):
        asked.append(sources)
        return dataclasses.replace(models, chat="http://host/v1#model")

    monkeypatch.setattr(Models, "find", find)
    return asked


@pytest.fixture
def recipe(folder):
    path = folder / "llmwright.toml"

    def edited(**changes):
        text = path.read_text().replace('method = "lora"', 'method = "none"')
        for key, value in changes.items():
            text = text.replace(f"[{key}]\n", f"[{key}]\n{value}\n")
        path.write_text(text)
        return load_recipe(folder)

    return edited


def test_what_is_said_and_where_it_ends_up(folder, recipe, found):
    said = []
    built = build(recipe(), say=said.append)
    assert built.folder == folder / "release"
    assert list(built.stages) == ["documents", "index", "retrieval", "answers"]
    assert all(
        stage.output.is_relative_to(folder / ".llmwright") for stage in built.stages.values()
    )
    assert said[0] == "[1/4] documents"
    assert said[1].startswith("[1/4] documents  ") and said[1].endswith(" s")
    assert said[6] == "[4/4] answers"
    assert said[7].startswith("[4/4] answers    ")
    assert read_manifest(built.folder)["hash"] == built.hash
    assert "All gates are met." in (built.folder / "report.html").read_text()
    said.clear()
    assert build(recipe(), say=said.append).hash == built.hash
    assert said[0] == "[1/4] documents  unchanged" and said[2] == "[3/4] retrieval  unchanged"
    assert len(said) == 4
    build(recipe())  # nobody need listen


def test_places_of_ones_own(folder, recipe, found, tmp_path):
    built = build(recipe(), out=tmp_path / "out", workspace=tmp_path / "work")
    assert built.folder == tmp_path / "out"
    assert built.stages["index"].output.is_relative_to(tmp_path / "work")
    assert not (folder / ".llmwright").exists() and not (folder / "release").exists()


@pytest.mark.parametrize(
    ("base", "embedder"),
    [("models/chat", "models/e"), ("hf:a/b", "pypi:c"), ("/models/chat", "openai:e")],
)
def test_paths_of_models_are_taken_from_the_recipes_folder(folder, recipe, found, base, embedder):
    recipe(retrieval=f'embedder = "{embedder}"\nrerank = "models/r"')
    path = folder / "llmwright.toml"
    path.write_text(path.read_text() + f'\n[model]\nbase = "{base}"\ndtype = "bfloat16"\n')
    build(load_recipe(folder))
    at = [str(folder / s) if s.startswith("models/") else s for s in (base, embedder)]
    assert found == [(*at, "bfloat16", str(folder / "models/r"))]


def test_a_release_that_misses_a_gate_stands_beside_the_one_that_met_them(folder, recipe, found):
    good = build(recipe())
    path = folder / "llmwright.toml"
    path.write_text(path.read_text().replace("recall@10 >= 0.5", "exact_match >= 0.99"))
    missed = build(load_recipe(folder))
    assert not missed.passed
    assert missed.folder == folder / "release-failed"
    assert "missed its gates" in (missed.folder / "report.html").read_text()
    assert read_manifest(good.folder)["hash"] == good.hash
    path.write_text(path.read_text().replace("exact_match >= 0.99", "exact_match >= 0"))
    assert build(load_recipe(folder)).passed
    assert not missed.folder.exists()
