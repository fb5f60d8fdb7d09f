"""Pictures of runs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from marl_jax.statistics import interquartile_mean, iqm_interval

LINES = ("-", "--", ":")
MOST_INSIDE = 5
"""Curves whose names find room among them; of more the names stand beside."""

# Okabe-Ito, told apart by colour-blind readers too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")

ABOVE: Any = (0, (5, 5))
"""The line style of what is drawn above another line, which shows in its gaps."""
THIN: dict[str, Any] = {"linestyle": (0, (4, 2)), "linewidth": 0.9}

Curve = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Environment steps [K] and values [S, K]."""


def learning_curves(
    curves: Mapping[str, Curve],
    path: Path,
    title: str,
    ylabel: str = "evaluation return",
    logarithmic: bool = False,
    sampled: Mapping[str, Curve] | None = None,
) -> None:
    """Draws IQM over seeds with its 95% bootstrap interval, one line per entry, to a PNG.

    A line that runs where an earlier one does is dashed, so that both show, and the legend says which it equals.

    Args:
        curves: by label, steps [K] and values [S, K].
        path: where the picture goes.
        title: heading.
        ylabel: what the values are.
        logarithmic: whether the values' axis is.
        sampled: by label, the curves of sampled episodes: thin dashed lines in the same colours, without interval.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    beside = len(curves) > MOST_INSIDE
    figure = Figure(figsize=(10 if beside else 7, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    if logarithmic:
        axes.set_yscale("log", nonpositive="clip")
    drawn: dict[str, Curve] = {}
    for i, (label, (steps, values)) in enumerate(curves.items()):
        colour = COLOURS[i % len(COLOURS)]
        interval = iqm_interval(values)
        seeds = values.shape[0]
        same = next((name for name, x in drawn.items() if _same_line(x, (steps, values))), None)
        drawn[label] = (steps, values)
        axes.plot(
            steps,
            interval.estimate,
            color=colour,
            linestyle=LINES[i // len(COLOURS) % len(LINES)] if same is None else ABOVE,
            label=f"{label} ({seeds} seed{'s' * (seeds > 1)}{'' if same is None else f', as {same}'})",
            marker="o" if len(steps) == 1 else None,
        )
        axes.fill_between(steps, interval.low, interval.high, color=colour, alpha=0.2, linewidth=0)
        if sampled and label in sampled:
            steps, values = sampled[label]
            axes.plot(steps, interquartile_mean(values), color=colour, **THIN)
    if sampled:
        axes.plot([], [], color="0.4", label="sampled actions", **THIN)
    axes.set_xlabel("environment steps per seed")
    axes.set_ylabel(ylabel)
    axes.set_title(f"{title}\nIQM over seeds, 95% bootstrap interval", fontsize=11)
    axes.grid(alpha=0.3)
    if beside:
        figure.legend(loc="outside right upper", frameon=False)
    elif curves:
        axes.legend(frameon=False)
    figure.savefig(path, dpi=120)


def _same_line(one: Curve, other: Curve) -> bool:
    """Whether two curves look the same."""
    if not np.array_equal(one[0], other[0]):
        return False
    return np.array_equal(interquartile_mean(one[1]), interquartile_mean(other[1]))


def reward_histogram(rewards: Mapping[str, NDArray[np.float64]], path: Path, title: str) -> None:
    """Draws how often each intrinsic reward was paid, by kind of action (LIIR, Figure 2), to a PNG.

    Args:
        rewards: by kind of action, the rewards paid for it, [K].
        path: where the picture goes.
        title: heading.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    everything = np.concatenate(list(rewards.values()))
    bins = np.linspace(everything.min(), everything.max(), 61)
    for i, (label, values) in enumerate(rewards.items()):
        axes.hist(
            values,
            bins=bins.tolist(),
            color=COLOURS[i],
            alpha=0.6,
            label=f"{label}: mean {values.mean():.3g}, {values.size} actions",
        )
    axes.set_xlabel("learned intrinsic reward")
    axes.set_ylabel("actions")
    axes.set_title(title, fontsize=11)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=120)


