"""The endpoint embedder against a server on this machine that answers as told."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from llmwright.core import ConfigurationError, UpstreamError
from llmwright.embeddings import RemoteEmbedder, load_embedder

Answer = tuple[int, dict[str, str], bytes]


class Server:
    """Keeps what it was asked; answers by ``answer(body)``."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.answer: Callable[[dict[str, Any]], Answer] = vectors
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers["Content-Length"]))
                owner.bodies.append(json.loads(raw))
                owner.keys.append(self.headers["Authorization"])
                status, headers, body = owner.answer(owner.bodies[-1])
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        class Quiet(ThreadingHTTPServer):
            def handle_error(self, request: object, address: object) -> None:
                """A client that hung up is what one test wants."""

        self.http = Quiet(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/v1"


def vectors(body: dict[str, Any]) -> Answer:
    """A vector that tells the text's length, out of order as the protocol allows."""
    data = [{"index": i, "embedding": [3.0, len(t)]} for i, t in enumerate(body["input"])]
    return 200, {}, json.dumps({"data": data[::-1]}).encode()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.http.shutdown()
    server.http.server_close()
    thread.join()


def test_batches_order_and_length_one(server: Server) -> None:
    embedder = RemoteEmbedder(server.url, "m", "key", batch=3)
    texts = ["x" * n for n in (4, 0, 1, 7, 2)]
    got = embedder.embed(texts)
    expected = np.array([[3.0, len(t)] for t in texts])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(got, expected, rtol=1e-6)
    assert got.dtype == np.float32
    assert [len(body["input"]) for body in server.bodies] == [3, 2]
    assert {body["model"] for body in server.bodies} == {"m"}
    assert set(server.keys) == {"Bearer key"}
    assert embedder.dimension == 2
    assert len(server.bodies) == 2  # nothing was asked to learn the dimension


def test_dimension_is_asked_for_once(server: Server) -> None:
    embedder = RemoteEmbedder(server.url, "m")
    assert embedder.embed([]).shape == (0, 2)
    assert embedder.dimension == 2
    assert len(server.bodies) == 1
    assert server.keys == [None]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_passing_troubles_are_tried_again(server: Server, status: int) -> None:
    def flaky(body: dict[str, Any]) -> Answer:
        return vectors(body) if len(server.bodies) == 3 else (status, {"Retry-After": "0"}, b"")

    server.answer = flaky
    assert RemoteEmbedder(server.url, "m", backoff=0.0).embed(["a"]).shape == (1, 2)
    assert len(server.bodies) == 3


def test_retries_are_bounded_and_the_key_is_not_shown(server: Server) -> None:
    server.answer = lambda body: (500, {"Retry-After": "0"}, b"no room for sk-secret")
    embedder = RemoteEmbedder(server.url, "m", "sk-secret", retries=2, backoff=0.0)
    with pytest.raises(UpstreamError, match=r"answered 500, 'no room for \*\*\*'"):
        embedder.embed(["a"])
    assert len(server.bodies) == 3
    assert "sk-secret" not in repr(embedder)


def test_a_wrong_request_is_not_repeated(server: Server) -> None:
    server.answer = lambda body: (401, {}, b"")
    with pytest.raises(UpstreamError, match=r"answered 401.*check the API key"):
        RemoteEmbedder(server.url, "m", "key").embed(["a"])
    assert len(server.bodies) == 1


def test_the_key_goes_to_its_own_address_alone(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    load_embedder(f"{server.url}#m").embed(["a"])
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1/v1")  # the host alone does not do
    load_embedder(f"{server.url}#m").embed(["a"])
    assert server.keys == [None, None]
    monkeypatch.setenv("OPENAI_BASE_URL", server.url + "/")
    for source in (f"{server.url}#m", "openai:m"):
        load_embedder(source).embed(["a"])
    assert server.keys[2:] == ["Bearer sk-secret", "Bearer sk-secret"]


def test_a_server_that_asks_for_an_hour_is_reported(server: Server) -> None:
    server.answer = lambda body: (429, {"Retry-After": "3600"}, b"slow down")
    with pytest.raises(UpstreamError, match="answered 429, 'slow down'; ask for less"):
        RemoteEmbedder(server.url, "m").embed(["a"])
    assert len(server.bodies) == 1


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ("<html>", "not JSON"),
        ('{"object": "list"}', "answered no vectors"),
        ('{"data": []}', "answered 0 vectors of 0 for 1 texts"),
        ('{"data": [{"index": 1, "embedding": [1.0]}]}', "answered 1 vectors"),
        ('{"data": [{"index": 0, "embedding": "AACAPw=="}]}', "answered no vectors"),
        ('{"data": [{"index": 0, "embedding": [0.0, 0.0]}]}', "a vector of zeros"),
        ('{"data": [{"index": 0, "embedding": [NaN, 1.0]}]}', "not a number"),
    ],
)
def test_nonsense_is_refused(server: Server, payload: str, message: str) -> None:
    server.answer = lambda body: (200, {}, payload.encode())
    with pytest.raises(UpstreamError, match=message):
        RemoteEmbedder(server.url, "m").embed(["a"])


def test_vectors_that_change_their_length_are_refused(server: Server) -> None:
    embedder = RemoteEmbedder(server.url, "m")
    embedder.embed(["a"])
    server.answer = lambda body: (200, {}, b'{"data": [{"index": 0, "embedding": [1.0]}]}')
    with pytest.raises(UpstreamError, match="vectors of 1 for 1 texts, and 2 long before"):
        embedder.embed(["a"])


def test_nobody_listens(server: Server) -> None:
    url = "http://127.0.0.1:1/v1"
    with pytest.raises(
        UpstreamError, match=r"refused \(tried 2 times\); check that the server runs"
    ):
        RemoteEmbedder(url, "m", retries=1, backoff=0.0).embed(["a"])


def test_a_server_that_never_answers(server: Server) -> None:
    release = threading.Event()

    def silent(body: dict[str, Any]) -> Answer:
        release.wait(10)
        return 200, {}, b"{}"

    server.answer = silent
    try:
        with pytest.raises(UpstreamError, match=r"no answer within 0.05 s"):
            RemoteEmbedder(server.url, "m", timeout=0.05, retries=0).embed(["a"])
    finally:
        release.set()


def test_addresses_and_keys_that_cannot_be() -> None:
    for url in ("ftp://host/v1", "http://", "host/v1"):
        with pytest.raises(ConfigurationError, match="not the address of an endpoint"):
            RemoteEmbedder(url, "m")
    with pytest.raises(ConfigurationError, match="the API key holds characters"):
        RemoteEmbedder("http://host/v1", "m", "ключ")
