"""Questions made into training records, and the perplexity of answers."""

import math
from contextlib import contextmanager

import pytest
import torch

from llmwright.build import load_recipe
from llmwright.build.examples import answer_perplexity, cited_examples
from llmwright.core import Chunk, Example, Hit, Message
from llmwright.data import Question
from llmwright.statistics import mean_score


def chunk(name, document, start, end):
    return Chunk(name, document, f"text of {name}", start, end)


CHUNKS = [
    chunk("a", "lora.md", 0, 50),
    chunk("b", "lora.md", 50, 100),
    chunk("c", "lora.md", 100, 150),
    chunk("x", "other.md", 60, 100),
]
SPANS = {
    "lora.md#rank": ("lora.md", 60, 100),
    "lora.md#both": ("lora.md", 75, 125),
    "lora.md#mostly-c": ("lora.md", 90, 150),
}


class Index:
    """Finds the chunks it is told to."""

    def __init__(self, *found):
        self.found = [[Hit(c, 1.0) for c in CHUNKS if c.id in names] for names in found]
        self.asked = []

    def search(self, query, top):
        self.asked.append((query, top))
        return self.found[len(self.asked) - 1]

    def section_span(self, label):
        return SPANS[label]

    def chunks(self):
        return iter(CHUNKS)


def made(folder, found, relevant):
    question = Question("q", "How?", "So.", relevant)
    index = Index(found)
    behaviour = load_recipe(folder).behaviour
    (example,) = cited_examples([question], index, index.search, behaviour)
    assert index.asked == [("How?", 2)]
    assert example.id == "q"
    assert [message.role for message in example.messages] == ["system", "user", "assistant"]
    passages = example.messages[1].content
    return [c.id for c in CHUNKS if f"text of {c.id}" in passages], example.messages[2].content


@pytest.mark.parametrize(
    ("found", "label", "passages", "answer"),
    [
        ("ab", "lora.md#rank", ["a", "b"], "So. [2]"),
        ("bc", "lora.md#rank", ["b", "c"], "So. [1]"),
        ("ac", "lora.md#rank", ["a", "b"], "So. [2]"),  # missed: it takes the last place
        ("ax", "lora.md#both", ["a", "b"], "So. [2]"),  # as much in b as in c: the earlier one
        ("ab", "lora.md#mostly-c", ["a", "c"], "So. [2]"),
        ("", "lora.md#rank", ["b"], "So. [1]"),
        ("ac", None, ["a", "c"], "So."),  # nothing to cite
    ],
)
def test_the_right_passage_is_there_and_cited(folder, found, label, passages, answer):
    assert made(folder, found, (label,) if label else ()) == (passages, answer)


def test_every_question_has_its_own_passages(folder):
    questions = [Question(n, n, "So.", ()) for n in ("one", "two")]
    index = Index("a", "b")
    examples = cited_examples(questions, index, index.search, load_recipe(folder).behaviour)
    assert [e.id for e in examples] == ["one", "two"]
    assert "text of b" in examples[1].messages[1].content


def test_perplexity_counts_each_answer_once_and_only_its_tokens(tiny_model_path, monkeypatch):
    from llmwright.modeling import load_model

    said = []

    @contextmanager
    def progress(*told):
        said.append(told)
        yield said.append

    monkeypatch.setattr("llmwright.build.examples.progress", progress)
    model = load_model(tiny_model_path, "float32")
    texts = ("Yes", "No, it is not so, and never was.", "a", "A tide.", "why not")
    examples = [Example((Message("user", "Hello"), Message("assistant", t))) for t in texts]
    means = []
    for example in examples:
        token_ids, is_target = model.tokenizer.encode_chat_spans(example.messages)
        with torch.inference_mode():
            logits = model.decoder(torch.tensor([token_ids]))[0]  # [time, vocabulary]
        logprobs = logits.log_softmax(-1)
        means.append(
            sum(-float(logprobs[t - 1, token_ids[t]]) for t, yes in enumerate(is_target) if yes)
            / sum(is_target)
        )
    score = answer_perplexity("perplexity_base", model, examples, seed=1)
    loss = mean_score("loss", means, 1)
    expected = [math.exp(value) for value in (loss.value, loss.low, loss.high)]
    assert [score.value, score.low, score.high] == pytest.approx(expected, rel=1e-4)
    assert (score.name, score.n) == ("perplexity_base", 5)
    assert said == [("perplexity base", 5, "answers"), *[1] * 5]
    assert answer_perplexity("p", model, [], seed=1).value is None
