from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from llmwright.answering import Support
from llmwright.core import Chunk, Hit


def hit(text: str, language: str = "en", heading: str = "") -> Hit:
    return Hit(Chunk("c", "d", text, 0, len(text), heading, language), 1.0)


HITS = [
    hit("LoRA freezes the weights and trains two low-rank matrices beside each."),
    hit("Quantization stores 4-bit integers; a 7,000 MB model needs 1,750 MB.", heading="Memory"),
    hit("Ранг матриц обычно равен восьми.", "ru"),
]


def test_the_passage_with_most_of_the_words_is_cited() -> None:
    support = Support(HITS)
    assert support.cite("The low-rank matrices are trained while weights stay frozen.") == 1
    assert support.cite("- Quantized models store integers of 4 bits.") == 2
    assert support.cite("Обычный ранг матрицы равняется восьми.") == 3
    assert support.cite("Paris is the capital of France.") is None
    assert support.cite("Yes, it is.") is None
    assert Support([]).cite("LoRA freezes the weights.") is None


def test_the_heading_counts_as_text() -> None:
    assert Support(HITS).cite("Memory.") == 2


def test_the_shares_are_the_formula() -> None:
    # Two passages. "red" in both: idf 1 + ln(3/3); "car" in one: 1 + ln(3/2); "moon" in none.
    shares = Support([hit("A red car."), hit("A red bus.")]).shares("The red car on the moon.")
    red, car, moon = 1.0, 1.4054651081, 2.0986122887
    assert shares == pytest.approx([(red + car) / (red + car + moon), red / (red + car + moon)])


def test_a_number_that_is_not_there_denies_support() -> None:
    support = Support(HITS)
    assert support.cite("Quantization stores 4-bit integers.") == 2
    assert support.cite("Quantization stores 8-bit integers.") is None
    assert support.cite("A 7000 MB model needs 1750 MB after quantization.") == 2
    assert support.cite("1. Quantization stores integers.") == 2  # the number of a list item


def test_words_are_held_against_each_passage_in_its_language() -> None:
    support = Support([hit("Ранг матриц мал.", "ru"), hit("Matrices have ranks.")])
    assert support.shares("Рангами матрицы") == [1.0, 0.0]
    assert support.shares("ranking of a matrices") == [0.0, 1.0]


def test_a_passage_is_cited_from_the_threshold_on(monkeypatch: pytest.MonkeyPatch) -> None:
    support = Support([hit("A red car."), hit("A red bus.")])
    first, _ = support.shares("The red car on the moon.")
    for threshold, cited in ((first, 1), (first + 1e-9, None)):
        monkeypatch.setattr("llmwright.answering.support.THRESHOLD", threshold)
        assert support.cite("The red car on the moon.") == cited


def test_of_equals_the_better_ranked_is_cited() -> None:
    assert Support([hit("A red car."), hit("A red car.")]).cite("Red car.") == 1


@pytest.mark.parametrize(("language", "recall"), [("en", 0.88), ("ru", 0.83)])
def test_on_xquad_statements_are_cited_to_their_paragraph(
    shared_data: Path, language: str, recall: float
) -> None:
    """A question without its question word, with its answer, is a statement that one paragraph
    supports. It stands between the two most similar others of the article, the hardest wrong
    choices at hand; then three wrong ones stand alone."""
    asking = {
        "en": r"\b(what|who|whom|whose|which|when|where|why|how|many|much|did|does|do)\b",
        "ru": r"\b(что|кто|какой|какая|какие|каков|какое|когда|где|почему|как|сколько|каким|кем)\b",
    }[language]
    articles = json.loads((shared_data / "xquad" / f"xquad.{language}.json").read_text())["data"]
    right = wrong = invented = n = 0
    for article in articles:
        hits = [hit(paragraph["context"], language) for paragraph in article["paragraphs"]]
        for place, paragraph in enumerate(article["paragraphs"]):
            others = hits[:place] + hits[place + 1 :]
            everything = Support(others)
            for asked in paragraph["qas"]:
                words = re.sub(asking, " ", asked["question"].rstrip("?"), flags=re.IGNORECASE)
                statement = f"{words} {asked['answers'][0]['text']}."
                shares = everything.shares(statement)
                hard = sorted(range(len(others)), key=lambda at: -shares[at])[:3]
                first, second, third = (others[at] for at in hard)
                found = Support([first, hits[place], second]).cite(statement)
                right += found == 2
                wrong += found in (1, 3)
                invented += Support([first, second, third]).cite(statement) is not None
                n += 1
    assert n == 632
    assert right / n >= recall
    assert wrong / n <= 0.02
    assert invented / n <= 0.05
