"""A release: what is written, what its hash covers, and what opening it checks."""

import dataclasses
import json

import pytest

from llmwright.build import Built, load_recipe, open_release, parse_gate, read_manifest
from llmwright.build.gates import check_gates
from llmwright.build.pipeline import read_scores, write_scores
from llmwright.build.recipe import Behaviour
from llmwright.build.release import measured, write_release
from llmwright.build.report import render_report
from llmwright.build.stage import StageResult
from llmwright.core import InputError, ModelSourceError, Score, write_jsonl

ANSWERS = [
    {"id": str(n), "question": f"Question {n}?", "answer": f"Answer {n}", "gold": f"Gold {n}",
     "token_f1": f1, "groundedness": 0.25 if n % 2 else None, "error": None,
     "sources": [{"document_id": "sea.md", "text": "<b>salt</b>"}] * (n % 3)}
    for n, f1 in enumerate([0.9, 0.1, 0.8, 0.2, 0.7, 0.3, 0.6, 0.4, 0.5, 0.95, 0.05])
] + [
    {"id": "broken", "question": "Broken?", "answer": None, "gold": "x", "token_f1": None,
     "groundedness": None, "error": "the server is away", "sources": []},
]  # fmt: skip
MISSES = [
    {"question": f"Missed {n}?", "relevant": ["sea.md", "tea.md"], "found_at": [None, 1],
     "hits": [{"id": f"chunk-{k}"} for k in range(5)]}
    for n in range(6)
]  # fmt: skip
FOUND = {"question": "Found?", "relevant": ["sea.md"], "found_at": [1], "hits": []}


@pytest.fixture
def built(folder, models):
    """A build over outputs written by hand."""
    outputs = folder / "outputs"
    scores = {
        "retrieval": [Score("recall@5", 0.8, 0.7, 0.9, n=7), Score("ndcg@1", 0.6, n=7)],
        "perplexity": [Score("perplexity", 3.5, 3.0, 4.0, n=2)],
        "answers": [Score("token_f1", None, unscored=3), Score("groundedness", 0.5, n=2)],
    }
    for name, own in scores.items():
        write_scores(outputs / name, own)
    write_jsonl(outputs / "answers" / "records.jsonl", ANSWERS)
    write_jsonl(outputs / "retrieval" / "records.jsonl", [*MISSES, FOUND])
    for part in ("index/index/table", "adapter/adapter/weights"):
        (outputs / part).parent.mkdir(parents=True)
        (outputs / part).write_text(part)
    curve = [{"step": n, "loss": 3.0 - n / 10} for n in range(1, 6)]
    write_jsonl(outputs / "adapter" / "adapter" / "curve.jsonl", curve)
    stages = {
        name: StageResult(name, f"digest-{name}", outputs / name, 1.5, reused=False)
        for name in ("index", "adapter", "retrieval", "perplexity", "answers")
    }
    gates = check_gates([parse_gate("recall@5 >= 0.5")], measured(stages))
    return Built(folder / "release", load_recipe(folder), models, stages, measured(stages), gates)


def without(built, *names):
    stages = {name: stage for name, stage in built.stages.items() if name not in names}
    return dataclasses.replace(built, stages=stages)


def test_scores_come_back_as_they_were_written_by_stage_and_by_name(built, tmp_path):
    write_scores(tmp_path, [Score("a", None, unscored=2), Score("b", 1.0, 0.5, 1.0, n=3)])
    assert read_scores(tmp_path) == [Score("a", None, unscored=2), Score("b", 1.0, 0.5, 1.0, n=3)]
    assert list(built.scores) == ["recall@5", "ndcg@1", "perplexity", "token_f1", "groundedness"]
    assert built.scores["perplexity"].high == 4.0
    assert list(measured(without(built, "retrieval", "perplexity").stages)) == [
        "token_f1", "groundedness",
    ]  # fmt: skip


