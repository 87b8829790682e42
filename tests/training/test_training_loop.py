import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from llmwright.core import ConfigurationError, InputError, tree_hash
from llmwright.modeling import load_model, merge_adapter
from llmwright.training import LoraSettings, Step, train_lora
from llmwright.training.batching import batches, tokenize

# Dropout on, so that a random state lost in a kill would show.
SETTINGS = LoraSettings(rank=2, dropout=0.2, epochs=2, batch_size=5, learning_rate=3e-3)
FILES = {"adapter_config.json", "adapter_model.safetensors", "curve.jsonl"}


class Killed(Exception):
    """What a test throws to stop a run."""


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.fixture(scope="module")
def undisturbed(tiny_model_path, records, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    return train_lora(load_model(str(tiny_model_path), "float32"), records, SETTINGS, folder)


def test_steps_losses_and_weights_are_those_of_transformers_with_peft(
    tiny, tiny_model_path, records, tmp_path
):
    """Against the plain way: padded batches, all logits, PEFT's layers, HF's loss."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM
    from transformers.loss.loss_utils import ForCausalLMLoss

    settings = replace(SETTINGS, dropout=0.0, weight_decay=0.01, tokens_per_pass=100)
    data = tokenize(records, tiny.tokenizer, settings)
    # A run of no effect leaves the factors as they start.
    train_lora(tiny, records, replace(settings, epochs=1, learning_rate=1e-30), tmp_path / "start")
    result = train_lora(tiny, records, settings, tmp_path / "ours")

    base = AutoModelForCausalLM.from_pretrained(tiny_model_path, dtype=torch.float32)
    peft = PeftModel.from_pretrained(base, tmp_path / "start", is_trainable=True)
    learning = {n: p for n, p in peft.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(learning.values(), weight_decay=0.01)
    curve = iter(result.curve)
    for epoch in range(settings.epochs):
        for batch in batches(data.examples, settings, epoch):
            rows = [data.examples[place] for place in batch]
            ids = nn.utils.rnn.pad_sequence([row.ids for row in rows], batch_first=True)
            labels = nn.utils.rnn.pad_sequence(
                [row.ids.masked_fill(~row.mask, -100) for row in rows],
                batch_first=True,
                padding_value=-100,
            )
            attention = nn.utils.rnn.pad_sequence(
                [torch.ones_like(row.ids) for row in rows], batch_first=True
            )
            logits = peft(input_ids=ids, attention_mask=attention).logits
            loss = ForCausalLMLoss(logits, labels, vocab_size=logits.shape[-1])
            optimizer.zero_grad()
            loss.backward()
            norm = nn.utils.clip_grad_norm_(learning.values(), settings.max_grad_norm)
            step = next(curve)
            assert step.loss == pytest.approx(loss.item(), rel=1e-4)
            assert step.gradient_norm == pytest.approx(norm.item(), rel=1e-3)
            for group in optimizer.param_groups:
                group["lr"] = step.learning_rate
            optimizer.step()
    assert next(curve, None) is None

    ours = load_file(tmp_path / "ours" / "adapter_model.safetensors")
    start = load_file(tmp_path / "start" / "adapter_model.safetensors")
    theirs = {name.replace(".default", ""): p.detach() for name, p in learning.items()}
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        moved = (theirs[name] - start[name]).norm()
        assert (tensor - theirs[name]).norm() < 0.02 * moved, name


def test_it_learns(tiny, records, tmp_path):
    settings = replace(SETTINGS, rank=8, dropout=0.0, epochs=25, learning_rate=2e-2)
    before = {name: tensor.clone() for name, tensor in tiny.decoder.state_dict().items()}
    result = train_lora(tiny, records, settings, tmp_path)
    assert result.losses[-1] < 0.3 * result.losses[0]
    after = tiny.decoder.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[n], after[n]) for n in before)
    assert not tiny.decoder.training

    prompt = records[7].messages[:1]
    answer = torch.tensor(tiny.tokenizer.encode("seven"))
    tokens = torch.tensor(tiny.tokenizer.encode_chat(prompt))

    def likely() -> float:
        both = torch.cat((tokens, answer)).unsqueeze(0)
        logprobs = tiny.decoder(both)[0].log_softmax(-1)[len(tokens) - 1 : -1]
        return logprobs.gather(1, answer.unsqueeze(1)).sum().item()

    untrained = likely()
    merge_adapter(tiny.decoder, tmp_path)
    assert likely() > untrained + 5


def test_the_folder_and_the_result(undisturbed, records):
    assert names(undisturbed.folder) == FILES
    lines = (undisturbed.folder / "curve.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [asdict(step) for step in undisturbed.curve]
    assert undisturbed.steps == len(undisturbed.losses) == 8  # 2 epochs of ceil(16 / 5) batches
    assert [step.step for step in undisturbed.curve] == list(range(1, 9))
    assert (undisturbed.examples, undisturbed.resumed_from) == (16, 0)
    # The tokens of two epochs, counted from the data: each example's ids but the last.
    config = json.loads((undisturbed.folder / "adapter_config.json").read_text())
    assert config["r"] == 2 and config["peft_type"] == "LORA"
    assert undisturbed.tokens == sum(step.tokens for step in undisturbed.curve)
    first, second = (sum(s.tokens for s in undisturbed.curve if s.epoch == e) for e in (1, 2))
    assert first == second > 16 * 5


@pytest.mark.parametrize("step", range(1, 9))
def test_stopped_after_any_step_it_goes_on_bit_for_bit(tiny, records, tmp_path, undisturbed, step):
    def stop(done: Step) -> None:
        if done.step == step:
            raise Killed

    with pytest.raises(Killed):
        train_lora(tiny, records, SETTINGS, tmp_path, on_step=stop)
    torch.manual_seed(999)  # the process that goes on has another random state
    seen: list[Step] = []
    result = train_lora(tiny, records, SETTINGS, tmp_path, on_step=seen.append)
    assert result.resumed_from == step
    assert tuple(seen) == undisturbed.curve[step:]
    assert result.curve == undisturbed.curve
    assert tree_hash(tmp_path) == tree_hash(undisturbed.folder)


def test_rarer_checkpoints_repeat_steps_and_change_nothing(tiny, records, tmp_path, undisturbed):
    settings = replace(SETTINGS, checkpoint_every=3)

    def stop(done: Step) -> None:
        if done.step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_lora(tiny, records, settings, tmp_path, on_step=stop)
    result = train_lora(tiny, records, settings, tmp_path)
    assert result.resumed_from == 3
    assert tree_hash(tmp_path) == tree_hash(undisturbed.folder)


CHILD = """
import sys
from pathlib import Path
import torch
from llmwright.data import read_examples
from llmwright.modeling import load_model
from llmwright.training import LoraSettings, train_lora

torch.set_num_threads(int(sys.argv[4]))
train_lora(
    load_model(sys.argv[1], "float32"), read_examples(Path(sys.argv[2])),
    LoraSettings(**eval_settings), Path(sys.argv[3]),
    on_step=lambda step: print(step.step, flush=True),
)
"""


def test_killed_by_the_system_it_goes_on_bit_for_bit(
    tiny_model_path, records, tmp_path, undisturbed
):
    """SIGKILL in processes of their own, again and again, until one reaches the end."""
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps(asdict(record)) + "\n" for record in records))
    out = tmp_path / "out"
    program = CHILD.replace("**eval_settings", f"**{asdict(SETTINGS)!r}")
    kills = 0
    while True:
        child = subprocess.Popen(
            [sys.executable, "-c", program, str(tiny_model_path), str(data), str(out),
             str(torch.get_num_threads())],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        with child:
            assert child.stdout is not None and child.stderr is not None
            # It runs on while the signal is on its way, so the kill falls anywhere in a step
            # or in the writing of a checkpoint.
            lines = [child.stdout.readline() for _ in range(2 + kills)]
            if lines[-1]:
                child.kill()
                kills += 1
                continue
            errors = child.stderr.read()
        assert child.returncode == 0, errors
        break
    assert kills >= 2
    assert tree_hash(out) == tree_hash(undisturbed.folder)


def test_half_written_files_of_a_killed_run_are_removed(tiny, records, tmp_path, undisturbed):
    for name in ("checkpoint.safetensors", "adapter_model.safetensors", "curve.jsonl"):
        (tmp_path / f".{name}.x7w2").write_bytes(b"half")
    train_lora(tiny, records, SETTINGS, tmp_path)
    assert tree_hash(tmp_path) == tree_hash(undisturbed.folder)


def test_passes_and_recomputing_change_memory_and_nothing_else(tiny, records, tmp_path):
    plain = replace(SETTINGS, dropout=0.0, epochs=1)
    runs = [
        train_lora(tiny, records, settings, tmp_path / str(number)).curve
        for number, settings in enumerate(
            (plain, replace(plain, tokens_per_pass=1), replace(plain, recompute=True))
        )
    ]
    for other in runs[1:]:
        for ours, theirs in zip(runs[0], other, strict=True):
            assert theirs.loss == pytest.approx(ours.loss, rel=1e-4)
            assert theirs.gradient_norm == pytest.approx(ours.gradient_norm, rel=1e-3)
    dropped = replace(SETTINGS, epochs=1)
    kept = train_lora(tiny, records, dropped, tmp_path / "kept")
    again = train_lora(tiny, records, replace(dropped, recompute=True), tmp_path / "again")
    assert again.curve == kept.curve  # the same dropout, drawn twice


def test_the_tail_behind_the_last_answer_is_not_read(tiny, records, tmp_path):
    data = tokenize(records, tiny.tokenizer, SETTINGS)
    whole = sum(len(tiny.tokenizer.encode_chat_spans(r.messages)[0]) for r in records)
    read = sum(example.inputs for example in data.examples)
    assert read == whole - 2 * len(records)  # the last target, and the line's end behind it


def test_a_run_that_diverges_says_so_and_leaves_no_trap(tiny, records, tmp_path):
    wild = replace(SETTINGS, alpha=1e17, learning_rate=1.0, dropout=0.0)
    with pytest.raises(ConfigurationError) as caught:
        train_lora(tiny, records, wild, tmp_path)
    assert "training diverged at step" in str(caught.value)
    assert "lower learning_rate, now 1" in str(caught.value)
    assert names(tmp_path) == set()
    assert not tiny.decoder.training
    train_lora(tiny, records, replace(SETTINGS, epochs=1), tmp_path)  # the lower rate just runs
    assert names(tmp_path) == FILES


def test_a_checkpoint_of_another_run_is_neither_used_nor_lost(tiny, records, tmp_path):
    def stop(done: Step) -> None:
        raise Killed

    with pytest.raises(Killed):
        train_lora(tiny, records, SETTINGS, tmp_path, on_step=stop)
    before = tree_hash(tmp_path)
    others = [
        (records, replace(SETTINGS, seed=1)),
        (records[:-1], SETTINGS),
    ]
    for data, settings in others:
        with pytest.raises(ConfigurationError, match="an unfinished run with other data"):
            train_lora(tiny, data, settings, tmp_path)
    assert tree_hash(tmp_path) == before


def test_a_broken_checkpoint_is_named(tiny, records, tmp_path):
    (tmp_path / "checkpoint.safetensors").write_bytes(b"not safetensors")
    with pytest.raises(InputError, match=r"checkpoint\.safetensors: the checkpoint cannot be read"):
        train_lora(tiny, records, SETTINGS, tmp_path)


def test_a_folder_that_cannot_be_written_is_named_before_any_step(tiny, records, tmp_path):
    (tmp_path / "file").write_text("")
    steps: list[Step] = []
    with pytest.raises(InputError, match="file/adapter: cannot write here"):
        train_lora(tiny, records, SETTINGS, tmp_path / "file" / "adapter", on_step=steps.append)
    assert not steps


def test_no_data_is_named(tiny, tmp_path):
    with pytest.raises(InputError, match="there is no example"):
        train_lora(tiny, [], SETTINGS, tmp_path)


def test_an_unknown_target_leaves_the_model_whole(tiny, records, tmp_path):
    with pytest.raises(ConfigurationError, match="q_proj"):
        train_lora(tiny, records, replace(SETTINGS, targets=["q_prj"]), tmp_path)
    train_lora(tiny, records, replace(SETTINGS, epochs=1), tmp_path)
