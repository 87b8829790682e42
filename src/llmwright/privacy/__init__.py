"""Personal data in text: where it stands, and hiding it so that it can be put back."""

from llmwright.privacy.phones import check_regions
from llmwright.privacy.pii import PII_KINDS, PIIKind, Span, find_pii, merge_spans
from llmwright.privacy.redaction import PLACEHOLDER, Redacted, redact, restore
from llmwright.privacy.streaming import safe_length

__all__ = [
    "PII_KINDS",
    "PLACEHOLDER",
    "PIIKind",
    "Redacted",
    "Span",
    "check_regions",
    "find_pii",
    "merge_spans",
    "redact",
    "restore",
    "safe_length",
]