def test_a_release_holds_its_parts_and_says_what_they_are(built, folder):
    write_release(built, "<html>é</html>")
    release = folder / "release"
    files = {p.relative_to(release).as_posix() for p in release.rglob("*") if p.is_file()}
    assert files == {
        "manifest.json", "recipe.toml", "behaviour.json", "report.html", "index/table",
        "adapter/weights", "adapter/curve.jsonl", "evaluation/retrieval/scores.json",
        "evaluation/retrieval/records.jsonl", "evaluation/perplexity/scores.json",
        "evaluation/answers/scores.json", "evaluation/answers/records.jsonl",
    }  # fmt: skip
    assert (release / "report.html").read_bytes() == "<html>é</html>".encode()
    assert (release / "recipe.toml").read_text() == (folder / "llmwright.toml").read_text()
    assert json.loads((release / "behaviour.json").read_text()) == {
        "search": dataclasses.asdict(built.recipe.retrieval.search),
        "top": 2, "order": "best first", "system": built.recipe.prompt.system,
        "no_answer": built.recipe.prompt.no_answer, "dtype": "auto",
        "guards": built.recipe.guards.model_dump(mode="json"),
    }  # fmt: skip
    behaviour = Behaviour.model_validate_json((release / "behaviour.json").read_text())
    assert behaviour == built.recipe.behaviour and behaviour.search.mode == "lexical"
    manifest = read_manifest(release)
    assert set(manifest["files"]) == files - {"manifest.json"}
    assert manifest["hash"] == built.hash
    assert manifest | {
        "format": 1, "name": "small", "description": "About tea and the sea.",
        "model": "chat-print", "embedder": "embedder-print",
        "stages": {name: f"digest-{name}" for name in built.stages},
        "gates": [{"gate": "recall@5 >= 0.5", "value": 0.8, "passed": True}],
    } == manifest  # fmt: skip
    assert manifest["scores"][0] == {
        "name": "recall@5", "value": 0.8, "low": 0.7, "high": 0.9, "n": 7, "unscored": 0,
    }  # fmt: skip
    bare = dataclasses.replace(without(built, "adapter", "answers"), folder=folder / "bare")
    write_release(bare, "")
    moved = dataclasses.replace(built.models, embedder_source=str(folder / "e"))
    write_release(dataclasses.replace(bare, models=moved), "")
    assert read_manifest(folder / "bare")["sources"]["embedder"] == "./../e"
    assert not (folder / "bare" / "adapter").exists()
    assert not (folder / "bare" / "evaluation" / "answers").exists()


def test_the_hash_covers_content_and_neither_place_nor_time(built, folder, models):
    def moved(**changes):
        return dataclasses.replace(built, **changes)

    slower = {n: dataclasses.replace(s, seconds=9.0) for n, s in built.stages.items()}
    assert moved(folder=folder / "elsewhere", stages=slower).hash == built.hash
    renamed = {n: dataclasses.replace(s, digest="other") for n, s in built.stages.items()}
    text = (folder / "llmwright.toml").read_text()
    (folder / "llmwright.toml").write_text(text.replace("top = 2", "top = 3"))
    changed = {
        moved(stages=renamed).hash, moved(scores={}).hash, moved(gates=[]).hash,
        moved(models=dataclasses.replace(models, chat_fingerprint="other")).hash,
        moved(models=dataclasses.replace(models, embedder_fingerprint="other")).hash,
        moved(recipe=load_recipe(folder)).hash,
    }  # fmt: skip
    assert len(changed | {built.hash}) == 7


def test_a_summary_for_programs(built, folder):
    summary = built.summary()
    assert summary["release"] == str(folder / "release")
    assert (summary["hash"], summary["passed"]) == (built.hash, True)
    assert summary["stages"][0] == {
        "name": "index", "digest": "digest-index", "seconds": 1.5, "reused": False,
    }  # fmt: skip
    assert [score["name"] for score in summary["scores"]] == list(built.scores)
    assert summary["gates"] == [{"gate": "recall@5 >= 0.5", "value": 0.8, "passed": True}]


def test_it_opens_with_its_parts_and_its_models(built, folder, models, opened, monkeypatch):
    from llmwright.build import Models
    from llmwright.retrieval import Index

    index = built.stages["index"].output / "index"
    (index / "table").unlink()
    index.rmdir()
    Index.create(index, "embedder-source")
    (folder / "a-model").mkdir()
    here = dataclasses.replace(models, chat=str(folder / "a-model"), embedder_source="pypi:letters")
    built = dataclasses.replace(built, models=here)
    write_release(built, "")
    manifest = json.loads((folder / "release" / "manifest.json").read_text())
    assert manifest["sources"] == {"model": "./../a-model", "embedder": "pypi:letters"}

    found = []

    def find(*sources):
        found.append(sources)
        return dataclasses.replace(here, dtype=sources[2])

    monkeypatch.setattr(Models, "find", find)
    assistant = open_release(folder / "release")
    assert found == [(str(folder / "a-model"), "pypi:letters", "auto", "")]
    assert (assistant.name, assistant.hash) == ("small", built.hash)
    assert ("chat", here.chat, folder / "release" / "adapter", "auto") in opened.loads
    write_release(without(built, "adapter"), "")
    open_release(folder / "release")
    assert opened.loads[-1] == ("chat", here.chat, None, "auto")

    for name, change in (("model", "chat"), ("embedder", "embedder")):
        other = dataclasses.replace(here, **{f"{change}_fingerprint": "other"})
        monkeypatch.setattr(Models, "find", lambda *sources, other=other: other)
        with pytest.raises(ModelSourceError, match=f"the {name} is not the one") as caught:
            open_release(folder / "release")
        assert caught.value.where == (str(folder / "a-model"), "pypi:letters")[name == "embedder"]


