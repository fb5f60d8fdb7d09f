"""Whether the agents of trained teams differ (EOI, Figures 6 and 7).

`python experiments/individuality.py RUN... --out individuality.png` draws where each agent spends its time in greedy
episodes and, for methods with EOI's classifier, the kernel PCA of what the agents observe, darker where the classifier
knows whose it is. It prints how much the agents' whereabouts overlap.
"""

from experiments import startup  # noqa: F401  (before what takes seconds to import)

# isort: split
import csv
import dataclasses
import itertools
from collections.abc import Sequence
from typing import Annotated, Any, Protocol, runtime_checkable

import jax
import numpy as np
import tyro
from numpy.typing import NDArray

from experiments import command
from marl_jax import ConfigurationError
from marl_jax.plots import Whereabouts, individuality_pictures
from marl_jax.policy import Policy
from marl_jax.statistics import kernel_pca
from marl_jax.types import EpisodeBatch

POINTS = 600
"""Observations that the kernel PCA is made of."""


@runtime_checkable
class Tells(Protocol):
    """A method, or a part of one, that tells agents by what they observe."""

    def recognition(self, state: Any, batch: EpisodeBatch) -> jax.Array:
        """How surely it tells each agent along episodes: [T, B, N]."""
        ...


@dataclasses.dataclass
class Arguments:
    """Command line."""

    runs: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Folders of runs, or teams, all on one task whose agents have positions on a grid."""
    seed: int | None = None
    """Which seed's team of each run; its first if not given."""
    episodes: int = 100
    """Greedy episodes of each run."""
    out: str = "individuality.png"
    """The picture; the shares of time in each cell go to NAME.csv beside it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Draws the teams and prints how much their agents overlap; returns the exit status."""
    args = command.parse(Arguments, "Whether the agents of trained teams differ.", arguments)
    target = command.picture(args.out, args.runs, args.episodes)
    teams: dict[str, Whereabouts] = {}
    walls = None
    for label, loaded in command.load_teams(args.runs, args.seed).items():
        walls = _walls(loaded.policy.env)
        teams[label] = _whereabouts(loaded.folder, loaded.policy, args.episodes, walls)
        print(f"{label}: {_overlap(teams[label].visits)}")
    with command.writing(target, "--out"):
        with target.with_suffix(".csv").open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(["run", "agent", "row", "column", "share"])
            for label, team in teams.items():
                for (agent, row, column), share in np.ndenumerate(team.visits):
                    if share > 0:
                        writer.writerow([label, agent, row, column, f"{share:.6g}"])
        individuality_pictures(teams, walls, target)
    print(f"picture: {target}")
    return 0


def _walls(env: Any) -> NDArray[np.bool_] | None:
    """The map's walls, if the world has a map."""
    layout = getattr(getattr(env, "_map", None), "layout", None)
    return None if layout is None else np.asarray(layout.walls)


def _whereabouts(
    name: str, policy: Policy, episodes: int, walls: NDArray[np.bool_] | None
) -> Whereabouts:
    key = jax.random.key(0)
    batch, _ = policy.play(key, episodes)
    positions = command.cells(policy, key, batch)
    valid = np.asarray(batch.valid)
    num_agents = batch.num_agents
    if positions is None:
        raise ConfigurationError(
            f"{name} is a run on a world whose agents have no cells; it must be one on a grid, such as pac_men."
        )
    visited = positions[:-1][valid]
    shape = walls.shape if walls is not None else tuple(visited.max(axis=(0, 1)) + 1)
    visits = np.zeros((num_agents, *shape))
    for agent in range(num_agents):
        np.add.at(visits[agent], tuple(visited[:, agent].T), 1.0 / len(visited))
    method = policy.method
    told = next((x for x in (method, *getattr(method, "parts", ())) if isinstance(x, Tells)), None)
    if told is None:
        return Whereabouts(visits)
    seen = np.asarray(batch.observation)[:-1][valid]
    paid = np.asarray(told.recognition(policy.state, batch))[valid]
    whose = np.broadcast_to(np.arange(num_agents), paid.shape).reshape(-1)
    some = np.random.default_rng(0).permutation(len(whose))[:POINTS]
    points = kernel_pca(seen.reshape(len(whose), -1)[some].astype(np.float64))
    return Whereabouts(visits, points, whose[some], paid.reshape(-1)[some].astype(np.float64))


def _overlap(visits: NDArray[np.float64]) -> str:
    """The mean over pairs of agents of what their shares of time have in common: 1 for the same, 0 for apart."""
    pairs = itertools.combinations(visits, 2)
    common = [float(np.minimum(one, other).sum()) for one, other in pairs]
    return f"two agents share {np.mean(common):.1%} of their whereabouts on average"


if __name__ == "__main__":
    command.run(main)
