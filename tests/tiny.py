"""A run so small that it trains in a moment: 2 iterations of 2 episodes of 5 steps between evaluations."""

import dataclasses
from pathlib import Path
from typing import Any

from marl_jax.loading import make_trainer
from marl_jax.methods import recipe
from marl_jax.runs import RunDirectory
from marl_jax.settings import make_settings

CHUNK_STEPS = 20
TRAINING = {"eval_interval": CHUNK_STEPS, "eval_episodes": 2}
ENV = {"time_limit": 5}
METHOD: dict[str, Any] = {
    "num_envs": 2,
    "update_interval": 5,
    "minibatches": 1,
    "hidden_size": 4,
    "critic_hidden": (4,),
    "agent": "mlp",
    "head_sizes": (),
    "epsilon_anneal_steps": 50,
    "batch_size": 2,
    "replay_capacity": 20,
    "critic_size": 4,
    "classifier_batch": 2,
    "classifier_hidden": 4,
    "intrinsic_hidden": (4,),
    "discriminator_hidden": (4,),
    "predictor_hidden": (4,),
    "hidden_layers": 1,
    "autoencoder_hidden": (4, 2, 4),
    "matching_steps": 2,
    "table_bits": 10,
    "joint_table_bits": 11,
}
_FLAGS = """
    --eval-interval 20 --eval-episodes 2 --env.time-limit 5 --method.num-envs 2 --method.hidden-size 4
    --method.agent mlp --method.epsilon-anneal-steps 50
"""
FLAGS = [*_FLAGS.split(), "--method.critic-hidden", "4"]
_REPLAY_FLAGS = "--method.update-interval 5 --method.batch-size 2 --method.replay-capacity 20"
VALUE_FLAGS = [*_FLAGS.split(), *_REPLAY_FLAGS.split()]


def method_options(method: str) -> dict[str, Any]:
    """Those of `METHOD` that a method has."""
    fields = {field.name for field in dataclasses.fields(recipe(method).Config)}
    return {name: value for name, value in METHOD.items() if name in fields}


def untrained(out: Path, method: str, env: str, seeds: int, **env_options: Any) -> str:
    """The folder of a run that was saved before its first chunk: for commands that only load teams."""
    sections = {
        "training": TRAINING,
        "method": method_options(method),
        "env": ENV | env_options,
    }
    settings = make_settings(method, env, seeds, 0, sections)
    run = RunDirectory.create(settings, {}, str(out))
    run.checkpoints.save(0, make_trainer(settings).init())
    return str(out)


def options(chunks: int, method: str = "iac") -> dict[str, Any]:
    """Arguments of `marl_jax.train` for a run of so many chunks."""
    return {
        "total_steps": chunks * CHUNK_STEPS,
        "training_options": TRAINING,
        "method_options": method_options(method),
        "env_options": ENV,
        "progress": False,
    }
