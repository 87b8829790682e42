"""Cut a question into its parts without a model: for comparisons and lists.

"Which was founded earlier, the Bell Company or the Wright Company?" asks for two passages, and a
retriever that averages over all words may find one of them twice. The question is cut at
conjunctions and punctuation ("and", "or", "than", "versus", commas; Russian "и", "или", "чем");
a part is a query where it holds two words that tell something, or one that is a name. Names said
in quotation marks stay whole. Free, and blind: it knows no grammar, so it is used as a further
vote (``expanded(search, clauses)``), never in place of the question.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

MOST = 4

_CUT = re.compile(
    r"\s*[,;:?!]\s+|\s+(?:and|or|than|versus|vs\.?|as well as|both|between|compared (?:to|with)"
    r"|и|или|чем|либо|между|а также)\s+",
    re.IGNORECASE,
)
_QUOTED = re.compile(r"\"[^\"]+\"|“[^”]+”|«[^»]+»")
_WORD = re.compile(r"[^\W_][\w'’.-]*")
_WORDS = (
    "a an the of in on at to for from by with is are was were be been do does did has have had "
    "which who whom whose what when where why how that this these those it its their his her "
    "same also more most less first kind type many much whether if as not "
    "кто что какой какая какое какие где когда почему как сколько это этот эта в на с по из о "
    "был была было были же ли"
)
_FUNCTION = frozenset(_WORDS.split())


def clauses(question: str) -> Sequence[str]:
    """Up to ``MOST`` parts of the question that can be queries; none where it has but one."""
    quoted: list[str] = []

    def hide(match: re.Match[str]) -> str:
        quoted.append(match[0])
        return f"\x00{len(quoted) - 1}\x00"

    parts = _CUT.split(_QUOTED.sub(hide, question.replace("\x00", "")) + " ")
    shown = [re.sub("\x00(\\d+)\x00", lambda m: quoted[int(m[1])], part) for part in parts]
    kept = [part.strip(" ?!.,;:") for part in shown if _tells(part)]
    return kept[:MOST] if len(kept) > 1 else []


def _tells(part: str) -> bool:
    words = [word for word in _WORD.findall(part) if word.casefold() not in _FUNCTION]
    return len(words) > 1 or any(word[0].isupper() or word[0].isdigit() for word in words)
