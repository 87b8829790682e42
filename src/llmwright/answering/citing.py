"""Citations while the answer is still being written.

The model's own ``[n]`` stands if there is a passage n and is taken out otherwise. A sentence
without one gets the passage that supports it (`support`), set before its full stop. Code, in
fences or backticks, is left alone; headings, table rows, questions and lead-ins ("The steps
are:") get no citation.

Streaming: words go out as they come. Held back is only the tail that a citation could still
change: spaces, punctuation, brackets and digits at the very end. Where a sentence ends is decided
from the text up to its first letter after, never by how the text was cut into pieces, so

    "".join(map(stream.push, pieces)) + stream.flush()

is the same for every way of cutting. Each push reads the open sentence once; a sentence longer
than 2,000 characters is closed at its next space, so the cost stays linear in the answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable

_LONGEST = 2000
_ENDERS = ".!?…。！？"
_CLOSERS = "\"'”’»)*_」』）"
# All a citation can be made of or be put before. What ends in none of these is settled.
_HELD = f"{_ENDERS}{_CLOSERS}[]0123456789,; \t\r\n\f\v"
_STOP = re.compile(rf"\n|[{_ENDERS}]+[{re.escape(_CLOSERS)}]*")
_NUMBERS = r"\[[ ]*\d+[ ]*(?:[,;][ ]*\d+[ ]*)*\]"
_AFTER = re.compile(rf"(?:[ \t\r]*{_NUMBERS})*[ \t\r]*", re.ASCII)
_BLANK = re.compile(r"[ \t\r]*")
_UNFINISHED = re.compile(r"\[[\d,; ]*", re.ASCII)
_CODE_OR_CITATION = re.compile(rf"`[^`\n]*`?|^{_NUMBERS}[ \t]*|[ \t]*{_NUMBERS}", re.ASCII)
# One letter is an initial; digits that open a line number a list item.
_ABBREVIATION = re.compile(
    r"(?:^|[\s(])(?:[^\W\d_]|(?i:al|approx|ca|cf|dr|e\.g|eqs?|etc|figs?|i\.e|mrs?|ms|no|prof|sec|st"
    r"|vs|гл|им|напр|рис|см|ср|стр|табл|т\.\s?[дек]|т\.\s?п|тыс|млн|млрд))$|^\s*\d{1,3}$"
)


class CitationStream:
    """Takes an answer in pieces and gives it back with its citations in order.

    ``cite`` names the passage, from 1, that supports a sentence, or None; ``count`` is how many
    passages there are.

    >>> stream = CitationStream(lambda sentence: 2, count=2)
    >>> stream.push("Rank is small [7]. It ") + stream.push("is [1].") + stream.flush()
    'Rank is small [2]. It is [1].'
    """

    def __init__(self, cite: Callable[[str], int | None], count: int) -> None:
        self._cite = cite
        self._count = count
        self._open = ""  # the sentence being written, as the model wrote it
        self._given = 0  # how much of it, cleaned, has gone out
        self._at_line_start = True
        self._fenced = False

    def push(self, text: str) -> str:
        """Take the next piece; give what is settled by now."""
        self._open += text
        out = []
        while (end := _sentence_end(self._open, self._verbatim())) is not None:
            sentence, self._open = self._open[:end], self._open[end:]
            out.append(self._close(sentence))
        settled = self._open if self._verbatim() else self._open.rstrip(_HELD)
        shown = self._clean(settled)
        out.append(shown[self._given :])
        self._given = max(self._given, len(shown))
        return "".join(out)

    def flush(self, *, finished: bool = True) -> str:
        """The answer has ended: give the rest. Of an answer that was cut (``finished`` false)
        the last words say nothing yet, and get no citation."""
        sentence, self._open = self._open, ""
        return self._close(sentence, finished)

    def _verbatim(self) -> bool:
        return self._fenced or (self._at_line_start and _is_fence(self._open))

    def _clean(self, text: str) -> str:
        return text if self._verbatim() else _clean(text, self._count)[0]

    def _close(self, sentence: str, finished: bool = True) -> str:
        fence = self._at_line_start and _is_fence(sentence)
        text = sentence
        if not (self._fenced or fence):
            text, numbers = _clean(sentence, self._count)
            if finished and not numbers and self._wants_citation(text):
                number = self._cite(text.strip())
                if number is not None:
                    at = _citation_place(text)
                    text = f"{text[:at]} [{number}]{text[at:]}"
        rest, self._given = text[self._given :], 0
        self._fenced ^= fence
        self._at_line_start = sentence.endswith("\n")
        return rest

    def _wants_citation(self, text: str) -> bool:
        bare = text.strip()
        structural = self._at_line_start and bare.startswith(("#", "|"))
        return bool(bare) and not structural and not bare.endswith((":", "?", "？"))


def cited_numbers(text: str, count: int) -> frozenset[int]:
    """The passages an answer cites, by the same rules: ``[n]`` outside code, 1 to ``count``."""
    found: set[int] = set()
    fenced = False
    for line in text.splitlines():
        if _is_fence(line):
            fenced = not fenced
        elif not fenced:
            found.update(_clean(line, count)[1])
    return frozenset(found)


def cited_sentences(text: str, count: int) -> list[tuple[int, int, tuple[int, ...]]]:
    """The sentences of an answer that cite, as start, end and the passages cited, by the rules
    of ``CitationStream``: a sentence reaches over the citations behind it, code has none."""
    found = []
    at, fenced = 0, False
    while at < len(text):
        line_start = at == 0 or text[at - 1] == "\n"
        fence = line_start and _is_fence(text[at:])
        end = at + (_sentence_end(text[at:], fenced or fence) or len(text) - at)
        if not (fenced or fence) and (numbers := _clean(text[at:end], count)[1]):
            found.append((at, end, tuple(dict.fromkeys(numbers))))
        fenced ^= fence
        at = end
    return found


def _is_fence(line: str) -> bool:
    return line.lstrip(" ").startswith(("```", "~~~"))


def _clean(text: str, count: int) -> tuple[str, list[int]]:
    """Take out citations of passages that do not exist; tell those that stand."""
    kept: list[int] = []

    def judge(match: re.Match[str]) -> str:
        found = match.group()
        if found.startswith("`"):
            return found
        numbers = [int(digits) for digits in re.findall(r"[0-9]+", found)]
        valid = [number for number in dict.fromkeys(numbers) if 1 <= number <= count]
        kept.extend(valid)
        if valid == numbers:
            return found
        left = found[: len(found) - len(found.lstrip())] if valid else ""
        right = found[len(found.rstrip()) :] if valid else ""
        return left + "".join(f"[{number}]" for number in valid) + right

    return _CODE_OR_CITATION.sub(judge, text), kept


def _citation_place(text: str) -> int:
    """Before the full stop; after it where a quotation or bracket closes behind it."""
    return len(text.rstrip().rstrip(_ENDERS))


def _sentence_end(text: str, verbatim: bool) -> int | None:
    """Where the first sentence of ``text`` ends, or None while that cannot be told yet.

    What is told once stays true however the text goes on: every rule looks only at characters
    before the one that decides.
    """
    limit = _longest(text)
    for stop in _STOP.finditer(text):
        if stop.start() >= limit:
            break
        if stop.group() == "\n":
            if verbatim or text.lstrip().startswith(("#", "|")):
                return stop.end()
            next_word = _BLANK.match(text, stop.end())
            begins = next_word.end() if next_word else stop.end()
            if begins == len(text):
                return None
            if text[begins].islower():  # a wrapped line
                continue
            return stop.end()
        if verbatim or text.count("`", 0, stop.start()) % 2:
            continue
        after = _AFTER.match(text, stop.end())
        end = after.end() if after else stop.end()
        if end == len(text) or _UNFINISHED.fullmatch(text, end):
            return None
        spaced = end > stop.end() or stop.group()[0] in "。！？"
        if not spaced or text[end] == "\n" or text[end].islower():
            continue
        if stop.group() == "." and _ABBREVIATION.search(
            text, max(0, stop.start() - 12), stop.start()
        ):
            continue
        return end
    return limit if limit <= len(text) else None


def _longest(text: str) -> int:
    """Where a sentence is cut that does not end: after the first space past the limit."""
    if len(text) <= _LONGEST:
        return _LONGEST * 3
    space = re.compile(r"\s").search(text, _LONGEST)
    return space.end() if space and space.end() <= _LONGEST * 2 else _LONGEST * 2
