"""JaxMARL's MAPPO on SMAX, or its QMIX on SMAX or MPE, for `sides.py`, which starts this file in JaxMARL's environment.

`python jaxmarl_side.py CHECKOUT METHOD ENV SEEDS ITERATIONS OPTIONS` compiles its training of so many iterations on
`smax/SCENARIO` or `mpe/simple_spread`, with OPTIONS (JSON) over its configuration for that, and says
`{"compiled": seconds}`. Every line that it reads lets it train once, from the start; it says
`{"seconds": ..., "steps": ...}`. QMIX learns nothing until its replay has as many entries as a batch, one for each
iteration. That is compiled and timed apart, and taken off.
"""

import json
import os
import sys
import time
import types
from pathlib import Path
from typing import Any

os.environ.setdefault("PJRT_NPROC", "8")


def main() -> None:
    checkout, method, env, seeds, iterations, options = sys.argv[1:]
    library, _, scenario = env.partition("/")
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
        from jaxmarl.wrappers.baselines import MPELogWrapper, SMAXLogWrapper

        config = yaml.safe_load((configs / "alg" / f"ql_rnn_{library}.yaml").read_text())
        config["TEST_DURING_TRAINING"] = False
    config |= {"MAP_NAME": scenario, "WANDB_MODE": "disabled"} | json.loads(options)
    steps = config["NUM_STEPS"] * config["NUM_ENVS"]
    keys = jax.random.split(jax.random.PRNGKey(0), int(seeds))

    def compiled(iterations: int) -> Any:
        own = config | {"TOTAL_TIMESTEPS": iterations * steps}
        if method == "mappo":
            train = mappo_rnn_smax.make_train(own)
        else:
            chosen = {"scenario": map_name_to_scenario(scenario)} if library == "smax" else {}
            world = jaxmarl.make(own["ENV_NAME"], **chosen, **own["ENV_KWARGS"])
            wrapper = SMAXLogWrapper if library == "smax" else MPELogWrapper
            train = qmix_rnn.make_train(own, wrapper(world))
        return jax.jit(jax.vmap(train)).lower(keys).compile()

    def seconds(program: Any) -> float:
        began = time.perf_counter()
        jax.block_until_ready(program(keys))
        return time.perf_counter() - began

    warm_up = 0 if method == "mappo" else config["BUFFER_BATCH_SIZE"]
    began = time.perf_counter()
    whole = compiled(warm_up + int(iterations))
    say({"compiled": time.perf_counter() - began})
    beginning = compiled(warm_up) if warm_up else None
    for _ in sys.stdin:
        taken = seconds(whole) - (seconds(beginning) if beginning else 0.0)
        say({"seconds": taken, "steps": int(seeds) * int(iterations) * steps})


def say(what: dict[str, float]) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    main()
