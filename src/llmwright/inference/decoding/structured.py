"""Structured output: at each step only tokens that can lead to a valid answer.

    z_i <- -inf  where no valid answer begins with (answer so far) + token i

A JSON schema, a regular expression or a Lark grammar is compiled once into an automaton over
bytes, run along the trie of the vocabulary's bytes to give a bit for every token (Willard & Louf,
"Efficient Guided Generation for Large Language Models", 2023, arXiv 2307.09702; Koo, Liu, He,
"Automata-based constraints for language model decoding", 2024, arXiv 2407.08103). The work is
done by llguidance (Rust): tens of microseconds a mask. An end token is allowed exactly where the
answer may end, so an answer that ends by itself is valid; one that ``max_tokens`` cuts is not,
and says so by its finish reason "length".

JSON comes in one layout, ``{"a": 1, "b": [2]}``: a model that may write any white space can
write it for ever.
"""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from llmwright.core import CapacityError, InputError, MissingDependencyError, SamplingParams
from llmwright.tokenization import Tokenizer

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

_LAYOUT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
_KEPT = 64  # compiled grammars of one tokenizer


class GrammarState:
    """Where one answer stands in its grammar."""

    def __init__(self, matcher: LLMatcher, vocab_size: int, end: int) -> None:
        self._matcher = matcher
        self._vocab_size = vocab_size
        self._end = end  # the token by which llguidance itself says "may end here"

    @property
    def accepting(self) -> bool:
        """Whether the answer may end here."""
        return bool(self._matcher.is_accepting())

    @property
    def finished(self) -> bool:
        """Whether the answer is whole and nothing may follow but its end."""
        return bool(self._matcher.is_stopped() and not self._matcher.is_error())

    def mask(self) -> Tensor:
        """Which tokens may come next, bool [the tokenizer's vocabulary]; ends not counted."""
        if self.finished:
            return torch.zeros(self._vocab_size, dtype=torch.bool)
        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        self._check()
        allowed = np.unpackbits(bits, count=self._vocab_size, bitorder="little")
        allowed[self._end] = 0
        return torch.from_numpy(allowed).bool()

    def forbid(self, row: Tensor, ends: Collection[int]) -> None:
        """Set what may not come next to -inf in logits [vocab], which may be more tokens than
        the tokenizer has. A token of ``ends`` stays exactly where the answer may end."""
        allowed = torch.zeros(len(row), dtype=torch.bool)
        mask = self.mask()[: len(row)]
        allowed[: len(mask)] = mask
        allowed[list(ends)] = self.accepting
        row.masked_fill_(~allowed.to(row.device), -torch.inf)

    def allows(self, token: int) -> bool:
        """Whether this token, which is no end, may come next."""
        return not self.finished and self._matcher.validate_tokens([token]) == 1

    def advance(self, token: int) -> None:
        """Read a token that ``mask`` allowed."""
        self._matcher.consume_token(token)
        self._check()

    def clone(self) -> GrammarState:
        """A copy that goes its own way."""
        return GrammarState(self._matcher.deep_copy(), self._vocab_size, self._end)

    def _check(self) -> None:
        if self._matcher.is_error():
            raise CapacityError(
                f"the grammar cannot be followed: {_told(self._matcher.get_error())}",
                where="structured output",
                fix="make the schema or grammar simpler",
            )


def compile_grammar(tokenizer: Tokenizer, params: SamplingParams) -> GrammarState:
    """The start of the grammar that ``params`` ask for; they are ``structured``.

    The first call for a tokenizer costs about a second, the first for a grammar some
    milliseconds; both are kept. Raises ``InputError`` for what is no schema, expression or
    grammar, or uses keywords that cannot be kept, and ``MissingDependencyError``.
    """
    with _LOCK:
        compiler = _COMPILERS.get(tokenizer)
        if compiler is None:
            compiler = _COMPILERS[tokenizer] = _Compiler(tokenizer)
        return compiler.start(params)


class _Compiler:
    """The vocabulary as llguidance wants it, and the grammars compiled last."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        try:
            import llguidance
        except ImportError as error:
            raise MissingDependencyError(
                "structured output needs llguidance",
                fix="pip install 'llmwright[local]'",
            ) from error
        self._matchers: OrderedDict[str, LLMatcher] = OrderedDict()
        self._library = llguidance
        self._vocab_size = tokenizer.vocab_size
        wrapped = llguidance.TokenizerWrapper(_Vocabulary(tokenizer))
        self._tokenizer: LLTokenizer = llguidance.LLTokenizer(wrapped)

    def start(self, params: SamplingParams) -> GrammarState:
        grammar = self._grammar(params)
        matcher = self._matchers.get(grammar)
        if matcher is None:
            matcher = self._library.LLMatcher(self._tokenizer, grammar, log_level=0)
            if matcher.is_error():
                kind = next(k for k in ("json_schema", "regex", "grammar") if getattr(params, k))
                raise InputError(
                    f"{kind} cannot be used: {_told(matcher.get_error())}",
                    where="sampling parameters",
                    fix="correct it, or leave out what is not supported",
                )
            self._matchers[grammar] = matcher
        self._matchers.move_to_end(grammar)
        while len(self._matchers) > _KEPT:
            self._matchers.popitem(last=False)
        return GrammarState(matcher.deep_copy(), self._vocab_size, self._tokenizer.eos_token)

    def _grammar(self, params: SamplingParams) -> str:
        make = self._library.LLMatcher
        if params.json_schema is not None:
            return make.grammar_from_json_schema(params.json_schema, defaults=_LAYOUT)  # type: ignore[arg-type]
        if params.regex is not None:
            return make.grammar_from_regex(params.regex)
        return make.grammar_from_lark(params.grammar or "")


class _Vocabulary:
    """What llguidance asks of a tokenizer: every token's bytes, and text to tokens. Special
    tokens have no bytes, so no string can hold them."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        def text_of(token: int) -> bytes:
            try:
                return tokenizer.token_bytes(token)
            except InputError:  # a number that no token has
                return b""

        self._tokenizer = tokenizer
        self.tokens = [text_of(token) for token in range(tokenizer.vocab_size)]
        self.eos_token_id = min(tokenizer.eos_ids, default=0)
        self.bos_token_id = tokenizer.bos_id
        self.special_token_ids: list[int] = []

    def __call__(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, parse_special=False)


def _told(message: str) -> str:
    """One line of an error that may draw a picture: its first, and what explains it."""
    lines = [line.strip() for line in message.strip().splitlines() if line.strip()]
    reasons = [line.removeprefix("error:").strip() for line in lines if line.startswith("error:")]
    return ": ".join([lines[0].rstrip(".:"), *reasons[:1]])


_COMPILERS: weakref.WeakKeyDictionary[Tokenizer, _Compiler] = weakref.WeakKeyDictionary()
_LOCK = threading.Lock()
