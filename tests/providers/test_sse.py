"""Events come out the same however the bytes were cut on the way."""

from __future__ import annotations

import asyncio
import json

from hypothesis import given, settings
from hypothesis import strategies as st

from llmwright.providers.sse import event_data


def read(chunks: list[bytes]) -> list[str]:
    async def body():
        for chunk in chunks:
            yield chunk

    async def collect():
        return [data async for data in event_data(body())]

    return asyncio.run(collect())


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.text(min_size=1, max_size=8), max_size=5),
    st.lists(st.integers(1, 7), min_size=1, max_size=30),
    st.sampled_from([b"\n", b"\r\n"]),
)
def test_any_cutting_gives_the_same_events(texts, sizes, newline):
    events = [json.dumps({"t": text}, ensure_ascii=False) for text in texts]
    body = b"".join(b"data: " + e.encode("utf-8", "surrogatepass") + newline * 2 for e in events)
    chunks, at, turn = [], 0, 0
    while at < len(body):
        size = sizes[turn % len(sizes)]
        chunks.append(body[at : at + size])
        at, turn = at + size, turn + 1
    assert read(chunks) == events


def test_separators_inside_json_do_not_end_a_line():
    data = '"a\u2028b\u0085c\x0bd"'
    assert read([f"data: {data}\n\n".encode()]) == [data]


def test_comments_and_other_fields_are_passed_over_and_lines_joined():
    body = b": ping\n\nevent: x\nid: 1\ndata: one\ndata:two\n\ndata: [DONE]\n\n"
    assert read([body]) == ["one\ntwo", "[DONE]"]


def test_a_cut_line_is_not_an_event_and_a_missing_blank_line_is_forgiven():
    assert read([b'data: {"a": 1}\n\ndata: {"b"']) == ['{"a": 1}']
    assert read([b"data: [DONE]\n"]) == ["[DONE]"]
