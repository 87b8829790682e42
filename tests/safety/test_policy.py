from __future__ import annotations

from pathlib import Path

import pytest

from llmwright.core import ConfigurationError, InputError
from llmwright.safety import Policy, load_policy


def test_an_empty_file_is_the_default_policy(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text("")
    assert load_policy(path) == Policy()


def test_every_key_is_read(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(
        'max_input_characters = 10\ninjection = "flag"\npii_kinds = ["ip"]\nphone_regions = []\n'
        '[messages]\ntoo_long = "Слишком длинно."\n'
    )
    policy = load_policy(path)
    assert policy.max_input_characters == 10
    assert policy.injection == "flag"
    assert policy.pii_kinds == ("ip",)
    assert policy.messages.too_long == "Слишком длинно."


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\ninjektion = 'off'", r"line 2: unknown key 'injektion'; did you mean 'injection'\."),
        (
            "[messages]\ntoolong = 'x'",
            r"line 2: unknown key 'messages\.toolong'; did you mean 'too_long'\.",
        ),
        ("zzz = 1", r"line 1: unknown key 'zzz'; valid here: block_control_characters, "),
        (
            "injection = 'maybe'",
            r"line 1: 'injection' is 'maybe'; input should be 'block', 'flag' or 'off'\.",
        ),
        (
            "max_input_characters = 0",
            r"line 1: 'max_input_characters' is 0; input should be greater than or equal to 1\.",
        ),
        (
            "pii_kinds = ['name']",
            r"line 1: 'pii_kinds' is 'name'; input should be 'email', 'card', 'ip' or 'phone'\.",
        ),
        ("messages = 3", r"line 1: 'messages' is 3; "),
        (
            "phone_regions = ['XX']",
            r"line 1: 'phone_regions' is wrong: 'XX' is no region with phone numbers; use ISO 3166",
        ),
        ("a = = 1", r"not valid TOML: .*line 1"),
    ],
)
def test_a_wrong_key_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=message):
        load_policy(path)


def test_every_wrong_key_is_named_at_once(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text("zzz = 1\ninjection = 'maybe'\n")
    with pytest.raises(ConfigurationError, match=r"line 2: 'injection'.*\n.*line 1: unknown"):
        load_policy(path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        load_policy(tmp_path / "none.toml")
