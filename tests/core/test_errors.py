import pickle

import pytest

from llmwright.core import GateError, InputError, LLMwrightError


def test_the_sentence_says_what_where_and_the_way_out():
    error = InputError("holds no record", where="a.jsonl, line 3", fix="write one")
    assert str(error) == "a.jsonl, line 3: holds no record; write one."
    assert str(InputError("holds no record")) == "holds no record."
    assert error.args == (str(error),)
    assert error.message == "holds no record; write one"
    assert InputError("holds no record", where="a.jsonl").message == "holds no record"


def test_exit_codes():
    assert InputError("x").exit_code == 2
    assert GateError("x").exit_code == 1


@pytest.mark.parametrize("kind", LLMwrightError.__subclasses__())
def test_errors_cross_processes_whole(kind):
    error = pickle.loads(pickle.dumps(kind("what", where="where", fix="fix")))
    assert type(error) is kind
    assert (error.what, error.where, error.fix) == ("what", "where", "fix")
