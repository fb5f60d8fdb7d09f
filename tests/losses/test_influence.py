"""ALITA's influence: by hand, and Theorem 1 on a game small enough to be played out in every way."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from marl_jax.losses import influence, influence_surrogate, novelty, synchrony_penalty


def test_influence_is_the_weighted_mean_square_of_the_gaps() -> None:
    q = jnp.array([[9.0, 1.0, 2.0], [9.0, 0.0, 5.0]])
    z = jnp.array([[0.0, 3.0, 3.0], [0.0, 0.0, 1.0]])
    weight = jnp.broadcast_to(jnp.array([0.0, 0.5, 0.5]), q.shape)
    # (4 + 1) / 2 and (0 + 16) / 2.
    np.testing.assert_allclose(influence(q, z, weight), (2.5 + 8.0) / 2)
    slope = jax.grad(influence, argnums=(0, 1))(q, z, weight)
    # 2 w (q - z) / 2 rows; nothing reaches the best values.
    np.testing.assert_allclose(slope[0], [[0.0, -1.0, -0.5], [0.0, 0.0, 2.0]])
    np.testing.assert_array_equal(slope[1], jnp.zeros_like(z))


def test_novelty_and_penalty() -> None:
    psi = novelty(jnp.array([[1.0, 0.0], [0.0, 0.0]]), jnp.array([[1.0, 2.0], [0.0, 0.0]]))
    np.testing.assert_allclose(psi, [4.0, 0.0])
    policy, action = jnp.array([[0.5, 0.5], [0.25, 0.75]]), jnp.array([[1.0, 0.0], [0.0, 1.0]])
    # |.|^2 is 1/2 and 1/8; exp(-0.1 * 4) and exp(0).
    expected = [-np.exp(-0.4) / 2, -1 / 8]
    np.testing.assert_allclose(synchrony_penalty(psi, policy, action, 0.1), expected, rtol=1e-6)


class Game:
    """Two states, an influencer and a mate with two actions each, three steps; the mate's policy is fixed."""

    steps, gamma = 3, 0.9

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        mate = rng.dirichlet(np.ones(2), size=2)  # [s, mate's action]
        reward = rng.normal(size=(2, 2, 2))  # the mate's, [s, a, mate's action]
        move = rng.dirichlet(np.ones(2), size=(2, 2, 2))  # [s, a, mate's action, s']
        self.start = rng.dirichlet(np.ones(2))
        # What remains when the mate's action is summed out, as in Eq. 3.
        self.reward = np.einsum("sm,sam->sa", mate, reward)
        self.move = np.einsum("sm,samt->sat", mate, move)
        best = np.zeros(2)
        for _ in range(self.steps):
            best = np.max(reward + self.gamma * move @ best, axis=(1, 2))
        self.best = best  # max_u Q(s, u) with all steps to go

    def values(self, theta: jax.Array) -> list[jax.Array]:
        """q(s, a) of the mate at each step, given the influencer's policy; Eq. 3."""
        policy, later, values = jax.nn.softmax(theta), jnp.zeros(2), []
        for _ in range(self.steps):
            values.insert(0, jnp.asarray(self.reward) + self.gamma * jnp.asarray(self.move) @ later)
            later = jnp.sum(policy * values[0], axis=1)
        return values

    def influence(self, theta: jax.Array) -> jax.Array:
        """F, by enumeration: mean over the start's law of E_a (q - max Q)^2."""
        gap = self.values(theta)[0] - self.best[:, None]
        return jnp.sum(self.start * jnp.sum(jax.nn.softmax(theta) * gap**2, axis=1))


def test_theorem_1_on_an_enumerable_game() -> None:
    with jax.enable_x64(True):
        game = Game()
        theta = jnp.asarray(np.random.default_rng(1).normal(size=(2, 2)))
        policy = np.asarray(jax.nn.softmax(theta))
        values = jnp.stack(game.values(theta))
        discount = jnp.full(game.steps, game.gamma).at[-1].set(0.0)
        # Every course of the game, and its chance.
        courses = np.array(list(itertools.product(range(2), repeat=2 * game.steps)))
        states, actions = courses[:, : game.steps], courses[:, game.steps :]
        chance = game.start[states[:, 0]] * np.prod(policy[states, actions], axis=1)
        chance *= np.prod(game.move[states[:, :-1], actions[:, :-1], states[:, 1:]], axis=1)
        np.testing.assert_allclose(chance.sum(), 1.0, rtol=1e-12)

        @jax.jit
        @jax.grad
        def theorem(theta: jax.Array) -> jax.Array:
            def first_term(states: jax.Array, actions: jax.Array) -> jax.Array:
                log_prob = jax.nn.log_softmax(theta)[states, actions]
                q = values[jnp.arange(game.steps), states, actions]
                z = jnp.asarray(game.best)[states]
                return influence_surrogate(log_prob, q[:, None], z[:, None], discount, jnp.ones(1))[
                    0
                ]

            terms = jax.vmap(first_term)(jnp.asarray(states), jnp.asarray(actions))
            return jnp.sum(chance * terms)

        expected = theorem(theta)
        np.testing.assert_allclose(expected, jax.grad(game.influence)(theta), rtol=1e-9)
        for place in itertools.product(range(2), repeat=2):
            step = jnp.zeros((2, 2)).at[place].set(1e-5)
            slope = (game.influence(theta + step) - game.influence(theta - step)) / 2e-5
            np.testing.assert_allclose(expected[place], slope, rtol=1e-6)
        assert float(jnp.abs(expected).max()) > 0.1


def test_the_surrogate_counts_only_what_is_still_to_come() -> None:
    # Two steps, gap 1 at the first and 3 at the second; q 4 and 5, discount 0.5. Slopes of log pi_0 and log pi_1:
    # entry 0: 1^2 and 2 * 1 * 0.5 * 5; entry 1: nothing and 3^2.
    value, target = jnp.array([[4.0], [5.0]]), jnp.array([[3.0], [2.0]])
    slopes = jax.jacobian(influence_surrogate)(
        jnp.zeros(2), value, target, jnp.array([0.5, 0.5]), jnp.ones(1)
    )
    np.testing.assert_allclose(slopes, [[1.0, 5.0], [0.0, 9.0]])
