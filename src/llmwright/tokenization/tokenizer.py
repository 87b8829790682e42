"""Text to token ids and back, for one model: its vocabulary, its chat template, its end tokens.

The work is done by Hugging Face's ``tokenizers`` (Rust); this adds what a chat model needs around
it: conversations in which no message can forge a special token, masks that say which tokens are
the assistant's, streams that never break a character, and one shape for tokenizer.json and GGUF.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as Backend
from tokenizers import decoders

from llmwright.core import InputError, Message, atomic_write, write_json
from llmwright.tokenization.chat import ChatTemplate
from llmwright.tokenization.streaming import StreamDecoder


def _byte_letters() -> dict[str, int]:
    """GPT-2's printable letter for each byte (Radford et al., 2019), from letter to byte."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = (byte for byte in range(256) if byte not in printable)
    letters = {chr(byte): byte for byte in printable}
    letters.update({chr(256 + place): byte for place, byte in enumerate(others)})
    return letters


_BYTES = _byte_letters()


class Tokenizer:
    """A model's tokenizer. Made by ``load_tokenizer``; safe to use from several threads.

    ``special`` maps roles (``bos_token``, ``eos_token``, ``unk_token``, ``pad_token``) to tokens;
    ``ends`` are further tokens that end a turn.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        special: Mapping[str, str],
        chat_template: str | None,
        ends: Iterable[int] = (),
        where: str = "",
    ) -> None:
        self._backend = backend
        self.where = where
        self.special: Mapping[str, str] = dict(special)
        self.chat_template = chat_template
        self._template: ChatTemplate | None = None
        added = backend.get_added_tokens_decoder()
        self._special_ids = frozenset(n for n, token in added.items() if token.special)
        self._special_names = {added[n].content: n for n in self._special_ids}
        # Text in which special tokens are only text.
        self._plain = Backend.from_str(backend.to_str())
        self._plain.encode_special_tokens = True
        names = sorted(self._special_names, key=len, reverse=True)
        self._special_pattern = re.compile("|".join(map(re.escape, names))) if names else None

        self.vocab_size: int = backend.get_vocab_size(with_added_tokens=True)
        self.bos_id = self._role("bos_token")
        self.pad_id = self._role("pad_token")
        eos = self._role("eos_token")
        self.eos_ids: frozenset[int] = frozenset([*ends, *([] if eos is None else [eos])])
        self._byte_level = isinstance(backend.decoder, decoders.ByteLevel)
        # SentencePiece writes a space before the first word, and decoding takes it away.
        word = self.encode("a")
        written = b"".join(map(self.token_bytes, word))
        self._strips_space = written.startswith(b" ") and not self.decode(word).startswith(" ")

    def _role(self, role: str) -> int | None:
        token = self.special.get(role)
        number = None if token is None else self._backend.token_to_id(token)
        return number if number is None else int(number)

    # Text

    def encode(
        self, text: str, *, add_special: bool = False, parse_special: bool = True
    ) -> list[int]:
        """Token ids of a text. ``add_special`` adds the begin and end tokens the model was
        trained with; ``parse_special=False`` reads ``<|im_end|>`` and its like as plain text,
        which is right for every text that comes from outside."""
        backend = self._backend if parse_special else self._plain
        return list(backend.encode(text, add_special_tokens=add_special).ids)

    def decode(self, token_ids: Sequence[int], *, skip_special: bool = True) -> str:
        """The text of token ids; bytes that make no character give U+FFFD."""
        return str(self._backend.decode(list(token_ids), skip_special_tokens=skip_special))

    def count(self, text: str) -> int:
        """How many tokens a text has, special tokens in it read as plain text."""
        return len(self._plain.encode(text, add_special_tokens=False).ids)

    def token(self, token_id: int) -> str:
        """The token as the vocabulary writes it. Raises ``InputError`` for ids it lacks."""
        token = self._backend.id_to_token(token_id)
        if token is None:
            raise InputError(
                f"there is no token {token_id}",
                where=self.where,
                fix=f"ids run from 0 to {self.vocab_size - 1}",
            )
        return str(token)

    def token_bytes(self, token_id: int, *, skip_special: bool = True) -> bytes:
        """What the token stands for in a text, as bytes."""
        if token_id in self._special_ids:
            return b"" if skip_special else self.token(token_id).encode()
        token = self.token(token_id)
        if self._byte_level:
            letters = [_BYTES.get(letter) for letter in token]
            return token.encode() if None in letters else bytes(letters)  # type: ignore[arg-type]
        if re.fullmatch(r"<0x[0-9A-F]{2}>", token):
            return bytes([int(token[3:5], 16)])
        return token.replace("\u2581", " ").encode()

    def stream_decoder(self) -> StreamDecoder:
        """A fresh decoder for one stream of tokens."""
        return StreamDecoder(self.token_bytes, strip_space=self._strips_space)

    # Conversations

    @property
    def template(self) -> ChatTemplate:
        """The chat template. Raises ``InputError`` where the model has none."""
        if self._template is None:
            if self.chat_template is None:
                raise InputError(
                    "the model has no chat template",
                    where=self.where,
                    fix="use a chat or instruct model, or put a chat_template.jinja beside it",
                )
            self._template = ChatTemplate(self.chat_template, self.special, self.where)
        return self._template

    def encode_chat(
        self, messages: Sequence[Message], *, add_generation_prompt: bool = True
    ) -> list[int]:
        """Token ids of a conversation; special tokens come from the template alone."""
        return self._encode_chat(messages, add_generation_prompt)[0]

    def encode_chat_spans(self, messages: Sequence[Message]) -> tuple[list[int], list[bool]]:
        """Token ids of a whole conversation, and True for each that the assistant has to say:
        its contents and the token that ends its turn."""
        return self._encode_chat(messages, add_generation_prompt=False)

    def _encode_chat(
        self, messages: Sequence[Message], add_generation_prompt: bool
    ) -> tuple[list[int], list[bool]]:
        text, spans = self.template.locate(messages, add_generation_prompt=add_generation_prompt)
        specials = self._template_specials(text, messages, spans)
        answers = self._answer_starts(text, messages, spans)
        ids: list[int] = []
        mask: list[bool] = []
        speaking = False
        # Text is cut at the template's special tokens, and where an answer begins: there the
        # model starts to write, so no token of its training may reach over that place. (Not for
        # SentencePiece, which would write a space before each piece.)
        cuts = {0, len(text), *(p for s in specials for p in s[:2])}
        if not self._strips_space:
            cuts |= answers
        numbers = {begin: number for begin, _, number in specials}
        for begin, end in itertools.pairwise(sorted(cuts)):
            number = numbers.get(begin)
            if number is not None:
                ids.append(number)
                mask.append(speaking)
                speaking = speaking and number not in self.eos_ids
                continue
            piece = self._plain.encode(text[begin:end], add_special_tokens=False)
            for token, (offset, _) in zip(piece.ids, piece.offsets, strict=True):
                speaking = speaking or any(begin <= a <= begin + offset for a in answers)
                ids.append(token)
                mask.append(speaking)
            speaking = speaking or end in answers
        return ids, mask

    def _template_specials(
        self, text: str, messages: Sequence[Message], spans: Sequence[tuple[int, int] | None]
    ) -> list[tuple[int, int, int]]:
        """Start, end and id of every special token that the template wrote."""
        if self._special_pattern is None:
            return []
        for message, span in zip(messages, spans, strict=True):
            if span is None and self._special_pattern.search(message.content):
                raise InputError(
                    "a message holds a special token, and the chat template rewrites the message, "
                    "so the two cannot be told apart",
                    where=f"{self.where}, role {message.role}",
                    fix="take the special token out of the message",
                )
        inside = [span for span in spans if span is not None]
        return [
            (match.start(), match.end(), self._special_names[match[0]])
            for match in self._special_pattern.finditer(text)
            if not any(a < match.end() and match.start() < b for a, b in inside)
        ]

    def _answer_starts(
        self, text: str, messages: Sequence[Message], spans: Sequence[tuple[int, int] | None]
    ) -> set[int]:
        """Where each answer begins: behind the prompt that the model would be given there."""
        starts = set()
        for number, message in enumerate(messages):
            if message.role != "assistant":
                continue
            try:
                prompt = self.template.render(messages[:number])
            except InputError:
                prompt = None  # some templates refuse a conversation that starts this way
            span = spans[number]
            if prompt is not None and text.startswith(prompt):
                starts.add(len(prompt))
            elif span is not None:
                starts.add(span[0])
        return starts

    # Files

    def definition(self) -> dict[str, Any]:
        """The content of tokenizer.json."""
        return dict(json.loads(self._backend.to_str()))

    def save(self, folder: Path) -> None:
        """Write tokenizer.json, tokenizer_config.json (chat template included) and
        special_tokens_map.json, as transformers and vLLM read them."""
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(folder / "tokenizer.json") as temporary:
            temporary.write_text(self._backend.to_str(pretty=True), encoding="utf-8")
        config: dict[str, Any] = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "clean_up_tokenization_spaces": False,
            **self.special,
        }
        if self.chat_template is not None:
            config["chat_template"] = self.chat_template
        write_json(folder / "tokenizer_config.json", config)
        write_json(folder / "special_tokens_map.json", self.special)
