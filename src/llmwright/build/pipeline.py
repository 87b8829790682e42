"""From a recipe to its stages: what each reads, what decides it, what it writes.

    documents ─ index ─┬─ examples ─ adapter ─┬─ perplexity
                       │                      └─ answers
                       └─ retrieval

``documents`` reads and cleans; ``index`` cuts and embeds; ``examples`` turns the tuning half of
the questions into chat records in the prompt that serving uses; ``adapter`` trains on them;
``retrieval`` measures search apart from generation; ``perplexity`` holds the tuned model against
the base; ``answers`` asks the finished assistant the questions it never saw.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmwright.build.assistant import Assistant, Models
from llmwright.build.recipe import Recipe
from llmwright.build.stage import Stage
from llmwright.core import (
    Document,
    Message,
    SamplingParams,
    Score,
    Section,
    content_hash,
    file_hash,
    progress,
    read_json,
    read_jsonl,
    write_json,
    write_jsonl,
)
from llmwright.data import Question, find_documents, read_documents, read_examples, read_questions

if TYPE_CHECKING:
    from llmwright.evaluation import AnswerReport

_UPSERT = 256  # documents embedded and committed at a time: what a kill can cost


def plan(recipe: Recipe, models: Models) -> list[Stage]:
    """The stages of a recipe, in order. Reads the outside files' hashes and nothing else."""
    stages = [_documents(recipe), _index(recipe, models)]
    questions = _questions(recipe)
    tune = [question for question in questions if question.split == "tune"]
    held_out = [question for question in questions if question.split == "eval"]
    if recipe.adapt.method == "lora":
        stages += [_examples(recipe, tune), _adapter(recipe, models)]
    if held_out:
        stages.append(_retrieval(recipe, held_out))
        if models.chat_is_local:
            stages.append(_perplexity(recipe, models, held_out))
        stages.append(_answers(recipe, models, held_out))
    return stages


def _questions(recipe: Recipe) -> list[Question]:
    if not recipe.evaluation.questions:
        return []
    return read_questions(recipe.locate(recipe.evaluation.questions))


def _documents(recipe: Recipe) -> Stage:
    section = recipe.documents
    paths = [recipe.locate(path) for path in section.paths]
    files = find_documents(paths, section.include)

    def run(output: Path, inputs: Mapping[str, Path]) -> None:
        documents = read_documents(paths, section.include)
        write_jsonl(output / "documents.jsonl", (asdict(document) for document in documents))

    return Stage(
        "documents",
        run,
        parameters={"include": list(section.include)},
        sources={identity: file_hash(path) for identity, path in files},
    )


def load_documents(folder: Path) -> list[Document]:
    """The documents that the stage ``documents`` wrote."""
    return [
        Document(
            **{
                **record,
                "sections": tuple(Section(**section) for section in record["sections"]),
            }
        )
        for record in read_jsonl(folder / "documents.jsonl")
    ]


def _index(recipe: Recipe, models: Models) -> Stage:
    section = recipe.retrieval

    def run(output: Path, inputs: Mapping[str, Path]) -> None:
        from llmwright.retrieval import Index

        documents = load_documents(inputs["documents"])
        folder = output / "index"
        if (folder / "index.json").is_file():  # a killed build had begun
            index = Index.open(folder, embedder=models.embedder())
        else:
            index = Index.create(
                folder,
                models.embedder(),
                chunk_size=section.chunk_size,
                overlap=section.chunk_overlap,
            )
        for start in range(0, len(documents), _UPSERT):
            index.upsert(documents[start : start + _UPSERT])

    def digest(output: Path) -> str:
        from llmwright.retrieval import Index

        return Index.open(output / "index").digest()

    return Stage(
        "index",
        run,
        parameters={
            "embedder": models.embedder_fingerprint,
            "chunk_size": section.chunk_size,
            "overlap": section.chunk_overlap,
        },
        reads=("documents",),
        resumable=True,
        digest=digest,
    )


def _examples(recipe: Recipe, questions: list[Question]) -> Stage:
    sources = {}
    if recipe.adapt.records:
        sources["records"] = file_hash(recipe.locate(recipe.adapt.records))

    def run(output: Path, inputs: Mapping[str, Path]) -> None:
        from llmwright.build.examples import cited_example
        from llmwright.retrieval import Index

        index = Index.open(inputs["index"] / "index")
        records: list[dict[str, Any]] = []
        with progress("writing examples", len(questions), "questions") as advance:
            for question in questions:
                example = cited_example(
                    question,
                    index,
                    mode=recipe.retrieval.mode,
                    top=recipe.retrieval.top,
                    system=recipe.prompt.system,
                )
                records.append({"id": example.id, "messages": _plain(example.messages)})
                advance(1)
        if recipe.adapt.records:
            own = read_examples(recipe.locate(recipe.adapt.records))
            records += [{"id": e.id, "messages": _plain(e.messages)} for e in own]
        write_jsonl(output / "examples.jsonl", records)

    return Stage(
        "examples",
        run,
        parameters={
            "questions": content_hash([asdict(question) for question in questions]),
            "mode": recipe.retrieval.mode,
            "top": recipe.retrieval.top,
            "system": recipe.prompt.system,
        },
        sources=sources,
        reads=("index",),
    )


def _plain(messages: tuple[Message, ...]) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in messages]


