"""LLMwright, the build system for LLM applications.

A recipe names documents, data, a base model, adaptation, retrieval, guards and quality
gates; ``llmwright build`` carries it out and writes a measured release. Every stage is also
a plain library call in a room of its own: ``llmwright.retrieval``, ``llmwright.training``, ...

Importing this package is cheap on purpose: it brings in the vocabulary and nothing heavy.
"""

__version__ = "0.1.0"
