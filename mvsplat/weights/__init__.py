"""Files of weights: finding one by its name or address, telling by its content what it is."""

from mvsplat.weights.model_weights import Weights
from mvsplat.weights.reading import read_weights

__all__ = ["Weights", "read_weights"]
