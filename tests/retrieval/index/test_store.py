"""The folder: readers beside a writer, a writer killed at any moment, folders that are no index."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hashing_embedder import HashingEmbedder

from llmwright.core import CapacityError, Document, InputError
from llmwright.retrieval import Index
from llmwright.retrieval.index.store import Transaction, writer_lock

HERE = Path(__file__).parents[1]

# Rewrites all documents to say which round it is, telling when each round begins.
WRITER = """
import sys; sys.path.insert(0, sys.argv[2])
from hashing_embedder import HashingEmbedder
from llmwright.core import Document
from llmwright.retrieval import Index
index = Index.open(sys.argv[1], HashingEmbedder())
for round in range(int(sys.argv[3]), int(sys.argv[4])):
    print(round, flush=True)
    index.upsert([Document(f"d{i}", f"Round number r{round} of text {i}.") for i in range(20)])
print("done", flush=True)
"""

# Opens, checks that all it sees is of one round, until the last one; prints the rounds it saw.
READER = """
import sys; sys.path.insert(0, sys.argv[2])
from hashing_embedder import HashingEmbedder
from llmwright.retrieval import Index
seen = set()
while int(sys.argv[3]) not in seen:
    index = Index.open(sys.argv[1], HashingEmbedder())
    rounds = {chunk.text.split()[2] for chunk in index.chunks()}
    hits = index.search("round number text", 50)
    rounds |= {hit.chunk.text.split()[2] for hit in hits}
    rounds |= {document.text.split()[2] for document in index.documents()}
    assert len(rounds) == 1, rounds
    assert len(hits) == 20 == len(list(index.chunks()))
    seen.add(int(rounds.pop()[1:]))
print(sorted(seen))
"""


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def rounds(index: Index) -> set[str]:
    return {chunk.text.split()[2] for chunk in index.chunks()}


def state(number: int) -> list[Document]:
    return [Document(f"d{i}", f"Round number r{number} of text {i}.") for i in range(20)]


@pytest.fixture
def folder(tmp_path) -> Path:
    Index.create(tmp_path / "i", HashingEmbedder()).upsert(state(0))
    return tmp_path / "i"


def test_readers_in_other_processes_see_whole_states_while_one_writes(folder):
    open_before = Index.open(folder, HashingEmbedder())
    readers = [start(READER, folder, HERE, 5) for _ in range(2)]
    writer = start(WRITER, folder, HERE, 1, 6)
    for process in (writer, *readers):
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        assert out
    # A reader that was open all the time still sees what it opened.
    assert rounds(open_before) == {"r0"}
    assert {hit.chunk.text.split()[2] for hit in open_before.search("round text", 50)} == {"r0"}
    assert rounds(Index.open(folder)) == {"r5"}


def test_a_killed_writer_leaves_the_old_state_or_the_new(folder, tmp_path):
    random.seed(0)
    last = 0
    for _ in range(3):
        writer = start(WRITER, folder, HERE, last + 1, 10_000)
        assert writer.stdout is not None
        begun = last
        for _ in range(random.randint(1, 3)):
            begun = int(writer.stdout.readline())
        for _ in range(random.randint(0, 300_000)):
            pass
        os.kill(writer.pid, signal.SIGKILL)
        begun = max([begun, *map(int, writer.communicate()[0].split())])
        index = Index.open(folder, HashingEmbedder())
        [only] = rounds(index)
        assert int(only[1:]) in (begun - 1, begun)
        assert index.stats()["chunks"] == 20 == len(index.search("round text", 50))
        last = int(only[1:])
    last += 1
    index.upsert(state(last))  # the lock went with the process; leftovers do no harm
    fresh = Index.create(tmp_path / "fresh", HashingEmbedder())
    fresh.upsert(state(last))
    assert index.digest() == fresh.digest()
    assert index.search("round text") == fresh.search("round text")


def test_a_second_writer_is_refused(folder):
    index = Index.open(folder, HashingEmbedder())
    with writer_lock(folder), pytest.raises(CapacityError, match="another process is changing"):
        index.upsert(state(1))
    index.upsert(state(1))
    assert rounds(index) == {"r1"}


def test_a_folder_without_write_rights_opens_and_says_so_when_changed():
    script = """
import os, sys; sys.path.insert(0, sys.argv[2])
from hashing_embedder import HashingEmbedder
from llmwright.core import InputError
from llmwright.retrieval import Index
folder = sys.argv[1]
Index.open(folder, HashingEmbedder()).search("round text")  # imports all while we may
if os.geteuid() == 0:  # rights do not bind root
    os.setegid(65534); os.seteuid(65534)
index = Index.open(folder, HashingEmbedder())
assert len(index.search("round text", 50)) == 20
try:
    index.delete(["d0"])
except InputError as error:
    print(error)
"""
    with tempfile.TemporaryDirectory() as parent:
        Path(parent).chmod(0o755)  # pytest's own folders are closed to others
        folder = Path(parent) / "i"
        Index.create(folder, HashingEmbedder()).upsert(state(0))
        everything = [folder, *folder.rglob("*")]
        for path in everything:
            path.chmod(0o555 if path.is_dir() else 0o444)
        try:
            out, err = start(script, folder, HERE).communicate(timeout=60)
        finally:
            for path in everything:
                path.chmod(0o755 if path.is_dir() else 0o644)
    assert "cannot write here" in out, err


def test_what_is_no_index_is_said(tmp_path, folder):
    with pytest.raises(InputError, match="is not an index"):
        Index.open(tmp_path)
    with pytest.raises(InputError, match="is not an index"):
        Index.open(tmp_path / "missing")
    with pytest.raises(InputError, match="holds files already"):
        Index.create(folder, HashingEmbedder())
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="is a file"):
        Index.create(tmp_path / "file", HashingEmbedder())
    record = json.loads((folder / "index.json").read_text())
    for change, said in (
        ({"format": 99}, "format 99 is not known"),
        ({"kind": "other"}, "is not the index.json of an index"),
        ({"segments": [["gone", 0]]}, "cannot be read"),
        ({"segments": [[record["segments"][0][0], 999]]}, "cannot be read"),
        ({"segments": 1}, "is damaged"),
        ({"surprise": 1}, "is damaged"),
    ):
        (folder / "index.json").write_text(json.dumps({**record, **change}))
        with pytest.raises(InputError, match=said):
            Index.open(folder)
    (folder / "index.json").write_text("{")
    with pytest.raises(InputError, match="not valid JSON"):
        Index.open(folder)


def test_old_segments_go(folder):
    index = Index.open(folder, HashingEmbedder())
    for number in range(1, 5):
        index.upsert(state(number))
    assert len(list((folder / "segments").iterdir())) == 2  # what is current, and what was


def test_what_a_killed_writer_left_is_dropped(folder):
    index = Index.open(folder, HashingEmbedder())
    digest = index.digest()
    transaction = Transaction(folder)
    transaction.delete(["d0", "d1"])
    shutil.copytree(next((folder / "segments").iterdir()), folder / "segments" / "00000002-1")
    assert Index.open(folder).digest() == digest
    index.upsert([Document("d2", "Round number r0 changed."), Document("new", "Round number r0.")])
    assert {d.id for d in index.documents()} == {*(f"d{i}" for i in range(20)), "new"}
    assert len(index.search("round number", 50)) == 21
