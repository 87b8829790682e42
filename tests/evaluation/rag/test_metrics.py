"""The definitions by hand, and that every figure moves the right way when something is broken."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmwright.core import InputError, write_jsonl
from llmwright.evaluation.rag import (
    LexicalJudge,
    RagRecord,
    citation_quality,
    read_rag_records,
    score_means,
    score_record,
)
from llmwright.evaluation.rag.metrics import (
    answer_correctness,
    context_entity_recall,
    context_precision,
    noise_sensitivity,
    share,
    statement_f1,
)
from llmwright.evaluation.rag.refusals import refuses


def test_shares_and_precision_by_hand():
    assert share([True, False, None, True]) == pytest.approx(2 / 3)
    assert share([]) is share([None]) is None
    # RAGAS's example: of two passages the relevant one second halves the precision.
    assert context_precision([True, False]) == 1.0
    assert context_precision([False, True]) == 0.5
    assert context_precision([True, False, True]) == pytest.approx((1 + 2 / 3) / 2)
    assert context_precision([False, False]) == 0.0
    assert context_precision([]) is context_precision([True, None]) is None


@given(st.lists(st.booleans(), min_size=1, max_size=8))
def test_context_precision_is_best_when_the_relevant_come_first(flags):
    value = context_precision(flags)
    assert value is not None and 0.0 <= value <= 1.0
    assert context_precision(sorted(flags, reverse=True)) == float(any(flags))
    assert context_precision(sorted(flags)) <= value


def test_entities_are_names_and_numbers():
    gold = "The Eiffel Tower in Paris was opened in 1889."
    assert context_entity_recall(gold, ["Paris is old.", "the Eiffel Tower"]) == 3 / 4
    assert context_entity_recall("nothing of the kind", ["Paris"]) is None


def test_noise_sensitivity_by_hand():
    wrong = [True, True, True, False]
    #          by the relevant passage, by the irrelevant one
    passages = [[True, False, False, True], [True, True, False, True]]
    assert noise_sensitivity(wrong, passages, [True, False]) == (1 / 4, 1 / 4)
    assert noise_sensitivity(wrong, passages, [False, False]) == (0.0, 2 / 4)
    assert noise_sensitivity(wrong, passages, [True, None]) == (None, None)
    assert noise_sensitivity([], [], []) == (None, None)


def test_correctness_by_hand():
    # The example of RAGAS's documentation: TP 1, FP 1, FN 1.
    assert statement_f1([True, False], [True, False]) == 0.5
    assert statement_f1([False], [False]) == 0.0
    assert statement_f1([], [False]) == 0.0
    assert statement_f1([True], []) is None
    assert answer_correctness(0.5, 0.9) == pytest.approx(0.75 * 0.5 + 0.25 * 0.9)
    assert answer_correctness(None, 0.9) is answer_correctness(0.5, None) is None


PASSAGES = (
    "The rank of LoRA is the width of its two matrices.",
    "NF4 keeps weights in four bits. It came with QLoRA in 2023.",
    "The tide follows the moon.",
)


@pytest.mark.parametrize(
    ("answer", "recall", "precision"),
    [
        ("The rank of LoRA is the width of its matrices [1].", 1.0, 1.0),
        ("The rank of LoRA is the width of its matrices [2].", 0.0, 0.0),
        ("The rank of LoRA is the width of its matrices.", 0.0, None),
        ("The rank of LoRA is the width of its matrices [9].", 0.0, 0.0),
        # Over-cited: the second is not needed, so half of the citations are.
        ("The rank of LoRA is the width of its matrices [1][3].", 1.0, 0.5),
        # Only together they bear it out, so both are needed.
        ("LoRA has QLoRA [1, 2].", 1.0, 1.0),
        ("NF4 came with QLoRA in 2023 [2]. The moon follows the tide in 1999 [3].", 0.5, 0.5),
        ("It is.", None, None),
    ],
)  # fmt: skip
def test_citations_as_alce_counts_them(answer, recall, precision):
    assert citation_quality(answer, PASSAGES, LexicalJudge()) == (recall, precision)


@pytest.mark.parametrize(
    "answer",
    ["I do not know.", "I found nothing about this in the documents.", "I don't know [1].",
     "The passages do not mention when it was built. They tell of the moon.", "",
     "There is no information about this in the text.", "Sorry, I cannot answer that question.",
     "Я не знаю.", "В документах ничего об этом не найдено.", "The context doesn't say.",
     "The documents do not contain the answer.", "It is not mentioned in the passages."],
)  # fmt: skip
def test_refusals(answer):
    assert refuses(answer)


@pytest.mark.parametrize(
    "answer",
    ["The rank is 8.", "It does not need a GPU.", "No, the tower was never finished.",
     "Nothing travels faster than light.", "The text was written in 1891. I do not know by whom.",
     "The dam cannot hold more water.", "Ранг равен 8.", "There is no moon of Venus."],
)  # fmt: skip
def test_no_refusals(answer):
    assert not refuses(answer)


@pytest.fixture(scope="module")
def xquad(shared_data):
    """(question, gold, its sentence, its paragraph, two others) of real paragraphs."""
    articles = json.loads((shared_data / "xquad" / "xquad.en.json").read_text("utf-8"))["data"]
    rng = random.Random(5)
    found = []
    for article in articles[:12]:
        texts = [p["context"] for p in article["paragraphs"]]
        for paragraph in article["paragraphs"][:4]:
            asked = paragraph["qas"][0]
            gold, at = asked["answers"][0]["text"], asked["answers"][0]["answer_start"]
            text = paragraph["context"]
            begin = text.rfind(". ", 0, at) + 2 if ". " in text[:at] else 0
            end = text.find(". ", at + len(gold)) + 1 or len(text)
            others = rng.sample([t for t in texts if t != text], 2)
            found.append((asked["question"], gold, text[begin:end], text, *others))
    return found


def means(records):
    judge = LexicalJudge()
    scored = [{"metrics": score_record(record, judge)} for record in records]
    return {s.name: s.value for part in score_means(scored).values() for s in part}


def test_figures_move_the_right_way_on_real_paragraphs(xquad):
    """Answers are the sentences that hold the gold answer, cited: nearly perfect. Then passages
    are swapped, answers shuffled, citations dropped, one after the other."""
    good = [
        RagRecord(str(n), q, f"{sentence.rstrip('.')} [1].", (text, *others), gold,
                  relevant=(True, False, False))
        for n, (q, gold, sentence, text, *others) in enumerate(xquad)
    ]  # fmt: skip
    best = means(good)
    assert best["context_precision"] == 1.0 and best["context_recall"] > 0.95
    assert best["faithfulness"] > 0.97 and best["citation_recall"] > 0.95
    assert best["citation_precision"] > 0.95 and best["correct"] > 0.95
    assert best["refused_answerable"] == 0.0 and best["refused_unanswerable"] is None

    away = [r.contexts for r in good[7:]] + [r.contexts for r in good[:7]]
    wrong = means([replace(r, contexts=c, relevant=(False,) * 3)
                   for r, c in zip(good, away, strict=True)])  # fmt: skip
    assert wrong["context_precision"] == 0.0 and wrong["context_recall"] < 0.2
    assert wrong["faithfulness"] < 0.1 and wrong["citation_recall"] < 0.1
    assert wrong["correct"] == best["correct"]  # the answer itself is as right as it was

    answers = [r.answer for r in good[7:]] + [r.answer for r in good[:7]]
    shuffled = means([replace(r, answer=a) for r, a in zip(good, answers, strict=True)])
    assert shuffled["correct"] < 0.2 and shuffled["faithfulness"] < 0.1
    assert shuffled["context_recall"] == best["context_recall"]

    # The answer comes from the passage beside the right one: faithful, but wrong.
    misled = means(
        [replace(r, answer=f"{r.contexts[1].split('. ')[0]} [2].") for r in good]
    )  # fmt: skip
    assert misled["noise_sensitivity_irrelevant"] > best["noise_sensitivity_irrelevant"] + 0.5
    assert misled["faithfulness"] > 0.95 and misled["correct"] < 0.3

    bare = means([replace(r, answer=r.answer.replace(" [1]", "")) for r in good])
    assert bare["citation_recall"] == 0.0 and bare["citation_precision"] is None
    crowded = means([replace(r, answer=r.answer.replace("[1]", "[1][3]")) for r in good])
    assert crowded["citation_recall"] >= best["citation_recall"]
    assert crowded["citation_precision"] < 0.6

    silent = means([replace(r, answer="I do not know.", answerable=n % 2 == 0)
                    for n, r in enumerate(good)])  # fmt: skip
    assert silent["refused_unanswerable"] == silent["refused_answerable"] == 1.0
    assert silent["faithfulness"] is None and silent["correct"] == 0.5


def test_what_cannot_be_computed_is_none():
    figures = score_record(RagRecord("1", "Why?", None, (), None), LexicalJudge())
    assert set(figures.values()) == {None}
    figures = score_record(RagRecord("1", "Why?", "Because of tides.", (), None), LexicalJudge())
    assert {name for name, value in figures.items() if value is not None} == {"refused_answerable"}


def test_stored_records_of_any_program(tmp_path):
    write_jsonl(tmp_path / "r.jsonl", [
        {"question": "q", "answer": "a b c", "contexts": ["x", "a b c"], "gold": "c",
         "relevant": [False, True]},
        {"id": 7, "question": "q", "answer": None, "contexts": [{"id": "p", "text": "x"}],
         "gold": "c", "relevant": ["z", "p"], "candidates": ["p", "y", "z"]},
        {"question": "q", "contexts": [], "answerable": False},
    ])  # fmt: skip
    first, second, third = read_rag_records(tmp_path / "r.jsonl")
    assert first.relevant == (False, True) and first.found_at == (2,) and first.id == "1"
    assert second.relevant == (True,) and second.found_at == (3, 1) and second.candidates == 3
    assert second.answer is None and second.id == "7"
    assert third.answerable is False and third.relevant is third.gold is None
    for broken, said in (
        ({"contexts": []}, "has no 'question'"), ({"question": "q"}, "'contexts' is not"),
        ({"question": "q", "contexts": ["x"], "relevant": ["a"]}, "the contexts have none"),
        ({"question": "q", "contexts": ["x"], "relevant": 1}, "neither a truth value"),
        ({"question": "q", "contexts": ["x"], "answer": 1}, "'answer' is"),
        ({"question": "q", "contexts": ["x"], "answerable": "no"}, "'answerable'"),
    ):  # fmt: skip
        write_jsonl(tmp_path / "r.jsonl", [broken])
        with pytest.raises(InputError, match=said):
            read_rag_records(tmp_path / "r.jsonl")
