"""Uncertainty: one home for the interval of every figure the project reports."""

from llmwright.statistics.bootstrap import bootstrap_interval, mean_score, paired_bootstrap

__all__ = ["bootstrap_interval", "mean_score", "paired_bootstrap"]
