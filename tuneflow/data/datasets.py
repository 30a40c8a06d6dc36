"""Data sets: the digits that come with tuneflow, and Fashion-MNIST from its files."""

import gzip
import struct
from importlib import resources
from pathlib import Path

import numpy as np
import torch

from tuneflow.data.data import Data
from tuneflow.errors import listed
from tuneflow.validate import path_of

FASHION_FOLDER = "/usr/share/datasets/fashion-mnist"  # where Debian's package dataset-fashion-mnist puts it


def digits() -> tuple[Data, Data, Data]:
    """Return 1,797 real handwritten digits of 8x8 pixels: train, valid and test.

    Inputs are float32, shape (n, 1, 8, 8), values 0..16 as stored; targets int64, 0..9. The parts have 1,077, 360 and
    360 images, drawn once by a fixed seed; all hold the same writers.

    Example:
        >>> train, valid, test = digits()
        >>> train.inputs.shape
        torch.Size([1077, 1, 8, 8])

    Source: Alpaydin, Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998 (its test
    part), CC BY 4.0.
    """
    with resources.files("tuneflow").joinpath("_digits/digits.npz").open("rb") as file, np.load(file) as stored:
        inputs, targets = stored["inputs"], stored["targets"]
    data = Data(torch.from_numpy(inputs).float().reshape(-1, 1, 8, 8), targets)
    train, valid, test = data.split(1077 / 1797, 360 / 1797, 360 / 1797, seed=0)
    return train, valid, test


def fashion_mnist(folder: str | Path = FASHION_FOLDER, valid: int = 10_000) -> tuple[Data, Data, Data]:
    """Read Fashion-MNIST from its four `.gz` files: train, valid and test. Nothing is downloaded.

    Inputs are uint8, shape (n, 1, 28, 28), values 0..255; targets int64, 0..9. The last `valid` of a fixed random order
    of the 60,000 training images are the validation part.

    Args:
        folder: of the four files, as Debian's package dataset-fashion-mnist installs them.
        valid: number of validation images, from 1 to 59,999.

    Raises:
        FileNotFoundError: the folder does not hold the files; the message says where to get them.
        ValueError: `valid` is out of range, or a file is damaged.

    Source: Xiao, Rasul, Vollgraf, arXiv:1708.07747, 2017, MIT license.
    """
    folder = path_of("fashion_mnist: folder", folder)
    names = [f"{part}-{kind}.gz" for part in ("train", "t10k") for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")]
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"fashion_mnist: {folder} does not hold {listed(missing)}; Debian's package dataset-fashion-mnist"
            f" installs them in {FASHION_FOLDER}."
        )
    images, labels, test_images, test_labels = (read_idx(folder / name) for name in names)
    if not 0 < valid < len(images):
        raise ValueError(f"fashion_mnist: valid needs to be from 1 to {len(images) - 1}, got {valid}.")
    parts = Data(images[:, None], labels).split(1 - valid / len(images), valid / len(images), seed=0)
    return parts[0], parts[1], Data(test_images[:, None], test_labels)


def read_idx(path: Path) -> np.ndarray:
    """Read an array of unsigned bytes in the IDX format, gzipped, in the shape that its header gives."""
    try:
        with gzip.open(path, "rb") as file:
            content = file.read()
        zero, kind, dimensions = struct.unpack(">HBB", content[:4])
        if zero != 0 or kind != 8:
            raise ValueError(f"starts with {content[:4].hex()}")
        shape = struct.unpack(f">{dimensions}I", content[4 : 4 + 4 * dimensions])
        return np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(shape).copy()
    except (ValueError, struct.error, EOFError, gzip.BadGzipFile) as error:
        raise ValueError(f"{path}: not an IDX file of unsigned bytes, or damaged ({error}).") from None
