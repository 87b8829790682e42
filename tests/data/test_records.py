import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmwright.core import InputError, Message, write_jsonl
from llmwright.data import Question, read_examples, read_prompts, read_questions

USER = {"role": "user", "content": "Why?"}
ANSWER = {"role": "assistant", "content": "Because."}


def lines(tmp_path: Path, *records: object) -> Path:
    path = tmp_path / "records.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in records), encoding="utf-8")
    return path


def test_both_forms_of_an_example(tmp_path):
    path = lines(
        tmp_path,
        {"id": 7, "messages": [{"role": "system", "content": ""}, USER, ANSWER, USER, ANSWER]},
        {"prompt": "Почему?", "completion": "Потому."},
    )
    chat, pair = read_examples(path)
    assert [m.role for m in chat.messages] == ["system", "user", "assistant", "user", "assistant"]
    assert chat.id == "7" and pair.id == ""
    assert [(m.role, m.content) for m in pair.messages] == [
        ("user", "Почему?"),
        ("assistant", "Потому."),
    ]


def test_prompts_in_both_forms_keep_their_records(tmp_path):
    records = [{"id": 7, "prompt": "Why?"}, {"messages": [USER, ANSWER, USER], "more": [1]}]
    one, several = read_prompts(lines(tmp_path, *records))
    assert one == (records[0], (Message("user", "Why?"),))
    assert several[0] == records[1]
    assert [m.role for m in several[1]] == ["user", "assistant", "user"]


@pytest.mark.parametrize(
    ("record", "says"),
    [
        ({"text": "x"}, 'has neither "messages" nor "prompt"; write {"messages": [...]} or {'),
        ({"messages": [USER], "prompt": "x"}, 'has both "messages" and "prompt"; '),
        ({"prompt": ["x"]}, "the field 'prompt' is a list"),
        ({"messages": [{"role": "user", "content": ["x"]}]}, "message 1: the field 'content' is a"),
    ],
)
def test_a_prompt_that_is_none_is_named_by_its_line(tmp_path, record, says):
    with pytest.raises(InputError) as caught:
        read_prompts(lines(tmp_path, {"prompt": "fine"}, record))
    assert f"records.jsonl, line 2{', ' if says.startswith('message ') else ': '}{says}" in str(
        caught.value
    )


def test_tool_results_stand_between_assistant_turns(tmp_path):
    tool = {"role": "tool", "content": "42"}
    path = lines(tmp_path, {"messages": [USER, ANSWER, tool, tool, ANSWER]})
    assert [m.role for m in read_examples(path)[0].messages][2:] == ["tool", "tool", "assistant"]


@pytest.mark.parametrize(
    ("record", "says"),
    [
        ({}, 'neither "messages" nor "prompt" and "completion"; write {"messages": [...]} or {'),
        ({"messages": [USER, ANSWER], "prompt": "x"}, 'both "messages" and "prompt" or "compl'),
        ({"prompt": "x"}, "'completion' is missing"),
        ({"prompt": "x", "completion": 3}, "'completion' is a number"),
        ({"prompt": " ", "completion": "y"}, "'prompt' is empty"),
        ({"messages": []}, "not a list of turns"),
        ({"messages": "hello"}, "not a list of turns"),
        ({"messages": ["hello"]}, "message 1: is a text"),
        ({"messages": [{"role": "bot", "content": "x"}]}, "the role 'bot' is unknown"),
        ({"messages": [{"content": "x"}]}, "the role None is unknown"),
        ({"messages": [{"role": ["user"], "content": "x"}]}, "is unknown"),
        ({"messages": [USER, {"role": "assistant", "content": None}]}, "'content' is missing"),
        ({"messages": [USER, {"role": "assistant", "content": "\n"}]}, "'content' is empty"),
        ({"messages": [{"role": "user", "content": [{"text": "x"}]}, ANSWER]}, "is a list"),
        ({"messages": [USER, {**ANSWER, "tool_calls": [1]}]}, "'tool_calls' would be lost"),
        ({"messages": [USER, {**ANSWER, "weight": 0}]}, "'weight' would be lost"),
        ({"messages": [USER, USER, ANSWER]}, "message 2: the role 'user' cannot stand after"),
        ({"messages": [ANSWER]}, "cannot stand at the start"),
        ({"messages": [USER, {"role": "system", "content": "x"}, ANSWER]}, "cannot stand after"),
        ({"messages": [USER, ANSWER, USER]}, "the last turn is the user's"),
        ({"messages": [USER, {"role": "assistant", "content": "\ud800"}]}, "surrogate"),
        ({"messages": [USER, ANSWER], "id": 1.5}, "the id is neither"),
    ],
)
def test_a_wrong_example_is_named_by_its_line(tmp_path, record, says):
    path = tmp_path / "records.jsonl"
    good = json.dumps({"messages": [USER, ANSWER]})
    path.write_text(f"{good}\n\n{json.dumps(record)}\n", encoding="utf-8")
    with pytest.raises(InputError) as caught:
        read_examples(path)
    assert says in str(caught.value)
    assert str(caught.value).startswith(f"{path}, line 3")


