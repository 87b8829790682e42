"""Temperature: sharper below 1, flatter above.

    p_i = exp(z_i / T) / sum_j exp(z_j / T)

(Ackley, Hinton, Sejnowski, "A Learning Algorithm for Boltzmann Machines", 1985.) It comes before
the truncation filters, as in transformers and vLLM; llama.cpp applies it last, which keeps other
tokens: for logits [3, 2, 1], top-p 0.8 and T = 0.5 the order here keeps {0}, that order {0, 1}.
Temperature 0 is the argmax and never comes here. Costs one pass over the vocabulary.
"""

from __future__ import annotations

from torch import Tensor


def apply_temperature(logits: Tensor, temperature: float | Tensor) -> Tensor:
    """Logits [..., vocab] over a temperature above 0, a number or [..., 1] of them.

    The largest is shifted to 0 first: logits up to 1e38 divided by 1e-30 are infinite, and
    inf - inf is no number.
    """
    return (logits - logits.amax(-1, keepdim=True)).div_(temperature)
