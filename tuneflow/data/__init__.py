"""Data: arrays, datasets and loaders that a trainer takes, and the sets that come with tuneflow."""

from tuneflow.data.data import Data
from tuneflow.data.datasets import FASHION_FOLDER, digits, fashion_mnist

__all__ = ["Data", "FASHION_FOLDER", "digits", "fashion_mnist"]


def __dir__() -> list[str]:
    return __all__
