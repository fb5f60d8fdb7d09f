"""Whether training ever hangs: many fresh processes, each of which trains one of the methods for a few chunks.

`python benchmarks/fresh_processes.py --processes 1000` ends with a table, and with status 1 if one hung or failed.
jaxlib has dead-locked on machines with few cores, rarely, and in some processes only; so one long run says little. What
they compile is kept, in the library's usual folder for it, so that most start at once.
"""

import collections
import concurrent.futures
import dataclasses
import itertools
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from experiments import command
from marl_jax import ConfigurationError, methods

RUN = Path(__file__).parent.parent / "experiments" / "run.py"
FAMILIES = ("qmix", "cia", "roma", "maven", "eoi", "mappo", "liir", "coma", "maac", "alita", "edti")
"""One method at least of each kind of learner."""


@dataclasses.dataclass
class Arguments:
    """Command line."""

    processes: int = 100
    """How many, in turn over the methods."""
    methods: tuple[str, ...] = FAMILIES
    """Methods that are trained."""
    env: str = "pac_men"
    """Task."""
    steps: int = 4_000
    """Environment steps of each of two seeds, evaluated four times on the way."""
    at_once: int = 2
    """Processes that run at the same time."""
    limit: float = 300.0
    """Seconds after which a process counts as hung."""


@dataclasses.dataclass(frozen=True)
class Ended:
    """How a process ended: "ended", "hung" or "failed", after so many seconds."""

    method: str
    how: str
    seconds: float


def trained(method: str, args: Arguments) -> Ended:
    """Trains in a process of its own, whose folder is thrown away."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        words = [
            sys.executable,
            RUN,
            "--method",
            method,
            "--env",
            args.env,
            "--seeds",
            2,
            "--out",
            folder,
        ]
        words += [
            "--total-steps",
            args.steps,
            "--eval-interval",
            args.steps // 4,
            "--eval-episodes",
            4,
        ]
        try:
            done = subprocess.run(
                [str(word) for word in words], capture_output=True, text=True, timeout=args.limit
            )
        except subprocess.TimeoutExpired:
            return Ended(method, "hung", args.limit)
    if done.returncode:
        print(f"{method} ended with status {done.returncode}: {done.stderr[-500:]}", flush=True)
    how = "failed" if done.returncode else "ended"
    return Ended(method, how, time.perf_counter() - began)


def main() -> int:
    args = command.parse(Arguments, "Whether training ever hangs, in many fresh processes.")
    command.refuse_unknown("--methods", args.methods, methods.names())
    if min(args.processes, args.at_once) < 1:
        raise ConfigurationError(
            f"--processes is {args.processes} and --at-once {args.at_once}; both must be at least 1."
        )
    turns = list(itertools.islice(itertools.cycle(args.methods), args.processes))
    found: list[Ended] = []
    began = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(args.at_once) as pool:
        for one in pool.map(lambda method: trained(method, args), turns):
            found.append(one)
            took = time.perf_counter() - began
            left = took * (len(turns) / len(found) - 1)
            print(
                f"{len(found)} of {len(turns)}, {one.method} {one.how}, {left:.0f} s left",
                flush=True,
            )
    print("| method | processes | hung | failed | median seconds |\n|---|---|---|---|---|")
    for method in dict.fromkeys(turns):
        own = [one for one in found if one.method == method]
        how = collections.Counter(one.how for one in own)
        middle = statistics.median(one.seconds for one in own)
        print(f"| {method} | {len(own)} | {how['hung']} | {how['failed']} | {middle:.1f} |")
    return int(any(one.how != "ended" for one in found))


if __name__ == "__main__":
    command.run(main)
