"""Training: adapters, objectives and the loop that fits the one by the other.

``LoraSettings`` is light; everything that needs PyTorch is imported when first used.
"""

from typing import TYPE_CHECKING

from llmwright.core import lazy_exports
from llmwright.training.config import LoraSettings

if TYPE_CHECKING:
    from llmwright.training.loop import Step, TrainingResult, train_lora
    from llmwright.training.lora import add_lora, lora_parameters, remove_lora, save_adapter

_HOMES = {
    "Step": "loop",
    "TrainingResult": "loop",
    "add_lora": "lora",
    "lora_parameters": "lora",
    "remove_lora": "lora",
    "save_adapter": "lora",
    "train_lora": "loop",
}

__all__ = [
    "LoraSettings",
    "Step",
    "TrainingResult",
    "add_lora",
    "lora_parameters",
    "remove_lora",
    "save_adapter",
    "train_lora",
]

if not TYPE_CHECKING:
    __getattr__ = lazy_exports(__name__, _HOMES)
