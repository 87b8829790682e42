"""llama-cpp-python's own server, as a process of its own."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx


class LlamaServer:
    """``python -m llama_cpp.server`` on a free port, stopped at the end of the block."""

    def __init__(self, path: Path, threads: int) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self._url = f"http://127.0.0.1:{port}/v1"
        options = {
            "model": str(path),
            "n_ctx": "2048",
            "n_threads": str(threads),
            "n_threads_batch": str(threads),
            "port": str(port),
            "verbose": "false",
        }
        flags = [part for name, value in options.items() for part in (f"--{name}", value)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "llama_cpp.server", *flags],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def __enter__(self) -> LlamaServer:
        for _ in range(600):
            try:
                httpx.get(f"{self._url}/models").raise_for_status()
            except httpx.HTTPError:
                time.sleep(0.1)
            else:
                return self
        self._process.kill()
        raise RuntimeError("llama-cpp-python's server does not answer")

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()

    def complete(self, prompt: str, tokens: int) -> int:
        """Ask for ``tokens`` greedy tokens after ``prompt``; gives how many came."""
        body = {
            "prompt": prompt,
            "max_tokens": tokens,
            "temperature": 0,
            "logit_bias": {"2": -100, "0": -100},  # no end token
        }
        answer = httpx.post(f"{self._url}/completions", json=body, timeout=600)
        answer.raise_for_status()
        return int(answer.json()["usage"]["completion_tokens"])
