import json

import pytest
import torch

from llmwright.core import InputError
from llmwright.quantization import draw_blocks, held_out_pieces, read_token_lists
from llmwright.tokenization import load_tokenizer


@pytest.fixture(scope="module")
def tokenizer(tiny_model_path):
    return load_tokenizer(tiny_model_path)


def test_texts_and_chat_records_are_read(tmp_path, tokenizer):
    (tmp_path / "a.txt").write_text("First <|im_end|>.\n\nSecond.")
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]
    (tmp_path / "b.jsonl").write_text(json.dumps({"messages": turns}) + "\n")
    (tmp_path / "picture.png").write_bytes(b"")
    found = read_token_lists([tmp_path], tokenizer)
    texts = [tokenizer.decode(ids, skip_special=False) for ids in found]
    assert texts == [
        "First <|im_end|>.\n\nSecond.",
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello.<|im_end|>\n",
    ]
    # Special tokens are the template's alone.
    ends = tokenizer.encode("<|im_end|>")
    assert [ids.count(ends[0]) for ids in found] == [0, 2]
    with pytest.raises(InputError, match="neither text nor chat records"):
        read_token_lists([tmp_path / "picture.png"], tokenizer)


def test_blocks_are_pieces_of_the_texts_and_no_piece_is_on_both_sides():
    texts = [list(range(0, 100)), list(range(100, 165))]
    chosen, rest = draw_blocks(texts, blocks=4, length=16, seed=3)
    assert (chosen.shape, rest.shape) == ((4, 16), (6, 16))
    pieces = torch.cat((chosen, rest)).tolist()
    assert sorted(pieces) == [list(range(start, start + 16)) for start in range(0, 160, 16)]
    assert torch.equal(chosen, draw_blocks(texts, blocks=4, length=16, seed=3)[0])
    assert not torch.equal(chosen, draw_blocks(texts, blocks=4, length=16, seed=4)[0])
    assert draw_blocks(texts, blocks=1000, length=16)[1].shape == (0, 16)
    with pytest.raises(InputError, match="has 165 tokens and a block needs 512"):
        draw_blocks(texts)


def test_held_out_pieces_are_as_many_as_asked_for():
    texts = [[n] * (10 * n) for n in range(1, 9)]
    pieces = held_out_pieces(texts, tokens=100, length=32, seed=1)
    assert sum(map(len, pieces)) == 100
    assert max(map(len, pieces)) <= 32
    assert all(len(set(piece)) == 1 for piece in pieces)  # none reaches over two texts
    assert pieces == held_out_pieces(texts, tokens=100, length=32, seed=1)
    assert sum(map(len, held_out_pieces(texts, tokens=10_000))) == 360
