from dataclasses import replace
from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from llmwright.core import Example, InputError, Message
from llmwright.tokenization import load_tokenizer
from llmwright.training import LoraSettings
from llmwright.training.batching import (
    _PASS_COST,
    TokenizedExample,
    batches,
    passes,
    tokenize,
)


@pytest.fixture(scope="module")
def tokenizer(tiny_model_path):
    return load_tokenizer(tiny_model_path)


def example(question: str, answer: str, id: str = "") -> Example:
    return Example((Message("user", question), Message("assistant", answer)), id)


def of_length(inputs: int, targets: int = 1) -> TokenizedExample:
    ids = torch.arange(inputs + 1)
    mask = torch.zeros(inputs + 1, dtype=torch.bool)
    mask[-targets:] = True
    return TokenizedExample(ids, mask)


def test_learnt_are_the_answers_with_their_end_and_nothing_else(tokenizer):
    turns = [
        Message("system", "Be brief."),
        Message("user", "One?"),
        Message("assistant", "First answer"),
        Message("user", "Two?"),
        Message("assistant", "Second"),
    ]
    data = tokenize([Example(tuple(turns))], tokenizer, LoraSettings())
    (only,) = passes(data.examples, LoraSettings())
    said = tokenizer.decode(only.targets.tolist(), skip_special=False)
    assert said == "First answer<|im_end|>Second<|im_end|>"
    # Each target is the token behind its place, and nothing is read after the last one.
    ids = data.examples[0].ids
    assert torch.equal(ids[only.places + 1], only.targets)
    assert only.places[-1] == only.inputs.shape[1] - 1


lengths = st.lists(st.integers(1, 60), min_size=1, max_size=40)


@given(lengths, st.integers(1, 9), st.integers(0, 3), st.integers(0, 3))
def test_an_epoch_takes_each_example_once(sizes, batch_size, seed, epoch):
    examples = [of_length(size) for size in sizes]
    settings = LoraSettings(batch_size=batch_size, seed=seed)
    cut = batches(examples, settings, epoch)
    assert sorted(i for batch in cut for i in batch) == list(range(len(sizes)))
    assert [len(b) for b in cut].count(batch_size) >= len(sizes) // batch_size
    assert cut == batches(examples, settings, epoch)


def test_epochs_and_seeds_differ():
    examples = [of_length(size) for size in range(1, 41)]
    settings = LoraSettings()
    assert batches(examples, settings, 0) != batches(examples, settings, 1)
    assert batches(examples, settings, 0) != batches(examples, LoraSettings(seed=1), 0)


def test_examples_of_a_batch_are_near_in_length():
    sizes = torch.randint(1, 500, (320,), generator=torch.Generator().manual_seed(0)).tolist()
    examples = [of_length(size) for size in sizes]
    spread = [
        max(sizes[i] for i in batch) - min(sizes[i] for i in batch)
        for batch in batches(examples, LoraSettings(batch_size=8), 0)
    ]
    assert sum(spread) / len(spread) < 120  # unsorted batches of 8 spread over about 390


@given(lengths, st.integers(1, 200), st.data())
def test_passes_hold_every_target_once_and_stay_in_their_bounds(sizes, budget, data):
    rows = [of_length(size, data.draw(st.integers(1, size))) for size in sizes]
    found = passes(rows, LoraSettings(tokens_per_pass=budget))
    for part in found:
        assert part.inputs.numel() <= budget or len(part.inputs) == 1
        # ids are 0, 1, 2, ...: the token read at a place is the one before its target.
        assert torch.equal(part.inputs.flatten()[part.places] + 1, part.targets)
    assert sum(len(part.inputs) for part in found) == len(rows)
    assert sum(len(part.targets) for part in found) == sum(row.targets for row in rows)


@given(st.lists(st.integers(1, 300), min_size=1, max_size=7), st.integers(1, 600))
def test_no_other_split_into_passes_costs_less(sizes, budget):
    """Against all ways to cut the sorted batch: a pass costs its places and a fixed part."""
    rows = sorted(sizes, reverse=True)

    def cost(split: list[list[int]]) -> int:
        return sum(len(part) * part[0] + _PASS_COST for part in split)

    ways = []
    for marks in product([False, True], repeat=len(rows) - 1):
        split = [[rows[0]]]
        for size, new in zip(rows[1:], marks, strict=True):
            if new:
                split.append([])
            split[-1].append(size)
        if all(len(part) * part[0] <= budget or len(part) == 1 for part in split):
            ways.append(cost(split))
    found = passes([of_length(size) for size in sizes], LoraSettings(tokens_per_pass=budget))
    shapes = [tuple(part.inputs.shape) for part in found]
    assert sum(count * width + _PASS_COST for count, width in shapes) == min(ways)
    assert [width for _, width in shapes] == sorted((w for _, w in shapes), reverse=True)


