"""Drafts copied from the text itself: prompt look-up.

Where the last n tokens stood before, what followed them then is proposed now. Answers that quote
their prompt (extraction, summaries, edits of code) are guessed this way without a second model:

    match = the longest suffix of the text, of min_n to max_n tokens, that occurs earlier,
            the latest occurrence among equally long ones
    draft = the tokens after it; past the end of the text the draft goes on from its own tokens,
            so a text that runs in a circle is continued in the circle

(Saxena, "Prompt Lookup Decoding", 2023, github.com/apoorvumang/prompt-lookup-decoding; Yang et
al., "Inference with Reference", 2023, arXiv 2304.04487.) The index maps each min_n tokens to the
places where they ended. A new token costs one entry, a look-up at most ``_CANDIDATES`` places
extended backwards over at most max_n tokens. Memory: one entry a token.
"""

from __future__ import annotations

from collections.abc import Sequence

from llmwright.core import ConfigurationError
from llmwright.inference.speculation.proposer import Ask, Draft

_CANDIDATES = 16


class NGramIndex:
    """Where each n-gram of one growing text was seen."""

    def __init__(self, min_n: int, max_n: int) -> None:
        self.min_n, self.max_n = min_n, max_n
        self.length = 0  # tokens indexed
        self._ends: dict[tuple[int, ...], list[int]] = {}

    def extend(self, tokens: Sequence[int]) -> None:
        """Index what is new in ``tokens``, which begins with what was indexed before."""
        n = self.min_n
        for end in range(max(self.length + 1, n), len(tokens) + 1):
            self._ends.setdefault(tuple(tokens[end - n : end]), []).append(end)
        self.length = len(tokens)

    def match(self, tokens: Sequence[int]) -> int | None:
        """The place after the longest earlier occurrence of a suffix of the indexed tokens."""
        size = len(tokens)
        ends = self._ends.get(tuple(tokens[-self.min_n :]), ())
        best, best_n = None, 0
        # The last entry is the suffix itself.
        for end in ends[-2 : -2 - _CANDIDATES : -1]:
            n = self.min_n
            while n < min(self.max_n, end) and tokens[end - 1 - n] == tokens[size - 1 - n]:
                n += 1
            if n > best_n:
                best, best_n = end, n
                if n == self.max_n:
                    break
        return best


class NGramProposer:
    """Prompt look-up for any number of sequences; see ``proposer.Proposer``."""

    def __init__(self, min_n: int = 3, max_n: int = 16) -> None:
        if not 1 <= min_n <= max_n:
            raise ConfigurationError(
                f"n-grams of {min_n} to {max_n} tokens", where="min_n, max_n",
                fix="give 1 <= min_n <= max_n",
            )  # fmt: skip
        self._min_n, self._max_n = min_n, max_n
        self._indexes: dict[int, NGramIndex] = {}

    def propose(self, asks: Sequence[Ask]) -> list[Draft]:
        return [self._draft(ask.key, ask.token_ids, ask.length) for ask in asks]

    def forget(self, key: int) -> None:
        self._indexes.pop(key, None)

    def _draft(self, key: int, token_ids: Sequence[int], length: int) -> Draft:
        index = self._indexes.get(key)
        if index is None or index.length > len(token_ids):
            index = self._indexes[key] = NGramIndex(self._min_n, self._max_n)
        index.extend(token_ids)
        start = index.match(token_ids) if length > 0 else None
        if start is None:
            return Draft()
        draft = list(token_ids[start : start + length])
        period = len(token_ids) - start
        while len(draft) < length:
            draft.append(draft[-period])
        return Draft(tuple(draft))
