"""The authors' QMIX on Turn, in PyTorch, for `sides.py`, which starts this file in an environment of theirs.

`python pymarl_side.py CHECKOUT EPISODES` takes a checkout of github.com/liushunyu/CIA, which is PyMARL with CIA, CC and
Turn; Sacred writes into its folder `results`. Its environment has torch for CPUs, sacred, pyyaml, gym, `numpy<2` and a
setuptools with `pkg_resources`. It says `{"compiled": 0.0}` once every episode has a gradient step. Every line that it
reads lets it go on for so many episodes; it says `{"seconds": ..., "steps": ...}`.
"""

import collections
import collections.abc
import json
import logging
import os
import runpy
import sys
import time
import types
import warnings
from pathlib import Path
from typing import Any

WARM_UP = 40
"""Episodes at first; the replay holds a batch after 32."""


def main() -> None:
    checkout, episodes = sys.argv[1:]
    source = Path(checkout, "src").resolve()
    sys.path.insert(0, str(source))
    # sacred reads what goes to standard output, so what is said here goes by a copy of it.
    out = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    _modernise()
    from runners.episode_runner import EpisodeRunner

    play = EpisodeRunner.run
    count = 0
    began = steps = 0.0

    def run(self: Any, test_mode: bool = False) -> Any:
        nonlocal count, began, steps
        if not test_mode:
            over = count - WARM_UP
            if over >= 0 and over % int(episodes) == 0:
                told = (
                    {"seconds": time.perf_counter() - began, "steps": self.t_env - steps}
                    if over
                    else {"compiled": 0.0}
                )
                print(json.dumps(told), file=out, flush=True)
                if not sys.stdin.readline():
                    os._exit(0)
                began, steps = time.perf_counter(), self.t_env
            count += 1
        return play(self, test_mode)

    EpisodeRunner.run = run
    far = 10**9
    intervals = ("test_interval", "log_interval", "runner_log_interval", "learner_log_interval")
    sys.argv = [
        "main.py",
        *("--config=qmix_turn", "--env-config=turn", "with"),
        *("use_cuda=False", "use_tensorboard=False", "save_model=False", f"t_max={far}"),
        *(f"{name}={far}" for name in intervals),
    ]
    os.chdir(source)
    runpy.run_path(str(source / "main.py"), run_name="__main__")


def _modernise() -> None:
    """What the code needs of Python and PyYAML of its day, without StarCraft and without its many lines."""
    import yaml

    warnings.filterwarnings("ignore")
    logging.disable(logging.INFO)
    collections.Mapping = collections.abc.Mapping  # type: ignore[attr-defined]
    load = yaml.load
    yaml.load = lambda text, loader=yaml.SafeLoader: load(text, loader)
    starcraft: Any = types.ModuleType("envs.starcraft2")
    starcraft.StarCraft2Env = None
    sys.modules["envs.starcraft2"] = starcraft


if __name__ == "__main__":
    main()
