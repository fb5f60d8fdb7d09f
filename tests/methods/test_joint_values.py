"""QTRAN-base and weighted QMIX: their losses, put together a second time step by step."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marl_jax import methods
from marl_jax.networks import MixerInputs
from tests.methods.learners import SIZES, drawn_state, fast_jit, make_batch
from tests.probes import ACTIONS, AGENTS, LIMIT

SMALL: dict[str, Any] = {
    "agent": "gru",
    "hidden_size": 6,
    "batch_size": 3,
    "update_interval": LIMIT,
    "replay_capacity": 3 * LIMIT,
    "gamma": 0.9,
}
MIXER: dict[str, Any] = {"mixer_embed": 4, "hypernet_size": 5, "central_hidden": 7}
KEY = jax.random.key(3)


def make(name: str, **options: Any) -> Any:
    cls: Any = methods.recipe(name)
    return cls(cls.Config.from_mapping({**SMALL, **options}, name), SIZES)


class Setting:
    """A learner whose targets lag behind, a batch, and what its agents say about it, step by step."""

    def __init__(self, name: str, **options: Any) -> None:
        self.method = make(name, **options)
        state = drawn_state(self.method, 0)
        self.batch = make_batch()
        self.state, self.params, self.target = state, state.params, state.target
        self.loss, self.metrics = fast_jit(self.method.loss)(self.params, state, self.batch, KEY)

    def agents(self, params: Any) -> tuple[np.ndarray, np.ndarray]:
        """Hidden states and values, one step after the other."""
        method, batch = self.method, self.batch
        step = fast_jit(method.agent.step)
        memory, hidden, values = method.agent.initial_memory(3), [], []
        last = jnp.concatenate(
            [jnp.zeros((1, 3, AGENTS, ACTIONS)), jax.nn.one_hot(batch.action, ACTIONS)]
        )
        for t in range(LIMIT + 1):
            x = method.agent_inputs(batch.observation[t], last[t])
            memory, q = step(params, memory, x)
            hidden.append(memory)
            values.append(q)
        return np.stack(hidden), np.stack(values)

    def greedy(self, whose: str) -> np.ndarray:
        """The best available actions by the agents of "params" or of "target"."""
        _, q = self.agents(getattr(self, whose)["agent"])
        return np.argmax(np.where(self.batch.action_mask, q, -np.inf), axis=-1)

    def each(self) -> Any:
        """The steps that count, as (t, episode), and the target of each, given the value ahead."""
        for t, b in np.argwhere(np.asarray(self.batch.valid)):
            yield int(t), int(b)

    def y(self, t: int, b: int, ahead: float) -> float:
        batch = self.batch
        return float(batch.reward[t, b].mean() + 0.9 * batch.discount[t, b].min() * ahead)


def one_hot(action: Any) -> jax.Array:
    return jax.nn.one_hot(jnp.asarray(action), ACTIONS)


def test_qtran_base() -> None:
    s = Setting("qtran", joint_embed=5, opt_weight=0.7, nopt_weight=0.3)
    hidden, q = s.agents(s.params["agent"])
    target_hidden, _ = s.agents(s.target["agent"])
    greedy, batch = s.greedy("params"), s.batch
    td, opt, nopt = [], [], []
    for t, b in s.each():
        state, action = batch.global_state[t, b], np.asarray(batch.action[t, b])

        def joint(params: Any, hidden: Any, action: Any, state: Any) -> tuple[float, float]:
            values = s.method.joint.apply(params["joint"], hidden, one_hot(action), state)
            return float(values.q), float(values.v)

        q_jt, v = joint(s.params, hidden[t, b], action, state)
        best_jt, _ = joint(s.params, hidden[t, b], greedy[t, b], state)
        ahead, _ = joint(
            s.target, target_hidden[t + 1, b], greedy[t + 1, b], batch.global_state[t + 1, b]
        )
        td.append((q_jt - s.y(t, b, ahead)) ** 2)
        agents = range(AGENTS)
        opt.append((sum(q[t, b, i, greedy[t, b, i]] for i in agents) - best_jt + v) ** 2)
        nopt.append(min(sum(q[t, b, i, action[i]] for i in agents) - q_jt + v, 0.0) ** 2)
    for name, found in (("td_loss", td), ("opt_loss", opt), ("nopt_loss", nopt)):
        np.testing.assert_allclose(s.metrics[name], np.mean(found), rtol=1e-4)
    expected = np.mean(td) + 0.7 * np.mean(opt) + 0.3 * np.mean(nopt)
    np.testing.assert_allclose(s.loss, expected, rtol=1e-4)


def test_qtrans_joint_value_trains_the_agents_and_its_constraints_leave_it_alone() -> None:
    only_td = Setting("qtran", opt_weight=0.0, nopt_weight=0.0)

    def gradient(s: Setting) -> Any:
        return fast_jit(jax.grad(lambda p: s.method.loss(p, s.state, s.batch, KEY)[0]))(s.params)

    first = gradient(only_td)
    cell = first["agent"]["params"]["cell"]
    assert min(float(jnp.abs(x).max()) for x in jax.tree.leaves(cell)) > 0
    assert not jax.tree.reduce(
        lambda found, x: found or bool(x.any()), first["agent"]["params"]["head"], False
    )
    both = gradient(Setting("qtran"))
    difference = jax.tree.map(jnp.subtract, both, first)["joint"]["params"]
    for part in ("q", "encoder"):
        for leaf in jax.tree.leaves(difference[part]):
            np.testing.assert_allclose(leaf, 0.0, atol=1e-6)
    assert jnp.abs(difference["v"]["Linear_0"]["Dense_0"]["kernel"]).max() > 1e-3


@pytest.mark.parametrize(
    ("name", "double_q"),
    [("ow_qmix", True), pytest.param("cw_qmix", False, marks=pytest.mark.slow)],
)
def test_weighted_qmix(name: str, double_q: bool) -> None:
    s = Setting(name, **MIXER, alpha=0.25, double_q=double_q)
    batch, greedy = s.batch, s.greedy("params")
    chosen = s.greedy("params" if double_q else "target")
    _, q = s.agents(s.params["agent"])
    _, central = s.agents(s.params["central_agent"])
    _, delayed = s.agents(s.target["central_agent"])

    def mixed(mixer: Any, params: Any, q: np.ndarray, action: Any, t: int, b: int) -> float:
        chosen = jnp.asarray([q[t, b, i, action[i]] for i in range(AGENTS)])
        # Neither mixer looks at the best values or the actions themselves.
        nothing = jnp.full((AGENTS,), jnp.nan)
        inputs = MixerInputs(chosen, nothing, one_hot(action) * jnp.nan, batch.global_state[t, b])
        return float(mixer.apply(params, inputs).q_tot)

    td, central_td, weights = [], [], []
    mixer, central_mixer = s.method.mixer, s.method.central_mixer
    for t, b in s.each():
        action = np.asarray(batch.action[t, b])
        q_tot = mixed(mixer, s.params["mixer"], q, action, t, b)
        q_star = mixed(central_mixer, s.params["central_mixer"], central, action, t, b)
        target = s.target["central_mixer"]
        ahead = mixed(central_mixer, target, delayed, chosen[t + 1, b], t + 1, b)
        best = mixed(central_mixer, target, delayed, greedy[t, b], t, b)
        y = s.y(t, b, ahead)
        is_greedy = bool((action == greedy[t, b]).all())
        full = q_tot < y if name == "ow_qmix" else is_greedy or y > best
        weights.append(1.0 if full else 0.25)
        td.append(weights[-1] * (q_tot - y) ** 2)
        central_td.append((q_star - y) ** 2)
    assert 0.25 < np.mean(weights) < 1.0
    np.testing.assert_allclose(s.metrics["weight"], np.mean(weights), rtol=1e-5)
    np.testing.assert_allclose(s.metrics["td_loss"], np.mean(td), rtol=1e-4)
    np.testing.assert_allclose(s.metrics["central_td_loss"], np.mean(central_td), rtol=1e-4)
    np.testing.assert_allclose(s.loss, np.mean(td) + np.mean(central_td), rtol=1e-4)
