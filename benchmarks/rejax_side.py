"""rejax's TD3 or SAC on one of brax's walkers, for `walkers.py`, which starts this file in rejax's environment.

`python rejax_side.py METHOD TASK SEEDS STEPS EPISODES OPTIONS` trains so many seeds with OPTIONS (JSON) over rejax's
own, and says a list with one number for each seed: the mean return of so many episodes of its final policy, as rejax
plays them, which is TD3 without noise and SAC drawing its actions.
"""

import json
import os
import sys
from typing import Any

os.environ.setdefault("PJRT_NPROC", "8")


def main() -> None:
    method, task, *numbers, options = sys.argv[1:]
    seeds, steps, episodes = (int(number) for number in numbers)
    import jax

    # One for each core. Before anything starts a backend.
    jax.config.update("jax_num_cpu_devices", len(os.sched_getaffinity(0)))
    from rejax import get_algo
    from rejax.evaluate import evaluate

    algorithm: Any = get_algo(method).create(
        env=f"brax/{task}",
        total_timesteps=steps,
        eval_freq=steps,
        skip_initial_evaluation=True,
        **json.loads(options),
    )
    algorithm = algorithm.replace(eval_callback=lambda *_: ())

    def train(keys: Any) -> Any:
        """One seed after the other."""

        def one(key: Any) -> Any:
            train_key, key = jax.random.split(key)
            trained, _ = algorithm.train(train_key)
            act, limit = algorithm.make_act(trained), algorithm.env_params.max_steps_in_episode
            env, params = algorithm.env, algorithm.env_params
            return evaluate(act, key, env, params, episodes, limit)[1].mean()

        return jax.lax.map(one, keys)

    devices = min(jax.local_device_count(), seeds)
    keys = jax.random.split(jax.random.PRNGKey(0), (devices, -(-seeds // devices)))
    print(json.dumps(jax.pmap(train)(keys).ravel()[:seeds].tolist()), flush=True)


main()
