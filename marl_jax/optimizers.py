"""Optimisers with PyTorch's constants."""

from typing import Literal

import jax
import jax.numpy as jnp
import optax

OptimizerName = Literal["rmsprop", "adam", "sgd"]


def make_optimizer(
    name: OptimizerName,
    learning_rate: float,
    max_grad_norm: float,
    weight_decay: float = 0.0,
    adam_eps: float = 1e-8,
    rmsprop_eps: float = 1e-5,
) -> optax.GradientTransformation:
    """The optimiser of a parameter group.

    "rmsprop" is PyMARL's: decay 0.99 and eps outside the square root, as PyTorch has it.

    Args:
        name: "rmsprop", "adam" or "sgd".
        learning_rate: step size.
        max_grad_norm: gradients of a larger global norm are scaled down to it; 0 means never.
        weight_decay: factor of the parameters that is added to the clipped gradients, as PyTorch's optimisers do.
        adam_eps: what Adam adds to the root of the mean square.
        rmsprop_eps: what RMSprop adds to it.
    """
    if name == "rmsprop":
        optimizer = optax.rmsprop(learning_rate, decay=0.99, eps=rmsprop_eps, eps_in_sqrt=False)
    elif name == "adam":
        optimizer = optax.adam(learning_rate, eps=adam_eps)
    else:
        optimizer = optax.sgd(learning_rate)
    if weight_decay > 0:
        optimizer = optax.chain(optax.add_decayed_weights(weight_decay), optimizer)
    if max_grad_norm > 0:
        return optax.chain(optax.clip_by_global_norm(max_grad_norm), optimizer)
    return optimizer


def for_each(
    optimizer: optax.GradientTransformation, leading_axes: int = 1
) -> optax.GradientTransformation:
    """The optimiser of parameters with so many leading axes, one by one: each has its own gradient's norm."""
    for _ in range(leading_axes):
        optimizer = optax.GradientTransformation(
            jax.vmap(optimizer.init), jax.vmap(optimizer.update)
        )
    return optimizer


def clip_by_global_norm(max_norm: float) -> optax.GradientTransformation:
    """As optax's, but with a slope of its own where all gradients are 0, for gradients through learning steps.

    Args:
        max_norm: gradients of a larger global norm are scaled down to it.
    """

    def update(
        updates: optax.Updates, state: optax.EmptyState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, optax.EmptyState]:
        del params
        # The root of 0 has no slope.
        norm = jnp.sqrt(optax.tree.norm(updates, squared=True) + 1e-30)
        scale = max_norm / jnp.maximum(norm, max_norm)
        return jax.tree.map(lambda x: scale * x, updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)
