"""Guards: plain functions from a text to a verdict, and a chat model wrapped in them."""

from llmwright.safety.check import check_input, check_output
from llmwright.safety.guarded import GuardedModel
from llmwright.safety.injection import find_injection
from llmwright.safety.policy import Messages, Policy, load_policy
from llmwright.safety.verdict import Finding, Verdict

__all__ = [
    "Finding",
    "GuardedModel",
    "Messages",
    "Policy",
    "Verdict",
    "check_input",
    "check_output",
    "find_injection",
    "load_policy",
]
