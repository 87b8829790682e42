"""Replace spans by placeholders that can be put back: <EMAIL_1>, <PHONE_1>, ...

The same value gets the same placeholder, so a text about two people stays about two people. A
placeholder that already stands in the text is never used, hence

    restore(redact(text, spans).text, mapping) == text        for every text and all spans

Cost: linear in the text, which is cut at the spans and joined once.
The mapping holds the values in the clear: keep it in memory and with the request, not in a log.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from llmwright.core import ConfigurationError
from llmwright.privacy.pii import Span, merge_spans

PLACEHOLDER = re.compile(r"<(EMAIL|PHONE|CARD|IP)_(\d{1,6})>")
PLACEHOLDER_LENGTH = 14  # of the longest


@dataclass(frozen=True, slots=True)
class Redacted:
    """The text with placeholders, and what each of them stands for."""

    text: str
    mapping: Mapping[str, str] = field(repr=False)


def redact(
    text: str,
    spans: Collection[Span],
    *,
    known: Mapping[str, str] | None = None,
    reserved: str = "",
) -> Redacted:
    """Replace ``spans`` of ``text``; overlapping ones are joined first.

    ``known`` is the mapping of earlier texts of one conversation: its values keep their
    placeholders, and it is part of the mapping given back. Placeholders in ``reserved`` (the rest
    of the conversation, where one may stand literally) are not used. Raises
    ``ConfigurationError`` for a span outside the text.
    """
    mapping = dict(known or {})
    placeholder_of = {value: placeholder for placeholder, value in mapping.items()}
    taken = {match.group() for match in PLACEHOLDER.finditer(text + reserved)} | set(mapping)
    last = Counter[str]()
    pieces: list[str] = []
    at = 0
    for span in merge_spans(spans):  # numbered from the left, as people read
        if not 0 <= span.start < span.end <= len(text):
            raise ConfigurationError(
                f"a span from {span.start} to {span.end} in a text of {len(text)} characters",
                where="redaction",
                fix="pass spans found in this very text",
            )
        value = text[span.start : span.end]
        if value not in placeholder_of:
            name = span.kind.upper()
            last[name] += 1
            while f"<{name}_{last[name]}>" in taken:
                last[name] += 1
            placeholder_of[value] = f"<{name}_{last[name]}>"
            mapping[placeholder_of[value]] = value
        pieces += text[at : span.start], placeholder_of[value]
        at = span.end
    return Redacted("".join([*pieces, text[at:]]), mapping)


def restore(text: str, mapping: Mapping[str, str]) -> str:
    """Put the values back. Placeholders that ``mapping`` does not hold stay as they are."""
    return PLACEHOLDER.sub(lambda match: mapping.get(match.group(), match.group()), text)
