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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmwright.build.assistant import Assistant, Models
from llmwright.build.recipe import Recipe
from llmwright.build.stage import Stage
from llmwright.core import (
    Document,
    Example,
    RecipeError,
    SamplingParams,
    Score,
    Search,
    Section,
    content_hash,
    file_hash,
    read_json,
    read_jsonl,
    waited,
    write_json,
    write_jsonl,
)
from llmwright.data import Question, find_documents, read_documents, read_examples, read_questions
from llmwright.retrieval import BY_MODEL

if TYPE_CHECKING:
    from llmwright.retrieval import Index

_UPSERT = 256  # documents embedded and committed at a time: what a kill can cost


def plan(recipe: Recipe, models: Models) -> list[Stage]:
    """The stages of a recipe, in order. Hashes the outside files and runs nothing.

    Raises ``RecipeError`` where the recipe asks for what it lacks the means for.
    """
    return _Planner(recipe, models).stages()


def write_scores(folder: Path, scores: Sequence[Score]) -> None:
    write_json(folder / "scores.json", [asdict(score) for score in scores])


def read_scores(folder: Path) -> list[Score]:
    return [Score(**record) for record in read_json(folder / "scores.json")]


class _Planner:
    """What several stages share: the recipe, the models, the two halves of the questions."""

    def __init__(self, recipe: Recipe, models: Models) -> None:
        self.recipe = recipe
        self.models = models
        self.seed = recipe.project.seed
        self.behaviour = recipe.behaviour
        self.tuned = recipe.adapt.method != "none"
        self.reads = ("index", "adapter") if self.tuned else ("index",)  # to answer
        questions: list[Question] = []
        if recipe.evaluation.questions:
            questions = read_questions(recipe.locate(recipe.evaluation.questions))
        self.tune = [question for question in questions if question.split == "tune"]
        self.held_out = [question for question in questions if question.split == "eval"]
        self._check()

    def _check(self) -> None:
        """What one key alone cannot show."""
        recipe = self.recipe
        if self.tuned and not self.models.chat_is_local:
            raise RecipeError(
                f"the model {recipe.model.base} is remote and cannot be tuned here",
                where=str(recipe.path),
                fix='name weights as base, or set method = "none" under [adapt]',
            )
        if self.tuned and not (self.tune or recipe.adapt.examples):
            raise RecipeError(
                "there is nothing to tune on",
                where=f"{recipe.path}, [adapt]",
                fix='give examples, or questions with split "tune" under [evaluation]',
            )
        if recipe.evaluation.gates and not self.held_out:
            raise RecipeError(
                "there are gates but no questions to measure on",
                where=f"{recipe.path}, [evaluation]",
                fix='give questions with split "eval"',
            )

    def stages(self) -> list[Stage]:
        stages = [self.documents(), self.index()]
        if self.tuned:
            stages += [self.examples(), self.adapter()]
        if self.held_out:
            stages.append(self.retrieval())
            if self.models.chat_is_local:
                stages.append(self.perplexity())
            stages.append(self.answers())
        return stages

    def documents(self) -> Stage:
        section = self.recipe.documents
        paths = [self.recipe.locate(path) for path in section.paths]

        def run(output: Path, inputs: Mapping[str, Path]) -> None:
            documents = read_documents(paths, section.include)
            write_jsonl(output / "documents.jsonl", (asdict(document) for document in documents))

        files = find_documents(paths, section.include)
        return Stage("documents", run, sources={id_: file_hash(path) for id_, path in files})

    def index(self) -> Stage:
        section = self.recipe.retrieval

        def run(output: Path, inputs: Mapping[str, Path]) -> None:
            from llmwright.retrieval import Index

            documents = _load_documents(inputs["documents"])
            folder = output / "index"
            if (folder / "index.json").is_file():  # a killed build had begun
                index = Index.open(folder, self.models.embedder())
            else:
                index = Index.create(
                    folder,
                    self.models.embedder_source,
                    chunking=section.cutting,
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
                "embedder": self.models.embedder_fingerprint,
                "chunking": asdict(section.cutting),
            },
            reads=("documents",),
            resumable=True,
            digest=digest,
        )

    def examples(self) -> Stage:
        own = self.recipe.adapt.examples
        path = self.recipe.locate(own)

        def run(output: Path, inputs: Mapping[str, Path]) -> None:
            examples = self._cited(self.tune, inputs["index"]) if self.tune else []
            examples += read_examples(path) if own else []
            write_jsonl(output / "examples.jsonl", (asdict(example) for example in examples))

        return Stage(
            "examples",
            run,
            parameters=self._prompting(self.tune),
            sources={"examples": file_hash(path)} if own else {},
            reads=("index",),
        )

    def adapter(self) -> Stage:
        settings = self.recipe.adapt.model_dump(exclude={"method", "examples"})

        def run(output: Path, inputs: Mapping[str, Path]) -> None:
            from llmwright.training import LoraSettings, train_lora

            train_lora(
                self.models.load(),
                read_examples(inputs["examples"] / "examples.jsonl"),
                LoraSettings(**settings, seed=self.seed),
                output / "adapter",
            )

        return Stage(
            "adapter",
            run,
            parameters={**settings, **self._model()},
            reads=("examples",),
            resumable=True,
        )

    def retrieval(self) -> Stage:
        def run(output: Path, inputs: Mapping[str, Path]) -> None:
            from llmwright.evaluation import evaluate_retrieval

            with self._searching(inputs["index"]) as (index, search):
                report = evaluate_retrieval(
                    search, self.held_out, index.section_span, seed=self.seed
                )
            write_scores(output, report.scores)
            write_jsonl(output / "records.jsonl", report.records)

        return Stage(
            "retrieval",
            run,
            parameters={"questions": _hash(self.held_out), "seed": self.seed, **self._finding()},
            reads=("index",),
        )

    def perplexity(self) -> Stage:
        def run(output: Path, inputs: Mapping[str, Path]) -> None:
            from llmwright.build.examples import answer_perplexity

            examples = self._cited(self.held_out, inputs["index"])
            base = answer_perplexity("perplexity_base", self.models.load(), examples, self.seed)
            if self.tuned:
                model = self.models.load(inputs["adapter"] / "adapter")
                tuned = answer_perplexity("perplexity", model, examples, self.seed)
            else:
                tuned = replace(base, name="perplexity")
            write_scores(output, [tuned, base])

        return Stage(
            "perplexity",
            run,
            parameters={**self._prompting(self.held_out), **self._model()},
            reads=self.reads,
        )

    def answers(self) -> Stage:
        params = SamplingParams(max_tokens=self.recipe.evaluation.max_tokens)

        def run(output: Path, inputs: Mapping[str, Path]) -> None:
            adapter = inputs["adapter"] / "adapter" if self.tuned else None
            asyncio.run(ask(output, inputs["index"] / "index", adapter))

        async def ask(output: Path, index: Path, adapter: Path | None) -> None:
            from llmwright.evaluation import evaluate_answers

            name = self.recipe.project.name
            assistant = Assistant.assemble(name, self.models, index, adapter, self.behaviour)
            async with aclosing(assistant):
                # One at a time: how requests share a batch moves the last bits of the logits,
                # and the same recipe must give the same answers.
                report = await evaluate_answers(
                    assistant,
                    self.held_out,
                    params=params,
                    records_path=output / "records.jsonl",
                    concurrency=1,
                    seed=self.seed,
                )
            write_scores(output, report.scores)

        return Stage(
            "answers",
            run,
            parameters={
                "questions": _hash(self.held_out),
                "behaviour": self.behaviour.model_dump(mode="json"),
                **self._judging(),
                "max_tokens": params.max_tokens,
                **self._model(),
            },
            reads=self.reads,
            resumable=True,
        )

    def _cited(self, questions: Sequence[Question], index: Path) -> list[Example]:
        from llmwright.build.examples import cited_examples

        with self._searching(index) as (opened, search):
            return cited_examples(questions, opened, search, self.behaviour)

    @contextmanager
    def _searching(self, stage: Path) -> Iterator[tuple[Index, Search]]:
        """The index of a stage and the search that serving will use, with the base model where
        an expansion asks one."""
        from llmwright.retrieval import Index

        index = Index.open(stage / "index", self.models.embedder())
        chat = self.models.open_chat() if self._asks_model else None
        try:
            yield index, self.models.search(index, self.behaviour, chat)
        finally:
            if chat is not None:
                waited(chat.aclose())

    @property
    def _asks_model(self) -> bool:
        return self.behaviour.search.expand in BY_MODEL

    def _finding(self) -> dict[str, Any]:
        """All that decides what is found in an index."""
        decides = {"search": asdict(self.behaviour.search), **self._judging()}
        return {**decides, **self._model()} if self._asks_model else decides

    def _judging(self) -> dict[str, Any]:
        """Which reranker there is, if any."""
        fingerprint = self.models.reranker_fingerprint
        return {"reranker": fingerprint} if fingerprint else {}

    def _prompting(self, questions: Sequence[Question]) -> dict[str, Any]:
        """All that decides what ``_cited`` makes of an index."""
        decides = self.behaviour.model_dump(include={"top", "order", "system"})
        return {"questions": _hash(questions), **decides, **self._finding()}

    def _model(self) -> dict[str, Any]:
        return {
            "model": self.models.chat_fingerprint,
            "dtype": self.models.dtype,
            "seed": self.seed,
        }


def _load_documents(folder: Path) -> list[Document]:
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


def _hash(questions: Sequence[Question]) -> str:
    return content_hash([asdict(question) for question in questions])
