"""The guards in the order they are applied, as functions from a text to a verdict.

Input: length, hidden characters, injection, personal data; the first that refuses decides.
Output: hidden characters are removed, what is too long is cut, personal data is treated as the
policy says. Neither knows about models, streams or conversations; ``guarded`` does.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from llmwright.privacy import Span, find_pii, redact
from llmwright.safety.characters import find_hidden, strip_hidden
from llmwright.safety.injection import THRESHOLD, find_injection
from llmwright.safety.policy import Policy
from llmwright.safety.verdict import Finding, Verdict


def check_input(
    text: str, policy: Policy, *, known: Mapping[str, str] | None = None, reserved: str = ""
) -> Verdict:
    """Judge what a user wrote.

    ``known`` and ``reserved`` are those of ``privacy.redact``: the placeholders of the
    conversation so far, and text whose literal placeholders must not be used.
    """
    if len(text) > policy.max_input_characters:
        detail = f"{len(text)} characters where {policy.max_input_characters} are allowed"
        finding = Finding("length", policy.max_input_characters, len(text), detail, 1.0)
        return Verdict(False, "", (finding,), policy.messages.too_long)

    refusal = ""
    findings: list[Finding] = []
    if policy.block_control_characters:
        findings += find_hidden(text)
        refusal = policy.messages.characters if findings else ""
    if policy.injection != "off":
        score, attempts = find_injection(text)
        findings += attempts
        if score >= THRESHOLD and policy.injection == "block":
            refusal = refusal or policy.messages.injection
    spans = [] if policy.pii_input == "off" else personal_data(text, policy)
    findings += map(_finding, spans)
    if spans and policy.pii_input == "block":
        refusal = refusal or policy.messages.pii_input
    if refusal:
        return Verdict(False, "", tuple(findings), refusal)
    hidden = spans if policy.pii_input == "redact" else []
    redacted = redact(text, hidden, known=known, reserved=reserved)
    return Verdict(True, redacted.text, tuple(findings), mapping=redacted.mapping)


def check_output(
    text: str,
    policy: Policy,
    *,
    own: Collection[str] = (),
    known: Mapping[str, str] | None = None,
    reserved: str = "",
) -> Verdict:
    """Judge what a model wrote. ``own`` holds values that the reader gave himself and may see.

    A text that is too long is cut, not refused. Places of personal data count characters of the
    text after hidden ones are removed.
    """
    findings: list[Finding] = []
    if policy.block_control_characters:
        findings += find_hidden(text)
        text = strip_hidden(text)
    if len(text) > policy.max_output_characters:
        detail = f"cut after {policy.max_output_characters} characters"
        findings.append(Finding("length", policy.max_output_characters, len(text), detail, 0.5))
        text = text[: policy.max_output_characters]
    spans = [] if policy.pii_output == "off" else personal_data(text, policy, own)
    findings += map(_finding, spans)
    if spans and policy.pii_output == "block":
        return Verdict(False, "", tuple(findings), policy.messages.pii_output)
    hidden = spans if policy.pii_output == "redact" else []
    redacted = redact(text, hidden, known=known, reserved=reserved)
    return Verdict(True, redacted.text, tuple(findings), mapping=redacted.mapping)


def personal_data(text: str, policy: Policy, own: Collection[str] = ()) -> list[Span]:
    """Where personal data of the policy's kinds stands, but for the values in ``own``."""
    spans = find_pii(text, policy.pii_kinds, regions=policy.phone_regions)
    return [span for span in spans if text[span.start : span.end] not in own]


def _finding(span: Span) -> Finding:
    return Finding("pii", span.start, span.end, span.kind, 0.5)
