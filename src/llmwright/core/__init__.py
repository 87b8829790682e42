"""The vocabulary every room speaks, and the few services every room needs.

Nothing here knows about models, documents or servers; nothing here imports another room.
"""

from llmwright.core.compiling import CLibrary, Native
from llmwright.core.endpoint import Endpoint, endpoint_of, is_endpoint
from llmwright.core.errors import (
    CapacityError,
    ConfigurationError,
    ContextLengthError,
    GateError,
    InputError,
    LLMwrightError,
    MissingDependencyError,
    ModelSourceError,
    RecipeError,
    UpstreamError,
)
from llmwright.core.files import (
    append_jsonl,
    atomic_folder,
    atomic_write,
    kind_of,
    read_json,
    read_jsonl,
    read_located_jsonl,
    read_text,
    reading,
    sweep,
    write_json,
    write_jsonl,
    writing,
)
from llmwright.core.hashing import canonical_json, content_hash, file_hash, tree_hash
from llmwright.core.journal import Journal
from llmwright.core.lazy import lazy_exports
from llmwright.core.lock import exclusive
from llmwright.core.pictures import PICTURE_STYLE
from llmwright.core.progress import progress
from llmwright.core.sampling import SamplingParams
from llmwright.core.settings import Settings, settings
from llmwright.core.streams import closing, completed
from llmwright.core.threads import waited
from llmwright.core.toml import read_toml
from llmwright.core.types import (
    ChatModel,
    Chunk,
    Completion,
    Delta,
    Document,
    DType,
    Embedder,
    Example,
    FinishReason,
    Hit,
    Message,
    Preference,
    Role,
    Score,
    Search,
    SearchMode,
    Section,
    TokenLogprob,
    Usage,
)

__all__ = [
    "PICTURE_STYLE",
    "CLibrary",
    "CapacityError",
    "ChatModel",
    "Chunk",
    "Completion",
    "ConfigurationError",
    "ContextLengthError",
    "DType",
    "Delta",
    "Document",
    "Embedder",
    "Endpoint",
    "Example",
    "FinishReason",
    "GateError",
    "Hit",
    "InputError",
    "Journal",
    "LLMwrightError",
    "Message",
    "MissingDependencyError",
    "ModelSourceError",
    "Native",
    "Preference",
    "RecipeError",
    "Role",
    "SamplingParams",
    "Score",
    "Search",
    "SearchMode",
    "Section",
    "Settings",
    "TokenLogprob",
    "UpstreamError",
    "Usage",
    "append_jsonl",
    "atomic_folder",
    "atomic_write",
    "canonical_json",
    "closing",
    "completed",
    "content_hash",
    "endpoint_of",
    "exclusive",
    "file_hash",
    "is_endpoint",
    "kind_of",
    "lazy_exports",
    "progress",
    "read_json",
    "read_jsonl",
    "read_located_jsonl",
    "read_text",
    "read_toml",
    "reading",
    "settings",
    "sweep",
    "tree_hash",
    "waited",
    "write_json",
    "write_jsonl",
    "writing",
]
