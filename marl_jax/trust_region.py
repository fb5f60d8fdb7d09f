"""A step inside of a trust region: along the natural gradient, as far as a bound on the KL divergence allows.

Paper: Schulman et al. 2015, "Trust Region Policy Optimization", section 6 and appendix C.
"""

import dataclasses
from collections.abc import Callable
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.scipy.sparse.linalg import cg
from jaxtyping import Array, Bool, Float, Int

from envs.configuration import Range
from marl_jax.networks import Params

OfParams = Callable[[Params], Float[Array, ""]]
"""A number that parameters have."""


@dataclasses.dataclass(frozen=True)
class TrustRegion:
    """Options of such a step; defaults are HARL's (`hatrpo.yaml`) unless said otherwise."""

    max_kl: Annotated[float, Range(above=0)] = 0.01
    """How far an iteration may move policies: KL divergence in nats, mean over the steps at which there is a choice."""
    cg_steps: Annotated[int, Range(minimum=1)] = 10
    """Steps of conjugate gradients that solve for the natural gradient."""
    damping: Annotated[float, Range(minimum=0)] = 0.1
    """What is added to the Fisher matrix's diagonal."""
    backtracks: Annotated[int, Range(minimum=1)] = 10
    """How many lengths of a step are tried; if none is good, policies stay as they are."""
    backtrack_factor: Annotated[float, Range(above=0, maximum=0.999)] = 0.8
    """What a length is multiplied with for the next one."""
    accept_ratio: Annotated[float, Range(minimum=0, maximum=1)] = 0.5
    """Share of what the gradient promises that a step must gain. 0: it must gain anything (Stable-Baselines3)."""


class Taken(NamedTuple):
    """A step that was taken.

    Attributes:
        params: after it.
        share: of the longest step; 0 if there was none.
        gain: after it.
        divergence: of what is now from what was.
        grad_norm: norm of the plain gradient.
    """

    params: Params
    share: Float[Array, ""]
    gain: Float[Array, ""]
    divergence: Float[Array, ""]
    grad_norm: Float[Array, ""]


class _Search(NamedTuple):
    """What the line search knows.

    Attributes:
        tries: how many lengths it has tried.
        found: whether the last one was good.
        gain: with that one.
        divergence: with that one.
    """

    tries: Int[Array, ""]
    found: Bool[Array, ""]
    gain: Float[Array, ""]
    divergence: Float[Array, ""]


def fisher_product(divergence: OfParams, params: Params) -> Callable[[Params], Params]:
    """Products F v with the Fisher matrix F: the Hessian of the divergence from these parameters, where it is 0.

    The matrix is never written down (Schulman et al. 2015, appendix C.1).

    Args:
        divergence: of other parameters from these ones.
        params: these.
    """
    product: Callable[[Params], Params] = jax.linearize(jax.grad(divergence), params)[1]
    return product


def trust_region_step(
    gain: OfParams, divergence: OfParams, params: Params, region: TrustRegion
) -> Taken:
    """Goes up the natural gradient as far as the bound allows; if that is no good, a shorter way.

    The divergence's Hessian says how far that is. A length is good if the divergence itself is within the bound, and if
    it gains anything, and more than a share of what the gradient promises.

    Args:
        gain: to be maximised.
        divergence: of other parameters from these ones.
        params: these.
        region: how far to go.
    """
    before, gradient = jax.value_and_grad(gain)(params)
    fisher = fisher_product(divergence, params)

    def damped(v: Params) -> Params:
        return jax.tree.map(lambda f, x: f + region.damping * x, fisher(v), v)

    direction, _ = cg(damped, gradient, maxiter=region.cg_steps)
    curvature = optax.tree.vdot(direction, damped(direction))
    # Without a gradient both are 0, and so is the step.
    length = jnp.sqrt(2.0 * region.max_kl / jnp.maximum(curvature, 1e-20))
    longest = optax.tree.scale(length, direction)
    promised = optax.tree.vdot(gradient, longest)

    def after(share: jax.Array) -> Params:
        return jax.tree.map(lambda x, step: x + share * step, params, longest)

    def share_of(tries: jax.Array) -> jax.Array:
        return region.backtrack_factor ** (tries - 1.0)

    def attempt(search: _Search) -> _Search:
        tries = search.tries + 1
        share = share_of(tries)
        there = after(share)
        reached, apart = gain(there), divergence(there)
        gained = reached - before
        enough = (gained > 0) & (gained >= region.accept_ratio * share * promised)
        return _Search(tries, enough & (apart <= region.max_kl), reached, apart)

    nothing = _Search(jnp.zeros((), jnp.int32), jnp.array(False), before, jnp.zeros_like(before))
    end = jax.lax.while_loop(
        lambda search: ~search.found & (search.tries < region.backtracks), attempt, nothing
    )
    share = jnp.where(end.found, share_of(end.tries), 0.0)
    reached = jnp.where(end.found, end.gain, before)
    apart = jnp.where(end.found, end.divergence, 0.0)
    return Taken(after(share), share, reached, apart, optax.tree.norm(gradient))
