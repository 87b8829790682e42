from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmwright.answering import NO_ANSWER, CitedAnswerer, ContextSettings, arrange
from llmwright.core import (
    ChatModel,
    Chunk,
    Completion,
    ConfigurationError,
    Delta,
    Hit,
    InputError,
    Message,
    SamplingParams,
)
from llmwright.prompting import CITED_SYSTEM, cited_messages
from llmwright.providers import ScriptedModel


def hit(text: str, heading: str = "") -> Hit:
    return Hit(Chunk(text[:9], "d", text, 10, 10 + len(text), heading, "en"), 1.0)


RANK = hit("The rank of LoRA is the width of its two matrices.", "LoRA")
BITS = hit("NF4 stores a weight in four bits.", "Quantization")
QUESTION = [Message("user", "What is rank?")]


def finds(*hits: Hit):  # type: ignore[no-untyped-def]
    return lambda query, top: list(hits[:top])


async def pieces(
    model: ChatModel, messages: Sequence[Message], params: SamplingParams | None = None
) -> list[Delta]:
    return [delta async for delta in model.stream(messages, params)]


def test_an_answer_is_cited_and_carries_its_sources() -> None:
    model = ScriptedModel(lambda messages: "LoRA rank is the width of its matrices. I like it [5].")
    answerer = CitedAnswerer(model, finds(BITS, RANK))
    answer = asyncio.run(answerer.complete(QUESTION))
    assert answer.text == "LoRA rank is the width of its matrices [2]. I like it."
    assert answer.sources == (BITS, RANK)
    assert answer.usage.completion_tokens > 0
    assert isinstance(answerer, ChatModel)
    assert answerer.name == model.name
    assert model.calls == [tuple(cited_messages("What is rank?", [BITS, RANK]))]


def test_every_one_of_several_answers_is_cited() -> None:
    replies = iter(["LoRA rank is the width of its matrices. [9]", "Four bits store a weight."] * 2)
    answerer = CitedAnswerer(ScriptedModel(lambda messages: next(replies)), finds(BITS, RANK))
    params = SamplingParams(n=2, temperature=1.0)
    whole = asyncio.run(answerer.complete(QUESTION, params))
    assert whole.text == "LoRA rank is the width of its matrices [2]."
    (other,) = whole.alternatives
    assert other.text == "Four bits store a weight [1]."
    assert other.sources == whole.sources
    assert asyncio.run(pieces(answerer, QUESTION, params))[-1].completion == whole


@given(
    text=st.lists(
        st.sampled_from(["LoRA ", "rank ", "width", ". ", "[1]", " [7]", "\n", "It"]), max_size=25
    ).map("".join),
    every=st.integers(1, 5),
)
def test_streamed_and_whole_are_the_same(text: str, every: int) -> None:
    model = ScriptedModel(
        lambda messages: text,
        piece=lambda whole: [whole[at : at + every] for at in range(0, len(whole), every)],
    )
    answerer = CitedAnswerer(model, finds(RANK, BITS))
    long = SamplingParams(max_tokens=1000)
    whole = asyncio.run(answerer.complete(QUESTION, long))
    deltas = asyncio.run(pieces(answerer, QUESTION, long))
    assert [delta.completion for delta in deltas[:-1]] == [None] * (len(deltas) - 1)
    assert deltas[-1].completion == whole
    assert "".join(delta.text for delta in deltas) == whole.text


def test_where_nothing_is_found_the_model_is_not_asked() -> None:
    model = ScriptedModel(lambda messages: "From memory.")
    answerer = CitedAnswerer(model, finds())
    assert asyncio.run(answerer.complete(QUESTION)) == Completion(NO_ANSWER)
    assert asyncio.run(pieces(answerer, QUESTION)) == [Delta(NO_ANSWER, Completion(NO_ANSWER))]
    assert model.calls == []


def test_the_callers_system_message_is_added_not_obeyed_instead() -> None:
    model = ScriptedModel(lambda messages: "x")
    answerer = CitedAnswerer(model, finds(RANK))
    turns = [Message("user", "Hi"), Message("assistant", "Hello")]
    orders = [Message("system", "Answer in French."), Message("system", "Be brief.")]
    asyncio.run(answerer.complete([orders[0], *turns, orders[1], *QUESTION]))
    system = f"{CITED_SYSTEM}\n\nAnswer in French.\n\nBe brief."
    assert model.calls == [tuple(cited_messages("What is rank?", [RANK], system, turns))]


def test_history_is_kept_from_the_latest_back_within_its_bound() -> None:
    seen: list[str] = []

    def search(query: str, top: int) -> list[Hit]:
        seen.append(query)
        return [RANK]

    model = ScriptedModel(lambda messages: "x")
    turns = [Message("user", "a" * 60), Message("assistant", "b" * 30), Message("user", "c" * 30),
             Message("assistant", "d" * 30), Message("user", "And rank?")]  # fmt: skip
    asyncio.run(CitedAnswerer(model, search, max_history=100).complete(turns))
    # 30 + 30 + 30 fit, but a conversation does not begin with the assistant.
    assert [message.content[:1] for message in model.calls[0][1:-1]] == ["c", "d"]
    asyncio.run(CitedAnswerer(model, search, max_history=0).complete(turns))
    assert len(model.calls[1]) == 2
    for bound, kept in ((60, "cd"), (59, ""), (150, "abcd"), (149, "cd")):
        asyncio.run(CitedAnswerer(model, search, max_history=bound).complete(turns))
        assert "".join(message.content[0] for message in model.calls[-1][1:-1]) == kept
    assert set(seen) == {"And rank?"}


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [Message("system", "s")],
        [Message("user", " \n")],
        [*QUESTION, Message("assistant", "a")],
    ],
)
def test_a_conversation_without_a_question_is_refused(messages: list[Message]) -> None:
    answerer = CitedAnswerer(ScriptedModel(lambda m: "x"), finds(RANK))
    with pytest.raises(
        InputError, match=r"^messages: the conversation does not end with a question"
    ):
        asyncio.run(answerer.complete(messages))
    with pytest.raises(InputError, match="does not end with a question"):
        asyncio.run(pieces(answerer, messages))


