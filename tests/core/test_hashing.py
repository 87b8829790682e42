import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmwright.core import canonical_json, content_hash, file_hash, tree_hash

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@settings(max_examples=30, deadline=None)
@given(st.dictionaries(st.text(), json_values, max_size=4))
def test_order_of_keys_does_not_matter(value):
    backwards = dict(reversed(list(value.items())))
    assert canonical_json(value) == canonical_json(backwards)
    assert content_hash(value) == content_hash(backwards)


def test_text_and_bytes_hash_as_sha256():
    assert content_hash("héllo") == hashlib.sha256("héllo".encode()).hexdigest()
    assert content_hash(b"\x00") == hashlib.sha256(b"\x00").hexdigest()


def test_the_text_that_is_hashed():
    assert canonical_json({"b": [1, "é"], "a": None}) == '{"a":null,"b":[1,"é"]}'
    assert content_hash(["é"]) == content_hash('["é"]')


def test_a_large_file_is_hashed_whole(tmp_path):
    content = bytes(range(256)) * 9000  # more than two blocks of a mebibyte
    (tmp_path / "a").write_bytes(content)
    assert file_hash(tmp_path / "a") == hashlib.sha256(content).hexdigest()


def test_nan_is_refused():
    with pytest.raises(ValueError, match="not JSON compliant"):
        content_hash([float("nan")])


def test_a_tree_is_its_paths_and_bytes(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    for folder, order in ((one, ("a", "b/c")), (two, ("b/c", "a"))):
        for name in order:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(name)
    assert tree_hash(one) == tree_hash(two)
    (two / "a").rename(two / "d")
    assert tree_hash(one) != tree_hash(two)
    (two / "d").rename(two / "a")
    (two / "a").write_text("A")
    assert tree_hash(one) != tree_hash(two)
    assert tree_hash(one / "a") == file_hash(one / "a") == content_hash("a")
