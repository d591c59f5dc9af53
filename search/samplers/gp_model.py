"""A Gaussian process over configurations and epochs: what short trainings say about long ones.

    y(x, s) ~ GP(0, k),   k = kx(x, x') (a + b ks(s, s')) + c ks(s, s') + noise

x are features of the configuration, s in 0..1 the logarithm of the epoch; kx is a Matern-5/2 kernel
with a length scale for each feature, ks a squared exponential. a: what a configuration is worth at
every epoch; b: how that changes with the epoch; c: the learning curve that all have in common.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize
from scipy.stats import norm

Array = NDArray[np.float64]

STEPS = 20  # of L-BFGS in a fit, which starts from the last fit
LENGTH = 1.2  # prior mode of the length scales: this x sqrt(number of features)
REST = (1.5, 0.5, 1.0, 0.5, 0.03)  # prior modes of a, b, c, the length in s, the noise
WIDTH = 1.0  # standard deviation of the logarithm of each parameter under the prior
WORST = -2.0  # standardised values are cut off here: how bad a bad one is does not matter
JITTER = 1e-6


def standardise(values: Array) -> Array:
    """Values about their median, in units of the distance from there to the 90 % quantile.

    Cut off below at WORST, so that neither crashes (-inf) nor outliers bend the model.
    """
    finite = values[np.isfinite(values)]
    if not len(finite):
        return np.zeros(len(values))
    middle, high = np.quantile(finite, [0.5, 0.9])
    scale = high - middle or float(finite.std()) or 1.0
    return np.asarray(np.maximum((values - middle) / scale, WORST))


def expected_improvement(mean: Array, std: Array, best: float) -> Array:
    """E[max(y - best, 0)]."""
    z = (mean - best) / std
    return np.asarray(std * (z * norm.cdf(z) + norm.pdf(z)))


@dataclass(frozen=True)
class GPModel:
    """`theta` are logarithms: length scales (d), a, b, c, the length in s, the noise.

    x (n, d), s (n,), y (n,) are the data it is conditioned on, empty at first.
    """

    theta: Array
    x: Array
    s: Array
    y: Array
    lower: Array
    alpha: Array

    @staticmethod
    def default(num_features: int) -> GPModel:
        """The mode of the prior, without data."""
        none = np.empty(0)
        return GPModel(_prior(num_features), np.empty((0, num_features)), none, none, none, none)

    def tune(self, x: Array, s: Array, y: Array) -> GPModel:
        """With the parameters of maximum posterior density for these data."""
        gaps = (x[:, None, :] - x[None, :, :]) ** 2
        found = minimize(
            negative_log_posterior,
            self.theta,
            (gaps, s, y),
            jac=True,
            method="L-BFGS-B",
            bounds=[(mode - 5 * WIDTH, mode + 5 * WIDTH) for mode in _prior(x.shape[1])],
            options={"maxiter": STEPS},
        )
        return replace(self, theta=np.asarray(found.x))

    def condition(self, x: Array, s: Array, y: Array) -> GPModel:
        """With these data in place of those before."""
        kernel = self._kernel(x, s, x, s)
        kernel[np.diag_indices_from(kernel)] += np.exp(self.theta[-1]) + JITTER
        lower = cholesky(kernel, lower=True)
        alpha = cho_solve((lower, True), y)
        return GPModel(self.theta, x, s, y, lower, alpha)

    def believe(self, x: Array) -> GPModel:
        """As if the points had turned out as predicted at s = 1: where trials run already."""
        ones = np.ones(len(x))
        mean, _ = self.predict(x, 1.0)
        return self.condition(np.vstack([self.x, x]), np.r_[self.s, ones], np.r_[self.y, mean])

    def predict(self, x: Array, s: float) -> tuple[Array, Array]:
        """Mean and standard deviation (n,) of the value without noise."""
        cross = self._kernel(x, np.full(len(x), s), self.x, self.s)
        half = solve_triangular(self.lower, cross.T, lower=True)
        a, b, c = np.exp(self.theta[-5:-2])
        variance = np.maximum(a + b + c - (half**2).sum(0), 1e-9)
        return cross @ self.alpha, np.sqrt(variance)

    def _kernel(self, x: Array, s: Array, x2: Array, s2: Array) -> Array:
        d = x.shape[1]
        left, right = x / np.exp(self.theta[:d]), x2 / np.exp(self.theta[:d])
        square = (left**2).sum(1)[:, None] + (right**2).sum(1) - 2 * left @ right.T
        a, b, c, length = np.exp(self.theta[d : d + 4])
        ks = np.exp(-0.5 * ((s[:, None] - s2) / length) ** 2)
        return np.asarray(_matern(np.maximum(square, 0))[0] * (a + b * ks) + c * ks)


def _prior(num_features: int) -> Array:
    """Modes of the log-normal priors; length scales grow with the dimension.

    As distances do: Hvarfner et al., "Vanilla Bayesian Optimization Performs Great in High
    Dimensions", ICML 2024.
    """
    lengths = np.full(num_features, np.log(LENGTH * np.sqrt(num_features)))
    return np.concatenate([lengths, np.log(REST)])


def _matern(square: Array) -> tuple[Array, Array]:
    """Matern-5/2 of a squared distance, and its derivative by the squared distance."""
    r = np.sqrt(5 * square)
    e = np.exp(-r)
    return (1 + r + r * r / 3) * e, -(5 / 6) * (1 + r) * e


def negative_log_posterior(theta: Array, gaps: Array, s: Array, y: Array) -> tuple[float, Array]:
    """The loss of a fit, and its gradient; `gaps` (n, n, d) are squared differences of features."""
    d = gaps.shape[2]
    inverse = np.exp(-2 * theta[:d])
    a, b, c, length, noise = np.exp(theta[d:])
    kx, slope = _matern(gaps @ inverse)
    t = ((s[:, None] - s) / length) ** 2
    ks = np.exp(-0.5 * t)
    mix = a + b * ks
    kernel = kx * mix + c * ks
    kernel[np.diag_indices_from(kernel)] += noise + JITTER
    lower = cholesky(kernel, lower=True)
    inv = cho_solve((lower, True), np.eye(len(y)))
    alpha = inv @ y
    w = 0.5 * (inv - np.outer(alpha, alpha))  # d loss / d kernel
    wk = w * kx
    grad = np.concatenate(
        [
            -2 * inverse * np.einsum("ij,ijk->k", w * mix * slope, gaps),
            [a * wk.sum(), b * (wk * ks).sum(), c * (w * ks).sum()],
            [((wk * b + w * c) * ks * t).sum(), noise * np.trace(w)],
        ]
    )
    off = (theta - _prior(d)) / WIDTH
    loss = 0.5 * y @ alpha + np.log(np.diag(lower)).sum() + 0.5 * off @ off
    return float(loss), grad + off / WIDTH
