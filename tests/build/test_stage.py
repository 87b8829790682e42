"""The stage contract on small stages: reuse, early cut-off, resume, damage, locks."""

import json
from pathlib import Path

import pytest

from llmwright import __version__
from llmwright.build import Stage, run_stages
from llmwright.core import CapacityError, InputError


class Recorder:
    """Counts runs, and makes stages whose text depends on parameters and inputs."""

    def __init__(self):
        self.ran = []

    def stage(self, name, reads=(), text=None, **kwargs):
        def run(output: Path, inputs):
            self.ran.append(name)
            read = "".join((folder / "out.txt").read_text() for folder in inputs.values())
            (output / "out.txt").write_text(text if text is not None else f"{name}({read})")

        return Stage(name, run, reads=tuple(reads), **kwargs)

    def ran_in(self, stages, workspace):
        self.ran.clear()
        results = run_stages(stages, workspace)
        return list(self.ran), {name: result.digest for name, result in results.items()}


def test_a_stage_that_stands_is_not_run_again(tmp_path):
    recorder = Recorder()
    stages = [recorder.stage("a"), recorder.stage("b", ["a"])]
    first, digests = recorder.ran_in(stages, tmp_path)
    assert first == ["a", "b"]
    assert recorder.ran_in(stages, tmp_path) == ([], digests)
    text = (next(tmp_path.glob("b-*")) / "output" / "out.txt").read_text()
    assert text == "b(a())"


@pytest.mark.parametrize("change", [{"parameters": {"x": 1}}, {"sources": {"file": "hash"}}])
def test_whatever_decides_the_output_decides_the_key(tmp_path, change):
    recorder = Recorder()
    recorder.ran_in([recorder.stage("a")], tmp_path)
    assert recorder.ran_in([recorder.stage("a", **change)], tmp_path)[0] == ["a"]


def test_a_change_that_alters_nothing_reruns_nothing_below(tmp_path):
    recorder = Recorder()
    recorder.ran_in([recorder.stage("a", text="same"), recorder.stage("b", ["a"])], tmp_path)
    again = [recorder.stage("a", text="same", parameters={"x": 2}), recorder.stage("b", ["a"])]
    assert recorder.ran_in(again, tmp_path)[0] == ["a"]
    other = [recorder.stage("a", text="other", parameters={"x": 3}), recorder.stage("b", ["a"])]
    assert recorder.ran_in(other, tmp_path)[0] == ["a", "b"]


def test_a_damaged_result_is_made_anew(tmp_path):
    recorder = Recorder()
    stages = [recorder.stage("a")]
    _, digests = recorder.ran_in(stages, tmp_path)
    folder = next(tmp_path.glob("a-*"))
    (folder / "output" / "out.txt").write_text("tampered")
    assert recorder.ran_in(stages, tmp_path) == (["a"], digests)
    (folder / "stage.json").write_text("{")
    assert recorder.ran_in(stages, tmp_path) == (["a"], digests)


def test_going_back_one_change_is_free_and_older_results_go(tmp_path):
    recorder = Recorder()
    for version in (1, 2, 3):
        recorder.ran_in([recorder.stage("a", parameters={"x": version})], tmp_path)
    assert len(list(tmp_path.glob("a-*"))) == 2
    assert recorder.ran_in([recorder.stage("a", parameters={"x": 2})], tmp_path)[0] == []
    assert recorder.ran_in([recorder.stage("a", parameters={"x": 1})], tmp_path)[0] == ["a"]


def test_one_name_that_begins_another_is_not_pruned_with_it(tmp_path):
    recorder = Recorder()
    stages = [recorder.stage("a"), recorder.stage("a-b")]
    for version in (1, 2, 3):
        recorder.ran_in([recorder.stage("a", parameters={"x": version}), stages[1]], tmp_path)
    assert recorder.ran_in([stages[1]], tmp_path)[0] == []


@pytest.mark.parametrize("resumable", [True, False])
def test_what_a_failed_stage_left(tmp_path, resumable):
    seen = []

    def run(output: Path, inputs):
        seen.append(sorted(path.name for path in output.iterdir()))
        (output / "half").write_text("done so far")
        if len(seen) == 1:
            raise RuntimeError("the first try fails")

    stage = Stage("a", run, resumable=resumable)
    with pytest.raises(RuntimeError):
        run_stages([stage], tmp_path)
    run_stages([stage], tmp_path)
    assert seen == [[], ["half"] if resumable else []]
    assert not list(tmp_path.glob("*.partial"))


def test_two_builds_in_one_place_are_refused(tmp_path):
    def run(output: Path, inputs):
        with pytest.raises(CapacityError, match=": another build is at work in this folder;"):
            run_stages([], tmp_path)

    run_stages([Stage("a", run)], tmp_path)
    run_stages([], tmp_path)  # and the lock is free again


def test_what_stands_on_disk(tmp_path):
    def run(output: Path, inputs):
        (partial,) = tmp_path.glob("b-*")
        assert partial.name.endswith(".partial") and output == partial / "output"
        assert list(inputs) == ["a"]
        (output / "out.txt").write_text("b")

    stages = [Recorder().stage("a"), Stage("b", run, {"x": 1}, {"file": "hash"}, ("a",))]
    results = run_stages(stages, tmp_path / "", lambda stage, result: None)
    (folder,) = tmp_path.glob("b-*")
    assert results["b"].output == folder / "output"
    assert not results["b"].reused
    record = json.loads((folder / "stage.json").read_text())
    assert record.pop("files") == record["digest"] == results["b"].digest
    assert record.pop("seconds") == round(results["b"].seconds, 3) >= 0
    assert record == {
        "name": "b", "version": __version__, "parameters": {"x": 1}, "sources": {"file": "hash"},
        "inputs": {"a": results["a"].digest}, "digest": results["b"].digest,
    }  # fmt: skip
    again = run_stages(stages, tmp_path)["b"]
    assert again.reused and again.seconds == round(results["b"].seconds, 3)
    assert (again.name, again.digest, again.output) == ("b", record["digest"], folder / "output")


def test_a_digest_of_its_own_decides_what_runs_below(tmp_path):
    recorder = Recorder()

    def stages(text):
        first = recorder.stage("a", text=text, parameters={"text": text}, digest=lambda output: "d")
        return [first, recorder.stage("b", ["a"])]

    assert recorder.ran_in(stages("one"), tmp_path)[0] == ["a", "b"]
    ran, digests = recorder.ran_in(stages("two"), tmp_path)
    assert (ran, digests["a"]) == (["a"], "d")


def test_who_watches_is_told_before_and_after(tmp_path):
    seen = []
    stages = [Recorder().stage("a")]
    for _ in range(2):
        run_stages(stages, tmp_path, lambda stage, result: seen.append((stage.name, result)))
    assert [(name, result and result.reused) for name, result in seen] == [
        ("a", None), ("a", False), ("a", True),
    ]  # fmt: skip


def test_a_stage_that_was_cut_off_is_swept_of_half_written_files(tmp_path):
    def run(output: Path, inputs):
        seen.append(sorted(path.name for path in output.iterdir()))
        (output / "whole").write_text("kept")
        (output / ".half.abcd1234").write_text("what a killed write left")
        if len(seen) == 1:
            raise RuntimeError("killed")

    seen = []
    stage = Stage("a", run, resumable=True)
    with pytest.raises(RuntimeError):
        run_stages([stage], tmp_path)
    run_stages([stage], tmp_path)
    assert seen == [[], ["whole"]]


def test_a_place_that_may_not_be_written(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(InputError, match="another place with --workspace"):
        run_stages([], tmp_path / "file" / "workspace")
