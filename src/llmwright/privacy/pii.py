"""Find e-mail addresses, phone numbers, payment cards and IP addresses in a text.

Each kind is proposed by a pattern and confirmed by what can confirm it:

- e-mail: one @ between a local part and a dotted domain, Unicode letters too (RFC 6531);
- phone: the library ``phonenumbers`` (Google's libphonenumber) with leniency VALID, so a number
  must exist in its country's plan; written internationally (+7 ...) or as in one of ``regions``;
- card: 13 to 19 digits in groups, a known issuer's prefix and length (ISO/IEC 7812), and the
  Luhn sum: with every second digit from the right doubled, the digit sum is a multiple of 10;
- ip: what ``ipaddress`` accepts, IPv4 and IPv6. Loopback, unspecified and multicast addresses
  name nobody and are left; so is a four-part number after the word "version" or "v".

Cost: linear in the text; every pattern is bounded, and each candidate is checked once. It finds
forms, not meaning: a name, a street or a number spelled out in words passes.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from llmwright.core import ConfigurationError
from llmwright.privacy.phones import blank, find_phones

PIIKind = Literal["email", "card", "ip", "phone"]  # a tie goes to the earlier one
PII_KINDS: tuple[PIIKind, ...] = get_args(PIIKind)
DEFAULT_REGIONS = ("US", "RU")

# The local part may not be longer than 64 characters nor a label than 63 (RFC 5321, RFC 1035).
_EMAIL = re.compile(
    r"[\w.!#$%&'*+/=?^`{|}~-]{1,64}@(?:[^\W_](?:[\w-]{0,62})\.){1,8}[^\W\d_][\w-]{1,62}"
)
_DIGIT_RUN = re.compile(r"(?<!\d)\d(?:[ \u00a0\u2009\u202f.\-‐‑–]?\d){12,400}(?!\d)")
_IPV4 = re.compile(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?!\w|\.\d)")
_IPV6 = re.compile(r"(?<![\w:.])[0-9A-Fa-f:][0-9A-Fa-f:.]{1,45}(?:%\w{1,20})?(?!\w)")
VERSION = re.compile(r"(?:\bv\.?|\bversion|\bверси[яиюей]{1,2})[ :=]{0,3}$", re.IGNORECASE)

# Prefixes (first, last, lengths) of the issuers in ISO/IEC 7812: Visa, Mastercard, American
# Express, Discover, JCB, UnionPay, Mir, Diners Club, Maestro.
_ISSUERS = (
    ("4", "4", (13, 16, 19)),
    ("51", "55", (16,)),
    ("2221", "2720", (16,)),
    ("34", "34", (15,)),
    ("37", "37", (15,)),
    ("6011", "6011", (16, 17, 18, 19)),
    ("644", "659", (16, 17, 18, 19)),
    ("3528", "3589", (16, 17, 18, 19)),
    ("62", "62", (16, 17, 18, 19)),
    ("2200", "2204", (16, 17, 18, 19)),
    ("300", "305", (14, 15, 16, 17, 18, 19)),
    ("36", "36", (14, 15, 16, 17, 18, 19)),
    ("38", "39", (14, 15, 16, 17, 18, 19)),
    ("50", "50", (13, 14, 15, 16, 17, 18, 19)),
    ("56", "69", (13, 14, 15, 16, 17, 18, 19)),
)


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """``text[start:end]`` is of that kind."""

    start: int
    end: int
    kind: PIIKind


def find_pii(
    text: str,
    kinds: Collection[PIIKind] = PII_KINDS,
    *,
    regions: Sequence[str] = DEFAULT_REGIONS,
) -> list[Span]:
    """The spans of personal data, from left to right, none overlapping another.

    ``regions`` are the ISO 3166 codes of the countries whose national way of writing phone
    numbers is understood; numbers with a country code are found anyway. Raises
    ``ConfigurationError`` for an unknown kind or region and ``MissingDependencyError`` where
    ``phonenumbers`` is needed and not installed.
    """
    unknown = set(kinds) - set(PII_KINDS)
    if unknown:
        raise ConfigurationError(
            f"{sorted(unknown)[0]!r} is no kind of personal data",
            where="PII detection",
            fix=f"use any of {', '.join(PII_KINDS)}",
        )
    spans: list[Span] = []
    if "email" in kinds:
        spans += (Span(*match.span(), "email") for match in _EMAIL.finditer(text))
    if "ip" in kinds:
        spans += _addresses(text)
    if "card" in kinds:
        spans += _cards(text)
    if "phone" in kinds:
        # Digits of another kind beside a number would make it unreadable: "+7 ... 10.0.0.1".
        hidden = blank(text, [(span.start, span.end) for span in merge_spans(spans)])
        spans += (Span(start, end, "phone") for start, end in find_phones(hidden, regions))
    return merge_spans(spans)


def merge_spans(spans: Collection[Span]) -> list[Span]:
    """Sorted spans in which overlapping ones are joined, so that no character of either stays;
    the longest one's kind stands for all, the order of ``PII_KINDS`` deciding between equals."""
    merged: list[Span] = []
    longest = 0
    for span in sorted(spans, key=lambda s: (s.start, s.start - s.end, PII_KINDS.index(s.kind))):
        if not merged or span.start >= merged[-1].end:
            merged.append(span)
            longest = span.end - span.start
            continue
        last = merged[-1]
        kind = last.kind
        if span.end - span.start > longest:
            kind, longest = span.kind, span.end - span.start
        merged[-1] = Span(last.start, max(last.end, span.end), kind)
    return merged


