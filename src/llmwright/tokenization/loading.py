"""Finding a model's tokenizer: in a folder with tokenizer.json, or inside a GGUF file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import AddedToken
from tokenizers import Tokenizer as Backend

from llmwright.core import InputError, ModelSourceError, read_json, read_text
from llmwright.tokenization.gguf_header import GGUFHeader, read_gguf
from llmwright.tokenization.tokenizer import Tokenizer
from llmwright.tokenization.vocabulary import tokenizer_from_gguf

# Tokens that end a turn or a text wherever a vocabulary has them as special tokens; models name
# one as eos_token, and their templates end turns with another.
KNOWN_ENDS = (
    "<|im_end|>",
    "<|endoftext|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end_of_text|>",
    "<|end|>",
    "<end_of_turn>",
    "</s>",
)
# The roles of special tokens, each with its name in GGUF's keys.
ROLES = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}


def load_tokenizer(path: Path | str | GGUFHeader) -> Tokenizer:
    """Load the tokenizer of a model.

    ``path`` is a folder with tokenizer.json (tokenizer_config.json, special_tokens_map.json,
    chat_template.jinja and generation_config.json are read where present), or a GGUF file, whose
    head may be given if it has been read already. Raises ``ModelSourceError``.
    """
    if isinstance(path, GGUFHeader):
        return _from_gguf(path)
    path = Path(path)
    return _from_folder(path) if path.is_dir() else _from_gguf(read_gguf(path))


def _from_gguf(header: GGUFHeader) -> Tokenizer:
    metadata = header.metadata
    where = str(header.path)
    backend = tokenizer_from_gguf(metadata, where)
    tokens = metadata["tokenizer.ggml.tokens"]
    special = {}
    for role, name in ROLES.items():
        number = metadata.get(f"tokenizer.ggml.{name}_token_id")
        if number is not None and number < len(tokens):
            special[role] = tokens[number]
    ends = [
        int(metadata[key])
        for key in ("tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id")
        if key in metadata
    ]
    template = metadata.get("tokenizer.chat_template")
    return _tokenizer(backend, special, template, ends, where)


def _from_folder(folder: Path) -> Tokenizer:
    file = folder / "tokenizer.json"
    if not file.is_file():
        raise ModelSourceError(
            "the folder has no tokenizer.json",
            where=str(folder),
            fix="save the tokenizer in its fast form (transformers' save_pretrained writes it)",
        )
    text = read_text(file)
    try:
        backend = Backend.from_str(text)
    except Exception as error:  # the Rust library raises plain Exception for any broken file
        raise ModelSourceError(
            f"not a tokenizer ({error})", where=str(file), fix="fetch the file again"
        ) from error
    backend.no_truncation()  # a text is encoded whole; who cuts says so
    backend.no_padding()
    config = _object(folder / "tokenizer_config.json")
    special_map = _object(folder / "special_tokens_map.json")
    special = {}
    for role in ROLES:
        token = config.get(role) or special_map.get(role)
        token = token.get("content") if isinstance(token, dict) else token
        if isinstance(token, str):
            special[role] = token
    # Roles and extra tokens declared beside tokenizer.json are special tokens as well.
    known = {token.content for token in backend.get_added_tokens_decoder().values()}
    missing = [t for t in special.values() if t not in known and backend.token_to_id(t) is not None]
    backend.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in missing])
    ends: list[int] = []
    for name in ("generation_config.json", "config.json"):
        value = _object(folder / name).get("eos_token_id")
        ends += [v for v in (value if isinstance(value, list) else [value]) if isinstance(v, int)]
    return _tokenizer(backend, special, _template(folder, config), ends, str(folder))


def _tokenizer(
    backend: Backend,
    special: Mapping[str, str],
    template: str | None,
    ends: list[int],
    where: str,
) -> Tokenizer:
    added = backend.get_added_tokens_decoder()
    ends = ends + [n for n, token in added.items() if token.special and token.content in KNOWN_ENDS]
    return Tokenizer(backend, special=special, chat_template=template, ends=ends, where=where)


def _template(folder: Path, config: Mapping[str, Any]) -> str | None:
    file = folder / "chat_template.jinja"
    if file.is_file():
        return read_text(file)
    template = config.get("chat_template")
    if isinstance(template, list):  # several, by name
        named = {t.get("name"): t.get("template") for t in template if isinstance(t, dict)}
        template = named.get("default")
    return template if isinstance(template, str) else None


def _object(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    value = read_json(file)
    if not isinstance(value, dict):
        raise InputError("holds no JSON object", where=str(file), fix="fetch the file again")
    return value
