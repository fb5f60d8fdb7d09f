"""ALITA's influence during training: what a run's own estimator says, and what Monte-Carlo rollouts say (Figure 1).

`python experiments/influence.py RUN... --out influence.png` takes the states that runs of alita have kept along the way
(`--keep-every`), such as one with each kind of estimator. For each state it plays exploring episodes and compares the
influence F that the run's estimator finds on their steps, as it was trained there, with one whose q_i are means of
discounted returns, played from such steps with the influencer's action as it was and everything else drawn anew. Both
have the same best values z, the critics'. Returns are the task's: a run with --method.no-intrinsic compares like with
like, else the critics' values hold intrinsic rewards too. Two things differ besides the estimators: they are given the
others' actions, over which the returns are means, so that the square of their gap holds the values' variance over them
too; and an episode that ends at its time limit goes on as the target critics expect, which is half of a return where
gamma is 0.95 and an episode has 25 steps.
"""

from experiments import startup  # noqa: F401  (before what takes seconds to import)

# isort: split
import csv
import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jaxtyping import Array, Float

from envs.base import Observation
from experiments import command
from marl_jax import ConfigurationError, load_policy
from marl_jax.losses import influence
from marl_jax.methods.alita import ALITA
from marl_jax.plots import learning_curves
from marl_jax.replay import EpisodeReplay
from marl_jax.rollout import retrace, rollout
from marl_jax.runs import RunDirectory, common_steps
from marl_jax.types import EpisodeBatch

# Steps on which an estimator is asked.
ASKED = 4096


@dataclasses.dataclass
class Arguments:
    """Command line."""

    runs: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Folders of runs of alita."""
    seeds: tuple[int, ...] = ()
    """Whose teams; all of a run's if none is given."""
    episodes: int = 64
    """Exploring episodes played with every kept state."""
    points: int = 64
    """Steps of these episodes from which returns are played."""
    rollouts: int = 64
    """Returns played from each; an even number."""
    out: str = "influence.png"
    """The picture; the numbers go to NAME.csv beside it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Draws the figure and prints the numbers; returns the exit status."""
    args = command.parse(
        Arguments, "ALITA's influence during training, estimated and true.", arguments
    )
    target = command.picture(args.out, args.runs, args.episodes)
    if args.points < 1:
        raise ConfigurationError(f"--points is {args.points}; it must be at least 1.")
    if args.rollouts < 2 or args.rollouts % 2:
        raise ConfigurationError(
            f"--rollouts is {args.rollouts}; it must be an even number of at least 2."
        )
    # One object for all states of a run, so that everything is compiled once.
    teams: list[tuple[str, Any, ALITA]] = []
    for name in args.runs:
        team, *_ = [load_policy(name, seed) for seed in args.seeds or (None,)]
        if not isinstance(team.method, ALITA) or not team.method.config.influence_weight:
            raise ConfigurationError(
                f"{name} has no influence; it must be a run of alita with an influence_weight above 0."
            )
        teams.append((name, team.env, team.method))

    curves: dict[str, Any] = {}
    rows: list[tuple[Any, ...]] = []
    tasks: dict[str, None] = {}
    header = ("run", "seed", "env_steps", "true", "estimated")
    labels = command.labels([method.config.estimator for *_, method in teams], args.runs)
    width = max(map(len, (*labels, "run"))) + 2
    print(f"{'run':<{width}}{'seed':>6}" + "".join(f"{name:>12}" for name in header[2:]))
    for label, (name, env, method) in zip(labels, teams, strict=True):
        settings = RunDirectory.open(name).settings()
        tasks[settings.env] = None
        of_seeds = []
        for seed in args.seeds or range(settings.seed, settings.seed + settings.seeds):
            points = []
            for steps, true, estimated in _along_training(name, seed, env, method, args):
                points.append((steps, true, estimated))
                print(
                    f"{label:<{width}}{seed:>6}{steps:>12,}{true:>12.4g}{estimated:>12.4g}",
                    flush=True,
                )
            rows += [(label, seed, *point) for point in points]
            of_seeds.append(np.array(points).T)
        curves[label] = common_steps([points[[0, 2]] for points in of_seeds])
        curves[f"{label}, true"] = common_steps([points[[0, 1]] for points in of_seeds])
    with command.writing(target, "--out"):
        with target.with_suffix(".csv").open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(header)
            writer.writerows(rows)
        title = f"ALITA on {', '.join(tasks)}"
        learning_curves(curves, target, title, "influence F", logarithmic=True)
    print(f"picture: {target}")
    return 0


def _along_training(
    name: str, seed: int, env: Any, method: ALITA, args: Arguments
) -> Iterator[tuple[int, float, float]]:
    """Environment steps, true F and estimated F of every state of a seed that its run has kept."""
    before = None
    for checkpoint in RunDirectory.open(name).checkpoints.steps():
        team = load_policy(name, seed, checkpoint)
        # A seed that had its budget before others is the same in several.
        if team.env_steps != before:
            before = team.env_steps
            yield before, *measure(env, method, team.state, jax.random.key(checkpoint), args)


