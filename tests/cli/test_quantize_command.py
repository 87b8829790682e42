"""The quantize command as a user runs it."""

import json

import pytest

GUIDE_PAGES = ("01-tokenization.md", "02-decoding.md")


@pytest.fixture
def guide(request):
    return request.config.rootpath / "docs" / "guide"


def test_methods_are_compared_on_text_set_aside(llmwright, tiny_model_path, guide, tmp_path):
    out = tmp_path / "small"
    code, printed, errors = llmwright(
        "quantize", tiny_model_path, "--method", "rtn:8,gptq", "--group-size", 16,
        "--calibration", guide / GUIDE_PAGES[0], "--blocks", 4, "--block-tokens", 64,
        "--measure-tokens", 128, "--out", out, "--format", "gptq",
    )  # fmt: skip
    assert code == 0, errors
    assert "perplexity" in printed and "recommended: " in printed and "128 tokens" not in errors
    record = json.loads((out / "quantization.json").read_text())
    assert [r["name"] for r in record["results"]] == ["rtn-8", "gptq"]
    assert record["recommended"] in ("rtn-8", "gptq") and record["full"]["kl"] < 1e-6
    assert "<svg" in (out / "quantization.svg").read_text()
    assert json.loads((out / "gptq" / "config.json").read_text())["quantization_config"]
    code, printed, errors = llmwright(
        "generate", "Hi", "--model", out / "gptq", "--max-tokens", 3, "--dtype", "float32"
    )
    assert code == 0, errors


def test_text_of_its_own_to_measure_on_and_gguf(llmwright, tiny_model_path, guide, tmp_path):
    code, printed, errors = llmwright(
        "quantize", tiny_model_path, "--method", "rtn", "--symmetric", "--bits", 8,
        "--group-size", 32, "--texts", guide / GUIDE_PAGES[1], "--measure-tokens", 100,
        "--out", tmp_path, "--format", "gguf:Q8_0", "--json",
    )  # fmt: skip
    assert code == 0, errors
    record = json.loads(printed)
    assert record["results"][0]["bits"] == 8.5
    assert record["full"]["tokens"] < 100
    assert (tmp_path / "rtn.gguf").stat().st_size > 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--method", "gptqq"], "is no method"),
        (["--method", "rtn:9"], "'9' bits are not handled"),
        (["--method", "awq", "--texts", "x.md"], "awq looks at data"),
        (["--method", "rtn"], "there is no text to measure on"),
        (["--method", "rtn", "--texts", "x.md", "--format", "awq"], "--format without --out"),
        (["--method", "nf4", "--texts", "x.md", "--format", "awq", "--out", "y"], "holds NF4"),
        (["--method", "rtn", "--texts", "x.md", "--format", "exl2", "--out", "y"], "is no format"),
    ],
)
def test_what_cannot_be_is_said_before_any_work(llmwright, tiny_model_path, arguments, sentence):
    code, _, errors = llmwright("quantize", tiny_model_path, *arguments)
    assert code == 2
    assert sentence in errors and errors.count("\n") == 1


def test_nothing_left_to_measure_on(llmwright, tiny_model_path, guide):
    code, _, errors = llmwright(
        "quantize", tiny_model_path, "--calibration", guide / GUIDE_PAGES[0], "--blocks", 4000,
        "--block-tokens", 64, "--group-size", 32,
    )  # fmt: skip
    assert code == 2 and "none is left to measure on" in errors
