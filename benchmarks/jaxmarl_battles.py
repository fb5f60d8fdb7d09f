"""JaxMARL's MAPPO or QMIX on a battle, for `battles.py`, which starts this file in JaxMARL's environment.

`python jaxmarl_battles.py CHECKOUT METHOD SCENARIO SEEDS STEPS OPTIONS` compiles its training of so many environment
steps a seed, with OPTIONS (JSON) over its configuration for SMAX, and says `{"compiled": seconds}`. Every line that it
reads lets it train once, from the start; it says `{"seconds": ..., "steps": ...}`.
"""

import json
import os
import sys
import time
import types
from pathlib import Path

os.environ.setdefault("PJRT_NPROC", "8")


def main() -> None:
    checkout, method, scenario, seeds, steps, options = sys.argv[1:]
    folder = {"mappo": "MAPPO", "qmix": "QLearning"}[method]
    sys.path[:0] = [checkout, str(Path(checkout, "baselines", folder))]
    # What it logs goes nowhere.
    wandb = types.ModuleType("wandb")
    wandb.log = lambda *_args, **_kwargs: None  # type: ignore[attr-defined]
    sys.modules["wandb"] = wandb
    import jax
    import yaml

    configs = Path(checkout, "baselines", folder, "config")
    if method == "mappo":
        import mappo_rnn_smax

        config = yaml.safe_load((configs / "mappo_homogenous_rnn_smax.yaml").read_text())
    else:
        import jaxmarl
        import qmix_rnn
        from jaxmarl.environments.smax import map_name_to_scenario
        from jaxmarl.wrappers.baselines import SMAXLogWrapper

        config = yaml.safe_load((configs / "alg" / "ql_rnn_smax.yaml").read_text())
        config["TEST_DURING_TRAINING"] = False
    config |= {"MAP_NAME": scenario, "TOTAL_TIMESTEPS": int(steps), "WANDB_MODE": "disabled"}
    config |= json.loads(options)
    if method == "mappo":
        train = mappo_rnn_smax.make_train(config)
    else:
        env = jaxmarl.make(
            config["ENV_NAME"], scenario=map_name_to_scenario(scenario), **config["ENV_KWARGS"]
        )
        train = qmix_rnn.make_train(config, SMAXLogWrapper(env))
    keys = jax.random.split(jax.random.PRNGKey(0), int(seeds))
    began = time.perf_counter()
    program = jax.jit(jax.vmap(train)).lower(keys).compile()
    say({"compiled": time.perf_counter() - began})
    played = int(seeds) * config["NUM_UPDATES"] * config["NUM_STEPS"] * config["NUM_ENVS"]
    for _ in sys.stdin:
        began = time.perf_counter()
        jax.block_until_ready(program(keys))
        say({"seconds": time.perf_counter() - began, "steps": played})


def say(what: dict[str, float]) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    main()
