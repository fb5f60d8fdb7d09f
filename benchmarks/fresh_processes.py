"""Whether training ever hangs: many fresh processes, each of which trains one of the methods for a few chunks.

`python benchmarks/fresh_processes.py --processes 1000` ends with a table, and with status 1 if one hung or failed.
jaxlib has dead-locked on machines with few cores, rarely, and in some processes only; so one long run says little. What
they compile is kept, in the library's usual folder for it, so that most start at once.
"""

import collections
import concurrent.futures
import dataclasses
import itertools
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from experiments import command
from marl_jax import ConfigurationError, methods

RUN = Path(__file__).parent.parent / "experiments" / "run.py"
FAMILIES = (
    *("qmix", "cia", "roma", "maven", "eoi", "mappo", "liir", "liir_paper", "coma", "lica"),
    *("hc", "maac", "alita", "edti"),
)
"""Methods of all kinds of learners but those that need continuous actions."""
EVALUATIONS = 4
"""Of each seed on its way."""


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
    """Trains in a process of its own, whose folder is thrown away. One that hangs says where its threads stand."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "-X", "faulthandler", RUN, "--method", method, "--env", args.env]
        words += ["--seeds", 2, "--out", folder, "--total-steps", args.steps]
        words += ["--eval-interval", args.steps // EVALUATIONS, "--eval-episodes", 4]
        pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
        process = subprocess.Popen([str(word) for word in words], **pipes)
        try:
            _, said = process.communicate(timeout=args.limit)
            how = "failed" if process.returncode else "ended"
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGABRT)
            _, said = process.communicate()
            how = "hung"
    if how != "ended":
        print(f"{method} {how}:\n{said}", flush=True)
    return Ended(method, how, time.perf_counter() - began)


def main() -> int:
    args = command.parse(Arguments, "Whether training ever hangs, in many fresh processes.")
    command.refuse_unknown("--methods", args.methods, methods.names())
    for name, least in (("processes", 1), ("at_once", 1), ("steps", EVALUATIONS)):
        if getattr(args, name) < least:
            flag = "--" + name.replace("_", "-")
            raise ConfigurationError(
                f"{flag} is {getattr(args, name)}; it must be at least {least}."
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