def test_what_is_no_whole_release_is_refused(built, folder):
    release = folder / "release"
    with pytest.raises(
        InputError, match=r"this is no release: it holds no manifest\.json"
    ) as caught:
        read_manifest(release)
    assert caught.value.where == str(release)
    write_release(built, "")
    (release / "index" / "more").write_text("a file of the user's own is nobody's business")
    manifest = read_manifest(release)
    (release / "index" / "table").write_text("changed")
    with pytest.raises(InputError, match="file 'index/table' was changed since the build"):
        read_manifest(release)
    (release / "index" / "table").unlink()
    with pytest.raises(InputError, match="file 'index/table' is missing") as caught:
        read_manifest(release)
    assert caught.value.where == str(release)
    path = release / "manifest.json"
    for content, said in ((manifest | {"format": 0}, "0"), ({}, "None"), ([], "None")):
        path.write_text(json.dumps(content))
        with pytest.raises(
            InputError, match=f"the release has format {said}, this version reads 1"
        ) as caught:
            read_manifest(release)
        assert caught.value.where == str(path)


def test_the_report_shows_verdict_figures_answers_and_misses(built):
    page = render_report(built)
    assert "<title>small: build report</title>" in page
    assert "About tea and the sea." in page and "chat-source · tuned with LoRA" in page
    assert "All gates are met." in page and "recall@5 &gt;= 0.5 met: 0.800" in page
    assert "0.700 – 0.900" in page
    assert "ndcg@1" not in page  # one of several that say nearly the same
    assert "unscored" in page and "3 unscored" in page
    assert page.count("<svg") == 3
    assert "svg text { font-family: inherit !important; }" in page  # matplotlib names its own
    assert "<b>salt</b>" not in page and "&lt;b&gt;salt&lt;/b&gt;" in page
    went_wrong, went_well = page.index("went wrong"), page.index("went well")
    shown = [n for n in range(11) if f"Question {n}?" in page]
    assert [n for n in shown if page.index(f"Question {n}?") > went_well] == [0, 2, 4, 9]
    worst = sorted(
        (n for n in shown if n not in (0, 2, 4, 9)), key=lambda n: page.index(f"Question {n}?")
    )
    assert worst == [10, 1, 3, 5]  # the worst first
    assert went_wrong < page.index("the server is away") < went_well
    assert [n for n in range(6) if f"Missed {n}?" in page] == [0, 1, 2, 3]
    assert "Found?" not in page
    assert "chunk-2" in page and "chunk-3" not in page
    assert "chunk_size = 40" in page  # the recipe itself


def test_the_report_of_a_build_that_measured_nothing(built):
    bare = without(built, "adapter", "retrieval", "perplexity", "answers")
    bare = dataclasses.replace(bare, scores={}, gates=[])
    page = render_report(bare)
    assert "No gates are set." in page
    assert page.count("<svg") == 1  # how long the stages took
    for heading in ("What was measured", "went wrong", "went well", "not found", "Training"):
        assert heading not in page


def test_the_report_of_a_failed_build_and_of_few_answers(built):
    gates = check_gates([parse_gate("recall@5 >= 0.9")], built.scores)
    failed = dataclasses.replace(built, gates=gates)
    assert not failed.passed
    answers = built.stages["answers"].output / "records.jsonl"
    write_jsonl(answers, ANSWERS[:3])
    page = render_report(failed)
    assert "This build missed its gates." in page and "short by 0.100" in page
    well = page.index("went well")
    assert [page.index(f"Question {n}?") > well for n in range(3)] == [True, False, True]
