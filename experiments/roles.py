"""The roles that a ROMA team has learned (ROMA, Figures 3, 7 and 8, and Table 2).

`python experiments/roles.py RUN --steps 0 8 19 --colour health --out roles.png` draws the means of the agents' roles at
chosen steps of one greedy episode, and, if the run kept states along the way (`--keep-every`), in NAME_evolution.png
how they came about during training. It prints how unlike the agents are by the learned dissimilarity, between and
within types of agents.
"""

from experiments import startup  # noqa: F401  (before what takes seconds to import)

# isort: split
import csv
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
import tyro
from numpy.typing import NDArray

from experiments import command
from marl_jax import ConfigurationError, load_policy
from marl_jax.methods.part import part_of
from marl_jax.methods.roma import Roles
from marl_jax.plots import RoleCloud, role_pictures
from marl_jax.policy import Policy
from marl_jax.runs import RunDirectory
from marl_jax.types import EpisodeBatch

SHOWN = 4
"""At most so many kept states are drawn."""


@dataclasses.dataclass
class Arguments:
    """Command line."""

    run: Annotated[str, tyro.conf.Positional]
    """Folder of a run of roma, roma-vdn or roma-qplex, or such a team."""
    seed: int | None = None
    """Which seed's team; the first if not given."""
    steps: tuple[int, ...] = (0,)
    """Steps of one greedy episode whose roles are drawn."""
    colour: str = "agent"
    """What the colours stand for: agent, row or column (on a grid), type, health, x or y (in SMAX)."""
    episodes: int = 32
    """Greedy episodes over which dissimilarities are averaged; the first is drawn."""
    out: str = "roles.png"
    """The picture; the means go to NAME.csv beside it, dissimilarities of all pairs to NAME_dissimilarity.csv."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Draws the roles and prints the dissimilarities; returns the exit status."""
    args = command.parse(Arguments, "The roles that a ROMA team has learned.", arguments)
    target = command.picture(args.out, [args.run], args.episodes)
    policy = next(iter(command.policies(args.run, args.seed).values()))
    if part_of(policy.method, Roles) is None:
        raise ConfigurationError(
            f"{args.run} is a run of a method without roles; it must be one of roma, roma-vdn or roma-qplex."
        )
    key = jax.random.key(0)
    batch, _ = policy.play(key, args.episodes)
    traits = _traits(policy, key, batch)
    if args.colour not in traits:
        raise ConfigurationError(
            f"--colour is {args.colour}; on this task it must be one of {', '.join(traits)}."
        )
    length = int(np.asarray(batch.valid)[:, 0].sum())
    if not args.steps or not all(0 <= step < length for step in args.steps):
        raise ConfigurationError(
            f"--steps is {' '.join(map(str, args.steps))}; each must be from 0 to {length - 1}, "
            "the last step of the episode that is drawn."
        )
    means = _means(policy, batch)
    colour = traits[args.colour]
    clouds = [RoleCloud(f"step {t}", means[t, 0], colour[t, 0]) for t in args.steps]
    matrix = _dissimilarities(policy, batch)
    if batch.num_agents == 2:
        print("with two agents, scaled dissimilarities are 0 and 1 whatever was learned")
    print(_table(matrix, traits.get("type"), np.asarray(batch.valid)))
    evolution = _evolution(args, batch, colour)
    with command.writing(target, "--out"):
        _write(target.with_suffix(".csv"), ["step", "agent", "mean"], means[:length, 0])
        average = matrix[1:][np.asarray(batch.valid)[1:]].mean(axis=0)
        name = target.with_name(f"{target.stem}_dissimilarity.csv")
        _write(name, ["agent", "other", "dissimilarity"], average[..., None])
        role_pictures(clouds, args.colour, target)
        print(f"picture: {target}")
        if evolution:
            picture = target.with_name(f"{target.stem}_evolution.png")
            role_pictures(evolution, args.colour, picture, _curve(args.run, args.seed))
            print(f"picture: {picture}")
    return 0


