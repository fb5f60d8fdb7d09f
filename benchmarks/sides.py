"""The two sides of a comparison: our training here, a peer's in a process and an environment of its own.

They are measured in turn, A B A B, so that both meet the same machine; medians count.
"""

import contextlib
import dataclasses
import json
import math
import os
import statistics
import subprocess
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import jax

from marl_jax import ConfigurationError
from marl_jax.loading import make_trainer
from marl_jax.settings import make_settings
from marl_jax.training import Trainer


class Ours:
    """This library's training, in chunks of so many iterations."""

    def __init__(
        self,
        method: str,
        env: str,
        seeds: int,
        iterations: int,
        options: dict[str, Any],
        preset: str | None = None,
    ) -> None:
        sections = {"method": options, "training": {"eval_episodes": 1}}
        settings = make_settings(method, env, seeds, 0, sections, preset=preset)
        trainer = make_trainer(settings)
        interval = iterations * trainer.steps_per_iteration
        config = dataclasses.replace(settings.training, eval_interval=interval)
        self.trainer: Trainer = dataclasses.replace(trainer, config=config)
        began = time.perf_counter()
        lowered = self.trainer.train_chunk.lower(self.trainer.init(), self.trainer.everyone)
        self.train = lowered.compile()
        self.compiled = time.perf_counter() - began
        self.state = self.trainer.init()
        # Until a replay holds a batch.
        episodes = iterations * self.trainer.method.num_episodes
        batch = getattr(settings.method_options, "batch_size", 1)
        for _ in range(math.ceil(batch / episodes)):
            self.state, _ = self.train(self.state, self.trainer.everyone)

    def steps_per_second(self) -> float:
        """Of one chunk."""
        before = int(self.state.env_steps.sum())
        began = time.perf_counter()
        self.state, metrics = jax.block_until_ready(self.train(self.state, self.trainer.everyone))
        seconds = time.perf_counter() - began
        return (int(metrics.env_steps.sum()) - before) / seconds


class Checkout(NamedTuple):
    """Where a peer is.

    Attributes:
        path: its repository.
        python: an interpreter that can run it.
    """

    path: Path
    python: Path


class Peer:
    """A peer's training, in a process of its own."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.compiled = self._hear()["compiled"]

    def steps_per_second(self) -> float:
        """Of one run."""
        assert self.process.stdin is not None
        print(file=self.process.stdin, flush=True)
        told = self._hear()
        return told["steps"] / told["seconds"]

    def _hear(self) -> dict[str, float]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):
                told: dict[str, float] = json.loads(line)
                return told
        raise ConfigurationError(
            f"{self.process.args!s} stopped; a peer must be a checkout that its interpreter can run."
        )


def check_checkout(
    checkout: Path | None, flag: str = "--jaxmarl", inside: str = "baselines"
) -> None:
    """Refuses a folder that is not the peer's.

    Raises:
        ConfigurationError: if it is one.
    """
    if checkout is not None and not (checkout / inside).exists():
        raise ConfigurationError(
            f"{flag} is {checkout}; it must be a checkout with {inside} in it."
        )


def jaxmarl(
    where: Checkout, method: str, env: str, seeds: int, iterations: int, options: dict[str, Any]
) -> AbstractContextManager[Peer]:
    """JaxMARL's training, see `jaxmarl_side.py`."""
    words = (method, env, seeds, iterations, json.dumps(options))
    return _started(where, "jaxmarl_side.py", *words)


def pymarl(where: Checkout, episodes: int) -> AbstractContextManager[Peer]:
    """QMIX on Turn by its authors' code, see `pymarl_side.py`."""
    return _started(where, "pymarl_side.py", episodes)


@contextlib.contextmanager
def _started(where: Checkout, script: str, *words: object) -> Iterator[Peer]:
    """Starts a peer, and ends it."""
    command = (where.python, Path(__file__).with_name(script), where.path, *words)
    process = subprocess.Popen(
        [str(word) for word in command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={
            k: v
            for k, v in os.environ.items()
            if k not in ("PYTHONPATH", "XLA_FLAGS", "JAX_NUM_CPU_DEVICES")
        },
    )
    try:
        yield Peer(process)
    finally:
        process.kill()
        process.wait()


class Measured(NamedTuple):
    """Medians of what was measured in turn.

    Attributes:
        ours: environment steps a second, all seeds together.
        peer: theirs; None without a peer.
        ratio: of each turn, ours over theirs.
        compiled: seconds that the peer has compiled for.
    """

    ours: float
    peer: float | None = None
    ratio: float | None = None
    compiled: float | None = None


def in_turn(ours: Ours, theirs: AbstractContextManager[Peer] | None, rounds: int) -> Measured:
    """Measures both sides so many times, in turn; ours alone without a peer."""
    if theirs is None:
        return Measured(statistics.median(ours.steps_per_second() for _ in range(rounds)))
    with theirs as started:
        pairs = [(ours.steps_per_second(), started.steps_per_second()) for _ in range(rounds)]
    own, other = (statistics.median(side) for side in zip(*pairs, strict=True))
    return Measured(own, other, statistics.median(a / b for a, b in pairs), started.compiled)
