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


def test_a_last_piece_of_two_tokens_is_taken_and_one_of_one_is_not():
    texts = [[1, 1, 1], [2, 2, 2]]
    assert [len(piece) for piece in held_out_pieces(texts, tokens=5)] == [3, 2]
    assert [len(piece) for piece in held_out_pieces(texts, tokens=4)] == [3]


def test_what_is_drawn_by_default():
    text = list(range(20 * 512 + 3))
    chosen, rest = draw_blocks([text])
    assert (chosen.shape, rest.shape) == ((16, 512), (4, 512))
    assert torch.equal(chosen, draw_blocks([text], seed=0)[0])
    pieces = held_out_pieces([text])
    assert [len(piece) for piece in pieces] == [512] * 8
    assert pieces == held_out_pieces([text], seed=0)


def test_files_are_read_by_their_endings_in_order(tmp_path, tokenizer):
    (tmp_path / "b").mkdir()
    for name, text in (("z.md", "Last"), ("b/y.txt", "Middle"), ("a.md", "First")):
        (tmp_path / name).write_text(text)
    found = [tokenizer.decode(ids) for ids in read_token_lists([tmp_path], tokenizer)]
    assert found == ["First", "Middle", "Last"]
    (tmp_path / "notes.rst").write_text("text")
    says = r"notes.rst: is neither text nor chat records; give files that end in .jsonl, .md, .txt"
    with pytest.raises(InputError, match=says):
        read_token_lists([tmp_path / "notes.rst"], tokenizer)
