"""GPTQ: round one column at a time and let the columns that remain absorb the error.

A layer with inputs X [in, tokens] should keep its outputs: min ||W X - W' X||^2. The Hessian of
each row is H = 2 X X^T. When column q has been rounded, the best change of the columns still
free is

    w_free -= (w_q - w'_q) / [H^-1]_qq * [H^-1]_(q, free)

(Optimal Brain Quantization). The inverse for the free columns, after each column has left, is
the row of one upper Cholesky factor U of H^-1 = U^T U: in place of [H^-1]_(q, free) / [H^-1]_qq
stands U_(q, free) / U_qq. So the columns of all rows go in one order, with one factorization.

- Columns that are never used (H_qq = 0) become zero, and H gets 0.01 of its mean diagonal added.
- Updates reach the columns of the running block at once and those behind it when it is done. A
  group's grid is fitted when its first column comes, to the weights as updated by then; a block
  is a whole number of groups, or part of one, so that the weights it is fitted to are all updated.
- ``act_order`` takes the columns with the largest H_qq first. With "static" groups the grids are
  fitted beforehand to the columns' neighbours in the matrix, so the file needs no order and fast
  kernels read it; with "moved" groups a group is what comes one after the other, which fits a
  little better and costs an index of 4 bytes a column and slower kernels.

Frantar, Ashkboos, Hoefler, Alistarh, 2022, arXiv 2210.17323. Costs in^3 operations for a
factorization and out * in^2 for the updates: SmolLM2-135M takes about half a minute.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from llmwright.core import ConfigurationError
from llmwright.modeling import Decoder, QuantizedWeight, replace_linears
from llmwright.quantization.rtn import Scheme, fit_grid, in_groups, to_codes
from llmwright.quantization.walk import walk

ActOrder = Literal["none", "static", "moved"]
_BLOCK = 128  # columns whose updates are gathered before they reach the rest


@torch.no_grad()
def quantize_gptq(
    decoder: Decoder,
    token_ids: Tensor,
    scheme: Scheme,
    *,
    act_order: ActOrder = "none",
    damping: float = 0.01,
) -> None:
    """Quantize all linear layers but lm_head, in place, on ``token_ids`` [sequences, time]."""
    weights: dict[str, QuantizedWeight] = {}
    for group in walk(decoder, token_ids, "GPTQ"):
        x = group.inputs.flatten(0, 1).float()  # [tokens, in]
        found = round_by_gptq(group.stacked, x.T @ x, scheme, act_order=act_order, damping=damping)
        start = 0
        for name, linear in zip(group.names, group.linears, strict=True):
            rows = torch.arange(start, start + linear.out_features)
            weights[name] = found.rows(rows)
            linear.weight.copy_(weights[name].dequantize())
            start += linear.out_features
    replace_linears(decoder, weights)


@torch.no_grad()
def round_by_gptq(
    weight: Tensor,
    hessian: Tensor,
    scheme: Scheme,
    *,
    act_order: ActOrder = "none",
    damping: float = 0.01,
) -> QuantizedWeight:
    """``weight`` [out, in] in codes that keep its products with inputs of ``hessian`` [in, in],
    which is X X^T or any multiple of it.

    Raises ``ConfigurationError`` where the Hessian cannot be inverted.
    """
    # Transposed, [in, out]: the matrix's columns are contiguous in memory.
    w = weight.detach().float().T.contiguous()
    h = hessian.detach().float().clone()
    columns = w.shape[0]
    width = scheme.width(columns)
    diagonal = h.diagonal()
    dead = diagonal == 0
    diagonal[dead] = 1.0
    w[dead] = 0.0
    order = torch.arange(columns, device=w.device)  # which column comes when
    if act_order != "none":
        order = diagonal.argsort(descending=True, stable=True)
    static = _grids(w.T, width, scheme) if act_order == "static" else None
    w, h = w[order], h[order][:, order]
    upper = _inverse_factor(h, damping)

    codes = torch.empty_like(w)
    fitted: list[tuple[Tensor, Tensor]] = []  # the grid, [out] each, of every group that has come
    block = _block(width, columns)
    for start in range(0, columns, block):
        end = min(start + block, columns)
        inner = w[start:end]  # a view: updates within the block are made here
        errors = torch.empty_like(inner)
        for i in range(end - start):
            column = start + i
            if static is not None:
                scales, zeros = static[int(order[column]) // width]
            else:
                if column % width == 0:
                    fitted += _grids(w[column : column + width].T, width, scheme)
                scales, zeros = fitted[-1]
            codes[column] = to_codes(inner[i], scales, zeros, scheme)
            rounded = (codes[column] - zeros) * scales
            errors[i] = (inner[i] - rounded) / upper[column, column]
            inner[i + 1 :].addr_(upper[column, column + 1 : end], errors[i], alpha=-1)
        w[end:].addmm_(upper[start:end, end:].T, errors, alpha=-1)
    grids = fitted if static is None else static
    back = order.argsort()
    moved = act_order == "moved" and len(grids) > 1
    return QuantizedWeight(
        codes[back].T.to(torch.uint8).contiguous(),
        torch.stack([scales for scales, _ in grids], 1),
        torch.stack([zeros for _, zeros in grids], 1),
        scheme.bits,
        width,
        group=back // width if moved else None,
        group_bits=scheme.group_bits,
    )


def _grids(w: Tensor, width: int, scheme: Scheme) -> list[tuple[Tensor, Tensor]]:
    """Scales and zero points, [out] each, of the groups of ``w`` [out, in]."""
    scales, zeros = fit_grid(in_groups(w, width), scheme)  # [out, groups]
    return list(zip(scales.T.contiguous(), zeros.T.contiguous(), strict=True))


def _inverse_factor(h: Tensor, damping: float) -> Tensor:
    """Upper U with (H + damping)^-1 = U^T U."""
    h.diagonal().add_(damping * h.diagonal().mean())
    factor, failed = torch.linalg.cholesky_ex(h)
    upper, again = torch.linalg.cholesky_ex(torch.cholesky_inverse(factor), upper=True)
    if int(failed) or int(again):
        raise ConfigurationError(
            "the calibration inputs leave GPTQ's Hessian without an inverse",
            where="damping",
            fix="raise the damping or calibrate on more text",
        )
    found: Tensor = upper
    return found


def _block(width: int, columns: int) -> int:
    """Columns of a block: whole groups, or an even part of one, about 128."""
    if width >= columns:  # the only grid is fitted before anything is updated
        return _BLOCK
    if width <= _BLOCK:
        return _BLOCK // width * width
    return next(size for size in range(_BLOCK, 0, -1) if width % size == 0)
