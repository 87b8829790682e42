import pickle

import pytest

from llmwright.core import ConfigurationError, GateError, InputError, LLMwrightError, SamplingParams


def test_the_sentence_says_what_where_and_the_way_out():
    error = InputError("holds no record", where="a.jsonl, line 3", fix="write one")
    assert str(error) == "a.jsonl, line 3: holds no record; write one."
    assert str(InputError("holds no record")) == "holds no record."


def test_exit_codes():
    assert InputError("x").exit_code == 2
    assert GateError("x").exit_code == 1


@pytest.mark.parametrize("kind", LLMwrightError.__subclasses__())
def test_errors_cross_processes_whole(kind):
    error = pickle.loads(pickle.dumps(kind("what", where="where", fix="fix")))
    assert type(error) is kind
    assert (error.what, error.where, error.fix) == ("what", "where", "fix")


@pytest.mark.parametrize(
    ("field", "value"),
    [("max_tokens", 0), ("temperature", -0.1), ("temperature", float("nan")), ("top_k", -1),
     ("top_p", 0.0), ("top_p", 1.01), ("stop", ("",))],
)  # fmt: skip
def test_sampling_parameters_out_of_range_are_named(field, value):
    with pytest.raises(ConfigurationError, match=field):
        SamplingParams(**{field: value})