def reward_by_health(
    points: Mapping[str, NDArray[np.float64]], path: Path, title: str, bins: int = 10
) -> None:
    """Draws the mean intrinsic reward of attacks by the attacker's health (LIIR, Section 5.2.3), to a PNG.

    Args:
        points: by label, health (0 to 0.5) and reward of each attack, [2, K].
        path: where the picture goes.
        title: heading.
        bins: parts that the health is divided into; those without an attack are left out.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    edges = np.linspace(0.0, 0.5, bins + 1)
    for i, (label, (health, reward)) in enumerate(points.items()):
        part = np.clip(np.digitize(health, edges) - 1, 0, bins - 1)
        found = np.unique(part)
        means = [reward[part == k].mean() for k in found]
        centres = (edges[:-1] + edges[1:])[found] / 2
        axes.plot(centres, means, color=COLOURS[i % len(COLOURS)], marker="o", label=label)
    axes.axhline(0.0, color="0.7", linewidth=0.8)
    axes.set_xlabel("health of the attacker")
    axes.set_ylabel("mean learned intrinsic reward")
    axes.set_title(title, fontsize=11)
    figure.legend(loc="outside right upper", frameon=False)
    figure.savefig(path, dpi=120)


class CreditTrace(NamedTuple):
    """Credits along one episode.

    Attributes:
        credits: each agent's, [T, N].
        reward: the team's, [T].
    """

    credits: NDArray[np.float32]
    reward: NDArray[np.float32]


def credit_pictures(
    traces: Mapping[str, CreditTrace], distances: NDArray[np.float64] | None, path: Path
) -> None:
    """Draws temporal credits of each agent (CIA, Figure 4), and distances between runs (Figure 2), to a PNG.

    Args:
        traces: by label of the run, the credits along one episode.
        distances: [M, M], mean Kullback-Leibler distances between the runs; no matrix if None.
        path: where the picture goes.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = len(traces)
    figure = Figure(
        figsize=(8 if distances is None else 12, 2.4 * rows + 0.6), layout="constrained"
    )
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(rows, 1 if distances is None else 3)
    for row, (label, trace) in enumerate(traces.items()):
        axes = figure.add_subplot(grid[row, 0] if distances is None else grid[row, :2])
        for agent, credits in enumerate(trace.credits.T):
            axes.plot(credits, color=COLOURS[agent % len(COLOURS)], label=f"agent {agent}")
        for step in np.flatnonzero(trace.reward > 0):
            axes.axvline(float(step), color="0.8", linewidth=0.8, zorder=0)
        axes.set_title(f"{label}: return {trace.reward.sum():.4g}", fontsize=11)
        axes.set_ylabel("credit")
        if row == 0:
            # Above all axes: between them there is no room beside the titles.
            figure.legend(frameon=False, loc="outside upper left", ncols=len(trace.credits.T))
        if row == rows - 1:
            axes.set_xlabel("step of one greedy episode; grey: the team is rewarded")
    if distances is not None:
        axes = figure.add_subplot(grid[:, 2])
        axes.imshow(distances, cmap="Blues")
        labels = list(traces)
        axes.set_xticks(range(rows), labels, rotation=45, ha="right")
        axes.set_yticks(range(rows), labels)
        for (i, j), value in np.ndenumerate(distances):
            dark = value > 0.6 * distances.max()
            axes.text(j, i, f"{value:.2g}", ha="center", color="white" if dark else "black")
        axes.set_title("KL(row || column) of credits over agents", fontsize=11)
    figure.savefig(path, dpi=120)


class RoleCloud(NamedTuple):
    """The roles of a team at one moment.

    Attributes:
        title: which moment.
        means: means of the roles' distributions, [N, 3].
        colour: what each agent is, by which it is coloured, [N].
    """

    title: str
    means: NDArray[np.float64]
    colour: NDArray[np.float64]


