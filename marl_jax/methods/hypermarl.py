"""HyperMARL: agents share all that they learn, and a hypernetwork makes each one's last layers of who it is.

Paper: Tessera et al. 2025, "HyperMARL: Adaptive Hypernetworks for Multi-Agent RL" (arXiv 2412.04233), the recurrent
form of its authors' code: what makes hidden states is shared and does not know whose they are; the two layers behind it
are generated from a learned embedding of the agent, so that gradients of identity and of observation do not meet in one
layer. The loss is the backbone's. Theirs generates the critic's last layers too; here the critic stays the backbone's.
"""

import dataclasses
from typing import Annotated, Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from envs.configuration import Config, Range
from marl_jax.methods.part import Given, HeadedAgents, Part
from marl_jax.networks import MLP, Params


@dataclasses.dataclass(frozen=True)
class HyperOptions(Config):
    """Options of HyperMARL; defaults are its authors' on SMAX, but for the width."""

    embedding_size: Annotated[int, Range(minimum=1)] = 64
    """Numbers that stand for an agent; learned."""
    hyper_hidden: tuple[Annotated[int, Range(minimum=1)], ...] = (16,)
    """Units of the hypernetworks' hidden layers; none makes them linear."""
    generated_size: Annotated[int, Range(minimum=1)] = 64
    """Units of the first generated layer. Authors: 128, as wide as their memory."""


@dataclasses.dataclass(frozen=True)
class HyperAgents(HeadedAgents):
    """Agents whose last two layers are generated from learned embeddings."""

    @property
    def shapes(self) -> tuple[tuple[int, int, float], ...]:
        """Inputs, outputs and gain of each generated layer; a policy starts nearly uniform, as the backbone's does."""
        c, actions = self.config, self.core.sizes.num_actions
        first = (c.hidden_size, c.generated_size, 2.0**0.5)
        return first, (c.generated_size, actions, getattr(c, "policy_gain", 1.0))

    def hypernetwork(self, outputs: int) -> MLP:
        """From an embedding to so many numbers."""
        return MLP((*self.config.hyper_hidden, outputs))

    def init_head(self, key: jax.Array) -> dict[str, Params]:
        """Embeddings and hypernetworks: generated matrices start orthogonal, and all biases at 0."""
        _, embedding_key, *keys = jax.random.split(key, 2 + 2 * len(self.shapes))
        shape = (self.core.sizes.num_agents, self.config.embedding_size)
        embedding = jax.nn.initializers.orthogonal(2.0**0.5)(embedding_key, shape)
        layers = []
        for (inputs, outputs, gain), one, other in zip(
            self.shapes, keys[::2], keys[1::2], strict=True
        ):
            weight = self.hypernetwork(inputs * outputs).init(one, embedding[0])
            bias = self.hypernetwork(outputs).init(other, embedding[0])
            layers.append(
                {
                    "weight": self._orthogonal(weight, embedding, inputs, outputs, gain, one),
                    "bias": _last(bias, jnp.zeros_like, jnp.zeros_like),
                }
            )
        return {"embedding": embedding, "layers": layers}

    def _orthogonal(
        self,
        params: Params,
        embedding: Float[Array, "N E"],
        inputs: int,
        outputs: int,
        gain: float,
        key: jax.Array,
    ) -> Params:
        """The hypernetwork with a last layer whose rows are orthogonal matrices.

        What it generates is a mixture of them; it is scaled so that its mean square is that of an orthogonal one.
        """

        def rows(kernel: Float[Array, "K O"]) -> Float[Array, "K O"]:
            draw = jax.nn.initializers.orthogonal(gain)
            keys = jax.random.split(jax.random.fold_in(key, 1), len(kernel))
            drawn: jax.Array = jax.vmap(lambda k: draw(k, (inputs, outputs)))(keys)
            return drawn.reshape(kernel.shape)

        params = _last(params, rows, jnp.zeros_like)
        made: Any = self.hypernetwork(inputs * outputs).apply(params, embedding)
        expected = gain**2 / max(inputs, outputs)
        scale = jnp.sqrt(expected / jnp.mean(made**2))
        return _last(params, lambda kernel: scale * kernel, lambda bias: bias)

    def outputs(self, params: Params, given: Given) -> Float[Array, "*shape N A"]:
        """Of the generated layers."""
        x = given.out
        for (num, outputs, _), layer in zip(self.shapes, params["layers"], strict=True):
            made: Any = self.hypernetwork(num * outputs).apply(layer["weight"], params["embedding"])
            bias: Any = self.hypernetwork(outputs).apply(layer["bias"], params["embedding"])
            if x is not given.out:
                x = jax.nn.relu(x)
            x = jnp.einsum("...ni,nio->...no", x, made.reshape(-1, num, outputs)) + bias
        return x


def _last(params: Params, kernel: Any, bias: Any) -> Params:
    """An MLP with its last layer's kernel and bias changed."""
    layers = params["params"]
    name = f"Linear_{len(layers) - 1}"
    dense = layers[name]["Dense_0"]
    changed = {"kernel": kernel(dense["kernel"]), "bias": bias(dense["bias"])}
    return {"params": {**layers, name: {"Dense_0": changed}}}


@dataclasses.dataclass(frozen=True)
class Hypernetworks(Part):
    """HyperMARL's agents."""

    name: ClassVar = "hypermarl"
    Options: ClassVar = HyperOptions
    # What is shared does not know whose it is; the last layers alone do.
    fixed: ClassVar = {"sharing": "shared", "observe_identity": False, "head_sizes": ()}
    continuous: ClassVar[bool] = True

    @property
    def agents(self) -> HyperAgents:
        """Agents with generated layers."""
        return HyperAgents(self.core, self.config)
