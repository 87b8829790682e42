"""From a stream of tokens to a stream of text, never half a character.

One character may be spread over several byte-level tokens (an emoji takes up to four), so a token
is turned into its bytes and the bytes into characters by an incremental UTF-8 decoder, which
holds back what is not whole. Constant time per token; the pieces joined equal ``decode`` of all.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable


class StreamDecoder:
    """Push token ids, take text. One per stream."""

    def __init__(self, token_bytes: Callable[[int], bytes], *, strip_space: bool = False) -> None:
        self._token_bytes = token_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._strip_space = strip_space  # SentencePiece writes one before the first word

    def push(self, token_id: int) -> str:
        """The text that became whole with this token, often its own, possibly none."""
        return self._emit(self._decoder.decode(self._token_bytes(token_id)))

    def flush(self) -> str:
        """What was held back; bytes that never became a character give U+FFFD."""
        return self._emit(self._decoder.decode(b"", final=True))

    def _emit(self, text: str) -> str:
        if self._strip_space and text:
            self._strip_space = False
            return text.removeprefix(" ")
        return text
