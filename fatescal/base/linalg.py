"""Linear algebra of an ensemble: J members in rows, any number of columns, all work in J dimensions.

Sums over columns are taken in blocks of fixed width and in fixed order, so that the last bits depend on
the numbers alone and memory stays at one block beside the data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from fatescal.base.types import Array

BLOCK = 4096  # columns per block: 32 MB at 1000 members; another value changes the last bits of results


def column_blocks(n_columns: int) -> Iterator[slice]:
    """Yield the slices that cut `n_columns` into blocks of fixed width.

    >>> [(block.start, block.stop) for block in column_blocks(5000)]
    [(0, 4096), (4096, 5000)]
    """
    for start in range(0, n_columns, BLOCK):
        yield slice(start, min(start + BLOCK, n_columns))


def centred(x: Array) -> tuple[Array, Array]:
    """Return the mean (P) over the rows of `x` (J, P) and the anomalies (J, P) from it.

    >>> centred(np.array([[1.0, 4.0], [3.0, 0.0]]))
    (array([2., 2.]), array([[-1.,  2.],
           [ 1., -2.]]))
    """
    mean = x.mean(axis=0)
    return mean, x - mean


def centred_products(x: Array) -> tuple[Array, Array]:
    """Return A A' (J, J) and A m (J) of `x` (J, D), m its mean row and A = x - m, in one pass.

    >>> centred_products(np.array([[1.0, 4.0], [3.0, 0.0]]))
    (array([[ 5., -5.],
           [-5.,  5.]]), array([ 2., -2.]))
    """
    n_rows, n_columns = x.shape
    gram, projection = np.zeros((n_rows, n_rows)), np.zeros(n_rows)
    for columns in column_blocks(n_columns):
        mean, anomalies = centred(x[:, columns])
        gram += anomalies @ anomalies.T
        projection += anomalies @ mean
    return gram, projection


def principal_modes(x: Array) -> tuple[Array, Array, Array]:
    """Return the modes of the anomalies of `x` (J, D) in member space, largest first.

    Returns
    -------
    variances : (K)
        Squared singular values of A = x - m, K = min(J, D).
    vectors : (J, K)
        The singular vectors that belong to them, over the members.
    projection : (K)
        vectors' A m.

    Notes
    -----
    Long rows (D >= J) go through the J x J Gram matrix, a single pass over the data. Short rows are
    decomposed as they are, in O(J D^2): a million members with a handful of observations then cost
    no J x J matrix.

    >>> variances, vectors, _ = principal_modes(np.array([[1.0, 4.0, 0.0], [3.0, 0.0, 0.0]]))
    >>> variances.round(12), abs(vectors[:, 0]).round(4)
    (array([10.,  0.]), array([0.7071, 0.7071]))
    """
    n_rows, n_columns = x.shape
    if n_columns < n_rows:
        mean, anomalies = centred(x)
        vectors, singular, right = np.linalg.svd(anomalies, full_matrices=False)
        return singular**2, vectors, singular * (right @ mean)
    gram, projection = centred_products(x)
    variances, vectors = positive_eigh(gram)
    variances, vectors = variances[::-1], vectors[:, ::-1]
    return variances, vectors, vectors.T @ projection


def n_modes(variances: Array, share: float) -> int:
    """Return how many leading modes carry `share` of the sum of `variances` (K, descending).

    `variances` are *squared* singular values; a share of 1 keeps every mode.

    >>> n_modes(np.array([90.0, 9.0, 1.0]), 0.99), n_modes(np.array([90.0, 9.0, 1.0]), 1.0)
    (2, 3)
    """
    if share >= 1.0:
        return len(variances)
    cumulative = np.cumsum(variances)
    return min(int(np.searchsorted(cumulative, share * cumulative[-1])) + 1, len(variances))


def positive_eigh(matrix: Array) -> tuple[Array, Array]:
    """Return eigenvalues (ascending) and eigenvectors of a positive semidefinite `matrix` (J, J).

    Eigenvalues that rounding made negative are zero.
    """
    values, vectors = np.linalg.eigh(matrix)
    return np.maximum(values, 0.0), vectors


def symmetric_function(f: Callable[[Array], Array], matrix: Array) -> Array:
    """Return V f(lambda) V' of the positive semidefinite `matrix` (J, J) = V diag(lambda) V'.

    >>> symmetric_function(np.sqrt, np.array([[5.0, 4.0], [4.0, 5.0]])).round(12)
    array([[2., 1.],
           [1., 2.]])
    """
    values, vectors = positive_eigh(matrix)
    return (vectors * f(values)) @ vectors.T
