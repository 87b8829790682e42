"""Two tiny random models of one vocabulary, close enough that drafts are sometimes kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import torch
from scipy import stats

from llmwright.inference.runners import TorchRunner
from llmwright.inference.speculation import DraftModelProposer
from llmwright.modeling import Decoder, ModelConfig, random_decoder

VOCAB = 24


def tiny(layers: int = 2, seed: int = 0, std: float = 0.3, vocab: int = VOCAB) -> Decoder:
    config = ModelConfig(
        vocab_size=vocab, hidden_size=16, intermediate_size=32, num_hidden_layers=layers,
        num_attention_heads=4, num_key_value_heads=2, head_dim=4, max_position_embeddings=256,
    )  # fmt: skip
    return random_decoder(config, seed=seed, std=std)


@pytest.fixture(scope="session")
def target() -> Decoder:
    return tiny()


@pytest.fixture(scope="session")
def relative(target: Decoder) -> Decoder:
    """The target with noise on its weights: agrees with it often, not always."""
    other = tiny()
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for weight in other.parameters():
            weight += 0.05 * torch.randn(weight.shape, generator=generator)
    return other


@pytest.fixture(scope="session")
def drafts_from() -> Callable[..., DraftModelProposer]:
    """A proposer over a decoder, with so many pages of 4 tokens."""

    def make(decoder: Decoder, blocks: int = 128) -> DraftModelProposer:
        return DraftModelProposer(TorchRunner(decoder, blocks, 4), decoder.config)

    return make


@pytest.fixture(scope="session")
def follows() -> Callable[[Mapping, Mapping], bool]:
    """Whether counts are draws from expected counts, by chi-square; small cells as one."""

    def test(counts: Mapping, wanted: Mapping) -> bool:
        if any(cell not in wanted or wanted[cell] <= 0.0 for cell in counts):
            return False  # something came out that never may
        large = [cell for cell, expected in wanted.items() if expected >= 5.0]
        assert len(large) >= 4  # or the test would see nothing
        seen = [counts.get(cell, 0) for cell in large]
        expected = [wanted[cell] for cell in large]
        rest = sum(wanted.values()) - sum(expected)
        if rest > 1.0:
            seen.append(sum(counts.values()) - sum(seen))
            expected.append(rest)
        return bool(stats.chisquare(seen, expected, sum_check=False).pvalue > 1e-3)

    return test
