"""Server-sent events, the part of the standard that chat endpoints use.

An event is its ``data:`` lines joined by newlines, ended by a blank line; comments and other
fields are passed over (WHATWG HTML, section 9.2). Lines are split at the bytes LF and CR LF only:
``str.splitlines`` would also split at U+2028 or U+0085, which JSON strings may hold as they are.
"""

from __future__ import annotations

from collections.abc import AsyncIterator


async def event_data(chunks: AsyncIterator[bytes]) -> AsyncIterator[str]:
    """The data of each event, from a body that arrives in chunks of any size.

    A last event without its blank line still counts, a last line without its newline does not:
    it may have been cut.
    """
    held = b""
    data: list[str] = []
    async for chunk in chunks:
        *lines, held = (held + chunk).split(b"\n")
        for line in lines:
            text = line.rstrip(b"\r").decode("utf-8", errors="replace")
            if text.startswith("data:"):
                data.append(text[5:].removeprefix(" "))
            elif not text and data:
                yield "\n".join(data)
                data = []
    if data:
        yield "\n".join(data)
