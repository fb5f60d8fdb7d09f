"""Off-policy learning of recurrent Q-networks, eight seeds as one batch, in many calls of one compiled scan.

jaxlib 0.10 has been seen to dead-lock in programs of this kind on machines with few cores. It is rare: on the machine
this was written on, six unguarded runs (`PJRT_NPROC=2 JAX_NUM_CPU_DEVICES=1 python tests/stress_program.py 100`) all
ended. `test_cpu_backend.py` runs it with the guard, so that a release of JAX that hangs all the same is noticed.
"""

import sys
from typing import Any

import jax
import jax.numpy as jnp
import optax

import envs  # noqa: F401  (first: it sets the guard)

SEEDS, CAPACITY, BATCH, STEPS, FEATURES, HIDDEN, ACTIONS = 8, 512, 32, 26, 16, 64, 4
OPTIMIZER = optax.chain(optax.clip_by_global_norm(10.0), optax.rmsprop(5e-4))


def init(key: jax.Array) -> Any:
    shapes = {
        "embed": (FEATURES, HIDDEN),
        "input": (HIDDEN, 3 * HIDDEN),
        "recurrent": (HIDDEN, 3 * HIDDEN),
        "head": (HIDDEN, ACTIONS),
    }
    keys = jax.random.split(key, len(shapes))
    params = {
        n: 0.1 * jax.random.normal(k, s) for k, (n, s) in zip(keys, shapes.items(), strict=True)
    }
    replay = (
        jnp.zeros((CAPACITY, STEPS, FEATURES)),
        jnp.zeros((CAPACITY, STEPS), jnp.int32),
        jnp.zeros((CAPACITY, STEPS)),
    )
    return params, OPTIMIZER.init(params), replay, jnp.int32(0), key


def q_values(params: Any, observation: jax.Array) -> jax.Array:
    def cell(h: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        ir, iz, inew = jnp.split(x @ params["input"], 3, axis=-1)
        hr, hz, hnew = jnp.split(h @ params["recurrent"], 3, axis=-1)
        reset, update = jax.nn.sigmoid(ir + hr), jax.nn.sigmoid(iz + hz)
        h = (1 - update) * jnp.tanh(inew + reset * hnew) + update * h
        return h, h

    embedded = jax.nn.relu(observation @ params["embed"])
    _, hidden = jax.lax.scan(cell, jnp.zeros((observation.shape[1], HIDDEN)), embedded)
    return hidden @ params["head"]


def iteration(state: Any, _: None) -> tuple[Any, jax.Array]:
    params, optimizer, replay, count, key = state
    key, observe_key, act_key, sample_key = jax.random.split(key, 4)
    observation = jax.random.normal(observe_key, (STEPS, 8, FEATURES))
    values = q_values(params, observation)
    action = jnp.argmax(values + jax.random.gumbel(act_key, values.shape), axis=-1)
    fresh = (observation.swapaxes(0, 1), action.T, (observation[..., 0] * (action == 1)).T)
    where = (count * 8 + jnp.arange(8)) % CAPACITY
    replay = jax.tree.map(lambda store, x: store.at[where].set(x), replay, fresh)
    chosen = jax.random.randint(sample_key, (BATCH,), 0, CAPACITY)
    observation, action, reward = jax.tree.map(lambda store: store[chosen].swapaxes(0, 1), replay)

    def loss_fn(params: Any) -> jax.Array:
        values = q_values(params, observation)
        taken = jnp.take_along_axis(values, action[..., None], axis=-1)[..., 0]
        target = reward[:-1] + 0.99 * jax.lax.stop_gradient(values[1:].max(-1))
        return jnp.mean((taken[:-1] - target) ** 2)

    loss, grads = jax.value_and_grad(loss_fn)(params)
    updates, optimizer = OPTIMIZER.update(grads, optimizer)
    return (optax.apply_updates(params, updates), optimizer, replay, count + 1, key), loss


def main(calls: int) -> None:
    train = jax.jit(jax.vmap(lambda state: jax.lax.scan(iteration, state, length=2)))
    state = jax.vmap(init)(jax.random.split(jax.random.key(0), SEEDS))
    for call in range(calls):
        state, loss = train(state)
        jax.block_until_ready(loss)
        print(call + 1, flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
