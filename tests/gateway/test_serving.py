from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys

import httpx
import pytest
import uvicorn

from llmwright.core import ConfigurationError
from llmwright.gateway import bind, create_app, serve
from llmwright.providers import ScriptedModel


def app(api_key: str = ""):  # type: ignore[no-untyped-def]
    return create_app({"m": ScriptedModel(lambda messages: "x")}, api_key=api_key)


def test_without_a_key_only_this_machine_is_served() -> None:
    for host in ("0.0.0.0", "::", "192.0.2.1", "example.org"):
        with pytest.raises(ConfigurationError, match="no API key is set"):
            serve(app(), host=host)


def test_a_port_in_use_is_one_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError) as error:
            serve(app(), port=port)
    assert str(error.value) == (
        f"127.0.0.1:{port}: the port is in use; "
        "stop the program that holds it, or choose another with --port."
    )


@pytest.mark.parametrize(
    ("host", "port", "told"),
    [
        ("127.0.0.1", 65536, "^serve: 65536 is not a port; use 0 to 65535"),
        ("127.0.0.1", -1, "^serve: -1 is not a port"),
        (
            "nowhere.invalid",
            8000,
            "^nowhere.invalid:8000: this host is not known; use 127.0.0.1 or",
        ),
        ("192.0.2.1", 0, "this machine does not have that address"),
    ],
)
def test_an_address_that_cannot_be_had_is_told(host: str, port: int, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        bind(host, port)


def test_this_machine_has_several_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is served without a key, and told in the form of an address."""

    def stop(server: uvicorn.Server, sockets: list[socket.socket]) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(uvicorn.Server, "run", stop)
    told: list[str] = []
    for host in ("localhost", "127.0.0.1", "127.0.0.2"):
        serve(app(), host=host, port=0, ready=told.append)
    form = re.compile(r"http://(127\.0\.0\.[12]|\[::1\]):[1-9]\d*/v1")
    assert len(told) == 3
    assert all(map(form.fullmatch, told))


def test_there_must_be_a_model() -> None:
    with pytest.raises(ConfigurationError, match="no model to serve"):
        create_app({})


PROGRAM = """
import asyncio
from llmwright.core import Delta
from llmwright.gateway import create_app, serve

class Endless:
    name = "m"
    async def complete(self, messages, params=None):
        await asyncio.Event().wait()
    async def stream(self, messages, params=None):
        try:
            yield Delta("word ")
            await asyncio.Event().wait()
        finally:
            print("let go", flush=True)

import llmwright.gateway.serving as serving
serving.GRACE_SECONDS = GRACE
serve(create_app({"m": Endless()}), port=0, ready=lambda url: print(url, flush=True))
print("served", flush=True)
"""


@pytest.mark.parametrize(("busy", "grace"), [(False, 1000), (True, 0), (True, 1000)])
def test_ctrl_c_ends_the_server_without_a_traceback(busy: bool, grace: int) -> None:
    program = f"GRACE = {grace}\n{PROGRAM}"
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert httpx.get(f"{url}/models").json()["data"][0]["id"] == "m"
        if busy:
            body = {"messages": [{"role": "user", "content": "q"}], "stream": True}
            with httpx.stream("POST", f"{url}/chat/completions", json=body, timeout=60) as answer:
                lines = answer.iter_lines()
                next(lines)
                process.send_signal(signal.SIGINT)
                if grace:  # one who cannot wait asks again, once the first was heard
                    port = int(url.rsplit(":")[-1].split("/")[0])
                    # Refused, or reset where it lay in the queue of a socket that closes.
                    with pytest.raises(ConnectionError):
                        while True:
                            socket.create_connection(("127.0.0.1", port)).close()
                    process.send_signal(signal.SIGINT)
                assert "The server is shutting down." in list(lines)[-2]
        else:
            process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0, err
    assert out.splitlines() == (["let go"] if busy else []) + ["served"]
    assert err == ""
