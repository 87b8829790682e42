"""Chat templates: how a conversation becomes the text a model was trained on.

A template is a Jinja program that comes with the model, so it is untrusted: it runs in Jinja's
immutable sandbox, with the names and filters that transformers gives it and nothing else.

What stands in a message is text and stays text. ``locate`` says which parts of the rendered text
came from messages, so that the tokenizer reads special tokens only where the template wrote them:
``<|im_end|>`` typed by a user ends nothing. (The hole is known as special token injection.)
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from llmwright.core import InputError, Message

Span = tuple[int, int]


class _Generation(Extension):
    """``{% generation %}`` marks what the assistant says; for rendering it means nothing."""

    tags = {"generation"}  # noqa: RUF012  (jinja2's own interface)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _tojson(value: Any, ensure_ascii: bool = False, indent: int | None = None) -> str:
    # Jinja's own filter escapes for HTML, which no model was trained on.
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent)


def _raise(message: str) -> None:
    raise jinja2.TemplateError(message)


class ChatTemplate:
    """A model's chat template, compiled. ``special`` holds the names a template may use, such
    as ``bos_token`` and ``eos_token``; ``where`` names the model in errors."""

    def __init__(self, source: str, special: Mapping[str, str], where: str) -> None:
        self.source = source
        self._special = dict(special)
        self._where = f"{where}, chat template" if where else "chat template"
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
        )
        environment.filters["tojson"] = _tojson
        environment.globals["raise_exception"] = _raise
        environment.globals["strftime_now"] = lambda format: datetime.now().strftime(format)
        try:
            self._template = environment.from_string(source)
        except jinja2.TemplateError as error:
            raise InputError(
                f"is not valid Jinja ({error})", where=self._where, fix="mend or replace it"
            ) from error

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> str:
        """The conversation as text. Raises ``InputError`` where the template refuses or fails."""
        turns = [{"role": m.role, "content": m.content} for m in messages]
        return self._render(turns, add_generation_prompt)

    def _render(self, turns: list[dict[str, str]], add_generation_prompt: bool) -> str:
        try:
            return self._template.render(
                messages=turns,
                tools=None,
                documents=None,
                add_generation_prompt=add_generation_prompt,
                **self._special,
            )
        except (
            jinja2.TemplateError,
            ArithmeticError,
            AttributeError,
            LookupError,
            RecursionError,
            TypeError,
            ValueError,
        ) as error:
            roles = ", ".join(turn["role"] for turn in turns) or "no message"
            raise InputError(
                f"cannot render the roles {roles}: {str(error).rstrip('.')}",
                where=self._where,
                fix="give the turns in the order this model knows, usually system, user, assistant",
            ) from error

    def locate(
        self, messages: Sequence[Message], *, add_generation_prompt: bool = True
    ) -> tuple[str, list[Span | None]]:
        """The rendered text, and for each message where its content stands in it.

        A span covers the content without the white space around it (which templates may trim);
        None means that the template left the content out or changed it.
        """
        text = self.render(messages, add_generation_prompt=add_generation_prompt)
        start, end = _unused(text, 2)
        turns = []
        for message in messages:
            core = message.content.strip()
            lead, _, trail = message.content.partition(core) if core else (message.content, "", "")
            turns.append({"role": message.role, "content": f"{lead}{start}{core}{end}{trail}"})
        spans: list[Span | None] = [None] * len(messages)
        try:
            marked = self._render(turns, add_generation_prompt)
        except InputError:
            marked = ""  # a template that looks into contents may stumble over the marks
        if marked.replace(start, "").replace(end, "") == text:
            found = _spans(marked, start, end)
            if [text[a:b] for a, b in found] == [m.content.strip() for m in messages]:
                return text, list(found)
        # The template reads contents (a leading "/think", say): look for them one after another.
        at = 0
        for number, message in enumerate(messages):
            core = message.content.strip()
            place = text.find(core, at)
            if place >= 0:
                at = place + len(core)
                spans[number] = (place, at)
        return text, spans


def _unused(text: str, count: int) -> list[str]:
    """Characters of the private use area that the text does not hold."""
    free = (chr(code) for code in range(0xF0000, 0xFFFFD) if chr(code) not in text)
    return [next(free) for _ in range(count)]


def _spans(marked: str, start: str, end: str) -> list[Span]:
    """Where the marked pieces stand once the marks are taken out."""
    pieces = re.finditer(f"{start}(.*?){end}", marked, re.DOTALL)
    # Each piece before this one had two marks of one character.
    return [(p.start() - 2 * n, p.end() - 2 * n - 2) for n, p in enumerate(pieces)]
