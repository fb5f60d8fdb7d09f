"""Speed beside the peers, in turn in one run: training of QMIX and MAPPO beside theirs, and random play.

`python benchmarks/peers.py --jaxmarl PATH --pymarl PATH` takes a checkout of github.com/FLAIROx/JaxMARL and one of
github.com/liushunyu/CIA, the authors' QMIX on Turn in PyTorch; without a checkout its lines have our numbers only. The
interpreters that can run them are `--python` (`pip install "jaxmarl[algs]"`) and `--pymarl-python` (`pymarl_side.py`
says what it needs). PyTorch trains one seed with all cores, ours are two.

Where all episodes are equally long, `bound` is how fast our side could be if it were nothing but its products of
matrices, its gates and its world, each as fast as it is alone (`bound.py`), and `share` what of it is reached.

Layers, environments, batches and gradient steps for each environment step are equal on both sides. JaxMARL's QMIX plays
26 steps an iteration where episodes of MPE have 25; steps are counted as each side plays them. Only iterations that
learn are timed. Random play is that of `environments.py`, with JaxMARL's MPE as reference.
"""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import bound
import environments
import jax
import one_side
from battles import PEER, options_of, random_length
from sides import Checkout, Ours, check_checkout, in_turn, jaxmarl, pymarl

from experiments import command
from marl_jax import ConfigurationError
from marl_jax.training import Trainer


class Work(NamedTuple):
    """A line of the table.

    Attributes:
        method: what is trained, on both sides.
        env: on what.
        seeds: at once.
        iterations: of one measurement.
        options: of our method, over those of the preset.
        preset: ours.
        peer: JaxMARL's options; None where it has no such task.
    """

    method: str
    env: str
    seeds: int
    iterations: int
    options: dict[str, Any]
    preset: str | None
    peer: dict[str, Any] | None


# One gradient step of 32 episodes for 8 episodes played, as JaxMARL's `ql_rnn_mpe.yaml` has it.
SPREAD = {
    "num_envs": 8,
    "update_interval": 200,
    "batch_size": 32,
    "replay_capacity": 125_000,
    "hidden_size": 64,
    "mixer_embed": 32,
    "hypernet_size": 128,
}
SPREAD_PEER = {"LEARNING_STARTS": 0, "LR_LINEAR_DECAY": False}
# Small ones compile and run in moments; the peer's warm-up is as long as its batch is large.
FEW = {"batch_size": 4, "replay_capacity": 2_500, "hidden_size": 16, "hypernet_size": 16}
FEW_PEER = {
    "BUFFER_BATCH_SIZE": 4,
    "BUFFER_SIZE": 100,
    "HIDDEN_SIZE": 16,
    "MIXER_HYPERNET_HIDDEN_DIM": 16,
}
# Of one measurement in PyTorch, each with a gradient step: some five seconds.
PYMARL_EPISODES = 30
WORLDS = ("turn", "pac_men", "firefighters")
MANY = {"qmix-spread-256"}
"""Lines for accelerators: only where they are named. Their replays take some ten gigabytes."""


def battle(iterations: int) -> Work:
    """MAPPO on a battle, see `battles.py`."""
    preset, options = options_of("mappo", "3m", random_length("3m"))
    return Work("mappo", "smax/3m", 2, iterations, options, preset, PEER["mappo"])


def table(small: bool) -> dict[str, Work]:
    """The lines of the table, by name."""
    spread = ("qmix", "mpe/simple_spread")
    if small:
        own, theirs = SPREAD | FEW, SPREAD_PEER | FEW_PEER
        return {
            "qmix-spread-1": Work(*spread, 1, 64, own, None, theirs),
            "qmix-turn": Work("qmix", "turn", 2, 16, FEW, None, None),
        }
    return {
        "qmix-spread-1": Work(*spread, 1, 64, SPREAD, None, SPREAD_PEER),
        "qmix-turn": Work("qmix", "turn", 2, 64, {}, None, None),
        "qmix-spread-16": Work(*spread, 16, 16, SPREAD, None, SPREAD_PEER),
        "qmix-spread-256": Work(*spread, 256, 4, SPREAD, None, SPREAD_PEER),
        "mappo-3m": battle(2),
    }