def _adapter(recipe: Recipe, models: Models) -> Stage:
    section = recipe.adapt

    def run(output: Path, inputs: Mapping[str, Path]) -> None:
        from llmwright.training import LoraSettings, train_lora

        train_lora(
            models.load(),
            read_examples(inputs["examples"] / "examples.jsonl"),
            LoraSettings(
                rank=section.rank,
                alpha=section.alpha,
                dropout=section.dropout,
                targets=section.targets,
                epochs=section.epochs,
                batch_size=section.batch_size,
                learning_rate=section.learning_rate,
                max_length=section.max_length,
                seed=recipe.project.seed,
            ),
            output / "adapter",
        )

    return Stage(
        "adapter",
        run,
        parameters={
            **section.model_dump(exclude={"records"}),
            "seed": recipe.project.seed,
            "model": models.chat_fingerprint,
            "dtype": recipe.model.dtype,
        },
        reads=("examples",),
        resumable=True,
    )


def _retrieval(recipe: Recipe, questions: list[Question]) -> Stage:
    def run(output: Path, inputs: Mapping[str, Path]) -> None:
        from llmwright.evaluation import evaluate_retrieval
        from llmwright.retrieval import Index

        index = Index.open(inputs["index"] / "index")
        report = evaluate_retrieval(
            lambda query, top: index.search(query, top, mode=recipe.retrieval.mode),
            questions,
            index.section_span,
            seed=recipe.project.seed,
        )
        write_scores(output, report.scores)
        write_jsonl(output / "records.jsonl", report.records)

    return Stage(
        "retrieval",
        run,
        parameters={
            "questions": content_hash([asdict(question) for question in questions]),
            "mode": recipe.retrieval.mode,
            "seed": recipe.project.seed,
        },
        reads=("index",),
    )


def _perplexity(recipe: Recipe, models: Models, questions: list[Question]) -> Stage:
    tuned = recipe.adapt.method != "none"

    def run(output: Path, inputs: Mapping[str, Path]) -> None:
        from llmwright.build.examples import answer_perplexity, cited_example
        from llmwright.retrieval import Index

        index = Index.open(inputs["index"] / "index")
        examples = [
            cited_example(
                question,
                index,
                mode=recipe.retrieval.mode,
                top=recipe.retrieval.top,
                system=recipe.prompt.system,
            )
            for question in questions
        ]
        seed = recipe.project.seed
        scores = [answer_perplexity("perplexity_base", models.load(), examples, seed)]
        if tuned:
            model = models.load(inputs["adapter"] / "adapter")
            scores.insert(0, answer_perplexity("perplexity", model, examples, seed))
        else:
            base = scores[0]
            scores.insert(0, Score("perplexity", base.value, base.low, base.high, base.n))
        write_scores(output, scores)

    return Stage(
        "perplexity",
        run,
        parameters={
            "questions": content_hash([asdict(question) for question in questions]),
            "mode": recipe.retrieval.mode,
            "top": recipe.retrieval.top,
            "system": recipe.prompt.system,
            "model": models.chat_fingerprint,
            "dtype": recipe.model.dtype,
            "seed": recipe.project.seed,
        },
        reads=("index", "adapter") if tuned else ("index",),
    )


def _answers(recipe: Recipe, models: Models, questions: list[Question]) -> Stage:
    tuned = recipe.adapt.method != "none"

    def run(output: Path, inputs: Mapping[str, Path]) -> None:
        async def ask() -> AnswerReport:
            from llmwright.evaluation import evaluate_answers

            assistant = Assistant.assemble(
                recipe.project.name,
                models,
                inputs["index"] / "index",
                inputs["adapter"] / "adapter" if tuned else None,
                behaviour(recipe),
            )
            async with aclosing(assistant):
                # One at a time: how requests share a batch moves the last bits of the logits,
                # and the same recipe must give the same answers.
                return await evaluate_answers(
                    assistant,
                    questions,
                    params=SamplingParams(max_tokens=recipe.evaluation.max_tokens),
                    records_path=output / "records.jsonl",
                    concurrency=1,
                    seed=recipe.project.seed,
                )

        report = asyncio.run(ask())
        write_scores(output, report.scores)

    return Stage(
        "answers",
        run,
        parameters={
            "questions": content_hash([asdict(question) for question in questions]),
            "behaviour": behaviour(recipe),
            "max_tokens": recipe.evaluation.max_tokens,
            "model": models.chat_fingerprint,
            "dtype": recipe.model.dtype,
            "seed": recipe.project.seed,
        },
        reads=("index", "adapter") if tuned else ("index",),
        resumable=True,
    )


def behaviour(recipe: Recipe) -> dict[str, Any]:
    """All of a recipe that decides how the assistant acts once its parts stand. The release
    carries it, so what was measured and what is served are assembled from the same words."""
    return {
        "mode": recipe.retrieval.mode,
        "top": recipe.retrieval.top,
        "system": recipe.prompt.system,
        "no_answer": recipe.prompt.no_answer,
        "dtype": recipe.model.dtype,
        "guards": recipe.guards.model_dump(mode="json"),
    }


def write_scores(folder: Path, scores: list[Score]) -> None:
    write_json(folder / "scores.json", [asdict(score) for score in scores])


def read_scores(folder: Path) -> list[Score]:
    return [Score(**record) for record in read_json(folder / "scores.json")]
