"""From a recipe to a measured release, and from a release to an assistant."""

from llmwright.build.assistant import Assistant, Models
from llmwright.build.gates import (
    Gate,
    GateResult,
    check_gates,
    headline,
    parse_gate,
    require_gates,
)
from llmwright.build.recipe import Recipe, load_recipe, retrieval_toml
from llmwright.build.release import Built, open_release, read_manifest
from llmwright.build.run import build
from llmwright.build.stage import Stage, StageResult, run_stages
from llmwright.build.starter import write_starter

__all__ = [
    "Assistant",
    "Built",
    "Gate",
    "GateResult",
    "Models",
    "Recipe",
    "Stage",
    "StageResult",
    "build",
    "check_gates",
    "headline",
    "load_recipe",
    "open_release",
    "parse_gate",
    "read_manifest",
    "require_gates",
    "retrieval_toml",
    "run_stages",
    "write_starter",
]
