"""How good a model is: scores of every view, means, groups, files, tables, comparisons."""

from mvsplat.evaluation.comparison import Comparison, Difference, compare, paired_bootstrap
from mvsplat.evaluation.comparison_files import save_comparison
from mvsplat.evaluation.means import (
    METHODS,
    METRICS,
    extreme_scenes,
    groups,
    mean_scores,
    median_timing,
    merge,
)
from mvsplat.evaluation.results_files import Results, load_results, save_results
from mvsplat.evaluation.scoring import Prediction, Result, evaluate, score_batch
from mvsplat.evaluation.tables import group_table, print_results, results_table

__all__ = [
    "Comparison",
    "Difference",
    "METHODS",
    "METRICS",
    "Prediction",
    "Result",
    "Results",
    "compare",
    "evaluate",
    "extreme_scenes",
    "group_table",
    "groups",
    "load_results",
    "mean_scores",
    "median_timing",
    "merge",
    "paired_bootstrap",
    "print_results",
    "results_table",
    "save_comparison",
    "save_results",
    "score_batch",
]
