"""The rules between all clients of endpoints: whose key it is, what is tried again, what is shown."""

from __future__ import annotations

import email.utils
import subprocess
import sys
import time

import httpx
import pytest

from llmwright.core import (
    ConfigurationError,
    Endpoint,
    ModelSourceError,
    UpstreamError,
    endpoint_of,
    is_endpoint,
)
from llmwright.core.endpoint import retry_after

KEY = "sk-very-secret-0123456789"


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


def endpoint(api_key=KEY, *, url="http://host/v1", timeout=3.0, retries=2, backoff=0.5):
    return Endpoint(url, "/x", api_key, timeout=timeout, retries=retries, backoff=backoff)


def answer(status, text="", **headers):
    return httpx.Response(
        status, text=text, headers={k.replace("_", "-"): headers[k] for k in headers}
    )


def test_which_sources_are_endpoints():
    for source in ("http://h/v1#m", "https://h/v1#m", "openai:m"):
        assert is_endpoint(source)
    for source in ("openai", "models/openai:m", "hf:openai/m", "pypi:m", "httpx/", ""):
        assert not is_endpoint(source)


def test_the_key_goes_home_alone(monkeypatch):
    assert endpoint_of("http://host/v1#a/b") == ("http://host/v1", "a/b", None)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert endpoint_of("openai:m") == ("https://api.openai.com/v1", "m", KEY)
    assert endpoint_of("https://api.openai.com/v1/#m")[2] == KEY
    monkeypatch.setenv("OPENAI_BASE_URL", "https://mine.example/v1/")
    assert endpoint_of("openai:m") == ("https://mine.example/v1", "m", KEY)
    assert endpoint_of("https://mine.example/v1#m")[2] == KEY
    for address in (
        "http://mine.example/v1",  # not encrypted
        "https://mine.example",
        "https://mine.example/v1x",
        "https://mine.example:444/v1",
        "https://mine.example/v1@evil.example/v1",
        "https://mine.example@evil.example/v1",
        "https://evil.example/mine.example/v1",
        "https://api.openai.com/v1",
    ):
        assert endpoint_of(f"{address}#m") == (address, "m", None)


def test_an_own_address_needs_no_key(monkeypatch):
    with pytest.raises(
        ConfigurationError, match=r"^openai:m: there is no API key; set OPENAI_API_KEY"
    ):
        endpoint_of("openai:m")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://localhost:8000/v1")
    assert endpoint_of("openai:m") == ("http://localhost:8000/v1", "m", None)


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("openai:", "the model's name is missing; write openai:NAME."),
        ("http://host/v1", "the address does not say which model; write http://host/v1#MODEL."),
        ("http://host/v1#", "the address does not say which model; write http://host/v1#MODEL."),
    ],
)
def test_a_source_without_a_name(monkeypatch, source, sentence):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with pytest.raises(ModelSourceError) as caught:
        endpoint_of(source)
    assert str(caught.value) == f"{source}: {sentence}"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        (" 1.5 ", 1.5),
        ("-3", 0.0),
        ("nan", 0.0),
        ("", None),
        ("soon", None),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("Mon, 01 Jan 99999 00:00:00 GMT", None),
    ],
)
def test_retry_after(value, seconds):
    assert retry_after(value) == seconds


def test_retry_after_a_date():
    at = email.utils.formatdate(time.time() + 1000, usegmt=True)
    assert 900 < retry_after(at) <= 1000


@pytest.mark.parametrize("failure", [408, 429, 500, 502, 503, 504, "connect", "slow", "loop"])
def test_what_passes_is_waited_for_and_the_attempts_are_bounded(failure):
    kinds = {
        "connect": httpx.ConnectError("refused"),
        "slow": httpx.ReadTimeout("slow"),
        "loop": TimeoutError(),
    }
    failed = answer(failure) if isinstance(failure, int) else kinds[failure]
    target = endpoint()
    for attempt in range(2):
        waits = [target.wait_after(failed, attempt) for _ in range(200)]
        longest = 0.5 * 2**attempt
        assert 0 <= min(waits) < 0.2 * longest < 0.8 * longest < max(waits) <= longest
    assert endpoint(backoff=1e9).wait_after(failed, 0) <= 60
    with pytest.raises(UpstreamError, match=r"http://host/v1/x: .* \(tried 3 times\); "):
        target.wait_after(failed, 2)


def test_what_the_server_asks_for_goes_first():
    assert endpoint().wait_after(answer(429, retry_after="7"), 0) == 7
    assert endpoint().wait_after(answer(503, retry_after="60"), 1) == 60
    with pytest.raises(UpstreamError, match="answered 429; ask for less at a time"):
        endpoint().wait_after(answer(429, retry_after="61"), 0)


@pytest.mark.parametrize("failure", [400, 401, 404, 422, 302, 501, "decoding"])
def test_what_will_not_get_better_is_not_repeated(failure):
    failed = answer(failure) if isinstance(failure, int) else httpx.DecodingError("gzip?")
    with pytest.raises(UpstreamError) as caught:
        endpoint().wait_after(failed, 0)
    assert "tried" not in str(caught.value)


