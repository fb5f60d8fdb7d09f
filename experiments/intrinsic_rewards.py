"""What LIIR's intrinsic reward pays for: in 1D Pursuit (the paper's Figure 2), and in battles (its Section 5.2.3).

`python experiments/intrinsic_rewards.py --run DIR --out figure2.png` plays episodes with the trained policies. In 1D
Pursuit it compares the learned reward of "good" actions, which bring an agent closer to the target, and "bad" ones. In
battles it takes what attacks by agents below half of their health are paid, and says how that goes with the health.
"""

from experiments import startup  # noqa: F401  (before what takes seconds to import)

# isort: split
import csv
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from envs.files import user_path
from experiments import command
from marl_jax import ConfigurationError
from marl_jax.methods.liir import LearnedReward
from marl_jax.methods.part import part_of
from marl_jax.plots import reward_by_health, reward_histogram
from marl_jax.policy import Policy
from marl_jax.types import EpisodeBatch

KINDS = {"good": 1, "bad": -1}
UNIT_FEATURES = 10
"""Of each unit of SMAX in the global state, allies first; the first of them is its health."""


@runtime_checkable
class PaysForActions(Protocol):
    """A method, or a part of one, with a learned reward for each action."""

    def intrinsic_reward_table(self, state: Any, batch: EpisodeBatch) -> jax.Array:
        """The reward of every action at every step: [T, B, N, A]."""
        ...


@dataclasses.dataclass
class Arguments:
    """Command line."""

    run: str
    """Folder of a run of liir or liir_paper on pursuit_1d or smax, or such a team."""
    episodes: int = 1000
    """Episodes for each seed, played as in training (the paper: 100 battles)."""
    actions: Literal["possible", "taken"] = "possible"
    """In 1D Pursuit. possible: the reward of each action that an agent could take where it was. taken: of those it
    took, which a trained policy hardly ever chooses badly."""
    out: str = "figure2.png"
    """The picture; the numbers of each seed go to a .csv beside it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints each seed's numbers, draws the picture; returns the exit status."""
    args = command.parse(
        Arguments, "What LIIR's intrinsic reward pays for (Figure 2; battles).", arguments
    )
    if args.episodes < 1:
        raise ConfigurationError(f"--episodes is {args.episodes}; it must be at least 1.")
    policies = command.policies(args.run)
    first = next(iter(policies.values()))
    settings = first.settings
    battle = settings.env.startswith("smax/")
    if _paying(first.method) is None or not (battle or settings.env == "pursuit_1d"):
        raise ConfigurationError(
            f"{args.run} is a run of {settings.method} on {settings.env}; "
            "it must be one of liir or liir_paper on pursuit_1d or smax."
        )
    return (_battles if battle else _pursuit)(args, policies)


def _play(policy: Policy, seed: int, episodes: int) -> tuple[EpisodeBatch, np.ndarray]:
    """Episodes played as in training, and the learned reward of every action at every step, [T, B, N, A]."""
    batch, _ = policy.play(jax.random.key(seed), episodes, explore=True)
    paying: Any = _paying(policy.method)
    return batch, np.asarray(paying.intrinsic_reward_table(policy.state, batch))


def _paying(method: Any) -> PaysForActions | None:
    """Who has the learned reward."""
    return method if isinstance(method, PaysForActions) else part_of(method, LearnedReward)


def _write(target: Path, rows: Sequence[Mapping[str, float]]) -> None:
    with target.with_suffix(".csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _pursuit(args: Arguments, policies: Mapping[int, Policy]) -> int:
    """Figure 2."""
    rewards: dict[str, list[np.ndarray]] = {kind: [] for kind in KINDS}
    rows = []
    for seed, policy in policies.items():
        env: Any = policy.env
        batch, table = _play(policy, seed, args.episodes)
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
    target = user_path("--out", args.out)
    with command.writing(target, "--out"):
        _write(target, rows)
        reward_histogram(
            {kind: np.concatenate(found) for kind, found in rewards.items()},
            target,
            f"LIIR on 1D Pursuit: reward of {args.actions} actions, {len(rows)} seeds x {args.episodes} episodes",
        )
    print(f"picture: {target}")
    return 0


def attacks_below_half(
    batch: EpisodeBatch, table: NDArray[np.floating[Any]], first_attack: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Health (0 to 0.5) and learned reward of each attack by an agent of SMAX below half of its health, [K] each.

    Args:
        batch: battles.
        table: the reward of every action, [T, B, N, A].
        first_attack: actions from this one on are attacks.
    """
    # Whatever the agents observe.
    health = np.asarray(batch.global_state)[
        :-1, :, : UNIT_FEATURES * batch.num_agents : UNIT_FEATURES
    ]
    action, fights = np.asarray(batch.action), np.asarray(batch.valid[..., None] & batch.alive[:-1])
    paid = np.take_along_axis(table, action[..., None], axis=-1)[..., 0]
    counts = fights & (action >= first_attack) & (health < 0.5)
    return health[counts].astype(float), paid[counts].astype(float)


def cosine(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Cosine of the angle between two vectors, [K] each; 0 if one of them is 0 or empty."""
    size = float(np.linalg.norm(x) * np.linalg.norm(y))
    return float(x @ y) / size if size > 0 else 0.0


def _battles(args: Arguments, policies: Mapping[int, Policy]) -> int:
    """Section 5.2.3: the cosine of health and reward; beside it their correlation, which a constant reward has not."""
    rows, points = [], {}
    for seed, policy in policies.items():
        env: Any = policy.env
        attacks = env.source.num_movement_actions
        health, paid = attacks_below_half(*_play(policy, seed, args.episodes), attacks)
        if not health.size:
            raise ConfigurationError(
                f"--episodes is {args.episodes}; it must be more, since seed {seed} never attacks below half health."
            )
        # A constant has no correlation.
        centred = [x - x.mean() for x in (health, paid)]
        row = {
            "seed": seed,
            "attacks": health.size,
            "cosine": cosine(health, paid),
            "correlation": cosine(*centred),
            "mean_reward": float(paid.mean()),
        }
        rows.append(row)
        points[f"seed {seed}"] = np.stack([health, paid])
        print(
            f"seed {seed}: {row['attacks']} attacks, cosine {row['cosine']:+.3f}, "
            f"correlation {row['correlation']:+.3f}, mean reward {row['mean_reward']:+.3g}"
        )
    for name in ("cosine", "correlation"):
        print(f"mean {name} over seeds: {np.mean([row[name] for row in rows]):+.3f}")
    target = user_path("--out", args.out)
    with command.writing(target, "--out"):
        _write(target, rows)
        reward_by_health(points, target, "LIIR: learned reward of attacks below half health")
    print(f"picture: {target}")
    return 0


if __name__ == "__main__":
    command.run(main)