def role_pictures(
    clouds: Sequence[RoleCloud], trait: str, path: Path, curve: Curve | None = None
) -> None:
    """Draws the means of roles in three dimensions (ROMA, Figures 3, 7 and 8), to a PNG.

    Args:
        clouds: the moments, all drawn on one scale.
        trait: what the colours stand for.
        path: where the picture goes.
        curve: a seed's learning curve, [K] steps and [1, K] returns, to be drawn above them.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = len(clouds)
    rows = 1 if curve is None else 2
    figure = Figure(figsize=(3.4 * columns + 0.8, 3.4 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(rows, columns)
    if curve is not None:
        axes = figure.add_subplot(grid[0, :])
        axes.plot(curve[0], curve[1][0], color=COLOURS[0])
        axes.set_xlabel("environment steps")
        axes.set_ylabel("return")
    everything = np.concatenate([cloud.means for cloud in clouds])
    low, high = everything.min(0), everything.max(0)
    margin = 0.08 * np.maximum(high - low, 1e-3)
    colours = np.concatenate([cloud.colour for cloud in clouds])
    drawn = None
    spaces = []
    for column, cloud in enumerate(clouds):
        axes = figure.add_subplot(grid[rows - 1, column], projection="3d")
        spaces.append(axes)
        x, y, z = cloud.means.T
        drawn = axes.scatter(
            x, y, z, c=cloud.colour, cmap="viridis", vmin=colours.min(), vmax=colours.max(), s=45
        )
        for agent, place in enumerate(cloud.means):
            axes.text(*place, f" {agent}", fontsize=8)
        axes.set_xlim(low[0] - margin[0], high[0] + margin[0])
        axes.set_ylim(low[1] - margin[1], high[1] + margin[1])
        axes.set_zlim(low[2] - margin[2], high[2] + margin[2])
        axes.tick_params(labelsize=6)
        axes.patch.set_alpha(0.0)  # the neighbour's labels reach below it
        for number, name_axis in enumerate((axes.set_xlabel, axes.set_ylabel, axes.set_zlabel)):
            name_axis(f"role[{number}]", fontsize=7, labelpad=-2)
        axes.set_title(cloud.title, fontsize=10)
    assert drawn is not None
    bar = figure.colorbar(drawn, ax=spaces, shrink=0.7, pad=0.12)
    bar.set_label(f"{trait}; the number at a point: its agent", fontsize=8)
    if len(kinds := np.unique(colours)) <= 10:
        bar.set_ticks(kinds.tolist())
    figure.savefig(path, dpi=120)


class Whereabouts(NamedTuple):
    """Where the agents of a team are, and what a classifier makes of what they see.

    Attributes:
        visits: share of the time that each agent spends in each cell, [N, rows, columns].
        points: two coordinates of some observations, [K, 2]; None without a classifier.
        agent: whose each of them is, [K].
        probability: p(i | o_i) of each of them, [K].
    """

    visits: NDArray[np.float64]
    points: NDArray[np.float64] | None = None
    agent: NDArray[np.int64] | None = None
    probability: NDArray[np.float64] | None = None


def individuality_pictures(
    teams: Mapping[str, Whereabouts], walls: NDArray[np.bool_] | None, path: Path
) -> None:
    """Draws each agent's positions (EOI, Figure 6) and its observations' kernel PCA (Figure 7), to a PNG.

    Args:
        teams: by label of the run.
        walls: [rows, columns] of the map, if it has any.
        path: where the picture goes.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure

    num_agents = max(len(team.visits) for team in teams.values())
    classified = any(team.points is not None for team in teams.values())
    columns = num_agents + classified
    figure = Figure(figsize=(2.6 * columns, 2.8 * len(teams)), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(len(teams), columns)
    for row, (label, team) in enumerate(teams.items()):
        for agent, visits in enumerate(team.visits):
            axes = figure.add_subplot(grid[row, agent])
            if walls is not None:
                axes.imshow(np.where(walls, 1.0, np.nan), cmap="Greys", vmin=0, vmax=2)
            # Roots, so that cells passed through show beside those stayed in.
            shown = np.where(visits > 0, np.sqrt(visits), np.nan)
            fade = LinearSegmentedColormap.from_list("", ("#f0f0f0", COLOURS[agent % len(COLOURS)]))
            axes.imshow(shown, cmap=fade, vmin=0)
            axes.set_xticks([])
            axes.set_yticks([])
            axes.set_title(
                f"{label}: agent {agent}" if agent == 0 else f"agent {agent}", fontsize=10
            )
        if team.points is not None and team.agent is not None and team.probability is not None:
            axes = figure.add_subplot(grid[row, num_agents])
            for agent in range(len(team.visits)):
                own = team.agent == agent
                fade = LinearSegmentedColormap.from_list(
                    "", ("#e8e8e8", COLOURS[agent % len(COLOURS)])
                )
                x, y = team.points[own].T
                axes.scatter(x, y, c=team.probability[own], cmap=fade, vmin=0, vmax=1, s=8)
            axes.set_xticks([])
            axes.set_yticks([])
            axes.set_xlabel("1st kernel component", fontsize=8)
            axes.set_ylabel("2nd kernel component", fontsize=8)
            axes.set_title("observations; darker: p(i | o)", fontsize=10)
    figure.supxlabel("cells of the map; darker: an agent spends more of its time there", fontsize=9)
    figure.savefig(path, dpi=120)
