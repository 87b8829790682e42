"""A lock on a file: one holder at a time, and it ends with its block."""

from __future__ import annotations

import sys

import pytest

from llmwright.core import CapacityError, InputError, exclusive

SAID = {"busy": "another is at work", "denied": "choose another place"}


def test_one_at_a_time_and_again_afterwards(tmp_path):
    path = tmp_path / "new" / "lock"
    with exclusive(path, **SAID):
        assert path.stat().st_mode & 0o777 == 0o644
        with pytest.raises(CapacityError) as caught, exclusive(path, **SAID):
            raise AssertionError("the block must not run")
    assert str(caught.value) == (
        f"{path.parent}: another is at work; wait until it has finished and try again."
    )
    with pytest.raises(ZeroDivisionError), exclusive(path, **SAID):
        _ = 1 / 0
    with exclusive(path, **SAID):
        pass


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError) as caught, exclusive(tmp_path / "file" / "lock", **SAID):
        raise AssertionError("the block must not run")
    assert caught.value.where == str(tmp_path / "file")
    assert "cannot write here" in caught.value.what
    assert caught.value.fix == "choose another place"


def test_where_the_system_has_no_locks_the_block_runs(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with exclusive(tmp_path / "lock", **SAID), exclusive(tmp_path / "lock", **SAID):
        pass
