"""The sections of a document that a question can be asked about."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from llmwright.core import Document

_LEAST, _MOST = 200, 4000  # characters: enough to ask about, and to fit a small model's prompt


@dataclass(frozen=True, slots=True)
class Passage:
    """``label`` names the section as ``relevant`` does; ``text`` is without its heading."""

    document: str
    label: str
    heading: str
    text: str


def passages_of(document: Document) -> Iterator[Passage]:
    """Sections up to where their first subsection begins; the document where it has none. Short
    ones are left out, long ones cut. Of sections with one anchor only the first can be named."""
    starts = sorted({section.start for section in document.sections})
    named: set[str] = set()
    for section in document.sections:
        end = min([s for s in starts if s > section.start] + [section.end])
        body = document.text[section.start : end].partition("\n")[2].strip()
        if len(body) >= _LEAST and section.anchor not in named:
            label = f"{document.id}#{section.anchor}"
            yield Passage(document.id, label, section.title, body[:_MOST])
        named.add(section.anchor)
    if not document.sections and len(document.text.strip()) >= _LEAST:
        yield Passage(document.id, document.id, document.title, document.text.strip()[:_MOST])
