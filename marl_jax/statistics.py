"""Summaries over seeds: interquartile mean with a bootstrap interval (Agarwal et al. 2021)."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray


class Interval(NamedTuple):
    """A point estimate with its interval."""

    estimate: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def interquartile_mean(values: ArrayLike, axis: int = 0) -> NDArray[np.float64]:
    """Mean of the middle half along `axis`."""
    from scipy import stats

    return np.asarray(stats.trim_mean(np.asarray(values, np.float64), 0.25, axis=axis))


def iqm_interval(values: ArrayLike, confidence: float = 0.95, resamples: int = 2000) -> Interval:
    """IQM over seeds with a percentile-bootstrap interval.

    Args:
        values: [S, ...], one row per seed.
        confidence: probability mass of the interval.
        resamples: bootstrap resamples of the seeds.

    Returns:
        Estimate and bounds, [...] each. With one seed the bounds equal the estimate.
    """
    from scipy import stats

    array = np.asarray(values, np.float64)
    estimate = interquartile_mean(array)
    if array.shape[0] < 2 or np.all(array == array[:1]):
        return Interval(estimate, estimate, estimate)
    result = stats.bootstrap(
        (array,),
        interquartile_mean,
        axis=0,
        vectorized=True,
        confidence_level=confidence,
        n_resamples=resamples,
        batch=200,
        method="percentile",
        rng=np.random.default_rng(0),
    )
    return Interval(estimate, result.confidence_interval.low, result.confidence_interval.high)
