import itertools
import json

import pytest
import torch

from llmwright.core import InputError
from llmwright.quantization import calibration_blocks, read_token_lists
from llmwright.tokenization import load_tokenizer


@pytest.fixture(scope="module")
def tokenizer(tiny_model_path):
    return load_tokenizer(tiny_model_path)


def test_paragraphs_and_chat_records_are_read(tmp_path, tokenizer):
    (tmp_path / "a.txt").write_text("First part,\nsame part.\n\n\n\nSecond <|im_end|>.\n")
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]
    (tmp_path / "b.jsonl").write_text(json.dumps({"messages": turns}) + "\n")
    (tmp_path / "picture.png").write_bytes(b"")
    found = read_token_lists([tmp_path], tokenizer)
    texts = [tokenizer.decode(ids, skip_special=False) for ids in found]
    assert texts == [
        "First part,\nsame part.",
        "Second <|im_end|>.",
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello.<|im_end|>\n",
    ]
    # Special tokens are the template's alone.
    ends = tokenizer.encode("<|im_end|>")
    assert [ids.count(ends[0]) for ids in found] == [0, 0, 2]
    with pytest.raises(InputError, match="neither text nor chat records"):
        read_token_lists([tmp_path / "picture.png"], tokenizer)


def test_blocks_are_cut_from_shuffled_texts_laid_end_to_end():
    texts = [[100 * n + place for place in range(n + 1)] for n in range(30)]
    blocks = calibration_blocks(texts, blocks=4, length=16, seed=3)
    assert blocks.shape == (4, 16)
    stream = blocks.flatten().tolist()
    # Every text stands whole, but for the last.
    starts = [place for place, token in enumerate(stream) if token % 100 == 0]
    for begin, end in itertools.pairwise(starts):
        assert stream[begin:end] == texts[stream[begin] // 100]
    assert torch.equal(blocks, calibration_blocks(texts, blocks=4, length=16, seed=3))
    assert not torch.equal(blocks, calibration_blocks(texts, blocks=4, length=16, seed=4))
    assert calibration_blocks(texts, blocks=1000, length=16).shape == (465 // 16, 16)
    with pytest.raises(InputError, match="has 465 tokens and a block needs 512"):
        calibration_blocks(texts)
