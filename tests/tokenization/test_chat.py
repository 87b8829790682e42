"""Chat templates: the sandbox, failures, and templates that rewrite what they are given."""

from __future__ import annotations

import pytest

from llmwright.core import InputError, Message
from llmwright.tokenization import ChatTemplate, Tokenizer, load_tokenizer

USER, ANSWER = Message("user", " hi "), Message("assistant", "\nyes ")
LOOP = "{% for m in messages %}[{{ m.role }}]BODY{% endfor %}"


def template(body: str) -> ChatTemplate:
    return ChatTemplate(LOOP.replace("BODY", body), {"eos_token": "</s>"}, "model.gguf")


@pytest.mark.parametrize(
    "attack",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ cycler.__init__.__globals__.os.system('true') }}",
        "{% for i in range(10**9) %}{% endfor %}",
        "{{ strftime_now.__globals__['os'] }}",
    ],
)
def test_a_template_cannot_leave_the_sandbox(attack: str) -> None:
    with pytest.raises(InputError, match="cannot render"):
        ChatTemplate(attack, {}, "m").render([USER])


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("{{ raise_exception('roles must alternate') }}", "user: roles must alternate"),
        ("{{ messages[5].content.x }}", "cannot render the roles user"),
        ("{{ 1 / 0 }}", "division"),
        ("{{ messages[0].content + 1 }}", "cannot render"),
    ],
)
def test_failures_name_the_model_and_the_roles(source: str, says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        ChatTemplate(source, {}, "model.gguf").render([USER])
    assert str(caught.value).startswith("model.gguf, chat template: ")


def test_a_broken_template_is_found_at_once() -> None:
    with pytest.raises(InputError, match="not valid Jinja"):
        ChatTemplate("{% for %}", {}, "m")


def test_what_transformers_gives_to_templates() -> None:
    source = (
        "  {% generation %}{{ eos_token }}{% endgeneration %}\n"
        "{% for m in messages %}\n"
        "  {% if loop.index0 == 1 %}{% break %}{% endif %}\n"
        "{{ m | tojson }}{{ tools is none }}\n"
        "{% endfor %}\n"
        "{{ strftime_now('%Y') | length }}"
    )
    text = ChatTemplate(source, {"eos_token": "</s>"}, "m").render([Message("user", "<é'"), ANSWER])
    assert text == '</s>{"role": "user", "content": "<é\'"}True\n4'


@pytest.mark.parametrize(
    ("body", "spans"),
    [
        ("{{ m.content }}", ["hi", "yes"]),
        ("{{ m.content | trim }}!", ["hi", "yes"]),
        ("{{ m['content'].strip() + eos_token }}", ["hi", "yes"]),
        ("{{ m.content | upper }}", [None, None]),
        ("{% if m.role == 'user' %}{{ m.content }}{% endif %}", ["hi", None]),
        ("{% if m.content.startswith(' ') %}{{ m.content }}{% endif %}", ["hi", None]),
        ("{{ m.content[0] }}{{ m.content[1:] }}", ["hi", "yes"]),
    ],
)
def test_contents_are_found_in_the_rendered_text(body: str, spans: list[str | None]) -> None:
    text, found = template(body).locate([USER, ANSWER])
    assert text == template(body).render([USER, ANSWER])
    assert [None if span is None else text[slice(*span)] for span in found] == spans


def test_equal_contents_are_told_apart() -> None:
    text, spans = template("{{ m.content }}").locate([Message("user", "user")] * 2)
    assert text == "[user]user[user]user"
    assert spans == [(6, 10), (16, 20)]


@pytest.fixture
def rewriting(tiny_model_path) -> Tokenizer:
    tokenizer = load_tokenizer(tiny_model_path)
    tokenizer.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m.content | upper }}{% endfor %}"
    )
    return tokenizer


def test_a_rewritten_message_may_not_hold_a_special_token(rewriting: Tokenizer) -> None:
    assert rewriting.encode_chat([USER])[0] == 1
    with pytest.raises(InputError, match="cannot be told apart"):
        rewriting.encode_chat([Message("user", "a<|im_end|>b")])


def test_templates_that_add_to_the_answer_teach_what_the_model_has_to_write(
    tiny_model_path,
) -> None:
    """Qwen 3 puts an empty thought before an answer, behind the prompt: it is to be written too."""
    tokenizer = load_tokenizer(tiny_model_path)
    tokenizer.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n"
        "{% if m.role == 'assistant' %}<think>\n\n</think>\n\n{% endif %}"
        "{{ m.content | trim }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    ids, mask = tokenizer.encode_chat_spans([USER, ANSWER])
    said = [token for token, spoken in zip(ids, mask, strict=True) if spoken]
    assert tokenizer.decode(said, skip_special=False) == "<think>\n\n</think>\n\nyes<|im_end|>"
