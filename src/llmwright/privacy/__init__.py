"""Personal data in text: where it stands, and hiding it so that it can be put back."""

from llmwright.privacy.phones import check_regions
from llmwright.privacy.pii import DEFAULT_REGIONS, PII_KINDS, PIIKind, Span, find_pii
from llmwright.privacy.redaction import Redacted, redact, restore
from llmwright.privacy.streaming import safe_length

__all__ = [
    "DEFAULT_REGIONS",
    "PII_KINDS",
    "PIIKind",
    "Redacted",
    "Span",
    "check_regions",
    "find_pii",
    "redact",
    "restore",
    "safe_length",
]
