"""Policies as distributions. The only module that imports distrax."""

import dataclasses

import distrax
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float


def floored_categorical(
    logits: Float[Array, "... A"],
    action_mask: Bool[Array, "... A"],
    epsilon: Float[Array, ""] | float,
    mask_before_softmax: bool,
) -> distrax.Categorical:
    """The actor-critic policy of PyMARL: softmax, mixed with a uniform law of weight epsilon.

    pi = (1 - epsilon) softmax(logits) + epsilon / K, then unavailable actions get probability 0 and the rest is
    renormalised. Source: PyMARL `basic_controller.py`, `action_selectors.py`.

    Args:
        logits: the network's output.
        action_mask: available actions; a row without any (padding may have them) counts as one with all.
        epsilon: weight of the uniform law.
        mask_before_softmax: if true, unavailable actions are left out of the softmax and K counts the available
            ones; if false, K is A and they are removed afterwards.
    """
    action_mask |= ~jnp.any(action_mask, axis=-1, keepdims=True)
    if mask_before_softmax:
        logits = jnp.where(action_mask, logits, -1e10)
        count = jnp.sum(action_mask, axis=-1, keepdims=True)
    else:
        count = jnp.asarray(logits.shape[-1])
    probs = (1.0 - epsilon) * jax.nn.softmax(logits) + epsilon / count
    # The tiny constant keeps a row alive whose available actions have all underflowed.
    probs = jnp.where(action_mask, probs + 1e-10, 0.0)
    return distrax.Categorical(probs=probs / jnp.sum(probs, axis=-1, keepdims=True))


def masked_categorical(
    logits: Float[Array, "... A"], action_mask: Bool[Array, "... A"]
) -> distrax.Categorical:
    """Softmax over the available actions, with finite gradients everywhere.

    Args:
        logits: the network's output.
        action_mask: available actions; a row without any counts as one with all.
    """
    return distrax.Categorical(logits=jnp.where(action_mask, logits, -1e10))


def gaussian(mean: Float[Array, "*batch D"], variance: Float[Array, "*batch D"]) -> distrax.Normal:
    """Independent normal laws of D numbers; log-densities, entropies and divergences come one for each of them."""
    return distrax.Normal(mean, jnp.sqrt(variance))


_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(16)
"""Points and weights of a mean over a standard normal number (Gauss-Hermite)."""


@dataclasses.dataclass(frozen=True)
class ContinuousPolicy:
    """A normal law of A independent numbers, out of each of which an action between -1 and 1 is made.

    What is drawn has no bounds. Log-densities are those of what was drawn if it is cut off, and those of the action if
    it is squashed; they are functions of what was drawn, so that no bound is ever divided by.

    Attributes:
        mean: of what is drawn.
        log_deviation: of what is drawn.
        used: which numbers have an effect; log-densities and entropies leave the others out.
        squashed: whether the action is the hyperbolic tangent of what is drawn; otherwise it is cut off.
    """

    mean: Float[Array, "*batch A"]
    log_deviation: Float[Array, "*batch A"]
    used: Bool[Array, "*batch A"]
    squashed: bool

    @property
    def _law(self) -> distrax.Normal:
        return distrax.Normal(self.mean, jnp.exp(self.log_deviation))

    def sample_and_log_prob(
        self, *, seed: jax.Array
    ) -> tuple[Float[Array, "*batch A"], Float[Array, "*batch"]]:
        """Draws, with gradients through what is drawn, and says how likely that was."""
        drawn: jax.Array = self._law.sample(seed=seed)
        return drawn, self.log_prob(drawn)

    def log_prob(self, drawn: Float[Array, "*batch A"]) -> Float[Array, "*batch"]:
        """Log-density, in nats; squashed: log N(u) - sum of log(1 - tanh(u)^2) (Haarnoja et al. 2018, appendix C)."""
        each = self._law.log_prob(drawn)
        if self.squashed:
            each = each - _log_slope(drawn)
        return jnp.sum(jnp.where(self.used, each, 0.0), axis=-1)

    def entropy(self) -> Float[Array, "*batch"]:
        """In nats; squashed: H(N) + E[log(1 - tanh(u)^2)], at most A log 2, by Gauss-Hermite quadrature."""
        each = self._law.entropy()
        if self.squashed:
            points = self.mean[..., None] + jnp.exp(self.log_deviation)[..., None] * _NODES
            weights = jnp.asarray(_WEIGHTS / _WEIGHTS.sum(), each.dtype)
            each = each + _log_slope(points) @ weights
        return jnp.sum(jnp.where(self.used, each, 0.0), axis=-1)

    def kl_divergence(self, other: "ContinuousPolicy") -> Float[Array, "*batch"]:
        """KL(self || other), in nats; squashing both changes nothing."""
        each = self._law.kl_divergence(other._law)
        return jnp.sum(jnp.where(self.used, each, 0.0), axis=-1)

    def mode(self) -> Float[Array, "*batch A"]:
        """The mean, whose action is greedy."""
        return self.mean

    def action(self, drawn: Float[Array, "*batch A"]) -> Float[Array, "*batch A"]:
        """The action that is made of what was drawn."""
        return jnp.tanh(drawn) if self.squashed else jnp.clip(drawn, -1.0, 1.0)


def _log_slope(x: jax.Array) -> jax.Array:
    """log(1 - tanh(x)^2), without a difference of numbers near 1."""
    return 2.0 * (jnp.log(2.0) - x - jax.nn.softplus(-2.0 * x))


def greedy_action(scores: Float[Array, "... A"], action_mask: Bool[Array, "... A"]) -> jax.Array:
    """The available action with the highest score: [...] int32."""
    return jnp.argmax(jnp.where(action_mask, scores, -jnp.inf), axis=-1).astype(jnp.int32)


def gumbel_softmax(
    key: jax.Array,
    logits: Float[Array, "... A"],
    action_mask: Bool[Array, "... A"],
    temperature: float,
    straight_through: bool = False,
) -> Float[Array, "... A"]:
    """A relaxed draw from a categorical law: softmax((logits + g) / temperature) with Gumbel noise g.

    Its largest component is distributed as the law itself. Jang et al. 2017, Eq. 2 and section 2.2.

    Args:
        key: random key.
        logits: the network's output.
        action_mask: available actions; the others' components are 0. A row without any counts as one with all.
        temperature: near 0 the draw is nearly one-hot.
        straight_through: whether to return the largest component one-hot, with the relaxed draw's gradient.
    """
    noisy = (logits + jax.random.gumbel(key, logits.shape, logits.dtype)) / temperature
    relaxed = jax.nn.softmax(jnp.where(action_mask, noisy, -1e10))
    if not straight_through:
        return relaxed
    hard = jax.nn.one_hot(jnp.argmax(relaxed, axis=-1), logits.shape[-1], dtype=logits.dtype)
    return hard + relaxed - jax.lax.stop_gradient(relaxed)
