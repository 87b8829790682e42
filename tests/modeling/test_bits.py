"""Packing bits, against whole numbers of any length."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from llmwright.modeling.bits import pack_bits, unpack_bits


@st.composite
def rows_of_codes(draw: st.DrawFn) -> tuple[int, list[list[int]]]:
    bits, n = draw(st.integers(1, 8)), draw(st.integers(1, 70))
    row = st.lists(st.integers(0, 2**bits - 1), min_size=n, max_size=n)
    return bits, draw(st.lists(row, min_size=1, max_size=3))


@given(rows_of_codes())
def test_a_row_is_one_long_number(case: tuple[int, list[list[int]]]) -> None:
    bits, rows = case
    words = pack_bits(torch.tensor(rows, dtype=torch.uint8), bits)
    for row, packed in zip(rows, words.tolist(), strict=True):
        whole = sum(code << (bits * place) for place, code in enumerate(row))
        assert sum((word & 0xFFFFFFFF) << (32 * n) for n, word in enumerate(packed)) == whole
        assert len(packed) == -(-len(row) * bits // 32)
    assert unpack_bits(words, bits, len(rows[0])).tolist() == rows


def test_transposed_words_are_unpacked_as_they_stand() -> None:
    codes = torch.randint(0, 8, (64, 5), generator=torch.Generator().manual_seed(0)).byte()
    along_the_rows = pack_bits(codes.t(), 3).t()
    assert torch.equal(unpack_bits(along_the_rows.t(), 3, 64).t(), codes)
