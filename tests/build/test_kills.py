"""kill -9 at any moment, of stages and of whole builds: nothing finished is done twice, and the end
is the same."""

import os
import random
import signal
import subprocess
import sys

STAGES = """
import sys
from pathlib import Path
from llmwright.build import Stage, run_stages

def make(name, reads):
    def run(output, inputs):
        for step in range(5):
            print(f"{name} {step}", flush=True)
            sys.stdin.readline()  # the parent decides whether this goes on
            (output / f"{step}.txt").write_text(f"{name} {step} {len(inputs)}")
    return Stage(name, run, reads=reads, resumable=name == "b")

stages = [make("a", ()), make("b", ("a",)), make("c", ("b",))]
for result in run_stages(stages, Path(sys.argv[1])).values():
    print("digest", result.digest, flush=True)
"""


def run_killed(workspace, kill_at=None):
    """Run the three stages; kill -9 at the given line. Returns the lines printed."""
    child = subprocess.Popen(
        [sys.executable, "-c", STAGES, str(workspace)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    lines = []
    for line in child.stdout:
        lines.append(line.strip())
        if len(lines) == kill_at:
            os.kill(child.pid, signal.SIGKILL)
            break
        if not line.startswith("digest"):
            child.stdin.write("\n")
            child.stdin.flush()
    child.wait()
    return lines


def test_killed_at_any_moment_the_end_is_the_same(tmp_path):
    whole = run_killed(tmp_path / "whole")
    digests = [line for line in whole if line.startswith("digest")]
    assert len(whole) == 18
    for moment in (1, 3, 6, 8, 11, 15):
        workspace = tmp_path / str(moment)
        before = run_killed(workspace, kill_at=moment)
        after = run_killed(workspace)
        assert [line for line in after if line.startswith("digest")] == digests
        finished = {
            name for name in "abc" if f"{name} 4" in before[:-1] and before[-1] != f"{name} 4"
        }
        assert not [line for line in after if line[0] in finished and line[1] == " "]


BUILD = """
import os, signal, sys
from pathlib import Path
from llmwright.build import build, load_recipe

seen, last = 0, int(sys.argv[2])
def count(event, arguments):
    # Files opened for writing, folders made, renames: the moments at which a build can be torn.
    global seen
    if event in ("os.rename", "os.mkdir", "os.remove") or (
        event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax")
    ):
        seen += 1
        if seen == last:
            os.kill(os.getpid(), signal.SIGKILL)

recipe = load_recipe(Path(sys.argv[1]))
sys.addaudithook(count)
built = build(recipe, say=lambda line: print(line, flush=True))
print("hash", built.hash, "moments", seen)
"""


def run(folder, kill_at=0):
    """Build in a process that kills itself at its n-th write; what it said, line by line."""
    done = subprocess.run(
        [sys.executable, "-c", BUILD, str(folder), str(kill_at)],
        capture_output=True, text=True, env={"LLMWRIGHT_PROGRESS": "0", "LLMWRIGHT_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode in (0, -9), done.stderr
    return done.stdout.splitlines()


def test_killed_at_ten_moments_the_release_is_the_same(small_recipe):
    *_, last = run(small_recipe)
    _, expected, _, moments = last.split()
    for name in (".llmwright", "release"):
        subprocess.run(["rm", "-r", str(small_recipe / name)], check=True)

    choose = random.Random(0)
    finished: set[str] = set()
    for _ in range(10):
        # What a killed build finished is not there to be killed in again, so aim early.
        said = run(small_recipe, kill_at=choose.randint(1, int(moments) // 3))
        done = {line.split()[1] for line in said if line.rstrip().endswith((" s", "unchanged"))}
        repeated = {line.split()[1] for line in said if line.rstrip().endswith(" s")} & finished
        assert not repeated
        finished |= done
    *said, last = run(small_recipe)
    assert last.split()[1] == expected
    assert not [line for line in said if line.endswith(" s") and line.split()[1] in finished]
    assert not list((small_recipe / ".llmwright").glob("*.partial"))
