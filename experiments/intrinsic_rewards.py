"""What LIIR's intrinsic reward pays for in 1D Pursuit (the paper's Figure 2).

`python experiments/intrinsic_rewards.py --run DIR --out figure2.png` plays episodes with the trained policies and
compares the learned reward of "good" actions, which bring an agent closer to the target, and "bad" ones.
"""

import csv
import dataclasses
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from envs.pursuit_1d import Pursuit1D
from experiments import command
from marl_jax import ConfigurationError
from marl_jax.api import load, policy_of
from marl_jax.plots import reward_histogram
from marl_jax.types import EpisodeBatch

KINDS = {"good": 1, "bad": -1}


@runtime_checkable
class PaysForActions(Protocol):
    """A method with a learned reward for each action."""

    def intrinsic_reward_table(self, state: Any, batch: EpisodeBatch) -> jax.Array:
        """The reward of every action at every step: [T, B, N, A]."""
        ...


@dataclasses.dataclass
class Arguments:
    """Command line."""

    run: str
    """Folder of a run of liir or liir_paper on pursuit_1d."""
    episodes: int = 1000
    """Episodes for each seed, played as in training."""
    actions: Literal["possible", "taken"] = "possible"
    """possible: the reward of each action that an agent could take where it was. taken: of those it took, which a
    trained policy hardly ever chooses badly."""
    out: str = "figure2.png"
    """The picture; the numbers of each seed go to a .csv beside it."""


def main() -> int:
    """Prints each seed's means, draws the histogram; returns the exit status."""
    args = command.parse(Arguments, "What LIIR's intrinsic reward pays for (Figure 2).")
    if args.episodes < 1:
        raise ConfigurationError(f"--episodes is {args.episodes}; it must be at least 1.")
    trainer, state, settings = load(args.run)
    env, method = trainer.env, trainer.method
    if not (isinstance(method, PaysForActions) and isinstance(env, Pursuit1D)):
        raise ConfigurationError(
            f"{args.run} is a run of {settings.method} on {settings.env}; "
            "it must be one of liir or liir_paper on pursuit_1d."
        )
    rewards: dict[str, list[np.ndarray]] = {kind: [] for kind in KINDS}
    rows = []
    for seed in range(settings.seed, settings.seed + settings.seeds):
        policy = policy_of(trainer, state, settings, seed)
        batch, _ = policy.play(jax.random.key(seed), args.episodes, explore=True)
        table = np.asarray(method.intrinsic_reward_table(policy.state, batch))  # [T, B, N, A]
        values = 10.0 * batch.observation[:-1, ..., 0]
        kinds = np.stack(
            [
                np.asarray(env.classify_actions(values, jnp.full(batch.action.shape, action)))
                for action in range(env.num_actions)
            ],
            axis=-1,
        )
        counted = np.ones(table.shape, bool)
        if args.actions == "taken":
            counted = np.asarray(jax.nn.one_hot(batch.action, env.num_actions)) > 0
        row: dict[str, float] = {"seed": seed}
        for kind, number in KINDS.items():
            found = table[counted & (kinds == number)]
            rewards[kind].append(found)
            row |= {f"{kind}_mean": float(found.mean()), f"{kind}_actions": found.size}
        row["difference"] = row["good_mean"] - row["bad_mean"]
        rows.append(row)
        print(
            f"seed {seed}: good {row['good_mean']:.4g}, bad {row['bad_mean']:.4g}, "
            f"difference {row['difference']:+.4g}"
        )
    positive = sum(row["difference"] > 0 for row in rows)
    print(f"good actions earn more than bad ones in {positive} of {len(rows)} seeds")
    target = Path(args.out)
    with command.writing(target, "--out"):
        with target.with_suffix(".csv").open("w", newline="") as stream:
            writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        reward_histogram(
            {kind: np.concatenate(found) for kind, found in rewards.items()},
            target,
            f"LIIR on 1D Pursuit: reward of {args.actions} actions, {len(rows)} seeds x {args.episodes} episodes",
        )
    print(f"picture: {target}")
    return 0


if __name__ == "__main__":
    command.run(main)
