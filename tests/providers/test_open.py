"""Each form of source opens the right thing, and a key goes only where it belongs."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from llmwright.core import ConfigurationError, ModelSourceError
from llmwright.providers import LocalModel, RemoteModel, open_chat_model


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


def key_of(model):
    return model._endpoint.client_options()["headers"].get("Authorization", "")


def test_local(tiny_model_path):
    model = open_chat_model(str(tiny_model_path), dtype="float32")
    assert isinstance(model, LocalModel)
    assert model.name == str(tiny_model_path)
    asyncio.run(model.aclose())


def test_addresses(monkeypatch):
    model = open_chat_model("http://localhost:8000/v1#some/model")
    assert isinstance(model, RemoteModel)
    assert repr(model) == ("RemoteModel('http://localhost:8000/v1/chat/completions', 'some/model')")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1")
    assert key_of(open_chat_model("https://elsewhere.example/v1#m")) == ""
    monkeypatch.setenv("OPENAI_BASE_URL", "https://mine.example/v1/")
    assert key_of(open_chat_model("https://mine.example/v1#m")) == "Bearer sk-1"
    assert key_of(open_chat_model("https://mine.example/v1x#m")) == ""


def test_openai(monkeypatch):
    with pytest.raises(ConfigurationError, match="OPENAI_API_KEY"):
        open_chat_model("openai:gpt-x")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1")
    model = open_chat_model("openai:gpt-x")
    assert "https://api.openai.com/v1" in repr(model)
    assert key_of(model) == "Bearer sk-1"
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1/")
    assert "http://127.0.0.1:1/v1/chat/completions" in repr(open_chat_model("openai:gpt-x"))


@pytest.mark.parametrize(
    ("source", "kind", "fix"),
    [
        ("openai:", ModelSourceError, "write openai:NAME"),
        ("http://host/v1", ModelSourceError, "write http://host/v1#MODEL"),
        ("http://host/v1#", ModelSourceError, "write http://host/v1#MODEL"),
        ("https://#m", ConfigurationError, "http://localhost:8000/v1"),
        ("no/such/folder", ModelSourceError, "hf:OWNER/NAME"),
        ("ftp://host/model", ModelSourceError, "hf:OWNER/NAME"),
    ],
)
def test_errors_show_the_way_out(source, kind, fix):
    with pytest.raises(kind, match=fix):
        open_chat_model(source)


def test_adapters_are_for_local_models(tmp_path):
    with pytest.raises(ConfigurationError, match="remote model"):
        open_chat_model("http://host/v1#m", adapter=tmp_path)


def test_remote_models_need_no_torch():
    program = (
        "import sys; from llmwright.providers import open_chat_model as o;"
        "o('http://localhost:1/v1#m'); assert not {'torch', 'transformers'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
