"""llama.cpp through llama-cpp-python: one context, many sequences, its batch interface.

The loop is the usual one of a server: each call decodes one token of every sequence that
answers, and fills the rest of the batch with prompts. Tokens are chosen greedily from the logits
where llama.cpp put them.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Sequence
from pathlib import Path

import llama_cpp as lib
import numpy as np


def _silence(_level: int, _text: bytes, _data: ctypes.c_void_p) -> None:
    pass


_callback = lib.llama_log_callback(_silence)


class LlamaCpp:
    """A GGUF model with room for ``sequences`` sequences of ``context`` tokens each."""

    def __init__(self, path: Path, sequences: int, context: int, threads: int) -> None:
        lib.llama_log_set(_callback, None)
        lib.llama_backend_init()
        params = lib.llama_model_default_params()
        self._model = lib.llama_model_load_from_file(str(path).encode(), params)
        options = lib.llama_context_default_params()
        options.n_ctx = sequences * context
        options.n_batch = options.n_ubatch = 512
        options.n_seq_max = sequences
        options.n_threads = options.n_threads_batch = threads
        options.kv_unified = False  # a stream of cache for each sequence: one for all is slower
        self._context = lib.llama_init_from_model(self._model, options)
        self._memory = lib.llama_get_memory(self._context)
        self._vocab = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(self._model))
        self._batch = lib.llama_batch_init(512, 0, 1)

    def close(self) -> None:
        lib.llama_batch_free(self._batch)
        lib.llama_free(self._context)
        lib.llama_model_free(self._model)

    def generate(
        self, prompts: Sequence[Sequence[int]], tokens: int, gap: float = 0.0
    ) -> list[list[int]]:
        """``tokens`` greedy tokens after each prompt; prompt i arrives after ``i * gap`` s."""
        lib.llama_memory_clear(self._memory, True)
        begun = time.perf_counter()
        read = [0] * len(prompts)
        answers: list[list[int]] = [[] for _ in prompts]
        while any(len(answer) < tokens for answer in answers):
            now = time.perf_counter() - begun
            size = 0
            wanted: list[tuple[int, int]] = []  # sequence, row
            for number, answer in enumerate(answers):
                if answer and len(answer) < tokens:
                    place = len(prompts[number]) + len(answer) - 1
                    self._put(size, answer[-1], place, number, True)
                    wanted.append((number, size))
                    size += 1
            for number, prompt in enumerate(prompts):
                if answers[number] or number * gap > now:
                    continue
                count = min(512 - size, len(prompt) - read[number])
                for place in range(read[number], read[number] + count):
                    last = place == len(prompt) - 1
                    self._put(size, prompt[place], place, number, last)
                    if last:
                        wanted.append((number, size))
                    size += 1
                read[number] += count
            if not size:
                time.sleep(0.001)
                continue
            self._batch.n_tokens = size
            if lib.llama_decode(self._context, self._batch):
                raise RuntimeError("llama.cpp could not decode the batch")
            for number, row in wanted:
                logits = lib.llama_get_logits_ith(self._context, row)
                values = np.ctypeslib.as_array(logits, (self._vocab,))
                answers[number].append(int(values.argmax()))
        return answers

    def _put(self, row: int, token: int, place: int, sequence: int, logits: bool) -> None:
        batch = self._batch
        batch.token[row] = token
        batch.pos[row] = place
        batch.n_seq_id[row] = 1
        batch.seq_id[row][0] = sequence
        batch.logits[row] = logits
