"""Whitening: inputs whose columns are uncorrelated, each with variance 1 over the training examples."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

WIDEST = 4096  # columns: the eigenvectors of so many take about a minute
RIDGE = 1e-3  # added to the eigenvalues of the correlations, whose mean is 1


class Whitening(nn.Module):
    """Subtracts a mean and multiplies by a symmetric matrix, both buffers.

    Args:
        mean: of the columns, shape (d,).
        matrix: shape (d, d).
    """

    mean: Tensor
    matrix: Tensor

    def __init__(self, mean: Tensor, matrix: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("matrix", matrix)

    def forward(self, inputs: Tensor) -> Tensor:
        with torch.autocast(inputs.device.type, enabled=False):
            columns = _columns(inputs.to(self.mean.dtype))
            return ((columns - self.mean) @ self.matrix).reshape(inputs.shape)


class Correlations:
    """Running means and products of columns over batches, summed in float64."""

    def __init__(self) -> None:
        self.count = 0
        self.mean = self._products = torch.zeros(())  # sums of products of the distances from the means

    def add(self, batch: Tensor) -> None:
        """Add a batch, shape (rows, ...)."""
        columns = _columns(batch).double().flatten(0, -2)
        here, total = columns.mean(0), self.count + len(columns)
        apart, centered = here - self.mean, columns - here
        between = torch.outer(apart, apart) * (self.count * len(columns) / total) if self.count else 0.0
        self._products = self._products + centered.T @ centered + between
        self.mean = self.mean + apart * (len(columns) / total)
        self.count = total

    def whitening(self) -> Whitening:
        """Return the module that decorrelates the columns."""
        covariance = self._products / self.count
        std = covariance.diagonal().sqrt()
        varies = std > 1e-8 * self.mean.abs()
        std = torch.where(varies, std, 1.0)
        correlation = covariance / torch.outer(std, std)
        correlation[~varies], correlation[:, ~varies] = 0.0, 0.0
        correlation.diagonal().fill_(1.0)
        values, vectors = torch.linalg.eigh(correlation)
        root = vectors @ torch.diag((values.clamp(min=0) + RIDGE).rsqrt()) @ vectors.T
        dtype = torch.get_default_dtype()
        return Whitening(self.mean.to(dtype), (root / std[:, None]).to(dtype))


def fit_whitening(batches: Iterable[Tensor]) -> Whitening:
    """Fit a whitening to inputs: columns without correlation, each with mean 0 and variance 1.

    The columns of images (4 dimensions or more) are all values of a row, those of other inputs the last dimension. Of
    all the maps that do this it is the one that keeps every column closest to itself (ZCA, on correlations), so units
    do not matter, images stay images, and no sign is arbitrary, as those of principal components are. A direction in
    which the training examples hardly vary is amplified by at most 32 times: 1e-3 is added to each eigenvalue of the
    correlations, whose mean is 1. A constant column becomes 0.

    Args:
        batches: batches of inputs, shape (rows, ...), read once.

    Raises:
        ValueError: there are more than 4,096 columns.

    Source: LeCun, Bottou, Orr, Mueller, Efficient BackProp, 1998, section 4.3; Kessy, Lewin, Strimmer, The American
    Statistician 72, 2018.
    """
    correlations = Correlations()
    for batch in batches:
        if not correlations.count:
            _check_width(batch)
        correlations.add(batch)
    return correlations.whitening()


def _check_width(batch: Tensor) -> None:
    width = _columns(batch).shape[-1]
    if width > WIDEST:
        shape = "x".join(map(str, batch.shape[1:]))
        raise ValueError(
            f'normalize="whiten" takes up to {WIDEST:,} columns, got {shape} = {math.prod(batch.shape[1:]):,} numbers a'
            " row; normalize=True standardizes each channel or column by itself."
        )


def _columns(batch: Tensor) -> Tensor:
    """Return `batch` as (..., columns): images flattened, single numbers as one column."""
    if batch.ndim < 2:
        return batch.unsqueeze(-1)
    return batch.flatten(1) if batch.ndim > 3 else batch
