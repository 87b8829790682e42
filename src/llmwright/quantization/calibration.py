"""Text to calibrate on: what the methods that look at data look at.

The best text is what the model will meet: the chat records it was tuned on, through its chat
template, or documents of its subject. A few thousand tokens do, since what is measured are means
and second moments of a layer's inputs. The perplexity of what comes out must be measured on
other text, which ``draw_blocks`` sets aside where there is no other.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from llmwright.core import InputError, read_text
from llmwright.data import read_examples
from llmwright.tokenization import Tokenizer

_SUFFIXES = (".jsonl", ".md", ".txt")


def read_token_lists(paths: Iterable[Path], tokenizer: Tokenizer) -> list[list[int]]:
    """The texts of files, or of folders' files, as token ids: a list for each ``.txt`` or ``.md``
    file and for each chat record of a ``.jsonl``, as the chat template writes it. Raises
    ``InputError`` for a file that is none of these."""
    found = []
    for path in paths:
        files = [path]
        if path.is_dir():
            files = sorted(file for file in path.rglob("*") if file.suffix in _SUFFIXES)
        for file in files:
            if file.suffix == ".jsonl":
                found += [
                    tokenizer.encode_chat(example.messages, add_generation_prompt=False)
                    for example in read_examples(file)
                ]
            elif file.suffix in _SUFFIXES:
                found.append(tokenizer.encode(read_text(file), parse_special=False))
            else:
                raise InputError(
                    "is neither text nor chat records",
                    where=str(file),
                    fix=f"give files that end in {', '.join(_SUFFIXES)}",
                )
    return found


def draw_blocks(
    token_lists: Sequence[Sequence[int]], *, blocks: int = 16, length: int = 512, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """The texts laid end to end, cut into pieces of ``length`` tokens and shuffled by ``seed``:
    the first ``blocks`` of them, [blocks, length], to calibrate on, and the others, [rest, length].
    Fewer blocks where there is less text.

    Raises ``InputError`` where the texts do not fill one.
    """
    stream = [token for tokens in token_lists for token in tokens]
    whole = len(stream) // length
    if not whole:
        raise InputError(
            f"the calibration text has {len(stream)} tokens and a block needs {length}",
            fix="give more text or shorter blocks",
        )
    pieces = torch.tensor(stream[: whole * length]).view(whole, length)
    order = torch.tensor(random.Random(seed).sample(range(whole), whole))
    return pieces[order[:blocks]], pieces[order[blocks:]]


def held_out_pieces(
    token_lists: Sequence[Sequence[int]], *, tokens: int = 4096, length: int = 512, seed: int = 0
) -> list[list[int]]:
    """About ``tokens`` tokens to measure on: each text cut into pieces of at most ``length``, and
    of these as many as it takes, in an order drawn by ``seed``."""
    pieces = [
        list(text[start : start + length])
        for text in token_lists
        for start in range(0, len(text), length)
    ]
    random.Random(seed).shuffle(pieces)
    chosen: list[list[int]] = []
    left = tokens
    for piece in pieces:
        if left <= 1:
            break
        chosen.append(piece[:left])
        left -= len(chosen[-1])
    return chosen
