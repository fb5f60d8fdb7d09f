"""Summaries over seeds, by hand."""

import numpy as np

from marl_jax.statistics import coverage, interquartile_mean, iqm_interval, kernel_pca


def test_interquartile_mean_drops_a_quarter_at_each_end() -> None:
    # Of eight values the two smallest and the two largest go: (3 + 4 + 5 + 6) / 4.
    assert interquartile_mean([100.0, 1.0, 3.0, 4.0, 5.0, 6.0, -7.0, 90.0]) == 4.5


def test_interval_is_along_seeds_and_holds_the_estimate() -> None:
    values = np.random.default_rng(0).normal([0.0, 10.0], [1.0, 0.1], size=(16, 2))
    interval = iqm_interval(values)
    assert interval.estimate.shape == (2,)
    assert np.all((interval.low < interval.estimate) & (interval.estimate < interval.high))
    width = interval.high - interval.low
    # A mean of about 8 of 16 values of deviation 1 is known to about +-2/sqrt(16).
    assert 0.5 < width[0] < 2.0
    np.testing.assert_allclose(width[0] / width[1], 10.0, rtol=0.8)


def test_interval_of_one_seed_or_equal_seeds_is_a_point() -> None:
    for values in ([[2.0, 3.0]], [[2.0, 3.0]] * 5):
        interval = iqm_interval(values)
        assert interval.low.tolist() == interval.high.tolist() == [2.0, 3.0]


def test_kernel_pca_of_three_points() -> None:
    # At 0, 1 and 1: all distances but 0 are 1, so the kernel is 1 or k = exp(-1/2). Centred, it has one eigenvalue,
    # 4/3 (1 - k), with the eigenvector (2, -1, -1) / sqrt 6.
    found = kernel_pca(np.array([[0.0], [1.0], [1.0]]))
    scale = np.sqrt(4 / 3 * (1 - np.exp(-0.5)) / 6)
    expected = np.array([2.0, -1.0, -1.0]) * scale
    np.testing.assert_allclose(found[:, 0] * np.sign(found[0, 0]), expected, atol=1e-12)
    np.testing.assert_allclose(found[:, 1], 0.0, atol=1e-7)


def test_kernel_pca_of_one_place() -> None:
    np.testing.assert_allclose(kernel_pca(np.ones((4, 3))), 0.0, atol=1e-7)


def test_coverage_of_two_episodes() -> None:
    # Agent 0 goes right twice and back in the first episode, three cells, and right once in the second, which ends
    # there: two, one of them new. Agent 1 stays at (5, 5) in both.
    first = [[2, 0], [2, 1], [2, 2], [2, 1]]
    second = [[2, 2], [2, 3], [7, 7], [8, 8]]
    stays = [[5, 5]] * 4
    positions = np.array([[first, stays], [second, stays]]).transpose(2, 0, 1, 3)
    valid = np.array([[True, True], [True, False], [True, False]])
    found = coverage(positions, valid)
    assert found.together.tolist() == [4, 1]
    assert found.of_an_episode.tolist() == [2.5, 1.0]


def test_coverage_tells_rows_from_columns() -> None:
    positions = np.array([[1, 2], [2, 1], [1, 2]])[:, None, None]
    found = coverage(positions, np.ones((2, 1), bool))
    assert (found.together.tolist(), found.of_an_episode.tolist()) == ([2], [2.0])
