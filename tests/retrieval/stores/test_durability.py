"""A writer that is killed, readers beside a writer, and what approximate search gives up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

from llmwright.core import CapacityError, InputError, exclusive
from llmwright.retrieval.stores import Entry, FaissStore, LanceStore, MemoryStore, open_store

DIMENSION = 16
# Whole batches, old or new: stores that commit by one rename or one version.
ATOMIC = ("lance", "faiss")
# Whole entries, a batch perhaps in part: the local modes of two servers.
BY_ENTRY = {"qdrant": "store", "milvus": "store.db"}

WRITER = f"""
import sys
import numpy as np
from llmwright.retrieval.stores import Entry, open_store

store = open_store(sys.argv[1], {DIMENSION})
vectors = np.load(sys.argv[2])
round = 0
while True:
    round += 1
    print(round, flush=True)
    store.upsert([Entry(str(n), v, {{"round": str(round)}}) for n, v in enumerate(vectors)])
"""


def vectors(count: int, seed: int = 0) -> np.ndarray:
    drawn = np.random.default_rng(seed).standard_normal((count, DIMENSION)).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


@pytest.fixture
def killed(tmp_path):
    """Runs a writer that replaces all entries again and again, kills it in the middle, and gives
    what a new process finds."""

    def run(source: str, entries: int, rounds: int) -> tuple[set[str], int]:
        np.save(tmp_path / "vectors.npy", vectors(entries))
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, source, str(tmp_path / "vectors.npy")],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert writer.stdout is not None
        while int(writer.stdout.readline()) < rounds:
            pass
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        store = open_store(source, DIMENSION)
        found = store.search(vectors(1)[0], entries)
        assert store.count() == len(found)
        store.upsert([Entry("after", vectors(1, 9)[0])])
        assert store.count() == len(found) + 1
        store.close()
        return {one.metadata["round"] for one in found}, len(found)

    return run


@pytest.mark.parametrize("kind", ATOMIC)
def test_a_killed_writer_leaves_the_old_batch_or_the_new(kind, killed, tmp_path):
    rounds, count = killed(f"{kind}:{tmp_path}/store", 400, 4)
    assert count == 400 and len(rounds) == 1 and rounds <= {"3", "4"}


@pytest.mark.parametrize("kind", BY_ENTRY)
def test_a_killed_writer_leaves_whole_entries(kind, killed, tmp_path):
    rounds, count = killed(f"{kind}:{tmp_path}/{BY_ENTRY[kind]}", 60, 3)
    assert count == 60 and rounds <= {"2", "3"}


@pytest.mark.parametrize("kind", ATOMIC)
def test_readers_see_whole_batches_while_one_writes(kind, tmp_path):
    source, drawn = f"{kind}:{tmp_path}/store", vectors(60)
    writer, seen, failed = open_store(source, DIMENSION), set(), []

    def write(round: int) -> None:
        writer.upsert([Entry(str(n), v, {"round": str(round)}) for n, v in enumerate(drawn)])

    write(0)
    done = threading.Event()

    def read() -> None:
        try:
            while not done.is_set():
                rounds = {
                    f.metadata["round"] for f in open_store(source, DIMENSION).search(drawn[0], 60)
                }
                assert len(rounds) == 1
                seen.update(rounds)
        except BaseException as error:  # shown by the test, not lost with the thread
            failed.append(error)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for round in range(1, 8):
        write(round)
    done.set()
    for reader in readers:
        reader.join()
    assert not failed and seen


def test_faiss_takes_up_what_another_wrote_and_refuses_two_at_once(tmp_path):
    one, other = FaissStore(tmp_path, DIMENSION), FaissStore(tmp_path, DIMENSION)
    drawn = vectors(3)
    one.upsert([Entry("a", drawn[0])])
    other.upsert([Entry("b", drawn[1])])
    assert other.count() == 2
    with exclusive(tmp_path / ".lock", busy="", denied=""), pytest.raises(CapacityError):
        one.delete(["a"])
    with pytest.raises(InputError, match="holds a flat index"):
        FaissStore(tmp_path, DIMENSION, "hnsw")


def clustered(count: int, dimension: int) -> np.ndarray:
    """Like embeddings of texts: groups of neighbours, not noise all over the sphere."""
    rng = np.random.default_rng(3)
    centres = rng.standard_normal((count // 20, dimension))
    drawn = centres[rng.integers(0, len(centres), count)]
    drawn = drawn + 0.6 * rng.standard_normal((count, dimension))
    return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def cloud():
    drawn = clustered(3_050, 32)
    entries = [Entry(str(n), v, {"half": str(n % 2)}) for n, v in enumerate(drawn[:3_000])]
    exact = MemoryStore(32)
    exact.upsert(entries)
    return entries, drawn[3_000:], exact


def recall(store, exact, queries, filter=None) -> float:
    """Of the exact ten nearest, the share that is found."""
    shares = []
    for query in queries:
        true = {one.id for one in exact.search(query, 10, filter)}
        found = {one.id for one in store.search(query, 10, filter)}
        shares.append(len(true & found) / 10)
    return float(np.mean(shares))


@pytest.mark.parametrize("kind", ["hnsw", "ivf"])
@pytest.mark.parametrize("filter", [None, {"half": "1"}])
def test_approximate_search_finds_nearly_all(kind, filter, cloud, tmp_path):
    entries, queries, exact = cloud
    faiss = FaissStore(tmp_path / "faiss", 32, kind)
    lance = LanceStore(tmp_path / "lance", 32)
    for store in (faiss, lance):
        store.upsert(entries)
    lance.build(kind)
    assert recall(faiss, exact, queries, filter) >= 0.95
    assert recall(lance, exact, queries, filter) >= 0.95


def test_faiss_keeps_finding_after_most_rows_died(cloud, tmp_path):
    entries, queries, _ = cloud
    store = FaissStore(tmp_path, 32, "ivf")
    store.upsert(entries)
    store.delete([entry.id for entry in entries[:1_600]])  # more than half: built anew
    kept = MemoryStore(32)
    kept.upsert(entries[1_600:])
    assert store.count() == 1_400 and recall(store, kept, queries) >= 0.95
    assert recall(FaissStore(tmp_path, 32, "ivf"), kept, queries) >= 0.95
