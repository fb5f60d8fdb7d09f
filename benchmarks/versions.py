"""Whether the tests pass with every supported set of versions.

    pip install uv && python benchmarks/versions.py

For each set a virtual environment is built in a temporary folder, `.[test]` is installed into it, and the tests run
there. `--only 3.11-lowest` tries that one alone, as each job of continuous integration does. Anything else goes to
pytest, such as a file of tests. uv looks for Python on the path, and downloads what is not there.
"""

import argparse
import dataclasses
import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent


@dataclasses.dataclass(frozen=True)
class Versions:
    """A supported set of versions.

    Attributes:
        python: version of Python.
        resolution: which versions of the dependencies uv takes: "highest", or "lowest-direct", the floors in
            pyproject.toml.
        pins: versions that are fixed.
    """

    python: str
    resolution: str = "highest"
    pins: tuple[str, ...] = ()


# What Colab has had since August 2026, of what pip must not touch there or need not.
COLAB = ("jax==0.7.2", "jaxlib==0.7.2", "numpy==2.1.3", "optax==0.2.8")
SETS = {
    "3.11-lowest": Versions("3.11", "lowest-direct"),
    "3.11-newest": Versions("3.11"),
    "3.13-newest": Versions("3.13"),
    "3.13-colab": Versions("3.13", pins=COLAB),
}


def tried(versions: Versions, for_pytest: Sequence[str], folder: Path) -> str:
    """Builds an environment in an empty folder and runs the tests in it.

    Returns:
        "passed", or what failed.
    """
    python = str(folder / "venv" / "bin" / "python")
    pins = folder / "pins.txt"
    pins.write_text("\n".join(versions.pins))
    install = ["uv", "pip", "install", "--quiet", "--python", python, "--constraint", str(pins)]
    install += ["--resolution", versions.resolution, "--editable", f"{ROOT}[test]"]
    steps = {
        "venv": ["uv", "venv", "--quiet", "--python", versions.python, str(folder / "venv")],
        "install": install,
        "list": ["uv", "pip", "freeze", "--quiet", "--python", python],
        "tests": [python, "-m", "pytest", *for_pytest],
    }
    for name, command in steps.items():
        print("+", *command, flush=True)
        # A path of ours would come before what is installed.
        env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        if subprocess.run(command, cwd=ROOT, env=env, check=False).returncode:
            return f"{name} failed"
    return "passed"


def main() -> int:
    """Tries each set, says how it went, and returns the exit status."""
    parser = argparse.ArgumentParser(
        description="Builds environments with the supported versions and runs the tests in each.",
        epilog="Arguments that are not listed here go to pytest, such as -n 4 or a file of tests.",
    )
    parser.add_argument("--only", choices=SETS, help="try this set of versions alone")
    arguments, for_pytest = parser.parse_known_args()
    results = {}
    for name in [arguments.only] if arguments.only else SETS:
        began = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            said = tried(SETS[name], for_pytest, Path(folder))
        results[name] = f"{said} after {time.perf_counter() - began:.0f} s"
    for name, said in results.items():
        print(f"{name:12}  {said}")
    return 0 if all(said.startswith("passed") for said in results.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
