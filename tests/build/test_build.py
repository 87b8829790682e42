"""Whole builds: reuse, what a change reruns, gates, damage, kills, and the release that comes out."""

import asyncio
import json
import re
from contextlib import aclosing

import pytest

from llmwright.build import build, load_recipe, open_release, read_manifest
from llmwright.build.gates import METRICS
from llmwright.core import GateError, InputError, Message, ModelSourceError, read_jsonl

STAGES = ["documents", "index", "examples", "adapter", "retrieval", "perplexity", "answers"]


def edit(folder, old, new):
    path = folder / "llmwright.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def ran(built):
    return [stage.name for stage in built.stages.values() if not stage.reused]


def test_a_build_from_documents_to_an_answer(small_recipe):
    built = build(load_recipe(small_recipe))
    assert built.folder == small_recipe / "release"
    assert ran(built) == STAGES
    assert built.passed
    assert set(built.scores) == set(METRICS)  # what gates may name is what is measured
    assert built.scores["perplexity"].value != built.scores["perplexity_base"].value

    # The same recipe again: nothing runs, the hash stands.
    again = build(load_recipe(small_recipe))
    assert ran(again) == []
    assert again.hash == built.hash

    # Changes rerun what they reach and nothing else.
    edit(small_recipe, "max_tokens = 8", "max_tokens = 9")
    assert ran(build(load_recipe(small_recipe))) == ["answers"]
    edit(small_recipe, "[project]", "# a comment\n[project]")
    commented = build(load_recipe(small_recipe))
    assert ran(commented) == []
    edit(small_recipe, "max_tokens = 9", "max_tokens = 8")
    assert build(load_recipe(small_recipe)).hash == built.hash
    page = small_recipe / "docs" / "02-decoding.md"
    text = page.read_text()
    page.write_text(text + "\nOne more sentence about decoding.\n")
    changed = build(load_recipe(small_recipe))
    assert ran(changed)[:2] == ["documents", "index"]
    assert changed.hash != built.hash
    page.write_text(text)

    # Elsewhere, from nothing: the same hash.
    other = build(load_recipe(small_recipe), workspace=small_recipe / "w", out=small_recipe / "r")
    assert ran(other) == STAGES
    assert other.hash == built.hash

    # The report is one page with all that was asked of it.
    report = (other.folder / "report.html").read_text()
    assert not re.search(r"<(script|link|img|iframe)\b", report)
    assert "recall@10 &gt;= 0 met" in report
    assert report.count("<svg") == 3
    records = read_jsonl(other.folder / "evaluation" / "answers" / "records.jsonl")
    assert len(records) == 3
    assert all(record["sources"] for record in records)

    # It opens as a model that answers, and streams what it answers.
    async def ask():
        async with aclosing(open_release(other.folder)) as assistant:
            messages = [Message("user", records[0]["question"])]
            whole = await assistant.complete(messages)
            pieces = [delta async for delta in assistant.stream(messages)]
            return whole, pieces

    whole, pieces = asyncio.run(ask())
    assert len(whole.sources) == 2
    assert "".join(piece.text for piece in pieces) == whole.text
    assert pieces[-1].completion == whole

    # A file that was changed, a model that was exchanged: said so, not served.
    manifest = read_manifest(other.folder)
    assert manifest["hash"] == other.hash
    behaviour = other.folder / "behaviour.json"
    original = behaviour.read_text()
    behaviour.write_text(original.replace('"top": 2', '"top": 3'))
    with pytest.raises(InputError, match=r"'behaviour\.json' was changed since the build"):
        open_release(other.folder)
    behaviour.write_text(original)
    path = other.folder / "manifest.json"
    path.write_text(json.dumps({**manifest, "model": "another"}))
    with pytest.raises(ModelSourceError, match="not the one this release was built on"):
        open_release(other.folder)
    path.write_text(json.dumps({**manifest, "format": 99}))
    with pytest.raises(InputError, match="format 99, this version reads 1"):
        open_release(other.folder)


def test_a_missed_gate_fails_the_build_and_leaves_the_old_release(small_recipe):
    from llmwright.build import require_gates

    edit(small_recipe, 'method = "lora"', 'method = "none"')
    good = build(load_recipe(small_recipe))
    edit(small_recipe, "recall@10 >= 0", "exact_match >= 0.99")
    missed = build(load_recipe(small_recipe))
    assert not missed.passed
    assert missed.folder == small_recipe / "release-failed"
    assert "missed its gates" in (missed.folder / "report.html").read_text()
    with pytest.raises(GateError, match=r"exact_match >= 0\.99 not met: 0\.000, short by 0\.990"):
        require_gates(missed.gates, "report")
    assert read_manifest(small_recipe / "release")["hash"] == good.hash
    edit(small_recipe, "exact_match >= 0.99", "exact_match >= 0")
    build(load_recipe(small_recipe))
    assert not (small_recipe / "release-failed").exists()
