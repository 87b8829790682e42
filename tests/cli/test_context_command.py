"""`llmwright context`: memory told, contexts measured, wrong use explained."""

import json

import pytest


@pytest.fixture
def page(tmp_path):
    path = tmp_path / "page.txt"
    path.write_text("A needle is a short sentence. The hay is long and says little. " * 80)
    return path


def test_the_memory_of_a_context(llmwright, tiny_model_path):
    code, out, _ = llmwright("context", tiny_model_path, "--memory", "0.001", "--json")
    assert code == 0
    rows = json.loads(out)["memory"]
    assert [row["cache"] for row in rows] == ["float32", "bfloat16", "int8"]
    # 2 x 2 layers x 2 heads of 8: half of what the formula without groups says.
    assert [row["bytes_per_token"] for row in rows] == [256, 128, 96]
    assert [row["without_groups"] for row in rows] == [512, 256, 128]
    weights = rows[0]["weight_bytes"]
    assert rows[0]["tokens_that_fit"] == (int(0.001 * 2**30) - weights) // 256
    code, out, _ = llmwright("context", tiny_model_path)
    assert code == 0
    assert "2 x 2 layers x 2 heads x 8 values" in " ".join(out.split())


def test_a_measurement_and_its_files(llmwright, tiny_model_path, page, tmp_path):
    out = tmp_path / "measured"
    code, said, _ = llmwright(
        "context", tiny_model_path, "--texts", page, "--out", out, "--lengths", "128,256",
        "--methods", "none,yarn", "--factor", "2", "--scored", "16", "--needles", "1",
        "--needle-lengths", "256", "--dtype", "float32",
    )  # fmt: skip
    assert code == 0
    assert "perplexity" in said
    assert {path.name for path in out.iterdir()} == {
        "context.jsonl", "context.json", "needles.png", "needles.svg", "perplexity.png",
        "perplexity.svg",
    }  # fmt: skip
    records = [json.loads(line) for line in (out / "context.jsonl").read_text().splitlines()]
    assert [(r["kind"], r["method"]) for r in records] == [
        ("perplexity", "none"), ("needles", "none"), ("perplexity", "yarn"), ("needles", "yarn"),
    ]  # fmt: skip
    rows = json.loads((out / "context.json").read_text())["rows"]
    assert {(row["method"], row["length"]) for row in rows} == {
        ("none", 128), ("none", 256), ("yarn", 128), ("yarn", 256),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--lengths", "often"], "is no list of lengths"),
        (["--methods", "magic", "--lengths", "128"], "no scaling called 'magic'"),
        (["--lengths", "1x"], "the texts hold"),
    ],
)
def test_wrong_use_is_one_sentence(llmwright, tiny_model_path, page, tmp_path, arguments, says):
    code, _, err = llmwright(
        "context", tiny_model_path, "--texts", page, "--out", tmp_path / "o", *arguments
    )
    assert code == 2
    assert says in err
    assert "Traceback" not in err
    code, _, err = llmwright("context", tiny_model_path, "--texts", page)
    assert code == 2
    assert "--out" in err
