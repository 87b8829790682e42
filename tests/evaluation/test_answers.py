from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from llmwright.core import (
    Chunk,
    Completion,
    ConfigurationError,
    Hit,
    InputError,
    Message,
    SamplingParams,
    UpstreamError,
    read_jsonl,
    tree_hash,
    write_jsonl,
)
from llmwright.data import Question
from llmwright.evaluation import Report, evaluate_answers, grade_answers
from llmwright.providers import ScriptedModel

QUESTIONS = [
    Question("q1", "How many matrices?", "two matrices", ("lora.md",)),
    Question("q2", "Which rank?", "eight", ("lora.md",)),
    Question("q3", "Что замораживает LoRA?", "веса", ("lora.md",)),
]
ANSWERS = {
    "How many matrices?": "Two matrices.",
    "Which rank?": "rank eight",
    "Что замораживает LoRA?": "Веса.",
}
PARAMS = SamplingParams(max_tokens=20)


def reply(messages: Sequence[Message]) -> str:
    return ANSWERS[messages[-1].content]


def evaluate(path: Path, model: object = None, **options: object) -> Report:
    model = model or ScriptedModel(reply)
    options = {"params": PARAMS, **options}
    return asyncio.run(
        evaluate_answers(model, QUESTIONS, records_path=path, **options)  # type: ignore[arg-type]
    )


def test_scores_and_records(tmp_path: Path) -> None:
    report = evaluate(tmp_path / "answers.jsonl")
    figures = {score.name: (score.value, score.n, score.unscored) for score in report.scores}
    assert figures["exact_match"] == (pytest.approx(2 / 3), 3, 0)
    assert figures["token_f1"] == (pytest.approx((1 + 2 / 3 + 1) / 3), 3, 0)
    assert figures["groundedness"] == (None, 0, 3)  # no sources, nothing to check
    assert read_jsonl(tmp_path / "answers.jsonl") == report.records
    assert report.records[1] == {
        "id": "q2",
        "question": "Which rank?",
        "gold": "eight",
        "run": "",
        "params": {
            "max_tokens": 20, "temperature": 0.0, "top_k": 0, "top_p": 1.0, "stop": [], "seed": None,
        },
        "answer": "rank eight",
        "sources": [],
        "finish_reason": "stop",
        "exact_match": 0.0,
        "token_f1": pytest.approx(2 / 3),
        "groundedness": None,
        "citation_coverage": None,
        "usage": {"prompt_tokens": 2, "completion_tokens": 2},
        "error": None,
    }  # fmt: skip


class Cited(ScriptedModel):
    """Answers with a passage, as the cited answerer does."""

    async def complete(
        self, messages: Sequence[Message], params: SamplingParams | None = None
    ) -> Completion:
        chunk = Chunk("lora.md:0", "lora.md", "LoRA trains two matrices.", 0, 25)
        return replace(await super().complete(messages, params), sources=(Hit(chunk, 1.0),))


def test_groundedness_against_the_completion_s_sources(tmp_path: Path) -> None:
    report = evaluate(
        tmp_path / "a.jsonl", Cited(lambda m: "LoRA trains two matrices [1]. Bananas.")
    )
    assert report.records[0]["groundedness"] == 0.5
    assert report.records[0]["citation_coverage"] == 0.5
    assert report.records[0]["sources"] == [
        {"id": "lora.md:0", "document_id": "lora.md", "text": "LoRA trains two matrices."}
    ]


def test_same_bytes_whatever_the_concurrency(tmp_path: Path) -> None:
    for concurrency in (1, 2, 5):
        evaluate(tmp_path / f"{concurrency}.jsonl", concurrency=concurrency)
    assert len({tree_hash(tmp_path / f"{c}.jsonl") for c in (1, 2, 5)}) == 1