@dataclasses.dataclass
class Arguments:
    jaxmarl: Path | None = None
    """A checkout of JaxMARL; without one, no ratio."""
    python: Path = Path(sys.executable)
    """Interpreter that runs it."""
    pymarl: Path | None = None
    """A checkout of CIA's authors, in PyTorch; without one, or small, no ratio on Turn."""
    pymarl_python: Path = Path(sys.executable)
    """Interpreter that runs it."""
    rounds: int = 5
    """Measurements of each side, in turn; medians count."""
    small: bool = False
    """Two lines of small networks and a small random play, in minutes: to see that everything runs."""
    only: tuple[str, ...] = ()
    """Lines to measure, by name, random-play among them; if none is named, all but qmix-spread-256."""


RANDOM = "random-play"


def random_play(small: bool, checkout: Path | None) -> None:
    """Prints the lines of random play."""
    wanted = environments.Arguments(
        num_envs=64 if small else 1024, steps=50 if small else 200, runs=3 if small else 7
    )
    tasks = [environments.own_task(name) for name in WORLDS]
    if checkout is not None:
        # Theirs, not that of an installed version.
        sys.path.insert(0, str(checkout))
        tasks.insert(0, environments.reference_task())
    speeds = environments.measure(tasks, wanted)
    theirs = None if checkout is None else speeds[environments.REFERENCE][1]
    for name in WORLDS:
        line(f"{RANDOM}: {name}", speeds[name][1], theirs)


def line(
    name: str,
    ours: float,
    theirs: float | None,
    ratio: float | None = None,
    possible: float | None = None,
    compiled: Sequence[float | None] = (None, None),
) -> None:
    cells = [name, f"{ours:,.0f}", "-", "-", "-", "-"]
    if theirs is not None:
        cells[2:4] = [f"{theirs:,.0f}", f"{ratio or ours / theirs:.2f}"]
    if possible is not None:
        cells[4:] = [f"{possible:,.0f}", f"{ours / possible:.0%}"]
    cells += ["-" if seconds is None else f"{seconds:.1f}" for seconds in compiled]
    print(f"{cells[0]:<28}" + "".join(f"{cell:>15}" for cell in cells[1:]), flush=True)


def possible(trainer: Trainer, env: str) -> float | None:
    """Steps a second that our side could make; None where episodes end early."""
    if trainer.env.ends_early:
        return None
    several = trainer.method.num_envs * jax.device_count()
    alone = one_side.world(env, several, 20 * trainer.env.time_limit)
    return bound.steps_per_second(trainer, max(alone()["speed"] for _ in range(5)))


def main() -> int:
    args = command.parse(Arguments, "Speed beside the peers', in turn.")
    check_checkout(args.jaxmarl)
    check_checkout(args.pymarl, "--pymarl", "src/main.py")
    if args.rounds < 1:
        raise ConfigurationError(f"--rounds is {args.rounds}; it must be at least 1.")
    lines = table(args.small)
    for name in args.only:
        if name not in (*lines, RANDOM):
            raise ConfigurationError(
                f"--only has {name!r}; choose from: {', '.join([*lines, RANDOM])}."
            )
    print(f"{len(jax.devices())} x {jax.devices()[0].device_kind}, jax {jax.__version__}")
    heads = ("ours, steps/s", "the peer's", "ratio", "bound", "share", "compile, s", "the peer's")
    print(f"{'work':<28}" + "".join(f"{head:>15}" for head in heads))
    for name, work in lines.items():
        if name not in (args.only or lines.keys() - MANY):
            continue
        sizes = (work.method, work.env, work.seeds, work.iterations)
        print(f"{name}: compiling, then {args.rounds} rounds", file=sys.stderr, flush=True)
        theirs = None
        if args.jaxmarl is not None and work.peer is not None:
            theirs = jaxmarl(Checkout(args.jaxmarl, args.python), *sizes, work.peer)
        elif args.pymarl is not None and work.env == "turn" and not args.small:
            theirs = pymarl(Checkout(args.pymarl, args.pymarl_python), PYMARL_EPISODES)
        ours = Ours(*sizes, work.options, work.preset)
        found = in_turn(ours, theirs, args.rounds)
        most, compiled = possible(ours.trainer, work.env), (ours.compiled, found.compiled)
        line(name, found.ours, found.peer, found.ratio, most, compiled)
        jax.clear_caches()
    if not args.only or RANDOM in args.only:
        random_play(args.small, args.jaxmarl)
    return 0


if __name__ == "__main__":
    command.run(main)
