"""What happens around the loop: pictures in the logs, test results, predictions, checkpoints."""

from mvsplat.callbacks.checkpoints import BestCheckpoint, LatestCheckpoint
from mvsplat.callbacks.depth_bounds import DepthBoundsWarning
from mvsplat.callbacks.finite_steps import FiniteSteps
from mvsplat.callbacks.image_logger import ImageLogger
from mvsplat.callbacks.prediction_writer import PredictionWriter
from mvsplat.callbacks.progress_bar import ProgressBar
from mvsplat.callbacks.test_results import TestResults
from mvsplat.callbacks.training_monitor import TrainingMonitor

__all__ = [
    "BestCheckpoint",
    "DepthBoundsWarning",
    "FiniteSteps",
    "ImageLogger",
    "LatestCheckpoint",
    "PredictionWriter",
    "ProgressBar",
    "TestResults",
    "TrainingMonitor",
]
