"""How good a model is: scores of every view, means, groups, files, tables, comparisons."""

from mvsplat.evaluation.comparison import Comparison, Difference, compare, paired_bootstrap
from mvsplat.evaluation.comparison_files import save_comparison
from mvsplat.evaluation.means import (
    METHODS,
    extreme_scenes,
    groups,
    mean_scores,
    median_timing,
    merge,
)
from mvsplat.evaluation.metric_table import METRICS, Metric
from mvsplat.evaluation.results_files import Results, load_results, save_results
from mvsplat.evaluation.scoring import Result, evaluate, score_batch
from mvsplat.evaluation.tables import group_table, print_results, results_table
from mvsplat.evaluation.view_scores import Prediction

__all__ = [
    "Comparison",
    "Difference",
    "METHODS",
    "METRICS",
    "Metric",
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
