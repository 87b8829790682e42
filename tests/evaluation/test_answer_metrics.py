from __future__ import annotations

import collections
import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmwright.evaluation import exact_match, normalize_answer, strip_citations, token_f1


# The official SQuAD 2.0 evaluation script (Rajpurkar et al., CC BY-SA 4.0), as published.
def official_normalize(s: str) -> str:
    def remove_articles(text: str) -> str:
        regex = re.compile(r"\b(a|an|the)\b", re.UNICODE)
        return re.sub(regex, " ", text)

    exclude = set(string.punctuation)
    return " ".join(remove_articles("".join(c for c in s.lower() if c not in exclude)).split())


def official_f1(a_gold: str, a_pred: str) -> float:
    gold_toks = official_normalize(a_gold).split()
    pred_toks = official_normalize(a_pred).split()
    common = collections.Counter(gold_toks) & collections.Counter(pred_toks)
    num_same = sum(common.values())
    if len(gold_toks) == 0 or len(pred_toks) == 0:
        return float(gold_toks == pred_toks)
    if num_same == 0:
        return 0
    precision = 1.0 * num_same / len(pred_toks)
    recall = 1.0 * num_same / len(gold_toks)
    return (2 * precision * recall) / (precision + recall)


words = st.lists(
    st.sampled_from(
        ["the", "a", "An", "rank", "Rank.", "low-rank", "7B", "is", "(LoRA)", "~", "\t"]
    )
).map(" ".join)
ascii_text = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40)


@given(st.one_of(words, ascii_text), st.one_of(words, ascii_text))
def test_equals_the_official_script_on_ascii(answer: str, gold: str) -> None:
    answer = strip_citations(answer)
    assert normalize_answer(answer) == official_normalize(answer)
    assert token_f1(answer, gold) == official_f1(gold, answer)
    assert exact_match(answer, gold) == float(
        official_normalize(answer) == official_normalize(gold)
    )


def test_by_hand() -> None:
    assert exact_match("The Denver Broncos!", "denver broncos") == 1.0
    assert exact_match("Denver", ["Broncos", "denver."]) == 1.0
    # common: rank decomposition -> P 2/4, R 2/3
    assert token_f1("a rank decomposition of weights", "low rank decomposition") == pytest.approx(
        2 * (2 / 4) * (2 / 3) / (2 / 4 + 2 / 3)
    )
    assert token_f1("", "something") == 0.0
    assert token_f1("the", "a") == 1.0  # both empty after normalisation
    assert token_f1("anything", []) == 0.0


def test_russian_and_unicode() -> None:
    assert exact_match("«Ёлка» — зелёная…", "елка зеленая") == 1.0
    assert token_f1("Ранг матрицы равен восьми.", "ранг равен восьми") == pytest.approx(6 / 7)
    assert exact_match("cafe\u0301", "caf\u00e9") == 1.0
    # 3 of 4 characters in common each way
    assert token_f1("東京都庁", "東京都市") == pytest.approx(0.75)


def test_citations_do_not_count() -> None:
    assert strip_citations("Rank 8 [1], scale 16 [2, 3][4].") == "Rank 8, scale 16."
    assert exact_match("rank 8 [1].", "Rank 8") == 1.0
    assert strip_citations("the array x[abc]") == "the array x[abc]"
    # The reference is left as it is: a bracket there is part of the answer.
    assert exact_match("see", "see [1]") == 0.0


@given(st.text(max_size=60), st.text(max_size=60))
def test_laws(a: str, b: str) -> None:
    assert 0.0 <= token_f1(a, b) <= 1.0
    clean = strip_citations(a)
    if strip_citations(clean) == clean:
        assert token_f1(a, clean) == exact_match(a, clean) == 1.0
    if exact_match(a, b):
        assert token_f1(a, b) == 1.0