@pytest.mark.parametrize("cut", range(0, 40, 4))
def test_a_run_cut_off_anywhere_is_taken_up(tmp_path: Path, cut: int) -> None:
    whole = tmp_path / "whole.jsonl"
    expected = evaluate(whole)
    raw = whole.read_bytes()
    path = tmp_path / "cut.jsonl"
    path.write_bytes(raw[: len(raw) * cut // 39])
    finished = raw[: len(raw) * cut // 39].count(b"\n")
    model = ScriptedModel(reply)
    report = evaluate(path, model)
    assert len(model.calls) == len(QUESTIONS) - finished
    assert path.read_bytes() == raw
    assert report.scores == expected.scores


def test_a_failing_model_leaves_its_question_unscored_and_is_asked_again(tmp_path: Path) -> None:
    def failing(messages: Sequence[Message]) -> str:
        if messages[-1].content == "Which rank?":
            raise UpstreamError("timed out", where="http://127.0.0.1:1", fix="start it")
        return reply(messages)

    path = tmp_path / "a.jsonl"
    report = evaluate(path, ScriptedModel(failing))
    assert report.records[1]["error"] == "http://127.0.0.1:1: timed out; start it."
    for name in ("answer", "finish_reason", "exact_match", "token_f1", "groundedness"):
        assert report.records[1][name] is None
    f1 = next(score for score in report.scores if score.name == "token_f1")
    assert (f1.value, f1.n, f1.unscored) == (1.0, 2, 1)
    again = ScriptedModel(reply)
    assert all(record["error"] is None for record in evaluate(path, again).records)
    assert len(again.calls) == 1


def test_the_work_of_finished_questions_survives_a_crash(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"

    def broken(messages: Sequence[Message]) -> str:
        if messages[-1].content == "Which rank?":
            raise ZeroDivisionError
        return reply(messages)

    with pytest.raises(ExceptionGroup):
        evaluate(path, ScriptedModel(broken))
    assert [record["id"] for record in read_jsonl(path)] == ["q1"]


def test_parameters_that_do_something_are_written_down(tmp_path: Path) -> None:
    params = SamplingParams(max_tokens=5, min_p=0.1, temperature=1.0)
    [record, *_] = evaluate(tmp_path / "a.jsonl", params=params).records
    assert record["params"] == {
        "max_tokens": 5, "temperature": 1.0, "top_k": 0, "top_p": 1.0, "stop": [], "seed": None,
        "min_p": 0.1,
    }  # fmt: skip


def test_refuses_to_mix_runs(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    evaluate(path, run="one")
    for other in ({"run": "two"}, {"params": SamplingParams(max_tokens=21)}):
        with pytest.raises(InputError) as caught:
            evaluate(path, **{"run": "one", **other})
        assert str(caught.value) == (
            f"{path}: holds the answer to another question or run under the id 'q1'; "
            "delete the file to start anew, or name another one."
        )
    with pytest.raises(ConfigurationError) as refused:
        evaluate(path, concurrency=0)
    assert str(refused.value) == "answer evaluation: concurrency is 0; use 1 or more."
    twice = [QUESTIONS[0], QUESTIONS[0]]
    with pytest.raises(
        InputError,
        match=r"^answer evaluation: two questions have the id 'q1'; give each question its own id\.$",
    ):
        asyncio.run(
            evaluate_answers(ScriptedModel(reply), twice, records_path=tmp_path / "b.jsonl")
        )


def test_a_broken_line_in_the_middle_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    evaluate(path)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], lines[1][:-3], lines[2]]) + "\n")
    with pytest.raises(InputError, match=r"a\.jsonl, line 2"):
        evaluate(path)


class Crowd(ScriptedModel):
    """Counts how many answers are waited for at once."""

    now = most = 0

    async def complete(
        self, messages: Sequence[Message], params: SamplingParams | None = None
    ) -> Completion:
        self.now += 1
        self.most = max(self.most, self.now)
        completion = await super().complete(messages, params)
        self.now -= 1
        return completion


@pytest.mark.parametrize("concurrency", [1, 2])
def test_at_most_so_many_at_a_time(tmp_path: Path, concurrency: int) -> None:
    model = Crowd(reply)
    evaluate(tmp_path / "a.jsonl", model, concurrency=concurrency)
    assert model.most == concurrency


def test_grade_stored_answers(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    write_jsonl(
        path,
        [
            {
                "id": "1",
                "answer": "Two matrices [1].",
                "gold": "two matrices",
                "sources": ["two matrices"],
            },
            {"id": "2", "answer": "rank 8", "references": ["16", "rank 8"], "note": "kept"},
            {"id": "3", "answer": None, "gold": "x"},
            {"id": "4", "answer": "LoRA trains.", "sources": [{"text": "LoRA trains."}]},
        ],
    )
    report = grade_answers(path)
    assert [r["exact_match"] for r in report.records] == [1.0, 1.0, None, None]
    assert [r["groundedness"] for r in report.records] == [1.0, None, None, 1.0]
    assert report.records[1]["note"] == "kept"
    assert [(s.name, s.n, s.unscored) for s in report.scores][:2] == [
        ("exact_match", 2, 2),
        ("token_f1", 2, 2),
    ]


@pytest.mark.parametrize(
    ("record", "says"),
    [
        (
            {"gold": "x"},
            "the field 'answer' is missing; fields needed: answer, gold.",
        ),
        (
            {"id": "a", "answer": 3, "gold": "x"},
            "the field 'answer' is a number; it must be a text, or null where the model failed.",
        ),
        (
            {"answer": "x"},
            "there is neither a reference answer nor a source to grade against; "
            "add one of gold, reference, references, or sources.",
        ),
        (
            {"answer": "x", "sources": []},
            "there is neither a reference answer nor a source to grade against; "
            "add one of gold, reference, references, or sources.",
        ),
        (
            {"answer": "x", "gold": {"a": 1}},
            "the field 'gold' is neither a text nor a list of texts; "
            "give the reference answer, or a list of equally right ones.",
        ),
        (
            {"answer": "x", "reference": ["a", 1]},
            "the field 'reference' is neither a text nor a list of texts; "
            "give the reference answer, or a list of equally right ones.",
        ),
        (
            {"answer": "x", "gold": "x", "sources": ["a", 3]},
            "the field 'sources' is not a list of passages; "
            'give a list of texts, or of objects with a "text".',
        ),
        (
            {"answer": "x", "gold": "x", "sources": [{"id": "a"}]},
            "the field 'sources' is not a list of passages; "
            'give a list of texts, or of objects with a "text".',
        ),
    ],
)
def test_a_wrong_record_is_named_by_its_line(
    tmp_path: Path, record: dict[str, object], says: str
) -> None:
    path = tmp_path / "answers.jsonl"
    write_jsonl(path, [{"answer": "fine", "gold": "fine"}, record])
    with pytest.raises(InputError) as caught:
        grade_answers(path)
    assert str(caught.value) == f"{path}, line 2: {says}"


def test_one_source_may_stand_without_a_list(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    write_jsonl(path, [{"answer": "LoRA trains.", "gold": None, "sources": "LoRA trains."}])
    report = grade_answers(path)
    assert report.records[0]["groundedness"] == 1.0
    assert report.records[0]["exact_match"] is None
