"""Text to calibrate on: what the methods that look at data look at.

The best text is what the model will meet: the chat records it was tuned on, through its chat
template, or documents of its subject. A few thousand tokens do, since what is measured are means
and second moments of a layer's inputs. The perplexity of what comes out must be measured on
other text.
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

SUFFIXES = (".jsonl", ".md", ".txt")


def read_token_lists(paths: Iterable[Path], tokenizer: Tokenizer) -> list[list[int]]:
    """The texts of files, or of folders' files, as token ids: a list for each paragraph of a
    ``.txt`` or ``.md`` file (blank lines part them) and for each chat record of a ``.jsonl``, as
    the chat template writes it. Raises ``InputError`` for what is none of these."""
    found = []
    for path in paths:
        files = [path]
        if path.is_dir():
            files = sorted(file for file in path.rglob("*") if file.suffix in SUFFIXES)
        for file in files:
            if file.suffix == ".jsonl":
                found += [
                    tokenizer.encode_chat(example.messages, add_generation_prompt=False)
                    for example in read_examples(file)
                ]
            elif file.suffix in SUFFIXES:
                paragraphs = (part.strip() for part in read_text(file).split("\n\n"))
                found += [tokenizer.encode(p, parse_special=False) for p in paragraphs if p]
            else:
                raise InputError(
                    "is neither text nor chat records",
                    where=str(file),
                    fix=f"give files that end in {', '.join(SUFFIXES)}",
                )
    return found


def calibration_blocks(
    token_lists: Sequence[Sequence[int]], *, blocks: int = 16, length: int = 512, seed: int = 0
) -> Tensor:
    """``blocks`` pieces of ``length`` tokens, [blocks, length]: the texts are put in an order drawn
    by ``seed``, laid end to end and cut. Fewer blocks where there is less text.

    Raises ``InputError`` where the texts do not fill one.
    """
    order = list(range(len(token_lists)))
    random.Random(seed).shuffle(order)
    stream: list[int] = []
    for place in order:
        stream += token_lists[place]
        if len(stream) >= blocks * length:
            break
    whole = min(blocks, len(stream) // length)
    if not whole:
        raise InputError(
            f"the calibration text has {len(stream)} tokens and a block needs {length}",
            fix="give more text or shorter blocks",
        )
    return torch.tensor(stream[: whole * length]).view(whole, length)
