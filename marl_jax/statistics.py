"""Summaries over seeds: interquartile mean with a bootstrap interval (Agarwal et al. 2021)."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray


class Coverage(NamedTuple):
    """How many different cells of a grid each agent has been in.

    Attributes:
        together: in all episodes together, [N].
        of_an_episode: in one of them, in the mean, [N].
    """

    together: NDArray[np.int64]
    of_an_episode: NDArray[np.float64]


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


def coverage(positions: NDArray[np.integer], valid: NDArray[np.bool_]) -> Coverage:
    """Counts the different cells of each agent, those in which an episode begins and ends included.

    Args:
        positions: row and column along episodes, [T+1, B, N, 2].
        valid: whether step t of an episode was played, [T, B]; true up to its end.
    """
    there = np.concatenate([np.ones_like(valid[:1]), valid])
    together, of_an_episode = [], []
    for agent in np.moveaxis(positions, 2, 0):
        episodes = [
            np.unique(cells[on], axis=0)
            for cells, on in zip(agent.swapaxes(0, 1), there.T, strict=True)
        ]
        together.append(len(np.unique(np.concatenate(episodes), axis=0)))
        of_an_episode.append(np.mean([len(cells) for cells in episodes]))
    return Coverage(np.array(together), np.array(of_an_episode))


def kernel_pca(x: NDArray[np.float64], components: int = 2) -> NDArray[np.float64]:
    """Kernel principal components (Schoelkopf et al. 1998) of points under a Gaussian kernel.

    The kernel's width is the median distance between different points. scikit-learn has this too, but nothing else
    here needs it.

    Args:
        x: points, [K, F].
        components: how many, at most K.

    Returns:
        Their coordinates, [K, components], the most telling first.
    """
    squared = ((x[:, None] - x[None]) ** 2).sum(-1)
    apart = squared[squared > 0]
    kernel = np.exp(-squared / (2 * np.median(apart) if apart.size else 1.0))
    centre = np.eye(len(x)) - 1 / len(x)
    values, vectors = np.linalg.eigh(centre @ kernel @ centre)
    order = np.argsort(values)[::-1][:components]
    return vectors[:, order] * np.sqrt(np.maximum(values[order], 0.0))
