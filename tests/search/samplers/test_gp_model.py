"""The Gaussian process over configurations and epochs."""

from __future__ import annotations

import numpy as np

from search.samplers.gp_model import GPModel, negative_log_posterior, standardise


def test_the_gradient_of_the_fit_is_right() -> None:
    rng = np.random.default_rng(0)
    x, s, y = rng.random((40, 3)), rng.choice([0.2, 0.5, 1.0], 40), rng.normal(size=40)
    gaps = (x[:, None] - x[None]) ** 2
    theta = GPModel.default(3).theta + 0.3 * rng.normal(size=8)
    _, gradient = negative_log_posterior(theta, gaps, s, y)
    steps = 1e-5 * np.eye(8)
    numeric = [
        (
            negative_log_posterior(theta + step, gaps, s, y)[0]
            - negative_log_posterior(theta - step, gaps, s, y)[0]
        )
        / 2e-5
        for step in steps
    ]
    np.testing.assert_allclose(gradient, numeric, rtol=1e-4, atol=1e-4)


def test_short_trainings_tell_of_long_ones() -> None:
    rng = np.random.default_rng(0)
    x = rng.random((60, 2))
    s = np.where(np.arange(60) < 50, 0.3, 1.0)
    y = standardise(-((x[:, 0] - 0.3) ** 2) + s)
    model = GPModel.default(2).tune(x, s, y).condition(x, s, y)
    new = rng.random((200, 2))
    mean, std = model.predict(new, 1.0)
    assert np.corrcoef(mean, -((new[:, 0] - 0.3) ** 2))[0, 1] > 0.95
    at_data, at_std = model.predict(x, 1.0)
    assert np.median(std) > np.median(at_std[s == 1.0])
    assert at_data.shape == (60,)


def test_standardising_bounds_what_is_bad_and_keeps_the_order() -> None:
    values = np.array([0.1, 0.5, 0.6, 0.7, 0.9, -np.inf, -1e9])
    y = standardise(values)
    assert np.isfinite(y).all()
    assert list(np.argsort(-y, kind="stable")[:4]) == [4, 3, 2, 1]
    assert y[5] == y[6] == y.min()
    assert (standardise(np.full(4, 0.5)) == 0).all()
    assert (standardise(np.full(3, -np.inf)) == 0).all()
