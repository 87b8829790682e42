"""Find phone numbers with the library ``phonenumbers`` (Google's libphonenumber).

Its matcher, at leniency VALID, finds what exists in a country's numbering plan and is written as
people write numbers. Two things are added. Its patterns are only let at short windows of the text,
so that the cost stays linear. And it takes digits that stand right behind a number for a part of
it ("+7 916 123-45-67 24 hours"), and then finds nothing; here every stretch of groups is tried.
Dates are no part of a number and are blanked out first.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from llmwright.core import ConfigurationError, MissingDependencyError

_PHONE_RUN = re.compile(r"[+＋(\d][\d\s().+＋\-‐‑–x~]{5,}")  # one class, so linear
# Behind it: an extension belongs to it; a letter or a time of day says that it is no number.
_PHONE_CONTEXT = re.compile(
    r"(?:ext|extn|int|доб|вн)\.?[ :=]{0,3}\d{1,7}(?!\d)|[^\W\d_]|:\d\d", re.IGNORECASE
)
_GROUP = re.compile(r"\S+")
_PHONE_SIGN = re.compile(r"^[+＋]|\(|\d[-‐‑–]\d")
_PHONE_WINDOW, _PHONE_STEP = 200, 120  # no number is longer than the difference
_PHONE_TRIES = 16  # candidates refused in one window; 200 characters hold 12 numbers
_MONTH, _DAY = r"(?:0[1-9]|1[0-2])", r"(?:0[1-9]|[12]\d|3[01])"
_DATE = re.compile(
    rf"(?<![\d+])(?:(?:19|20)\d\d[-–.]{_MONTH}[-–.]{_DAY}|{_DAY}[-–.]{_MONTH}[-–.](?:19|20)\d\d)(?!\d)"
)


def find_phones(text: str, regions: Sequence[str]) -> Iterator[tuple[int, int]]:
    """The places of phone numbers, in no order and some twice."""
    try:
        import phonenumbers
    except ImportError as error:
        raise MissingDependencyError(
            "finding phone numbers needs the library phonenumbers",
            where="PII detection",
            fix="run: pip install 'llmwright[safety]', or leave out the kind phone",
        ) from error
    check_regions(regions)
    text = blank(text, [match.span() for match in _DATE.finditer(text)])
    for match in _PHONE_RUN.finditer(text):
        yield from _phones_by_group(text, match, regions)
        end = match.end()
        if context := _PHONE_CONTEXT.match(text, end):
            end = context.end()
        # The matcher's own patterns are only let at short windows: linear whatever the text.
        for start in range(match.start(), match.end(), _PHONE_STEP):
            # One character more on the left, for the matcher to see what stands there.
            head = max(0, start - 1)
            window = text[head : min(end, start + _PHONE_WINDOW)]
            for region in regions or ("ZZ",):  # ZZ: only with a country code
                for found in phonenumbers.PhoneNumberMatcher(
                    window, region, phonenumbers.Leniency.VALID, _PHONE_TRIES
                ):
                    yield head + found.start, head + found.end
            if start + _PHONE_WINDOW >= match.end():
                break


def _phones_by_group(
    text: str, run: re.Match[str], regions: Sequence[str]
) -> Iterator[tuple[int, int]]:
    """Numbers with other digits behind them ("+7 916 123-45-67 24 hours"), which the matcher of
    ``phonenumbers`` takes for one number that does not exist: the longest stretch of groups
    that is a number, where it has a sign that numbers have and dates and sums have not."""
    groups = [m.span() for m in _GROUP.finditer(text, *run.span())]
    first = 0
    while first < len(groups):
        for last in range(min(len(groups), first + 6), first, -1):
            start, end = groups[first][0], groups[last - 1][1]
            candidate = text[start:end].rstrip(".-‐‑–(+")
            digits = sum(map(str.isdigit, candidate))
            if not 8 <= digits <= 15 or not _PHONE_SIGN.search(candidate):
                continue
            if any(_is_phone(candidate, region) for region in regions or ("ZZ",)):
                yield start, start + len(candidate)
                first = last - 1
                break
        first += 1


def _is_phone(candidate: str, region: str) -> bool:
    import phonenumbers

    try:
        return bool(phonenumbers.is_valid_number(phonenumbers.parse(candidate, region)))
    except phonenumbers.NumberParseException:
        return False


def check_regions(regions: Sequence[str]) -> None:
    """Raise ``ConfigurationError`` for a region that has no phone numbers, where the library
    that knows them is installed."""
    try:
        import phonenumbers
    except ImportError:
        return
    for region in regions:
        if region not in phonenumbers.SUPPORTED_REGIONS:
            raise ConfigurationError(
                f"{region!r} is no region with phone numbers",
                where="PII detection",
                fix="use ISO 3166 codes such as US, GB, DE or RU",
            )


def blank(text: str, places: Sequence[tuple[int, int]]) -> str:
    """The text with sorted, disjoint places made unreadable; all other places stay the same."""
    pieces, at = [], 0
    for start, end in places:
        pieces += [text[at:start], "|" * (end - start)]
        at = end
    return "".join([*pieces, text[at:]])
