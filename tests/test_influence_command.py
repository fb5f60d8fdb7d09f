"""`experiments/influence.py`: true values where they are known, and the command on a finished run."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import marl_jax
from experiments.influence import _single_steps, monte_carlo_values
from marl_jax import methods
from marl_jax.distributions import masked_categorical
from marl_jax.rollout import retrace, rollout
from tests import tiny
from tests.methods.learners import drawn_state, fast_jit
from tests.probes import Roles, Steady

KEY = jax.random.key(5)


@pytest.mark.slow
def test_returns_of_a_game_of_one_step() -> None:
    """Pays 1 if agent 0 takes action 0 and agent 1 action 1: q_1(a_0) is p(a_1 = 1) if a_0 is 0, else 0."""
    env = Roles()
    method: Any = methods.make(
        "alita", env, hidden_size=4, autoencoder_hidden=(4, 2, 4), num_envs=4
    )
    state = drawn_state(method, 0)
    batch, _ = fast_jit(lambda: rollout(env, method, state, KEY, 40, True))()
    states = retrace(env, KEY, batch.action)
    time, episode = jnp.zeros(40, int), jnp.arange(40)
    steps = _single_steps(batch, time, episode)
    starts = jax.tree.map(lambda x: x[time, episode], states)
    found = monte_carlo_values(env, method, state, starts, steps, KEY, 600)
    chance = masked_categorical(
        method._outputs(state.params["actor"], batch.observation[0]), batch.action_mask[0]
    ).probs[0, 1, 1]
    expected = np.where(np.asarray(batch.action[0, :, 0]) == 0, float(chance), 0.0)
    assert 0 < (expected > 0).sum() < 40
    np.testing.assert_allclose(found.mean(1)[:, 1], expected, atol=0.07)


def test_an_episode_cut_off_by_its_time_limit_is_worth_what_the_target_critic_says_beyond() -> None:
    """Pays 1 at each of the steps left, each gamma times the one before."""
    env = Steady()
    method: Any = methods.make(
        "alita", env, hidden_size=4, autoencoder_hidden=(4, 2, 4), num_envs=4, gamma=0.5
    )
    state = drawn_state(method, 0)
    # Critics that say 7 whatever they see.
    target = jax.tree.map(jnp.zeros_like, state.target)
    critic = target["critic"]["params"]["critic_0"]
    critic["Linear_2"]["Dense_0"]["bias"] = jnp.full_like(
        critic["Linear_2"]["Dense_0"]["bias"], 7.0
    )
    state = state._replace(target=target)
    batch, _ = fast_jit(lambda: rollout(env, method, state, KEY, 2, True))()
    states = retrace(env, KEY, batch.action)
    time, episode = jnp.arange(env.time_limit), jnp.zeros(env.time_limit, int)
    steps = _single_steps(batch, time, episode)
    starts = jax.tree.map(lambda x: x[time, episode], states)
    found = monte_carlo_values(env, method, state, starts, steps, KEY, 2)
    reward = np.asarray(batch.reward[:, 0])
    value = np.full(env.num_agents, 7.0)
    for t in reversed(range(env.time_limit)):
        value = reward[t] + 0.5 * value
        np.testing.assert_allclose(found[t], np.broadcast_to(value, found[t].shape), rtol=1e-5)


@pytest.mark.slow
def test_the_figure_of_a_run(tmp_path: Path) -> None:
    options = tiny.options(2, "alita")
    options["training_options"] = {**options["training_options"], "keep_every": 1}
    options["method_options"] |= {"intrinsic": False}
    runs = []
    for estimator in ("multiple", "single"):
        options["method_options"]["estimator"] = estimator
        runs.append(str(tmp_path / estimator))
        marl_jax.train("alita", "turn", seeds=1, out=runs[-1], **options)
    picture = tmp_path / "influence.png"
    small = ["--episodes", "4", "--points", "3", "--rollouts", "4"]
    done = call(*runs, *small, "--out", str(picture))
    assert done.returncode == 0, done.stderr
    rows = [row.split(",") for row in picture.with_suffix(".csv").read_text().splitlines()]
    assert rows[0] == ["run", "seed", "env_steps", "true", "estimated"]
    # The untrained state, and one after each of two chunks.
    wanted = [[kind, "0", at] for kind in ("multiple", "single") for at in ("0", "20", "40")]
    assert [row[:3] for row in rows[1:]] == wanted
    assert np.isfinite([float(x) for row in rows[1:] for x in row[3:]]).all()
    assert picture.stat().st_size > 10_000


@pytest.mark.slow
def test_what_the_command_refuses(tmp_path: Path) -> None:
    other = tiny.untrained(tmp_path / "other", "maddpg", "turn", 1)
    for flags, sentence in (
        (["--rollouts", "3"], "--rollouts is 3; it must be an even number of at least 2."),
        ([], "it must be a run of alita with an influence_weight above 0."),
    ):
        done = call(other, *flags)
        assert done.returncode == 2
        assert sentence in done.stderr


def call(*flags: str) -> Any:
    command = [sys.executable, "experiments/influence.py", *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)
