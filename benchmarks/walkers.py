"""What TD3 and SAC reach on brax's walkers, beside rejax's: the same bodies, sizes, rates and environment steps.

`python benchmarks/walkers.py --python INTERPRETER` needs brax (`pip install -e ".[brax]"`), and an interpreter with
rejax and brax (`pip install brax rejax "gymnax<0.1"`); without one only our own numbers are printed.

One agent plays one body, and sees brax's own numbers. Sizes and rates are rejax's defaults, but for the layers'
activation and what is said in `SHARED`. Two differences stay. rejax learns after every step; here the gradient steps of
an episode come after it. rejax takes the time limit for an end; here it is a truncation.
"""

import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from experiments import command
from marl_jax import ConfigurationError
from marl_jax.statistics import iqm_interval

SHARED = {
    "buffer_size": 100_000,
    "fill_buffer": 1_000,
    "batch_size": 100,
    "learning_rate": 1e-3,
    "polyak": 0.995,
}
"""By rejax's names; both have two hidden layers of 64 units with ReLU."""
PEER: dict[str, dict[str, Any]] = {
    "td3": {
        "exploration_noise": 0.1,
        "actor_kwargs": {"activation": "relu"},
        "critic_kwargs": {"activation": "relu"},
    },
    "sac": {},
}
OURS = {
    "hidden-size": 64,
    "replay-capacity": SHARED["buffer_size"],
    "batch-size": SHARED["batch_size"],
    "actor-lr": SHARED["learning_rate"],
    "critic-lr": SHARED["learning_rate"],
    "target-update-rate": 0.005,
    "num-envs": 1,
}
OWN: dict[str, dict[str, Any]] = {
    "td3": {"random-steps": SHARED["fill_buffer"]},
    # rejax's SAC acts by its policy from the start.
    "sac": {"random-steps": 0, "temperature-lr": SHARED["learning_rate"]},
}
PLAYED = {"td3": "return", "sac": "sampled_return"}


@dataclasses.dataclass
class Arguments:
    python: Path | None = None
    """Interpreter that has rejax; without one, no ratio."""
    methods: tuple[str, ...] = ("td3", "sac")
    """Which of td3 and sac."""
    tasks: tuple[str, ...] = ("hopper", "halfcheetah")
    """Walkers of brax's."""
    seeds: int = 6
    """Seeds of each."""
    steps: int = 50_000
    """Environment steps of a seed."""


EPISODES = 150


def ours(method: str, task: str, seeds: int, steps: int) -> tuple[list[float], float]:
    """Each seed's mean return in the end, trained by this library, and the seconds that it took, with compilation."""
    options = {f"method.{name}": value for name, value in (OURS | OWN[method]).items()}
    options |= {"env.num-agents": 1, "eval-episodes": EPISODES // 10}
    script = Path(__file__).parents[1] / "experiments" / "run.py"
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "run")
        words: list[object] = [sys.executable, script, "--method", method, "--env", f"brax/{task}"]
        words += ["--seeds", seeds, "--total-steps", steps, "--eval-interval", steps // 5]
        words += ["--out", out, "--env.raw-view"]
        words += [word for name, value in options.items() for word in (f"--{name}", value)]
        began = time.perf_counter()
        subprocess.run([str(word) for word in words], check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - began
        found = json.loads((out / "results.json").read_text())
    runs = found["marl_jax"][f"brax/{task}"][method]
    returns = [run["absolute_metrics"][PLAYED[method]] for run in runs.values()]
    return [float(np.mean(one)) for one in returns], seconds


def rejax(
    python: Path, method: str, task: str, seeds: int, steps: int
) -> tuple[list[float], float]:
    """The same of rejax."""
    script = Path(__file__).with_name("rejax_side.py")
    options = json.dumps(SHARED | PEER[method])
    words = [python, script, method, task, seeds, steps, EPISODES, options]
    began = time.perf_counter()
    done = subprocess.run([str(word) for word in words], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise ConfigurationError(
            f"--python is {python}; it must be an interpreter with rejax and brax."
        )
    told = json.loads(done.stdout.splitlines()[-1])
    return told["returns"], time.perf_counter() - began


def main() -> int:
    args = command.parse(Arguments, "What TD3 and SAC reach on brax's walkers, beside rejax's.")
    for name in args.methods:
        if name not in PEER:
            raise ConfigurationError(
                f"--methods has {name!r}; each must be one of {', '.join(PEER)}."
            )
    for method in args.methods:
        for task in args.tasks:
            work = (method, task, args.seeds, args.steps)
            sides = {"ours": ours(*work)}
            if args.python is not None:
                sides["rejax"] = rejax(args.python, *work)
            for side, (returns, seconds) in sides.items():
                mean, low, high = iqm_interval(returns)
                each = " ".join(f"{x:.0f}" for x in returns)
                print(
                    f"{method} {task} {side}: {mean:.1f} ({low:.1f} to {high:.1f}), {seconds:.0f} s; {each}",
                    flush=True,
                )
    return 0


if __name__ == "__main__":
    command.run(main)