def measure(
    env: Any, method: ALITA, state: Any, key: jax.Array, args: Arguments
) -> tuple[float, float]:
    """F of the first influencer: the true one, and what the state's estimator says."""
    play_key, point_key, return_key, ask_key = jax.random.split(key, 4)
    batch, states = _play(env, method, state, play_key, args.episodes)
    # Steps of the episodes, all equally likely.
    where = jnp.argwhere(batch.valid)
    chosen = where[jax.random.choice(point_key, len(where), (args.points,))]
    time, episode = chosen[:, 0], chosen[:, 1]
    starts = jax.tree.map(lambda x: x[time, episode], states)
    steps = _single_steps(batch, time, episode)
    values = monte_carlo_values(env, method, state, starts, steps, return_key, args.rollouts)
    inputs = method._inputs(steps.observation)
    best = method._best_values(state, steps, inputs)[0]
    weight = method._weighted(steps)[0]
    values = values[..., method._mates[0]]
    # The square of a mean of few returns would be too large by their variance; the product of two halves is not.
    halves = values.reshape(args.points, 2, -1, values.shape[-1]).mean(axis=2) - best[:, None]
    product = halves[:, 0] * halves[:, 1]
    true = jnp.mean(jnp.sum(weight * product, axis=-1))
    return float(true), float(_estimated(method, state, batch, ask_key))


@functools.partial(jax.jit, static_argnums=(0, 1, 4))
def _play(
    env: Any, method: ALITA, state: Any, key: jax.Array, num: int
) -> tuple[EpisodeBatch, Any]:
    """Exploring episodes, and the environment's states along them."""
    batch, _ = rollout(env, method, state, key, num, explore=True)
    return batch, retrace(env, key, batch.action)


def _single_steps(batch: EpisodeBatch, time: jax.Array, episode: jax.Array) -> EpisodeBatch:
    """Some steps of episodes, each as an episode of one step."""
    length = batch.valid.shape[0]

    def pick(x: jax.Array) -> jax.Array:
        return jnp.stack([x[time + k, episode] for k in range(x.shape[0] - length + 1)])

    return jax.tree.map(pick, batch)


@functools.partial(jax.jit, static_argnums=(0, 1, 6))
def monte_carlo_values(
    env: Any,
    method: ALITA,
    state: Any,
    starts: Any,
    steps: EpisodeBatch,
    key: jax.Array,
    rollouts: int,
) -> Float[Array, "M K N"]:
    """Discounted returns from M states after the first influencer's given action; ALITA Eq. 3.

    All other actions, and the influencer's later ones, are drawn as in training. An episode that ends at its time
    limit goes on as the target critics expect.

    Args:
        env: the task.
        method: the learner.
        state: its state.
        starts: environment states, with a leading axis M.
        steps: what was seen and done there, as M episodes of one step.
        key: random key.
        rollouts: K.
    """
    gamma, scale = method.config.gamma, method.config.reward_scale
    leader = method.config.influencers[0]

    seen = Observation(
        steps.observation[0],
        steps.action_mask[0],
        steps.global_state[0],
        steps.alive[0],
        starts.step_count,
    )
    start = (starts, seen, steps.action[0][:, leader])
    world, view, given = jax.tree.map(lambda x: jnp.repeat(x, rollouts, axis=0), start)
    shape = (given.shape[0], env.num_agents)

    def step(carry: Any, inputs: Any) -> Any:
        world, view, total, weight = carry
        key, first = inputs
        act_key, end_key = jax.random.split(key)
        _, action, _ = method.act(state, (), view, act_key, True)
        action = jnp.where(first, action.at[:, leader].set(given), action)
        world, timestep = jax.vmap(env.step)(world, action)
        total += weight * scale * timestep.reward
        weight *= gamma * timestep.discount
        view, last = timestep.observation, timestep.last()[:, None]
        seen = method._inputs(view.agents_view)
        beyond = method._target_values(state, seen, view.action_mask, end_key)
        total += jnp.where(last, weight * beyond, 0.0)
        return (world, view, total, jnp.where(last, 0.0, weight)), None

    length = env.time_limit
    inputs = (jax.random.split(key, length), jnp.arange(length) == 0)
    carry = (world, view, jnp.zeros(shape), jnp.ones(shape))
    (_, _, total, _), _ = jax.lax.scan(step, carry, inputs)
    return total.reshape(-1, rollouts, env.num_agents)


@functools.partial(jax.jit, static_argnums=0)
def _estimated(method: ALITA, state: Any, batch: EpisodeBatch, key: jax.Array) -> jax.Array:
    """F by the state's own estimator, on steps of these episodes; Eq. 7 and 9."""
    replay = EpisodeReplay(batch.valid.shape[1], len(batch.valid))
    draw_key, act_key = jax.random.split(key)
    steps = replay.sample_transitions(replay.add(replay.init(batch), batch), draw_key, ASKED)
    inputs = method._inputs(steps.observation)
    outputs = method._outputs(state.params["actor"], inputs[0])
    vectors = method._decide(outputs, steps.action_mask[0], act_key)
    joint = jnp.broadcast_to(vectors, (len(method.config.influencers), *vectors.shape))
    estimate = method._estimates(state.params["estimator"], inputs[0], joint)[0]
    best = method._best_values(state, steps, inputs)[0]
    return influence(estimate, best, method._weighted(steps)[0])


if __name__ == "__main__":
    command.run(main)
