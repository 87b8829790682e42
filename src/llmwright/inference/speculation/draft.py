"""Drafts from a second, smaller model of the same vocabulary.

The draft model writes k tokens one by one, each drawn as the target would draw (same
temperature, top-k, top-p), and remembers the distributions q_1 ... q_k they came from. It keeps a
cache of keys and values of its own. After a round:

- it rolls the cache back to the last token that was kept, by comparing what it wrote with what
  stands now;
- the last draft was drawn but never read, so after a full acceptance the next round reads two
  tokens, that draft and the bonus. (Leaving it out is the classical mistake: everything still
  runs, with a hole in the draft's cache, and only the acceptance rate suffers.)

Several sequences share each forward pass. k drafts cost k passes of the small model, the first
of them also reading what is new. (Leviathan et al., 2022, arXiv 2211.17192; Chen et al., 2023,
arXiv 2302.01318.)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from llmwright.core import ConfigurationError
from llmwright.inference.ragged import RaggedAttention, SequenceCache
from llmwright.inference.speculation.acceptance import draw
from llmwright.inference.speculation.proposer import Ask, Draft
from llmwright.modeling import Decoder

_CHUNK = 512  # tokens of a prompt read in one pass


class _Sequence:
    """What the draft model knows of one sequence: the tokens whose keys and values it holds."""

    def __init__(self, decoder: Decoder) -> None:
        config = decoder.config
        self.cache = SequenceCache(config.num_hidden_layers, config.max_position_embeddings)
        self.read: list[int] = []
        self.sure = 0  # tokens of ``read`` that stood when last asked: only drafts may go

    def roll_back(self, token_ids: Sequence[int]) -> None:
        """Keep what still stands of what was read, at most all but the last of ``token_ids``."""
        most = min(len(self.read), len(token_ids) - 1)
        kept = min(self.sure, most)
        while kept < most and self.read[kept] == token_ids[kept]:
            kept += 1
        del self.read[kept:]
        self.cache.length = kept
        self.sure = len(token_ids)


class DraftModelProposer:
    """A small decoder that guesses for a larger one; see ``proposer.Proposer``."""

    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder
        self._sequences: dict[int, _Sequence] = {}

    def check_vocabulary(self, size: int) -> None:
        """Raise ``ConfigurationError`` unless the target has the same number of token ids."""
        own = self.decoder.config.vocab_size
        if own != size:
            raise ConfigurationError(
                f"the draft model knows {own} tokens and the target {size}",
                where="draft model", fix="use two models of one tokenizer",
            )  # fmt: skip

    def propose(self, key: int, token_ids: Sequence[int], length: int) -> Draft:
        return self.propose_all([Ask(key, token_ids, length)])[0]

    @torch.inference_mode()
    def propose_all(self, asks: Sequence[Ask]) -> list[Draft]:
        """``k`` passes, where k is the largest length asked for."""
        limit = self.decoder.config.max_position_embeddings
        wanted = [max(0, min(ask.length, limit - len(ask.token_ids))) for ask in asks]
        tokens: list[list[int]] = [[] for _ in asks]
        drawn_from: list[list[Tensor]] = [[] for _ in asks]
        pending: list[list[int]] = []
        for ask, length in zip(asks, wanted, strict=True):
            if not length:
                pending.append([])
                continue
            sequence = self._sequences.setdefault(ask.key, _Sequence(self.decoder))
            sequence.roll_back(ask.token_ids)
            pending.append(list(ask.token_ids[len(sequence.read) :]))
        for place in range(max(wanted, default=0)):
            active = [i for i, length in enumerate(wanted) if place < length]
            logits = self._read([(asks[i].key, pending[i]) for i in active])
            for row, i in zip(logits, active, strict=True):
                state = asks[i].state
                if state is None:
                    token = int(row.argmax())
                else:
                    q = state.probabilities(row, tokens[i])
                    token = draw(q, state.generator)
                    drawn_from[i].append(q)
                tokens[i].append(token)
                pending[i] = [token]
        return [
            Draft(tuple(chosen), torch.stack(q) if q else None)
            for chosen, q in zip(tokens, drawn_from, strict=True)
        ]

    def forget(self, key: int) -> None:
        self._sequences.pop(key, None)

    def _read(self, news: Sequence[tuple[int, list[int]]]) -> Tensor:
        """Read new tokens of several sequences; logits [sequences, vocab] after each one's last."""
        sequences = [self._sequences[key] for key, _ in news]
        for sequence, (_, new) in zip(sequences, news, strict=True):
            while len(new) > _CHUNK:
                self._forward([sequence], [new[:_CHUNK]])
                del new[:_CHUNK]
        return self._forward(sequences, [new for _, new in news])

    def _forward(self, sequences: Sequence[_Sequence], news: Sequence[list[int]]) -> Tensor:
        device = self.decoder.device
        counts = [len(new) for new in news]
        attention = RaggedAttention([s.cache for s in sequences], counts, device)
        ids = torch.tensor([[token for new in news for token in new]], device=device)
        ends = torch.tensor(counts, device=device).cumsum(0) - 1
        logits = self.decoder(ids, attention.positions, attention, logits_at=ends)[0]
        attention.commit()
        for sequence, new in zip(sequences, news, strict=True):
            sequence.read.extend(new)
        return logits  # type: ignore[no-any-return]