@given(sizes=st.lists(st.integers(1, 60), min_size=1, max_size=6), room=st.integers(5, 100))
def test_passages_are_whole_in_order_and_within_the_budget(sizes: list[int], room: int) -> None:
    hits = [hit("x" * size) for size in sizes]
    chosen = arrange(hits, room)
    assert chosen
    assert sum(len(found.chunk.text) for found in chosen) <= room
    if all(found in hits for found in chosen):
        places = [next(at for at, h in enumerate(hits) if h is found) for found in chosen]
        assert places == sorted(places)
    else:  # only where no passage fits: the beginning of the best, its offsets still true
        assert all(size > room for size in sizes)
        (cut,) = chosen
        assert hits[0].chunk.text.startswith(cut.chunk.text)
        assert cut.chunk.end - cut.chunk.start == len(cut.chunk.text) > 0


def test_a_passage_too_long_is_cut_at_a_space() -> None:
    for most, text in (
        (14, "one two three"), (13, "one two three"), (12, "one two"), (8, "one two"),
        (7, "one two"), (6, "one tw"), (3, "one"), (2, "on"), (1, "o"),
    ):  # fmt: skip
        (cut,) = arrange([hit("one two three four")], most)
        assert (cut.chunk.text, cut.chunk.start, cut.chunk.end) == (text, 10, 10 + len(text))
    assert arrange([hit("one two", "Heading")], 14) == (hit("one two", "Heading"),)


def test_the_context_is_bounded_and_takes_a_shorter_passage_after_a_longer() -> None:
    answerer = CitedAnswerer(
        ScriptedModel(lambda m: "x"), finds(BITS, RANK), context=ContextSettings(49)
    )
    assert asyncio.run(answerer.complete(QUESTION)).sources == (BITS,)
    answerer = CitedAnswerer(
        ScriptedModel(lambda m: "x"), finds(RANK, BITS), context=ContextSettings(49)
    )
    assert asyncio.run(answerer.complete(QUESTION)).sources == (BITS,)


def test_no_more_passages_are_asked_for_or_taken_than_wanted() -> None:
    asked: list[int] = []

    def search(query: str, top: int) -> list[Hit]:
        asked.append(top)
        return [RANK, BITS]

    answerer = CitedAnswerer(ScriptedModel(lambda m: "x"), search, top=1)
    assert asyncio.run(answerer.complete(QUESTION)).sources == (RANK,)
    assert asked == [1]


def test_the_last_words_of_a_cut_answer_are_not_cited() -> None:
    answerer = CitedAnswerer(ScriptedModel(lambda m: "LoRA rank is width"), finds(RANK))
    for tokens, text in ((4, "LoRA rank is width [1]"), (2, "LoRA rank ")):
        params = SamplingParams(max_tokens=tokens)
        assert asyncio.run(answerer.complete(QUESTION, params)).text == text


def test_params_reach_the_model() -> None:
    model = ScriptedModel(lambda messages: "one two three four five six")
    answerer = CitedAnswerer(model, finds(RANK))
    cut = asyncio.run(answerer.complete(QUESTION, SamplingParams(max_tokens=2)))
    assert cut.text.split() == ["one", "two"]


def test_the_loop_is_free_while_retrieval_computes() -> None:
    """The search ends only when another task has run: with a blocked loop it never would."""
    other_ran = threading.Event()

    def search(query: str, top: int) -> list[Hit]:
        assert other_ran.wait(30)
        return [RANK]

    async def both() -> Completion:
        answering = asyncio.create_task(
            CitedAnswerer(ScriptedModel(lambda m: "x"), search).complete(QUESTION)
        )
        await asyncio.sleep(0)
        other_ran.set()
        return await answering

    assert asyncio.run(both()).sources == (RANK,)


def test_an_abandoned_stream_lets_the_model_go() -> None:
    model = ScriptedModel(lambda messages: "one two three four five six")

    async def leave() -> int:
        stream = CitedAnswerer(model, finds(RANK)).stream(QUESTION)
        await anext(stream)
        running = model.running
        await stream.aclose()  # type: ignore[attr-defined]
        return running

    assert asyncio.run(leave()) == 1
    assert model.running == 0


@pytest.mark.parametrize(("name", "least"), [("top", 1), ("max_history", 0)])
def test_wrong_settings_are_refused(name: str, least: int) -> None:
    CitedAnswerer(ScriptedModel(lambda m: "x"), finds(), **{name: least})
    with pytest.raises(
        ConfigurationError, match=f"^cited answerer: {name} is {least - 1}; it must be .* {least}"
    ):
        CitedAnswerer(ScriptedModel(lambda m: "x"), finds(), **{name: least - 1})
