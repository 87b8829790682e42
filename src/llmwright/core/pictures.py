"""How every picture looks: the settings of matplotlib, which is not imported for them."""

from __future__ import annotations

from typing import Any

PICTURE_STYLE: Any = {
    "svg.fonttype": "none",  # text stays text: searchable, and the page says in which font
    "svg.hashsalt": "llmwright",  # the same picture, the same bytes
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
