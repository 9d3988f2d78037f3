"""Factor, solve and diagonalise symmetric positive matrices, or raise NumericsError.

    (G + r I) x = b,        r = the least of a few ridges, relative to mean diag G, with which G + r I has a factor

Covariances are positive up to rounding, so a small ridge is enough for finite ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from ..errors import NumericsError

SMALLEST = 1e-150  # of a mean diagonal: it can be inverted, and its inverse squared
RIDGES = (1e-9, 1e-6, 1e-3)


def add_ridge(covariance: Tensor, ridge: float | Tensor) -> Tensor:
    """Return S + ridge · mean(diag S) · I, with one ridge or [g]."""
    found = covariance.clone()
    found.diagonal(dim1=-2, dim2=-1).add_(ridge_level(covariance, ridge)[..., None])
    return found


def ridge_level(covariance: Tensor, ridge: float | Tensor) -> Tensor:
    """Return ridge · mean(diag S) of each group, [g]."""
    return ridge * covariance.diagonal(dim1=-2, dim2=-1).abs().mean(-1).clamp_min(SMALLEST)


def cholesky(gram: Tensor, ridges: Sequence[float] = RIDGES) -> Tensor:
    """Return lower factors of symmetric matrices [..., d, d], each with its least sufficient ridge.

    Raises NumericsError where one holds NaN or infinity, or where the largest ridge does not make it positive.
    """
    factor: Tensor
    factor, info = torch.linalg.cholesky_ex(gram)
    for ridge in ridges:
        failed = info != 0
        if not bool(failed.any()):
            break
        factor[failed], info[failed] = torch.linalg.cholesky_ex(add_ridge(gram[failed], ridge))
    if bool((info != 0).any()):
        require_finite(gram, "a covariance")
        raise NumericsError(
            f"a system of {gram.shape[-1]} unknowns cannot be solved, even with a ridge of {ridges[-1]:g}: give more"
            " images, or a larger ridge (obs{ridge=1e-2}, sequential{ridge=1e-2})"
        )
    require_finite(factor.diagonal(dim1=-2, dim2=-1), "a covariance")
    return factor


def solve(gram: Tensor, right: Tensor) -> Tensor:
    """Return gram^-1 right for symmetric positive gram [g, d, d] and right [g, d, o].

    Raises NumericsError where no ridge is enough, or where the solution is not finite.
    """
    return solve_by(cholesky(gram), right)


def solve_by(factor: Tensor, right: Tensor) -> Tensor:
    """Solve with a lower factor [g, d, d] of `cholesky`. Raises NumericsError if not finite."""
    found: Tensor = torch.cholesky_solve(right, factor)
    return require_finite(found, "the solution of a fit")


def inverse(gram: Tensor) -> Tensor:
    """Return gram^-1 for symmetric positive gram [g, d, d], in a third of `solve`'s operations."""
    found: Tensor = torch.cholesky_inverse(cholesky(gram)).mT  # LAPACK's columns, which are its rows, lie in memory so
    return require_finite(found, "the solution of a fit")


def eigh(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Return eigenvalues, ascending, and eigenvectors. Raises NumericsError where there are none."""
    try:
        values, vectors = torch.linalg.eigh(require_finite(matrix, "a covariance"))
    except RuntimeError as error:
        raise NumericsError(f"no eigenvalues of a {len(matrix)} x {len(matrix)} matrix were found: {error}") from error
    return values, vectors


def require_finite(value: Tensor, what: str) -> Tensor:
    """Return the value. Raises NumericsError where it holds NaN or infinity."""
    if not bool(value.sum().isfinite()) and not bool(value.isfinite().all()):  # a sum takes no memory; it may overflow
        raise NumericsError(
            f"{what} holds NaN or infinity: check the images, how they are preprocessed, and the weights around here"
        )
    return value


@contextmanager
def naming(place: str) -> Iterator[None]:
    """Prefix a NumericsError inside the block with the layer or space `place`."""
    try:
        yield
    except NumericsError as error:
        raise NumericsError(f"{place}: {error}") from error
