"""Personal data in text: where it stands, and hiding it so that it can be put back."""

from llmwright.privacy.pii import PII_KINDS, PIIKind, Span, find_pii, merge_spans
from llmwright.privacy.redaction import PLACEHOLDER, Redacted, redact, restore

__all__ = [
    "PII_KINDS",
    "PLACEHOLDER",
    "PIIKind",
    "Redacted",
    "Span",
    "find_pii",
    "merge_spans",
    "redact",
    "restore",
]
