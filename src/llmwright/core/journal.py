"""A journal: the records of a long run, kept one by one as they are finished, in any order.

Beside the file that the run will write lies `.NAME.partial`: its first line says what the run
is, each further line holds one finished record with its place. A run that was killed finds it
and does only what is left; a journal of another run is begun anew. When all is done the records
are written in their order, under the file's own name, and the journal is removed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmwright.core.files import append_jsonl, write_jsonl


class Journal:
    """``identity`` is a hash of all that decides the records; ``done`` maps places to records."""

    def __init__(self, path: Path, identity: str) -> None:
        self.path = path
        self.done: dict[int, dict[str, Any]] = {}
        self._file = path.with_name(f".{path.name}.partial")
        lines = self._file.read_bytes().splitlines(keepends=True) if self._file.exists() else []
        whole = [json.loads(line) for line in lines if line.endswith(b"\n")]
        if whole and whole[0] == {"run": identity}:
            self.done = {entry["place"]: entry["record"] for entry in whole[1:]}
        # Written anew, so that a line cut off by a kill does not spoil the one after it.
        entries = ({"place": place, "record": record} for place, record in self.done.items())
        write_jsonl(self._file, [{"run": identity}, *entries])

    def add(self, place: int, record: Mapping[str, Any]) -> None:
        """Keep a finished record; it is on disk when this returns."""
        append_jsonl(self._file, {"place": place, "record": record})
        self.done[place] = dict(record)

    def finish(self) -> list[dict[str, Any]]:
        """Write the records in their order, and give them."""
        records = [self.done[place] for place in sorted(self.done)]
        write_jsonl(self.path, records)
        self._file.unlink()
        return records
