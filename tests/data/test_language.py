"""Language detection: by script, by bytes, among given candidates."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmwright.data import detect_language, scripts

ARTICLE_1 = {  # Universal Declaration of Human Rights, article 1, first sentence
    "ar": "يولد جميع الناس أحراراً متساوين في الكرامة والحقوق.",
    "bg": "Всички хора се раждат свободни и равни по достойнство и права.",
    "bn": "সমস্ত মানুষ স্বাধীনভাবে সমান মর্যাদা এবং অধিকার নিয়ে জন্মগ্রহণ করে।",
    "cs": "Všichni lidé rodí se svobodní a sobě rovní co do důstojnosti a práv.",
    "de": "Alle Menschen sind frei und gleich an Würde und Rechten geboren.",
    "el": "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια και τα δικαιώματα.",
    "en": "All human beings are born free and equal in dignity and rights.",
    "es": "Todos los seres humanos nacen libres e iguales en dignidad y derechos.",
    "fa": "تمام افراد بشر آزاد به دنیا می‌آیند و از لحاظ حیثیت و حقوق با هم برابرند.",
    "fi": "Kaikki ihmiset syntyvät vapaina ja tasavertaisina arvoltaan ja oikeuksiltaan.",
    "fr": "Tous les êtres humains naissent libres et égaux en dignité et en droits.",
    "he": "כל בני האדם נולדו בני חורין ושווים בערכם ובזכויותיהם.",
    "hi": "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और समानता प्राप्त है।",
    "hy": "Բոլոր մարդիկ ծնվում են ազատ ու հավասար՝ իրենց արժանապատվությամբ և իրավունքներով։",
    "it": "Tutti gli esseri umani nascono liberi ed eguali in dignità e diritti.",
    "ja": "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。",
    "ka": "ყველა ადამიანი იბადება თავისუფალი და თანასწორი თავისი ღირსებითა და უფლებებით.",
    "ko": "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다.",
    "nl": "Alle mensen worden vrij en gelijk in waardigheid en rechten geboren.",
    "pl": "Wszyscy ludzie rodzą się wolni i równi pod względem swej godności i swych praw.",
    "pt": "Todos os seres humanos nascem livres e iguais em dignidade e em direitos.",
    "ru": "Все люди рождаются свободными и равными в своем достоинстве и правах.",
    "sv": "Alla människor är födda fria och lika i värde och rättigheter.",
    "ta": "மனிதப் பிறிவியினர் சகலரும் சுதந்திரமாகவே பிறக்கின்றனர்.",
    "th": "มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์และสิทธิ",
    "tr": "Bütün insanlar hür, haysiyet ve haklar bakımından eşit doğarlar.",
    "uk": "Всі люди народжуються вільними і рівними у своїй гідності та правах.",
    "vi": "Tất cả mọi người sinh ra đều được tự do và bình đẳng về nhân phẩm và quyền.",
    "zh": "人人生而自由，在尊严和权利上一律平等。",
}


@pytest.mark.parametrize("language", ARTICLE_1)
def test_sentences_of_many_languages(language: str) -> None:
    assert detect_language(ARTICLE_1[language]) == language


@pytest.mark.parametrize(
    ("query", "language"),
    [("GPU", "en"), ("LoRA rank", "en"), ("hello", "en"), ("Привет", "ru"), ("коты", "ru"),
     ("WHO WON SUPER BOWL", "en"), ("ＧＰＵ memory", "en"), ("量子化とは", "ja"), ("量化", "zh")],
)  # fmt: skip
def test_short_queries_without_candidates(query: str, language: str) -> None:
    assert detect_language(query) == language


@pytest.mark.parametrize(
    ("query", "among", "language"),
    [
        ("comment ça va", {"en", "ru"}, "en"),  # the only one in Latin letters
        ("comment ça va", {"en", "fr"}, "fr"),
        ("Що таке квантування", {"en", "ru"}, "ru"),
        ("Що таке квантування", {"uk", "ru"}, "uk"),
        ("LoRA", {"ru"}, "ru"),  # Latin terms are at home in every language
        ("LoRA", {"ru", "ja"}, "ru"),
        ("量化", {"ja", "en"}, "ja"),
        ("量化", {"en"}, ""),
        ("GPU", (), "en"),
        ("GPU", [""], "en"),
    ],
)
def test_candidates(query: str, among: set[str], language: str) -> None:
    assert detect_language(query, among) == language


@pytest.mark.parametrize("text", ["", "42", " \n", "3.14 + 2 = ?", "😀 …"])
def test_nothing_to_tell_by(text: str) -> None:
    assert detect_language(text) == ""
    assert detect_language(text, {"en", "ru"}) == ""


def test_quoted_latin_terms_do_not_change_the_language() -> None:
    assert detect_language("Что такое supervised fine-tuning?") == "ru"
    assert detect_language("What does the word привет mean in a Russian greeting?") == "en"


def test_scripts() -> None:
    assert scripts("Что такое LoRA? 12") == {"CYRILLIC": 8, "LATIN": 4}
    assert scripts("カタカナ漢字ひらがな") == {"KANA": 8, "CJK": 2}
    assert scripts("-- 42") == {}


@given(st.text(max_size=200), st.sets(st.sampled_from(["en", "ru", "ja", "sr", "xx"])))
def test_always_a_code_or_nothing_and_one_of_the_candidates(text: str, among: set[str]) -> None:
    answer = detect_language(text)
    assert answer == "" or (len(answer) == 2 and answer.isalpha())
    assert detect_language(text, among) == detect_language(text, among)
    if among:
        assert detect_language(text, among) in among | {""}


@pytest.mark.parametrize("language", ["en", "ru"])
def test_xquad_questions_and_paragraphs(shared_data: Path, language: str) -> None:
    articles = json.loads((shared_data / "xquad" / f"xquad.{language}.json").read_text())["data"]
    paragraphs = [p for article in articles for p in article["paragraphs"]]
    texts = [p["context"] for p in paragraphs]
    texts += [qa["question"] for p in paragraphs for qa in p["qas"]]
    wrong = [text for text in texts if detect_language(text) != language]
    assert len(wrong) <= len(texts) // 200, wrong
