"""Files of weights: finding one by its name or address, telling by its content what it is."""

from mvsplat.weights.reading import Weights, read_weights

__all__ = ["Weights", "read_weights"]
