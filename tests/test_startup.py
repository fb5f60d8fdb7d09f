"""What comes before training, and what must not be: imports, signals, forks, other packages of our names."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from marl_jax import interrupts, loading, neighbours
from marl_jax.progress import Silent

ROOT = Path(__file__).parent.parent


def program(*arguments: str, path: str = "", code: str = "") -> subprocess.Popen[str]:
    """A Python program, with what is given before this repository on its path."""
    return subprocess.Popen(
        [sys.executable, *(["-c", code] if code else []), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{path}:{ROOT}"},
    )


@pytest.mark.parametrize("name", ["envs", "experiments"])
def test_another_package_of_our_name_is_named_with_both_paths(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    for module in [m for m in sys.modules if m.partition(".")[0] == name]:
        monkeypatch.delitem(sys.modules, module)
    sentence = f"another package called {name} is in the way: {tmp_path / name} is found before {ROOT / name}, "
    with pytest.raises(ImportError) as caught:
        neighbours.refuse_strangers()
    assert str(caught.value).startswith(sentence)


def test_a_folder_without_init_is_no_package_of_our_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "envs").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.delitem(sys.modules, "envs")
    neighbours.refuse_strangers()


def test_a_command_line_says_what_is_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "envs").mkdir()
    (tmp_path / "envs" / "__init__.py").write_text("")
    run = program(str(ROOT / "experiments" / "run.py"), "--list", path=str(tmp_path))
    _, error = run.communicate(timeout=60)
    assert run.returncode == 2
    assert error.startswith(
        f"error: another package called envs is in the way: {tmp_path / 'envs'}"
    )
    assert error.count("\n") == 1


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_an_interrupt_while_it_imports_is_quiet(tmp_path: Path) -> None:
    """Another JAX says when the imports have come that far, and takes a while."""
    (tmp_path / "jax.py").write_text(
        "import pathlib, time\npathlib.Path(__file__ + '.begun').write_text('')\ntime.sleep(60)\n"
    )
    # Whoever started the tests in the background may have had it ignored, and a child inherits that.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    run = program(str(ROOT / "experiments" / "run.py"), "--list", path=str(tmp_path))
    signal.signal(signal.SIGINT, before)
    while not (tmp_path / "jax.py.begun").exists() and run.poll() is None:
        time.sleep(0.01)
    run.send_signal(signal.SIGINT)
    assert run.communicate(timeout=60) == ("", "interrupted\n")
    assert run.returncode == 130


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_second_interrupt_does_not_wait_for_the_chunk() -> None:
    """A chunk is in compiled code, where Python hears of no signal."""
    chunk_may_end = threading.Event()
    # Whoever started the tests in the background may have had it ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    with interrupts.stop_signals(Silent()) as stop:

        def interrupt() -> None:
            time.sleep(0.05)
            os.kill(os.getpid(), signal.SIGINT)
            stop.wait()
            time.sleep(0.05)
            os.kill(os.getpid(), signal.SIGINT)

        threading.Thread(target=interrupt).start()
        with pytest.raises(KeyboardInterrupt):
            interrupts.beside(chunk_may_end.wait)
        assert stop.is_set()
    signal.signal(signal.SIGINT, before)
    chunk_may_end.set()
    with pytest.raises(ZeroDivisionError):
        interrupts.beside(lambda: 1 / 0)
    assert interrupts.beside(lambda x: x + 1, 2) == 3


def test_a_background_job_ends_at_the_second_signal() -> None:
    """Shells start background jobs so that they ignore Ctrl-C; the first signal is heeded all the same."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interrupts.stop_signals(Silent()) as stop:
            signal.raise_signal(signal.SIGINT)
            assert stop.is_set()
            assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_the_main_thread_works_while_a_program_runs() -> None:
    """What it raises waits for the program's end."""
    begun, ended = threading.Event(), threading.Event()

    def program() -> int:
        begun.wait()
        return 3

    assert interrupts.beside(program, meanwhile=begun.set) == 3

    def last() -> None:
        time.sleep(0.05)
        ended.set()

    with pytest.raises(ZeroDivisionError):
        interrupts.beside(last, meanwhile=lambda: print(1 / 0))
    assert ended.is_set()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks on this system")
def test_a_forked_process_gets_a_sentence() -> None:
    code = """
import envs, os, warnings
warnings.simplefilter("ignore")
if os.fork() == 0:
    try:
        envs.make("turn")
    except envs.ConfigurationError as error:
        print(error, flush=True)
    os._exit(0)
os.wait()
print(envs.make("turn").num_agents)
"""
    out, error = program(code=code).communicate(timeout=60)
    assert out.splitlines() == [
        "this process was forked from one in which JAX had started, and would hang; workers must be started by "
        "multiprocessing.get_context('spawn').",
        "2",
    ], error


@pytest.mark.slow
def test_an_interrupted_chunk_of_a_command_ends_at_once(tmp_path: Path) -> None:
    """One chunk of an hour; what was saved before is whole."""
    out = tmp_path / "run"
    small = "--seeds 1 --total-steps 100000000 --eval-interval 100000000 --method.num-envs 2"
    run = program(
        str(ROOT / "experiments" / "run.py"),
        *f"--method iac --env turn --out {out} {small}".split(),
    )
    assert run.stdout is not None
    while "compiled in" not in run.stdout.readline():
        assert run.poll() is None
    time.sleep(2)
    run.send_signal(signal.SIGINT)
    while "once more to stop at once" not in run.stdout.readline():
        assert run.poll() is None
    began = time.monotonic()
    run.send_signal(signal.SIGINT)
    assert run.communicate(timeout=60)[1] == "interrupted\n"
    assert run.returncode == 130
    assert time.monotonic() - began < 20
    assert loading.load_policy(out).env_steps == 0
