"""Structured answers parse and validate, whatever the model would have liked to say."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmwright.core import (
    CapacityError,
    InputError,
    Message,
    MissingDependencyError,
    SamplingParams,
)
from llmwright.inference.decoding import (
    SamplingState,
    compile_grammar,
    distribution,
    generate,
    states_along,
    structured,
)
from llmwright.modeling import Model, load_model

# Finite schemas: each answer has a longest form, so that noise of a model comes to an end.
WORDS = st.text('abcxyzäб漢"\\ ', min_size=1, max_size=4)
LEAVES = st.one_of(
    st.just({"type": "boolean"}),
    st.just({"type": "null"}),
    st.builds(lambda a, b: {"type": "integer", "minimum": a, "maximum": a + b},
              st.integers(-50, 50), st.integers(0, 500)),
    st.builds(lambda n: {"type": "string", "maxLength": n}, st.integers(0, 4)),
    st.builds(lambda w: {"enum": sorted(w)}, st.sets(WORDS, min_size=1, max_size=4)),
    st.builds(lambda w: {"const": w}, WORDS),
    st.just({"type": "string", "pattern": "^[a-f]{2}-[0-9]{1,3}$"}),
)  # fmt: skip


def _object(parts: dict[str, Any], required: bool) -> dict[str, Any]:
    needed = {"required": sorted(parts)} if required else {}
    return {"type": "object", "properties": parts, "additionalProperties": False, **needed}


SCHEMAS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(_object, st.dictionaries(WORDS, inner, max_size=3), st.booleans()),
        st.builds(
            lambda s, n: {"type": "array", "items": s, "maxItems": n}, inner, st.integers(0, 2)
        ),
        st.builds(lambda a, b: {"anyOf": [a, b]}, inner, inner),
    ),
    max_leaves=6,
)


@pytest.fixture(scope="session")
def tiny(tiny_model_path: Path) -> Model:
    return load_model(str(tiny_model_path), "float32")


@pytest.fixture(scope="session")
def smollm2(smollm2_path: Path) -> Model:
    return load_model(smollm2_path, "auto")


def answer(model: Model, **given: Any) -> tuple[str, str]:
    prompt = model.tokenizer.encode_chat([Message("user", "Tell me about Anna, who is 7.")])
    (found,) = generate(model.decoder, prompt, SamplingParams(**given), model.tokenizer)
    ids = [token for token in found.token_ids if token not in model.tokenizer.eos_ids]
    return model.tokenizer.decode(ids), found.finish_reason


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(SCHEMAS, st.integers(0, 1000))
def test_noise_obeys_any_schema(tiny, schema, seed):
    text, reason = answer(
        tiny, json_schema=json.dumps(schema), max_tokens=600, temperature=1.0, seed=seed
    )
    assert reason == "stop"
    jsonschema.validate(json.loads(text), schema)


PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "mood": {"enum": ["glad", "sad", "très bien", "хорошо"]},
        "address": {
            "type": "object",
            "properties": {
                "city": {"enum": ["Rome", "Kyōto"]},
                "zip": {"type": "integer", "maximum": 99},
            },
            "required": ["city", "zip"],
            "additionalProperties": False,
        },
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "minItems": 1, "maxItems": 3},
    },
    "required": ["name", "age", "mood", "address", "tags"],
    "additionalProperties": False,
}

SHORT = {
    "type": "array",
    "items": {
        "anyOf": [
            {"type": "boolean"},
            {"const": 'Ünï"code'},
            {"type": "number", "multipleOf": 0.5, "minimum": 0, "maximum": 9},
        ]
    },
    "minItems": 2,
    "maxItems": 3,
}


@pytest.mark.parametrize("schema", [PERSON, SHORT], ids=["nested", "short"])
def test_a_model_s_answers_parse_and_validate(smollm2, schema):
    text, reason = answer(smollm2, json_schema=json.dumps(schema), max_tokens=80)
    assert reason == "stop"
    jsonschema.validate(json.loads(text), schema)


@pytest.mark.parametrize(
    "extra", [{"num_beams": 3}, {"penalty_alpha": 0.6, "top_k": 4}, {"repetition_penalty": 3.0}],
    ids=str,
)  # fmt: skip
def test_every_method_obeys(tiny, extra):
    text, reason = answer(tiny, json_schema=json.dumps(PERSON), max_tokens=300, **extra)
    assert reason == "stop"
    jsonschema.validate(json.loads(text), PERSON)


def test_a_model_follows_an_expression_and_a_grammar(smollm2):
    text, reason = answer(smollm2, regex=r"Anna is [0-9]{1,2} years old\.", max_tokens=30)
    assert (text, reason) == ("Anna is 7 years old.", "stop")
    grammar = 'start: "(" WORD ("," WORD)~1..2 ")"\nWORD: /[a-zé]{1,5}/'
    text, reason = answer(smollm2, grammar=grammar, max_tokens=30)
    assert reason == "stop"
    assert re.fullmatch(r"\([a-zé]{1,5}(,[a-zé]{1,5}){1,2}\)", text)


def test_what_is_cut_says_so(tiny):
    text, reason = answer(tiny, json_schema=json.dumps(PERSON), max_tokens=5)
    assert reason == "length"
    with pytest.raises(json.JSONDecodeError):
        json.loads(text)


def test_an_end_is_allowed_exactly_where_the_answer_may_end(tiny):
    tokenizer = tiny.tokenizer
    ends = set(tokenizer.eos_ids)
    state = SamplingState(SamplingParams(regex="ab?"), [1], tokenizer)
    a, b = tokenizer.encode("a")[0], tokenizer.encode("b")[0]
    noise = torch.randn(1, tokenizer.vocab_size + 3)  # models have more rows than tokens

    def allowed() -> set[int]:
        return set(distribution(noise, [state])[0].nonzero().flatten().tolist()) | {
            token for token in range(tokenizer.vocab_size) if state.allows(token)
        }

    ab = {t for t in range(tokenizer.vocab_size) if tokenizer.token_bytes(t) == b"ab"}
    assert allowed() == {a} | ab
    state.advance(a)
    assert allowed() == {b, *ends}
    assert not state.finished
    copy = state.clone()
    state.advance(b)
    assert allowed() == ends
    assert state.finished
    state.advance(min(ends))  # is nothing that the grammar reads
    copy.advance(b)
    assert copy.finished


def test_special_tokens_are_no_text(tiny):
    state = compile_grammar(tiny.tokenizer, SamplingParams(regex=".*"))
    specials = [t for t in range(3) if tiny.tokenizer.token_bytes(t) == b""]
    assert specials == [0, 1, 2]
    assert not state.mask()[specials].any()


def test_a_draft_meets_the_grammar_place_by_place(tiny):
    tokenizer = tiny.tokenizer
    params = SamplingParams(regex="[0-9]{2}!", temperature=1.0)
    state = SamplingState(params, [1], tokenizer)
    one, word = tokenizer.encode("1")[0], tokenizer.encode("x")[0]
    states = states_along(state, [one, word, one])
    p = distribution(torch.zeros(4, tokenizer.vocab_size), states)
    assert p[0, one] > 0
    assert p[1, word] == 0
    assert p[2].equal(p[1])  # what follows a forbidden token is never looked at
    assert state.allows(one)


@pytest.mark.parametrize(
    "given",
    [
        {"regex": "(["},
        {"grammar": "start: word"},
        {"json_schema": '{"type": "colour"}'},
        {"json_schema": '{"type": "object", "patternProperties": 3}'},
    ],
    ids=str,
)
def test_what_is_no_grammar_is_refused_in_words(tiny, given):
    with pytest.raises(InputError, match=next(iter(given))):
        compile_grammar(tiny.tokenizer, SamplingParams(**given))


def test_what_is_wrong_with_a_grammar_stands_in_one_line(tiny):
    with pytest.raises(InputError, match="regex parse error: unclosed character class") as caught:
        compile_grammar(tiny.tokenizer, SamplingParams(regex="(["))
    assert "\n" not in str(caught.value)
    assert "^" not in str(caught.value)  # no picture
    with pytest.raises(InputError, match=r"^sampling parameters: json_schema cannot be used: Inv"):
        compile_grammar(tiny.tokenizer, SamplingParams(json_schema='{"type": "colour"}'))


def test_the_grammars_used_last_are_kept(tiny, monkeypatch):
    monkeypatch.setattr(structured, "_KEPT", 2)
    kept = structured._COMPILERS[tiny.tokenizer]._matchers
    for regex in ("a", "b", "a", "c"):
        compile_grammar(tiny.tokenizer, SamplingParams(regex=regex))
    first, last = kept
    compile_grammar(tiny.tokenizer, SamplingParams(regex="a"))
    assert list(kept) == [last, first]  # the one made first was asked for again before "c"


def test_a_token_that_does_not_fit_is_refused(tiny):
    state = compile_grammar(tiny.tokenizer, SamplingParams(regex="ab"))
    with pytest.raises(CapacityError, match=r"^structured output: the grammar cannot be followed"):
        state.advance(tiny.tokenizer.encode("b")[0])


def test_without_the_library_it_says_what_to_install(tiny, monkeypatch):
    monkeypatch.setitem(sys.modules, "llguidance", None)
    monkeypatch.setattr(structured, "_COMPILERS", {})
    with pytest.raises(MissingDependencyError, match=r"needs llguidance; pip install 'llmwright"):
        compile_grammar(tiny.tokenizer, SamplingParams(regex="a"))
