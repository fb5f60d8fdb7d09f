"""How trained mixers pay the agents of a team (CIA, Figures 4 and 2).

`python experiments/credits.py RUN... --out credits.png` draws each run's temporal credits along one greedy episode,
and, given two runs or more, the matrix of Kullback-Leibler distances between their distributions of credits over
agents.
"""

from experiments import startup  # noqa: F401  (before what takes seconds to import)

# isort: split
import csv
import dataclasses
from collections.abc import Sequence
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from numpy.typing import NDArray

from experiments import command
from marl_jax import ConfigurationError
from marl_jax.losses import credit_divergences
from marl_jax.methods.q_learner import QLearner
from marl_jax.plots import CreditTrace, credit_pictures
from marl_jax.policy import Policy
from marl_jax.types import EpisodeBatch


@dataclasses.dataclass
class Arguments:
    """Command line."""

    runs: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Folders of runs, or teams, of methods with a mixer, all on one task."""
    seed: int | None = None
    """Which seed's team of each run; its first if not given."""
    episodes: int = 10
    """Greedy episodes of each run over which distances are averaged (10 in the paper)."""
    out: str = "credits.png"
    """The picture; its numbers go to NAME.csv beside it, the distances to NAME_kl.csv."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Draws the credits and prints the distances; returns the exit status."""
    args = command.parse(Arguments, "How trained mixers pay the agents of a team.", arguments)
    target = command.picture(args.out, args.runs, args.episodes)
    policies = _load(args.runs, args.seed)
    episodes = [
        p.play(jax.random.key(i), args.episodes)[0] for i, p in enumerate(policies.values())
    ]
    traces = {
        label: _trace(policy, batch)
        for (label, policy), batch in zip(policies.items(), episodes, strict=True)
    }
    distances = _distances(list(policies.values()), episodes)
    for label, trace in traces.items():
        print(f"{label}: {_relation(trace.credits)}")
    for label, row in zip(policies, distances, strict=True):
        print(f"KL({label} || {', '.join(policies)}) = {', '.join(f'{x:.4g}' for x in row)}")
    with command.writing(target, "--out"):
        with target.with_suffix(".csv").open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(["run", "step", "agent", "credit"])
            for label, trace in traces.items():
                for (step, agent), credit in np.ndenumerate(trace.credits):
                    writer.writerow([label, step, agent, f"{credit:.6g}"])
        with target.with_name(f"{target.stem}_kl.csv").open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(["run", *policies])
            for label, row in zip(policies, distances, strict=True):
                writer.writerow([label, *(f"{x:.6g}" for x in row)])
        credit_pictures(traces, distances if len(policies) > 1 else None, target)
    print(f"picture: {target}")
    return 0


def _load(runs: tuple[str, ...], seed: int | None) -> dict[str, Policy]:
    """The teams by label."""
    teams = command.load_teams(runs, seed)
    for team in teams.values():
        if not isinstance(team.policy.method, QLearner):
            raise ConfigurationError(
                f"{team.folder} is a run of {team.method}; it must be one of a value method with a mixer."
            )
    return {label: team.policy for label, team in teams.items()}


def _credits(policy: Policy, batch: EpisodeBatch) -> NDArray[np.float32]:
    method: Any = policy.method
    return np.asarray(jax.jit(method.credits)(policy.state, batch))


def _trace(policy: Policy, batch: EpisodeBatch) -> CreditTrace:
    """The credits along the first episode, and when the team was rewarded."""
    length = int(np.asarray(batch.valid)[:, 0].sum())
    reward = np.asarray(batch.reward)[:length, 0].mean(-1)
    return CreditTrace(_credits(policy, batch)[:length, 0], reward)


def _relation(credits: NDArray[np.float32]) -> str:
    """How the first two agents' credits go together along an episode."""
    one, other = credits[:, 0], credits[:, 1]
    if np.allclose(one, other):
        return "the first two agents have the same credit at every step"
    if min(one.std(), other.std()) < 1e-6:
        return "an agent's credit is the same at every step"
    correlation = np.corrcoef(one, other).item(0, 1)
    return f"credits of agents 0 and 1 along its episode correlate by {correlation:+.3f}"


def _distances(policies: list[Policy], episodes: list[EpisodeBatch]) -> NDArray[np.float64]:
    """[M, M]: each pair's mean distance over all teams' episodes."""
    pooled = jax.tree.map(lambda *x: np.concatenate(x, axis=1), *episodes)
    credits = np.stack([_credits(policy, pooled) for policy in policies])
    return np.asarray(credit_divergences(jnp.asarray(credits), pooled.valid), np.float64)


if __name__ == "__main__":
    command.run(main)