def test_a_null_field_is_not_lost_information(tmp_path):
    path = lines(tmp_path, {"messages": [USER, {**ANSWER, "tool_calls": None}]})
    assert read_examples(path)[0].messages[1].content == "Because."


@given(st.text(st.characters(exclude_categories=("Cs",)), min_size=1).filter(str.strip))
def test_any_text_comes_back_as_it_was_written(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("records") / "r.jsonl"
    write_jsonl(path, [{"prompt": text, "completion": text}])
    assert [m.content for m in read_examples(path)[0].messages] == [text, text]


def test_questions(tmp_path):
    first = {"id": "a", "question": "Q", "answer": "A", "relevant": ["d#s", "e"], "split": "tune"}
    path = lines(tmp_path, first, {"question": "R", "answer": "B", "relevant": ["d"]})
    one, two = read_questions(path)
    assert one == Question("a", "Q", "A", ("d#s", "e"), "tune")
    assert two.split == "eval" and two.id
    swapped = lines(tmp_path, {"question": "R", "answer": "B", "relevant": ["d"]}, first)
    assert read_questions(swapped) == [two, one]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"id": "a"}, "records.jsonl, line 2: the question 'a' is already at "),
        ({"question": None}, "'question' is missing"),
        ({"question": 3}, "'question' is a number"),
        ({"answer": ""}, "'answer' is empty"),
        ({"split": "test"}, "the split 'test' is unknown"),
        ({"split": ["eval"]}, "is unknown"),
        ({"relevant": []}, "not a list of different places"),
        ({"relevant": "d"}, "not a list of different places"),
        ({"relevant": [["d"]]}, "not a list of different places"),
        ({"relevant": ["d", "d"]}, "not a list of different places"),
        ({"relevant": ["d#"]}, "not a list of different places"),
        ({"relevant": ["#s"]}, "not a list of different places"),
        ({"id": True}, "the id is neither"),
    ],
)
def test_a_wrong_question_is_named_by_its_line(tmp_path, change, says):
    good = {"id": "a", "question": "Q", "answer": "A", "relevant": ["d"]}
    path = lines(tmp_path, good, {**good, "id": "b", **change})
    with pytest.raises(InputError) as caught:
        read_questions(path)
    assert says in str(caught.value)
    assert str(caught.value).startswith(f"{path}, line 2")


def test_the_same_question_twice_without_ids_is_an_error(tmp_path):
    record = {"question": "Q", "answer": "A", "relevant": ["d"]}
    with pytest.raises(InputError, match=r"already at .*records\.jsonl, line 1;"):
        read_questions(lines(tmp_path, record, {**record, "split": "tune"}))


def test_a_question_may_have_no_answer_in_the_documents(tmp_path):
    from llmwright.core import InputError, write_jsonl
    from llmwright.data import read_questions

    path = tmp_path / "q.jsonl"
    record = {"question": "Why?", "answer": "Nobody says.", "answerable": False}
    write_jsonl(path, [record, {"question": "How?", "answer": "So."}])
    assert [q.answerable for q in read_questions(path)] == [False, True]
    for wrong, said in (({"answerable": "no"}, "is a text"), ({"relevant": ["a"]}, "but places")):
        write_jsonl(path, [record | wrong])
        with pytest.raises(InputError, match=f'"answerable" .*{said}'):
            read_questions(path)