def _traits(policy: Policy, key: jax.Array, batch: EpisodeBatch) -> dict[str, NDArray[Any]]:
    """By name, something about each agent at each step, [T+1, B, N]."""
    states = policy.states(key, batch)
    shape = (batch.observation.shape[0], *batch.action.shape[1:])
    num_agents = shape[-1]
    found = {"agent": np.broadcast_to(np.arange(num_agents), shape)}
    positions = getattr(states, "positions", None)
    if positions is not None and positions.shape[-2:] == (num_agents, 2):
        found |= {"row": positions[..., 0], "column": positions[..., 1]}
    units: Any = getattr(getattr(states, "inner", None), "state", None)
    if hasattr(units, "unit_types"):
        places = units.unit_positions[..., :num_agents, :]
        found |= {
            "type": units.unit_types[..., :num_agents],
            "health": units.unit_health[..., :num_agents],
            "x": places[..., 0],
            "y": places[..., 1],
        }
    return {name: np.asarray(x) for name, x in found.items()}


def _means(policy: Policy, batch: EpisodeBatch) -> NDArray[np.float64]:
    """Means of the roles, [T, B, N, 3]; more numbers than three are left out, fewer filled up with 0."""
    roles: Any = part_of(policy.method, Roles)
    means = np.asarray(jax.jit(roles.roles)(policy.state, batch).mean, np.float64)[..., :3]
    return np.pad(means, [(0, 0)] * 3 + [(0, 3 - means.shape[-1])])


def _dissimilarities(policy: Policy, batch: EpisodeBatch) -> NDArray[np.float64]:
    """[T, B, N, N]; NaN for an agent with itself, and at the first step if histories are compared: there are none."""
    roles: Any = part_of(policy.method, Roles)
    matrix = np.array(jax.jit(roles.dissimilarities)(policy.state, batch), np.float64)
    num_agents = matrix.shape[-1]
    if roles.core.config.dissimilarity_input == "trajectory":
        matrix[0] = np.nan
    matrix[..., np.arange(num_agents), np.arange(num_agents)] = np.nan
    return matrix


def _table(matrix: NDArray[np.float64], kind: NDArray[Any] | None, valid: NDArray[np.bool_]) -> str:
    """Mean over steps and pairs of each episode, then mean and deviation over episodes (Table 2)."""
    if kind is None:
        kind = np.zeros(matrix.shape[:-1])
    kind = kind[: len(matrix)]
    same = kind[..., :, None] == kind[..., None, :]
    lines = []
    for name, pairs in (("between types", ~same), ("within a type", same)):
        chosen = np.where(pairs & valid[..., None, None], matrix, np.nan)
        if np.isnan(chosen).all():
            continue
        # An episode may have no such pair, where types are drawn.
        has = ~np.isnan(chosen).all(axis=(0, 2, 3))
        episodes = np.nanmean(chosen[:, has], axis=(0, 2, 3))
        lines.append(
            f"dissimilarity {name}: {episodes.mean():.4f} +- {episodes.std():.4f} "
            f"({len(episodes)} episodes)"
        )
    return "\n".join(lines)


def _evolution(args: Arguments, batch: EpisodeBatch, colour: NDArray[Any]) -> list[RoleCloud]:
    """The roles that kept states give to what the agents see at the first step, oldest first."""
    folder = Path(args.run)
    kept = RunDirectory.open(folder).checkpoints.steps() if folder.is_dir() else []
    if len(kept) < 3:
        return []
    # A seed that had its budget before others is the same in several.
    teams = {team.env_steps: team for team in (load_policy(args.run, args.seed, k) for k in kept)}
    some = np.unique(np.linspace(0, len(teams) - 1, SHOWN).round().astype(int))
    return [
        RoleCloud(f"after {steps:,} env steps", _means(team, batch)[0, 0], colour[0, 0])
        for steps, team in (list(teams.items())[i] for i in some)
    ]


def _curve(run: str, seed: int | None) -> Any:
    """The seed's learning curve."""
    directory = RunDirectory.open(run)
    seed = directory.settings().seed if seed is None else seed
    rows = [row for row in directory.rows() if int(row["seed"]) == seed]
    steps = np.array([row["env_steps"] for row in rows])
    return steps, np.array([[row["eval_return_mean"] for row in rows]])


def _write(path: Path, header: list[str], values: NDArray[np.float64]) -> None:
    """One row for each of the first two indices: the indices, then the numbers."""
    *names, last = header
    numbers = values.shape[-1]
    columns = [last] if numbers == 1 else [f"{last}_{i}" for i in range(numbers)]
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow([*names, *columns])
        for one, other in np.ndindex(values.shape[:2]):
            if not np.isnan(values[one, other]).any():
                writer.writerow([one, other, *(f"{x:.6g}" for x in values[one, other])])


if __name__ == "__main__":
    command.run(main)