def test_rows_are_the_examples_and_zeros_behind_them():
    (both,) = passes([of_length(2), of_length(3, 2)], LoraSettings())
    assert both.inputs.tolist() == [[0, 1, 2], [0, 1, 0]]
    assert both.places.tolist() == [1, 2, 4]
    assert both.targets.tolist() == [2, 3, 2]


def test_an_outlier_does_not_pad_its_batch():
    found = passes([of_length(size) for size in (400, 100, 100, 100)], LoraSettings())
    assert [tuple(part.inputs.shape) for part in found] == [(1, 400), (3, 100)]
    near = passes([of_length(size) for size in (110, 100, 100, 100)], LoraSettings())
    assert [tuple(part.inputs.shape) for part in near] == [(4, 110)]


def test_too_long_is_dropped_or_loses_its_beginning_but_never_its_answer(tokenizer):
    whole = tokenize([example("x" * 100, "yes")], tokenizer, LoraSettings()).examples[0]
    short, long_answer = example("?", "no"), example("?", "n" * 200)
    limit = len(whole.ids) - 20
    asked = [example("x" * 100, "yes"), short, long_answer]

    dropped = tokenize(asked, tokenizer, LoraSettings(max_length=limit))
    assert (len(dropped.examples), dropped.cut, dropped.dropped) == (1, 0, 2)

    cut = tokenize(asked, tokenizer, LoraSettings(max_length=limit, too_long="cut"))
    assert (len(cut.examples), cut.cut, cut.dropped) == (2, 1, 1)
    assert torch.equal(cut.examples[0].ids, whole.ids[20:])
    assert cut.examples[0].targets == whole.targets


def test_cutting_stops_just_before_the_first_target(tokenizer):
    whole = tokenize([example("question", "yes")], tokenizer, LoraSettings()).examples[0]
    least = whole.targets + 1  # the answer and one token to read
    kept = tokenize(
        [example("question", "yes")], tokenizer, LoraSettings(max_length=least, too_long="cut")
    )
    assert kept.examples[0].targets == whole.targets
    with pytest.raises(InputError, match="none of the 1 examples fits"):
        tokenize(
            [example("question", "yes")],
            tokenizer,
            LoraSettings(max_length=least - 1, too_long="cut"),
        )


def test_an_example_of_just_the_limit_is_kept_whole(tokenizer):
    asked = [example("question", "yes"), example("question", "no")]
    whole = tokenize(asked[:1], tokenizer, LoraSettings())
    limit = len(whole.examples[0].ids)
    kept = tokenize(asked, tokenizer, LoraSettings(max_length=limit))
    assert (len(kept.examples), kept.cut, kept.dropped) == (2, 0, 0)
    assert torch.equal(kept.examples[0].ids, whole.examples[0].ids)
    over = tokenize(
        [*asked, example("questions", "yes" * 9)], tokenizer, LoraSettings(max_length=limit)
    )
    assert (len(over.examples), over.cut, over.dropped) == (2, 0, 1)


def test_no_data_and_no_answer_are_errors(tokenizer):
    answered, alone = example("?", "yes"), Example((Message("user", "Why?"),))
    for data, settings, says in (
        ([], {}, "training data: there is no example to learn from; add some."),
        (
            [answered, replace(alone, id="q7")],
            {},
            "example q7: there is no token of an answer to learn; "
            "end it with an answer of the assistant, or remove it.",
        ),
        (
            [answered, alone],
            {},
            "example 2: there is no token of an answer to learn; "
            "end it with an answer of the assistant, or remove it.",
        ),
        (
            [answered, answered],
            {"max_length": 2},
            "training data: none of the 2 examples fits into 2 tokens; "
            "raise max_length or shorten the examples.",
        ),
    ):
        with pytest.raises(InputError) as caught:
            tokenize(data, tokenizer, LoraSettings(**settings))
        assert str(caught.value) == says
