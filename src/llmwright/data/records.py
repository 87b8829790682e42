"""Chat records to learn from and questions to measure with, read from JSONL.

An example is ``{"messages": [{"role", "content"}, ...]}`` (the form of OpenAI, TRL and most
published data sets) or ``{"prompt", "completion"}``, which becomes one user turn and one
assistant turn. A question is ``{"question", "answer", "relevant", "split"}``. Whatever a record
holds that would be lost in reading (tool calls, per-turn weights, pictures) is an error rather
than left out in silence: a model trained on half of a record is wrong in a way nobody sees.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from llmwright.core import (
    Example,
    InputError,
    Message,
    Role,
    content_hash,
    kind_of,
    read_located_jsonl,
)

Split = Literal["tune", "eval"]

# Which role may stand after which; None is the start of the conversation.
_MAY_FOLLOW: dict[Role, tuple[Role | None, ...]] = {
    "system": (None,),
    "user": (None, "system", "assistant"),
    "assistant": ("user", "tool"),
    "tool": ("assistant", "tool"),
}

_PROMPT: Mapping[str, Role] = {"prompt": "user"}
_PAIR: Mapping[str, Role] = {**_PROMPT, "completion": "assistant"}


@dataclass(frozen=True, slots=True)
class Question:
    """A question with its answer and the places that hold it.

    ``relevant`` names documents (``"document_id"``) or sections (``"document_id#anchor"``); with
    none, the question measures answers but not retrieval.
    ``split`` says whether it may be used for tuning or is kept for evaluation. A question that is
    not ``answerable`` has no answer in the documents; ``answer`` is then what to say instead.
    """

    id: str
    question: str
    answer: str
    relevant: tuple[str, ...]
    split: Split = "eval"
    answerable: bool = True


def read_examples(path: Path) -> list[Example]:
    """Read chat records. Raises ``InputError`` with the line of the first one that is wrong.

    A system turn may only come first, users and assistants alternate (tool results stand between
    two assistant turns), no turn but the system's is empty, and the last is the assistant's.
    """
    examples = []
    for where, record in read_located_jsonl(path):
        messages = _conversation(record, where, _PAIR)
        _check_turns(messages, where)
        examples.append(Example(messages, id=_identity(record, where)))
    return examples


def read_questions(path: Path) -> list[Question]:
    """Read questions. Raises ``InputError`` with the line of the first one that is wrong.

    Without ``"id"`` a question is named by the hash of its text, so its name survives a change
    of order; two records of one id are an error, since one of them would be counted twice.
    """
    questions = []
    place_of: dict[str, str] = {}
    for where, record in read_located_jsonl(path):
        question = _text(record.get("question"), "question", where)
        identity = _identity(record, where) or content_hash(question)[:12]
        if identity in place_of:
            raise InputError(
                f"the question {identity!r} is already at {place_of[identity]}",
                where=where,
                fix="give each question an id of its own, or remove one of the two",
            )
        place_of[identity] = where
        split = record.get("split", "eval")
        if split not in get_args(Split):
            raise InputError(
                f"the split {split!r} is unknown",
                where=where,
                fix='use "tune" or "eval"',
            )
        answer = _text(record.get("answer"), "answer", where)
        relevant = _relevant(record.get("relevant"), where)
        answerable = record.get("answerable", True)
        if not isinstance(answerable, bool) or (relevant and not answerable):
            raise InputError(
                f'"answerable" is {kind_of(answerable)}'
                + (" but places are relevant" * bool(relevant)),
                where=where,
                fix="write true, or false for a question that no document answers",
            )
        questions.append(Question(identity, question, answer, relevant, split, answerable))
    return questions


def read_prompts(path: Path) -> list[tuple[dict[str, Any], tuple[Message, ...]]]:
    """Read conversations to be answered, ``{"messages"}`` or ``{"prompt"}``, each with its record.
    Raises ``InputError`` with the line of the first one that is wrong."""
    return [
        (record, _conversation(record, where, _PROMPT))
        for where, record in read_located_jsonl(path)
    ]


def _conversation(
    record: dict[str, Any], where: str, plain: Mapping[str, Role]
) -> tuple[Message, ...]:
    """The turns in ``"messages"``, or those that stand in the fields of ``plain``."""
    chat = "messages" in record
    if chat == any(name in record for name in plain):
        names = (" or " if chat else " and ").join(f'"{name}"' for name in plain)
        raise InputError(
            f'has {"both" if chat else "neither"} "messages" {"and" if chat else "nor"} {names}',
            where=where,
            fix='write {"messages": [...]} or {' + ", ".join(f'"{n}": "..."' for n in plain) + "}",
        )
    if not chat:
        turns = plain.items()
        return tuple(Message(role, _text(record.get(name), name, where)) for name, role in turns)
    turns_given = record["messages"]
    if not isinstance(turns_given, list) or not turns_given:
        raise InputError(
            '"messages" is not a list of turns',
            where=where,
            fix='write "messages": [{"role": "user", "content": "..."}, ...]',
        )
    return tuple(
        _message(turn, f"{where}, message {place}") for place, turn in enumerate(turns_given, 1)
    )


def _message(turn: object, where: str) -> Message:
    if not isinstance(turn, dict):
        raise InputError(
            f"is {kind_of(turn)}", where=where, fix='write {"role": ..., "content": ...}'
        )
    role: Any = turn.get("role")
    if role not in get_args(Role):
        raise InputError(
            f"the role {role!r} is unknown",
            where=where,
            fix=f"use one of {', '.join(get_args(Role))}",
        )
    lost = sorted(k for k in turn if k not in ("role", "content") and turn[k] is not None)
    if lost:
        raise InputError(
            f"the field {lost[0]!r} would be lost",
            where=where,
            fix="remove it, or write what it says into the content",
        )
    may_be_empty = role == "system"
    return Message(role, _text(turn.get("content"), "content", where, may_be_empty))


def _check_turns(messages: tuple[Message, ...], where: str) -> None:
    before: Role | None = None
    for place, message in enumerate(messages, 1):
        if before not in _MAY_FOLLOW[message.role]:
            after = f"after {before!r}" if before else "at the start"
            raise InputError(
                f"the role {message.role!r} cannot stand {after}",
                where=f"{where}, message {place}",
                fix="let user and assistant alternate, with at most one system turn at the start",
            )
        before = message.role
    if before != "assistant":
        raise InputError(
            f"the last turn is the {before}'s, so there is nothing to learn",
            where=where,
            fix="end the conversation with the assistant's answer",
        )


def _text(value: object, name: str, where: str, may_be_empty: bool = False) -> str:
    if not isinstance(value, str):
        said = "is missing" if value is None else f"is {kind_of(value)}"
        raise InputError(f"the field {name!r} {said}", where=where, fix="it must be a text")
    if not value.strip() and not may_be_empty:
        raise InputError(f"the field {name!r} is empty", where=where, fix="write it or remove it")
    if any("\ud800" <= letter <= "\udfff" for letter in value):
        raise InputError(
            f"the field {name!r} holds half of a surrogate pair, which is no character",
            where=where,
            fix="write the file again from its source as UTF-8",
        )
    return value


def _identity(record: dict[str, Any], where: str) -> str:
    value = record.get("id", "")
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise InputError("the id is neither text nor a whole number", where=where, fix="mend it")
    return str(value)


def _relevant(value: object, where: str) -> tuple[str, ...]:
    if value is None:  # answers can be scored without knowing where they stand
        return ()
    if (
        not isinstance(value, list)
        or not value
        or not all(isinstance(place, str) and _is_place(place) for place in value)
        or len(set(value)) < len(value)
    ):
        raise InputError(
            '"relevant" is not a list of different places',
            where=where,
            fix='write "relevant": ["document_id", "document_id#anchor"]',
        )
    return tuple(value)


def _is_place(place: str) -> bool:
    document, hash_sign, anchor = place.partition("#")
    return bool(document.strip()) and bool(anchor) == bool(hash_sign)
