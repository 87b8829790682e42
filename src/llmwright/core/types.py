"""The vocabulary: the few types that pass between rooms.

All are frozen dataclasses of plain values, or protocols. Things compose by being a
``ChatModel``: an engine, a remote endpoint, a cited answerer, a guarded model and an opened
release all are, so evaluation, red team and gateway take any of them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from llmwright.core.sampling import SamplingParams

if TYPE_CHECKING:  # numpy is imported by the rooms that compute, not by the vocabulary
    import numpy as np
    from numpy.typing import NDArray

Role = Literal["system", "user", "assistant", "tool"]
FinishReason = Literal["stop", "length", "content_filter"]
#: What a model's weights are computed in; "auto" looks at the processor.
DType = Literal["auto", "float32", "bfloat16"]
#: How hits are found: by words, by vectors, or by both, fused.
SearchMode = Literal["hybrid", "lexical", "dense"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens read and written."""

    prompt_tokens: int = 0
    completion_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
        )


@dataclass(frozen=True, slots=True)
class Section:
    """A headed part of a document: ``text[start:end]``, from its heading to the next one
    of the same or a higher level. ``anchor`` is the GitHub-style slug of the heading."""

    title: str
    anchor: str
    level: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Document:
    """A text with an identity. Offsets everywhere count characters of ``text``."""

    id: str
    text: str
    title: str = ""
    source: str = ""
    language: str = ""
    sections: tuple[Section, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a document: ``document.text[start:end] == text``. ``heading`` is the path of
    headings it stands under (``"LoRA > Rank"``), given to the model and the retrievers beside the
    text."""

    id: str
    document_id: str
    text: str
    start: int
    end: int
    heading: str = ""
    language: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Hit:
    """A retrieved chunk. ``ranks`` says which retriever put it at which place, from 1."""

    chunk: Chunk
    score: float
    ranks: Mapping[str, int] = field(default_factory=dict)


#: The ``top`` best hits for a query, best first. An index gives one; reranking, expansion and
#: whatever else makes hits better takes one and gives one.
Search = Callable[[str, int], Sequence[Hit]]


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token as it stands in a text, and how likely the model held it (natural logarithm, before
    temperature and filters). ``raw`` is its bytes, which may end inside a character where
    ``text`` shows U+FFFD. ``top`` holds the likeliest tokens at its place, best first, without a
    ``top`` of their own."""

    text: str
    logprob: float
    raw: bytes
    top: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Completion:
    """A finished answer.

    ``token_ids`` and ``logprobs`` (natural logarithm, under the model's own distribution before
    temperature and filters) are in step, and each is empty where the model does not tell it;
    ``sources`` holds the passages that ``[1]``, ``[2]``, ... in the text refer to.
    ``top_logprobs`` is filled where ``SamplingParams.logprobs`` asks: one record for each token
    of the answer except one that only ended it. ``alternatives`` holds the other answers where
    ``n`` asks for several, best first where they are ranked; ``usage`` counts all of them.
    """

    text: str
    finish_reason: FinishReason = "stop"
    usage: Usage = Usage()
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    sources: tuple[Hit, ...] = ()
    top_logprobs: tuple[TokenLogprob, ...] = ()
    alternatives: tuple[Completion, ...] = ()


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of a streamed answer. The last piece, and only it, carries ``completion``; the
    pieces' texts joined equal ``completion.text``, and so do their ``top_logprobs``. Of several
    answers the first is streamed; the others come whole, with ``completion``."""

    text: str
    completion: Completion | None = None
    top_logprobs: tuple[TokenLogprob, ...] = ()


@runtime_checkable
class ChatModel(Protocol):
    """Anything that answers a conversation.

    ``stream`` is an asynchronous generator: closing it, or cancelling the task that waits on
    ``complete``, stops the work and frees what it held.
    """

    @property
    def name(self) -> str: ...

    async def complete(
        self, messages: Sequence[Message], params: SamplingParams | None = None
    ) -> Completion: ...

    def stream(
        self, messages: Sequence[Message], params: SamplingParams | None = None
    ) -> AsyncIterator[Delta]: ...


@runtime_checkable
class Embedder(Protocol):
    """Anything that turns texts into unit vectors.

    ``languages`` names the ISO 639-1 codes the model was trained on; ``None`` means any. A
    dense retriever does not vote on texts in other languages.
    """

    @property
    def name(self) -> str: ...

    @property
    def dimension(self) -> int: ...

    @property
    def languages(self) -> frozenset[str] | None: ...

    def embed(
        self, texts: Sequence[str], *, kind: Literal["query", "document"] = "document"
    ) -> NDArray[np.float32]:  # [texts, dimension], L2-normalised
        ...


@dataclass(frozen=True, slots=True)
class Example:
    """A chat record to learn from: the assistant's turns are the targets."""

    messages: tuple[Message, ...]
    id: str = ""


@dataclass(frozen=True, slots=True)
class Preference:
    """Two answers to one conversation, the better first."""

    prompt: tuple[Message, ...]
    chosen: str
    rejected: str
    id: str = ""


@dataclass(frozen=True, slots=True)
class Score:
    """A figure with its 95% interval over ``n`` examples. ``value`` is None where it could not
    be computed: unscored, which is neither 0 nor 1. ``unscored`` counts further examples that
    could not be scored and are not in ``n``."""

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0
    unscored: int = 0