def test_a_refusal_without_a_key_tells_how_to_give_one():
    with pytest.raises(UpstreamError, match="answered 401; check the API key"):
        endpoint().wait_after(answer(401), 0)
    with pytest.raises(UpstreamError, match="no key was sent: set OPENAI_API_KEY"):
        endpoint(api_key=None).wait_after(answer(401), 0)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('{"error": {"message": "no luck"}}', "'no luck'"),
        ('{"error": "no luck"}', "'no luck'"),
        ('{"detail": "no luck"}', "'no luck'"),
        ('["no", "luck"]', "['no', 'luck']"),
        ('{"error": {"code": 7}}', "'{\"code\": 7}'"),
        ("<html>", "'<html>'"),
    ],
)
def test_the_servers_own_words(body, said):
    with pytest.raises(UpstreamError) as caught:
        endpoint().wait_after(answer(400, body), 0)
    assert said in str(caught.value)


def test_the_key_is_not_shown_not_even_in_part():
    for before in (0, 190):  # where the quotation ends, too
        with pytest.raises(UpstreamError) as caught:
            endpoint().wait_after(answer(403, "-" * before + KEY), 0)
        assert KEY[:5] not in str(caught.value)
    assert "***" in str(endpoint().error(f"it said {KEY}"))
    assert "pass" not in endpoint(url="http://user:pass@host/v1").where
    assert "secret" not in endpoint(url="http://host/v1?key=secret").where
    with pytest.raises(UpstreamError) as caught:  # no key is no part of any text
        endpoint(api_key=None).wait_after(answer(400, "no luck"), 0)
    assert caught.value.what == "answered 400, 'no luck'"


@pytest.mark.parametrize("url", ["", "localhost:80/v1", "ftp://host/v1", "http://", "http://[::1/"])
def test_what_is_no_address(url):
    with pytest.raises(ConfigurationError) as caught:
        endpoint(url=url)
    assert str(caught.value) == (
        f"base_url: {url!r} is not the address of an endpoint; "
        "give something like http://localhost:8000/v1."
    )


@pytest.mark.parametrize("key", ["ключ", "sk-1\nsk-2"])
def test_what_is_no_key(key):
    with pytest.raises(ConfigurationError, match=r"^host: the API key holds characters") as caught:
        endpoint(key)
    assert "as one line of ASCII" in caught.value.fix
    assert key[:4] not in str(caught.value)
    assert endpoint(" sk-1\n").client_options()["headers"] == {"Authorization": "Bearer sk-1"}
    assert endpoint("").client_options()["headers"] == {}


def test_a_body_is_one_json_object():
    assert endpoint().payload('{"a": 1, "error": null}') == {"a": 1, "error": None}
    for body, said in {
        "<html>": "answered what is not JSON: '<html>'",
        "[1]": "answered what is not a JSON object: '[1]'",
        '{"error": {"message": "no luck"}}': "reported an error: no luck",
        f'{{"error": "{KEY}"}}': "reported an error: ***",
    }.items():
        with pytest.raises(UpstreamError) as caught:
            endpoint().payload(body)
        assert str(caught.value) == (
            f"http://host/v1/x: {said}; check that it speaks OpenAI's protocol."
        )


def test_the_servers_words_are_cut_at_200_characters():
    for length, shown in {200: "-" * 200, 201: "-" * 200 + "..."}.items():
        with pytest.raises(UpstreamError) as caught:
            endpoint().wait_after(answer(400, "-" * length), 0)
        assert caught.value.what == f"answered 400, {shown!r}"


@pytest.mark.parametrize(
    ("status", "fix"),
    [
        (400, "change the request"),
        (403, "check what the API key may do"),
        (404, "check the address and the name of the model"),
        (500, "try again later"),
        (501, "try again later"),
    ],
)
def test_the_way_out_follows_the_status(status, fix):
    with pytest.raises(UpstreamError) as caught:
        endpoint(retries=0).wait_after(answer(status), 0)
    assert str(caught.value) == f"http://host/v1/x: answered {status}; {fix}."


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (TimeoutError(), "no answer within 3 s"),
        (httpx.ReadTimeout("slow"), "no answer within 3 s"),
        (httpx.ConnectError("refused"), "refused"),
        (httpx.ConnectError(""), "ConnectError"),
        (httpx.ConnectError(KEY), "***"),
    ],
)
def test_a_failure_of_the_connection_in_words(error, words):
    with pytest.raises(UpstreamError) as caught:
        endpoint(retries=0).wait_after(error, 0)
    assert caught.value.what == words
    assert caught.value.fix == "check that the server runs and the address is right"
    assert caught.value.__cause__ is error


def test_how_the_client_is_made():
    options = endpoint(timeout=3).client_options()
    assert options["timeout"] == httpx.Timeout(3)
    assert endpoint(timeout=60).client_options()["timeout"] == httpx.Timeout(60, connect=10)
    assert options["headers"] == {"Authorization": f"Bearer {KEY}"}
    made = endpoint(url="https://me:pass@host/v1/")
    assert str(made.url) == "https://me:pass@host/v1/x"
    assert made.where == "https://host/v1/x"


def test_no_proxy_between_this_machine_and_itself():
    for host in ("127.0.0.1", "localhost", "[::1]"):
        assert not endpoint(url=f"http://{host}:8000/v1").client_options()["trust_env"]
    assert endpoint().client_options()["trust_env"]


def test_the_rules_cost_no_http_client_before_there_is_an_endpoint():
    program = "import sys, llmwright.core as c; c.endpoint_of('http://h/v1#m'); assert 'httpx' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)
