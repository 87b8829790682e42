"""How many small mistakes the tests notice: mutation testing of the rooms all else rests on.

    make mutants                                             # a sample of every room
    python benchmarks/mutation.py --rooms core --sample 0    # every mutant of one room
    python benchmarks/mutation.py --rooms build --keep DIR   # then, in DIR/build: mutmut browse

mutmut changes one thing at a time (a comparison, a number, an argument, a string) in a copy of
the tree and runs the room's tests that reach the place. A mutant is killed when a test fails or
does not end, and where C is called when it crashes; it survives when all pass or none reaches it.
Lines that hold nothing but a sentence to a reader are not changed: their words are for people to
judge. Intervals are Wilson's, 95%.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from math import sqrt
from pathlib import Path

ROOT = Path(__file__).parents[1]

# What is mutated and the tests that must notice. Left out are tests which run for long on purpose
# (soaks, kills, the 135M model): what they alone would notice counts as unnoticed.
ROOMS: dict[str, tuple[list[str], list[str]]] = {
    "core": (["core/*"], ["tests/core"]),
    "statistics": (["statistics/*"], ["tests/statistics"]),
    "engine": (["inference/engine/*"], ["tests/inference/engine"]),
    "runners": (
        ["inference/runners/*", "inference/blocks.py"],
        ["tests/inference/runners", "tests/inference/test_blocks.py"],
    ),
    "native": (["inference/native/*"], ["tests/inference/native"]),
    "decoding": (["inference/decoding/*"], ["tests/inference/decoding"]),
    "speculation": (["inference/speculation/*"], ["tests/inference/speculation"]),
    "inference": (
        ["inference/likelihood.py", "inference/longcontext.py", "inference/stopping.py"],
        [f"tests/inference/test_{name}.py" for name in ("likelihood", "longcontext", "stopping")],
    ),
    "rope": (
        ["modeling/rope*"],
        ["tests/modeling/test_rope_scaling.py", "tests/modeling/test_rope_format.py"],
    ),
    "formats": (
        ["modeling/gguf*", "modeling/packed*"],
        [
            f"tests/modeling/{name}"
            for name in ("formats", "test_gguf_blocks.py", "test_gguf_packed.py")
        ],
    ),
    "quantization": (["quantization/*"], ["tests/quantization"]),
    "build": (["build/*"], ["tests/build"]),
}
LONG = [
    "tests/inference/engine/test_soak.py",
    *(f"tests/build/test_{name}.py" for name in ("build", "handbook", "kills")),
]
SENTENCE = r'^\s*((what|where|fix)=)?f?"[^"]*[a-z]+ [^"]*[a-z]+ [^"]*"[,)]*$'
FAILED, CRASHED, ENDLESS, UNREACHED = {1, 3}, {-11, -8, -6}, {-24, 24, 36, 152, 255}, {5, 33}


def copy_tree(folder: Path, room: str) -> None:
    files = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split("\n")  # fmt: skip
    for name in filter(None, files):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    mutated, tests = ROOMS[room]
    settings = {
        "source_paths": ["src"],
        "only_mutate": [f"src/llmwright/{glob}" for glob in mutated],
        "pytest_add_cli_args_test_selection": tests,
        "pytest_add_cli_args": ["-p", "no:cacheprovider", "-p", "no:randomly"]
        + [f"--ignore={path}" for path in LONG],
        "also_copy": ["docs", "examples", "README.md"],
        "do_not_mutate_patterns": [SENTENCE],
        "use_git_change_detection": False,
        "track_dependencies": False,
    }
    with (folder / "pyproject.toml").open("a") as file:
        file.write("\n[tool.mutmut]\n")
        file.writelines(f"{key} = {json.dumps(value)}\n" for key, value in settings.items())


def mutmut(folder: Path, *names: str) -> None:
    log = (folder / "mutmut.log").open("a")
    command = [str(Path(sys.executable).with_name("mutmut")), "run", *names]
    subprocess.run(
        command, cwd=folder, stdout=log, stderr=log, check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1", "CI": "1"},
    )  # fmt: skip


def verdicts(folder: Path) -> dict[str, int | None]:
    found: dict[str, int | None] = {}
    for meta in sorted((folder / "mutants").rglob("*.meta")):
        found |= json.loads(meta.read_text())["exit_code_by_key"]
    return found


def wilson(killed: int, total: int) -> tuple[float, float]:
    z, p = 1.96, killed / total
    middle = (p + z * z / (2 * total)) / (1 + z * z / total)
    half = z * sqrt(p * (1 - p) / total + z * z / (4 * total * total)) / (1 + z * z / total)
    return middle - half, middle + half


def measure(room: str, folder: Path, sample: int, seed: int) -> tuple[int, int]:
    """Print one row; give back how many were killed of how many."""
    copy_tree(folder, room)
    mutmut(folder, "makes-the-mutants-and-tests-none")
    names = sorted(verdicts(folder))
    if not names:
        sys.exit(f"{room}: no mutants; see {folder / 'mutmut.log'}")
    total = len(names)
    chosen = random.Random(seed).sample(names, sample) if 0 < sample < total else names
    mutmut(folder, *chosen)
    codes = [verdicts(folder)[name] for name in chosen]
    if None in codes:
        sys.exit(f"{room}: mutants without a verdict; see {folder / 'mutmut.log'}")
    counts = [sum(code in kind for code in codes) for kind in (FAILED, CRASHED, ENDLESS, UNREACHED)]
    failed, crashed, endless, _ = counts
    # Elsewhere than in calls of C a crash is the fork's: threads of a library did not come along.
    killed = failed + endless + (crashed if room == "native" else 0)
    low, high = wilson(killed, len(codes))
    cells = [room, total, len(codes), *counts]
    share = f"{killed / len(codes):.3f} ({low:.3f} to {high:.3f})"
    print(f"| {' | '.join(map(str, cells))} | {share} |", flush=True)
    return killed, len(codes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rooms", default=",".join(ROOMS), help="by commas")
    parser.add_argument("--sample", type=int, default=100, help="mutants a room; 0 tests them all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="a folder for the copies, to look at survivors")
    parser.add_argument("--check", action="store_true", help="fail where a room is under 85%%")
    options = parser.parse_args()
    heads = "room | mutants | tested | failed | crashed | endless | unreached | share killed"
    print(f"| {heads} |\n|{'---|' * 8}")
    weak = []
    with tempfile.TemporaryDirectory() as temporary:
        for room in options.rooms.split(","):
            folder = (options.keep or Path(temporary)) / room
            folder.mkdir(parents=True, exist_ok=True)
            killed, tested = measure(room, folder, options.sample, options.seed)
            if killed / tested < 0.85:
                weak.append(room)
    if options.check and weak:
        sys.exit(f"under 85%: {', '.join(weak)}")


if __name__ == "__main__":
    main()
