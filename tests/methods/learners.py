"""Small learners and batches for the tests of the methods."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from marl_jax import methods
from marl_jax.methods.actor_critic import ActorCritic
from marl_jax.methods.base import Sizes
from marl_jax.rollout import rollout
from marl_jax.training import ChunkMetrics, Trainer, TrainingConfig
from marl_jax.types import EpisodeBatch
from tests.probes import ACTIONS, AGENTS, FEATURES, LIMIT, Probe

SIZES = Sizes(AGENTS, ACTIONS, FEATURES, AGENTS * FEATURES, LIMIT)
NAMES = ("central_v", "coma", "iac", "liir_paper")

# Compiling costs these tests more than running.
fast_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

SMALL: dict[str, Any] = {
    "agent": "mlp",
    "hidden_size": 6,
    "critic_hidden": (5,),
    "mask_before_softmax": False,
}


def make(name: str, **options: Any) -> ActorCritic:
    """A small learner."""
    cls = methods.recipe(name)
    return cls(cls.Config.from_mapping({**SMALL, **options}, name), SIZES)


@functools.cache
def compiled_update(method: ActorCritic) -> Callable[..., Any]:
    """Its update, compiled once for all tests."""
    return fast_jit(method.update)


def update(method: ActorCritic, state: Any, batch: EpisodeBatch, seed: int = 0) -> Any:
    """One update."""
    return compiled_update(method)(state, batch, None, jax.random.key(seed))


def init(method: ActorCritic, seed: int = 0) -> Any:
    """A fresh state."""
    return fast_jit(method.init)(jax.random.key(seed))


def drawn_state(method: Any, seed: int) -> Any:
    """A state with parameters and targets that do not come from its `init`, which would have to be compiled."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(method.init, jax.random.key(0))

    def draw(x: Any) -> jax.Array:
        return jnp.asarray(rng.normal(scale=0.4, size=x.shape), x.dtype)

    state = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    params, target = (jax.tree.map(draw, x) for x in (shapes.params, shapes.target))
    return state._replace(params=params, target=target)


def make_batch(
    lengths: Sequence[int] = (4, 2, 3),
    terminated: Sequence[bool] = (False, True, True),
    seed: int = 0,
    steps: int = LIMIT,
) -> EpisodeBatch:
    """Random episodes. Action 0 is always available; some agents have nothing else."""
    rng = np.random.default_rng(seed)
    b = len(lengths)
    shape = (steps, b, AGENTS)
    mask = rng.random((steps + 1, b, AGENTS, ACTIONS)) < 0.7
    mask[..., 0] = True
    scores = np.where(mask[:-1], rng.random((*shape, ACTIONS)), -1.0)
    time = np.arange(steps)[:, None]
    ends = (time == np.array(lengths) - 1) & np.array(terminated)
    return EpisodeBatch(
        observation=jnp.asarray(rng.normal(size=(steps + 1, b, AGENTS, FEATURES))),
        global_state=jnp.asarray(rng.normal(size=(steps + 1, b, AGENTS * FEATURES))),
        action_mask=jnp.asarray(mask),
        alive=jnp.ones(mask.shape[:-1], bool),
        action=jnp.asarray(np.argmax(scores, axis=-1), jnp.int32),
        reward=jnp.asarray(np.broadcast_to(rng.normal(size=(steps, b, 1)), shape)),
        discount=jnp.asarray(np.broadcast_to((1.0 - ends)[..., None], shape)),
        valid=jnp.asarray(time < np.array(lengths)),
        extras=(),
    )


def differing(one: Any, other: Any) -> list[str]:
    """Paths of the leaves that are not equal."""
    pairs = zip(jax.tree.leaves_with_path(one), jax.tree.leaves(other), strict=True)
    return [jax.tree_util.keystr(p) for (p, x), y in pairs if not np.array_equal(x, y)]


def greedy_returns(
    name: str, world: Any, iterations: int, seeds: int, options: dict[str, Any]
) -> np.ndarray:
    """Mean greedy returns of some seeds after so many iterations; `options` are the method's, `num_envs` among them."""
    method = methods.make(name, world, **options)
    interval = iterations * options["num_envs"] * world.time_limit
    config = TrainingConfig(total_steps=interval, eval_interval=interval, eval_episodes=64)
    trainer = Trainer(world, method, config, num_seeds=seeds)
    return chunk_returns(trainer, *trainer.train_chunk(trainer.init(), trainer.everyone))


def chunk_returns(trainer: Trainer, state: Any, metrics: ChunkMetrics) -> np.ndarray:
    """Mean greedy returns [S] of seeds that had one chunk, which has an evaluation unless episodes ended early."""
    evaluated = bool(np.all(np.asarray(metrics.evaluated)[: trainer.num_seeds]))
    evaluation = metrics.evaluation if evaluated else trainer.evaluate(state)
    return np.asarray(evaluation["eval_return"])[: trainer.num_seeds].mean(axis=1)


@functools.cache
def _compiled(method: Any) -> tuple[Any, Any]:
    """Initial state and update of all seeds; worlds of one size share them."""

    def update(state: Any, batch: Any, key: jax.Array) -> Any:
        return method.update(state, batch, None, jax.random.fold_in(key, 1))[0]

    return fast_jit(jax.vmap(method.init)), fast_jit(jax.vmap(update))


def train(env: Probe, method: Any, iterations: int, seeds: int = 4) -> Any:
    """Trains so many seeds; returns their state."""
    init, update = _compiled(method)

    @fast_jit
    @jax.vmap
    def play(state: Any, key: jax.Array) -> Any:
        return rollout(env, method, state, key, method.num_envs, explore=True)[0]

    keys = jax.random.split(jax.random.key(0), (iterations, seeds))
    state = init(keys[0])
    for key in keys:
        state = update(state, play(state, key), key)
    return state


def assert_same_learning(one: Any, other: Any) -> None:
    """Two updates came to the same states and metrics, up to rounding."""
    (state, metrics), (other_state, other_metrics) = one, other
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(state.params))
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-4, atol=2e-6), state, other_state
    )
    for key, value in metrics.items():
        np.testing.assert_allclose(value, other_metrics[key], rtol=1e-3, atol=1e-5, err_msg=key)
