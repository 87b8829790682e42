"""What a model is told: templates with named places, and the prompt of the cited answer.

This room knows nothing of models, indexes or tokenizers: text and passages in, messages out.
"""

from llmwright.prompting.cited import CITED_SYSTEM, cited_messages, quoted
from llmwright.prompting.template import PromptTemplate

__all__ = ["CITED_SYSTEM", "PromptTemplate", "cited_messages", "quoted"]
