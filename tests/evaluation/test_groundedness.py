from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmwright.evaluation import groundedness, split_sentences

LORA = (
    "LoRA freezes the weights and trains two matrices of rank r. "
    "With GPT-3 175B it trains 10,000 times fewer parameters and needs 3 times less memory."
)
RU = "Метод LoRA замораживает веса модели и обучает две матрицы ранга 8."


def test_copied_sentences_are_borne_out_and_invented_ones_are_not() -> None:
    good = groundedness(
        "LoRA freezes the weights. [1] It trains two matrices of rank r [1].", [LORA]
    )
    assert good.groundedness == good.citation_coverage == 1.0
    bad = groundedness("Bananas grow near the equator [1].", [LORA])
    assert bad.groundedness == bad.citation_coverage == 0.0


def test_by_hand() -> None:
    # Content words: freez, bias (1 of 2); no fact -> 1/2. The sentence cites nothing.
    result = groundedness("It freezes biases.", [LORA])
    assert result.groundedness == 0.5
    assert result.citation_coverage == 0.0
    # freez, weight, parameter, fewer and train, all there: 1; banana, tree: 0. Mean 1/2.
    result = groundedness(
        "It freezes weights, training fewer parameters. Bananas on trees.", [LORA]
    )
    assert result.groundedness == 0.5
    assert [support for _, support in result.sentences] == [1.0, 0.0]


def test_a_wrong_number_or_name_caps_the_support() -> None:
    right = "It trains 10000 times fewer parameters and needs 3 times less memory."
    assert groundedness(right, [LORA]).groundedness == 1.0  # 10,000 is 10000
    wrong = groundedness(right.replace("3", "7"), [LORA]).groundedness
    assert wrong == 0.5  # 1 of 2 numbers, though 7 of 8 words are there
    name = groundedness("The weights are frozen by QLoRA, which trains two matrices.", [LORA])
    assert name.groundedness == 0.0  # the only name is wrong


def test_a_sentence_without_a_claim_hides_none_behind_it() -> None:
    result = groundedness("Yes, it is. Bananas grow [1].", [LORA])
    assert [support for _, support in result.sentences] == [None, 0.0]
    assert result.groundedness == 0.0


def test_russian_inflection_and_names() -> None:
    assert groundedness("Ёлки и ёлка.", ["Елка."]).groundedness == 1.0
    assert groundedness("Елка.", ["ЁЛКИ."]).groundedness == 1.0
    assert groundedness(
        "Веса моделей заморожены, в LoRA обучаются матрицы ранга 8 [1].", [RU]
    ).groundedness == pytest.approx(
        7 / 8  # "заморожены" has another stem than "замораживает"
    )
    assert groundedness("Ранг матриц равен 16.", [RU]).groundedness == 0.0
    assert groundedness("Ее ранг — 0,5.", ["Еe ранг: 0.5"]).groundedness == 1.0


def test_citations_point_to_their_passages() -> None:
    sources = ["LoRA trains matrices.", "Bananas grow on trees."]
    assert groundedness("LoRA trains matrices [1].", sources).citation_coverage == 1.0
    assert groundedness("LoRA trains matrices [2].", sources).groundedness == 0.0
    assert groundedness("LoRA trains matrices [1, 2].", sources).groundedness == 1.0
    # A citation of a passage that does not exist supports nothing; without one, any may.
    assert groundedness("LoRA trains matrices [3].", sources).groundedness == 0.0
    assert groundedness("LoRA trains matrices [0].", sources).groundedness == 0.0
    assert groundedness("LoRA trains matrices.", sources).groundedness == 1.0
    # Uncited words are not put together from several passages.
    assert groundedness("Bananas train matrices.", sources).groundedness == pytest.approx(2 / 3)


def test_unscored_where_there_is_nothing_to_check() -> None:
    for answer, sources in (("", [LORA]), ("Yes, it is.", [LORA]), ("LoRA trains matrices.", [])):
        result = groundedness(answer, sources)
        assert result.groundedness is None
        assert result.citation_coverage is None


def test_sentences() -> None:
    assert split_sentences(
        'See e.g. Fig. 3 of A. Smith. "It works!" [1][2] Next is v1.2 at 3.5 times. [3]\n'
        "- Item one\n2. Item two: yes\n\nТ. е. так. Конец? Да… нет."
    ) == [
        "See e.g. Fig. 3 of A. Smith.",
        '"It works!" [1][2]',
        "Next is v1.2 at 3.5 times. [3]",
        "- Item one",
        "2. Item two: yes",
        "Т. е. так.",
        "Конец?",
        "Да… нет.",
    ]
    assert split_sentences("这是第一句。[1]这是第二句。") == ["这是第一句。[1]", "这是第二句。"]


@given(st.text(max_size=200), st.lists(st.text(max_size=200), max_size=3))
def test_within_bounds_and_a_source_supports_itself(answer: str, sources: list[str]) -> None:
    result = groundedness(answer, sources)
    assert result.groundedness is None or 0.0 <= result.groundedness <= 1.0
    assert result.citation_coverage is None or 0.0 <= result.citation_coverage <= 1.0
    plain = answer.replace("[", "(")
    assert groundedness(plain, [plain]).groundedness in (None, 1.0)


@given(st.text(max_size=300))
def test_no_letter_is_lost_in_splitting(text: str) -> None:
    assert "".join("".join(split_sentences(text)).split()) == "".join(text.split())


def test_tells_other_people_s_sentences_apart(shared_data: Path) -> None:
    """On GPT-3 biographies (SelfCheckGPT's data), the share of resampled passages that bear a
    sentence out ranks sentences that people found right above those they found wrong."""
    right, wrong = [], []
    for item in json.loads((shared_data / "selfcheck" / "passages.json").read_text())[:30]:
        for sentence, label in zip(item["main_sentences"], item["annotation"], strict=True):
            figure = groundedness(sentence, item["sample_passages"]).groundedness
            if figure is not None:
                (right if label == "accurate" else wrong).append(figure)
    wins = sum((r > w) + 0.5 * (r == w) for r in right for w in wrong)
    assert wins / (len(right) * len(wrong)) > 0.7