def _addresses(text: str) -> Iterator[Span]:
    for match in _IPV4.finditer(text):
        before = text[max(0, match.start() - 12) : match.start()]
        if _is_personal(match.group()) and not VERSION.search(before):
            yield Span(*match.span(), "ip")
    for match in _IPV6.finditer(text):
        candidate = match.group().rstrip(".")  # a full stop behind the address
        if candidate.endswith(":") and not candidate.endswith("::"):
            candidate = candidate[:-1]
        # "abc::def" is a valid address, but a qualified name in a program far more often.
        if candidate.count(":") >= 2 and any(map(str.isdigit, candidate)):
            end = match.start() + len(candidate)
            if _is_personal(candidate):
                yield Span(match.start(), end, "ip")


def _is_personal(candidate: str) -> bool:
    try:
        address = ipaddress.ip_address(candidate)
    except ValueError:
        return False
    return not (address.is_loopback or address.is_unspecified or address.is_multicast)


def _cards(text: str) -> Iterator[Span]:
    """In a run of digits and single separators, every stretch of whole groups that is a card:
    a check number or date written behind the card does not hide it."""
    for match in _DIGIT_RUN.finditer(text):
        places = [i for i in range(*match.span()) if text[i].isdigit()]
        digits = "".join(str(int(text[i])) for i in places)
        count = len(places)
        heads = [i for i in range(count) if i == 0 or places[i - 1] != places[i] - 1]
        tails = {i for i in range(count) if i == count - 1 or places[i + 1] != places[i] + 1}
        for first in heads:
            sizes = [size for size in range(19, 12, -1) if first + size - 1 in tails]
            size = next((s for s in sizes if is_card(digits[first : first + s])), 0)
            if size:
                yield Span(places[first], places[first + size - 1] + 1, "card")


def is_card(digits: str) -> bool:
    """A known issuer's prefix and length, and a Luhn sum that comes out."""
    known = any(
        low <= digits[: len(low)] <= high and len(digits) in lengths
        for low, high, lengths in _ISSUERS
    )
    if not known:
        return False
    doubled = [2 * int(d) if i % 2 else int(d) for i, d in enumerate(reversed(digits))]
    return sum(d - 9 if d > 9 else d for d in doubled) % 10 == 0
