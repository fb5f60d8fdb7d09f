"""What TD3 and SAC reach on brax's walkers, beside rejax's: the same physics, sizes, rates and environment steps.

`python benchmarks/walkers.py --python INTERPRETER` needs brax (`pip install -e ".[brax]"`), and an interpreter with
rejax and brax (`pip install brax rejax "gymnax<0.1"`); without one only our own numbers are printed.

One agent plays one body, and sees brax's own numbers. Sizes and rates are the defaults of rejax 0.1.3, but for ReLU in
its TD3. Our TD3's policies climb the mean of both critics, as rejax's do. What is known to differ:

- rejax learns after every step, from its `fill_buffer` on. Here an episode's gradient steps come after it, from the
  first batch on.
- rejax takes the time limit for an end; here it is a truncation.
- Our layers start as PyTorch's, rejax's as Flax's.
- SAC's policy and critics learn in the other order.
- A SAC deviation is at least exp(-20) here and exp(-10) there. Batches are drawn with replacement here.
"""

import dataclasses
import json
import subprocess
from pathlib import Path
from typing import Any

import marl_jax
from experiments import command
from marl_jax import ConfigurationError
from marl_jax.statistics import iqm_interval

BACKEND = "spring"
"""brax's physics on both sides."""
SHARED: dict[str, Any] = {
    "hidden_size": 64,
    "replay_capacity": 131_072,
    "batch_size": 256,
    "actor_lr": 3e-4,
    "critic_lr": 3e-4,
    "target_update_rate": 0.01,
    "num_envs": 1,
}
"""rejax's defaults, by our names."""
OWN: dict[str, dict[str, Any]] = {
    "td3": {"random_steps": 2_048, "exploration_noise": 0.3, "climbed": "mean"},
    # rejax's SAC acts by its policy from the start.
    "sac": {"random_steps": 0},
}
PEER: dict[str, dict[str, Any]] = {
    "td3": {f"{part}_kwargs": {"activation": "relu"} for part in ("actor", "critic")},
    "sac": {},
}
EVALUATED = 15
"""Episodes of an evaluation; the final one has ten times as many."""


@dataclasses.dataclass
class Arguments:
    """Command line."""

    python: Path | None = None
    """Interpreter that has rejax; without one, only our own numbers."""
    methods: tuple[str, ...] = ("td3", "sac")
    """Which of td3 and sac."""
    tasks: tuple[str, ...] = ("hopper", "halfcheetah")
    """Walkers of brax's."""
    seeds: int = 6
    """Seeds of each."""
    steps: int = 30_000
    """Environment steps of a seed."""


def ours(method: str, task: str, seeds: int, steps: int) -> list[float]:
    """Each seed's mean return in the end. TD3 plays greedily, SAC draws its actions.

    Raises:
        ConfigurationError: if a seed failed.
    """
    result = marl_jax.train(
        method,
        f"brax/{task}",
        seeds,
        total_steps=steps,
        training_options={"eval_interval": steps, "eval_episodes": EVALUATED},
        method_options=SHARED | OWN[method],
        env_options={"num_agents": 1, "raw_view": True, "backend": BACKEND},
        progress=False,
    )
    if result.failures:
        raise ConfigurationError(f"seeds failed, and nothing compares: {result.failures}.")
    found = result.final_sampled_returns if method == "sac" else result.final_returns
    return [float(x) for x in found]


def rejax(python: Path, method: str, task: str, seeds: int, steps: int) -> list[float]:
    """The same of rejax, see `rejax_side.py`.

    Raises:
        ConfigurationError: if it ends before it has said so.
    """
    script = Path(__file__).with_name("rejax_side.py")
    options = {"env_params": {"backend": BACKEND}} | PEER[method]
    words = [python, script, method, task, seeds, steps, 10 * EVALUATED, json.dumps(options)]
    done = subprocess.run([str(word) for word in words], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise ConfigurationError(
            f"rejax ended with status {done.returncode}, see above; --python must have rejax and brax."
        )
    returns: list[float] = json.loads(done.stdout.splitlines()[-1])
    return returns


def said(returns: list[float]) -> str:
    """The interquartile mean with its 95% interval, and every seed."""
    mean, low, high = iqm_interval(returns)
    each = ", ".join(f"{x:.0f}" for x in returns)
    return f"{mean:.0f} ({low:.0f} to {high:.0f}); per seed {each}"


def main() -> int:
    args = command.parse(Arguments, "What TD3 and SAC reach on brax's walkers, beside rejax's.")
    command.refuse_unknown("--methods", args.methods, PEER)
    if args.python is not None and not args.python.exists():
        raise ConfigurationError(f"--python is {args.python}; it must be an interpreter.")
    print(f"{args.steps:,} env steps, {args.seeds} seeds, IQM with 95% interval, backend {BACKEND}")
    for method in args.methods:
        for task in args.tasks:
            work = (method, task, args.seeds, args.steps)
            own = ours(*work)
            print(f"{method} on {task}, ours: {said(own)}", flush=True)
            if args.python is not None:
                theirs = rejax(args.python, *work)
                ratio = iqm_interval(own)[0] / iqm_interval(theirs)[0]
                print(f"{method} on {task}, rejax: {said(theirs)}; ratio {ratio:.2f}", flush=True)
    return 0


if __name__ == "__main__":
    command.run(main)
