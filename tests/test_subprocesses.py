"""A call in another process: its result, its exception, or why it was lost; the next call works all the same."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from monai_tpseg.subprocesses import CallLost, ChildProcess, NoProcessError, warm_up
from monai_tpseg.transforms.transfer import READ

HERE = f"{__name__}:act"
MIB = 2**20


def act(what: str, number: int = 0) -> Any:
    """What the tests ask for; it runs in the other process."""
    if what == "abort":
        os.abort()
    elif what == "exit":
        os._exit(0)
    elif what == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    elif what == "hang":
        time.sleep(100)
    elif what == "raise":
        raise ValueError("as it was raised")
    elif what == "eat":
        return int(np.ones(number, dtype=np.uint8).sum())
    elif what == "print":
        os.write(1, b"a name")
        os.write(2, b"a path")
    elif what == "arrays":
        return [np.arange(number, dtype=np.float32), "text", np.ones((2, 3))]
    return os.getpid()


@pytest.fixture(scope="module", autouse=True)
def _server() -> None:
    """The server imports one module before it forks; other tests of this session need this one."""
    warm_up(READ)


@pytest.fixture
def apart() -> Iterator[ChildProcess]:
    """A process with 256 MiB for a call."""
    process = ChildProcess(HERE, 60.0, 256 * MIB)
    yield process
    process.close()


def ask(process: ChildProcess, *arguments: Any) -> Any:
    process.send(*arguments)
    return process.receive().value


def test_results_and_exceptions_come_back(apart: ChildProcess) -> None:
    values, text, ones = ask(apart, "arrays", 2**25)  # 128 MiB: more than one message
    assert text == "text"
    assert np.array_equal(values, np.arange(2**25, dtype=np.float32))
    values[0] = 5  # writable: it is the caller's own
    assert np.array_equal(ones, np.ones((2, 3)))
    with pytest.raises(ValueError, match="as it was raised"):
        ask(apart, "raise")


def test_calls_share_a_process_that_is_not_this_one(apart: ChildProcess) -> None:
    first, second = ask(apart, "pid"), ask(apart, "pid")
    assert first == second != os.getpid()


@pytest.mark.parametrize(("what", "reason"), [("abort", "crash"), ("exit", "crash"), ("killed", "memory")])
def test_what_ends_the_process_costs_one_call(apart: ChildProcess, what: str, reason: str) -> None:
    before = ask(apart, "pid")
    with pytest.raises(CallLost) as caught:
        ask(apart, what)
    assert caught.value.reason == reason
    assert ask(apart, "pid") != before


def test_a_hang_costs_one_call() -> None:
    process = ChildProcess(HERE, 0.5, 0)
    process.send("hang")
    with pytest.raises(CallLost) as caught:
        process.receive()
    assert caught.value.reason == "timeout"
    process.seconds = 60.0  # for the process that takes its place
    assert ask(process, "pid")
    process.close()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux keeps the limit")
def test_memory_is_bounded_and_given_back(apart: ChildProcess) -> None:
    before = resource.getrlimit(resource.RLIMIT_AS)
    with pytest.raises(MemoryError):
        ask(apart, "eat", 512 * MIB)
    assert ask(apart, "eat", 64 * MIB) == 64 * MIB
    assert resource.getrlimit(resource.RLIMIT_AS) == before


def test_nothing_that_it_prints_is_shown(apart: ChildProcess, capfd: pytest.CaptureFixture[str]) -> None:
    ask(apart, "print")
    assert capfd.readouterr() == ("", "")


def test_no_process_is_left_behind(apart: ChildProcess) -> None:
    process = ask(apart, "pid")
    apart.send("hang")
    apart.close()
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


def test_a_stop_while_a_process_is_started_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(process: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(BaseProcess, "start", stopped)
    process = ChildProcess(HERE, 60.0, 256 * MIB)
    with pytest.raises(KeyboardInterrupt):
        process.send("pid")
    process.close()


def test_a_function_that_is_not_there_is_said_at_once() -> None:
    process = ChildProcess("tests.test_subprocesses:absent", 1.0, 0)
    process.send()
    with pytest.raises(NoProcessError, match="absent could not be started"):
        process.receive()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux keeps the limit")
def test_a_limit_of_the_user_that_is_lower_holds() -> None:
    code = """
import resource
from monai_tpseg.subprocesses import _limit
resource.setrlimit(resource.RLIMIT_AS, (2**36, 2**36))
_limit(2**40)
assert resource.getrlimit(resource.RLIMIT_AS) == (2**36, 2**36)
_limit(2**30)
assert resource.getrlimit(resource.RLIMIT_AS)[0] < 2**35
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_program_without_a_guard_is_not_run_once_more(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(
        "from monai_tpseg.subprocesses import ChildProcess\n"
        "print('begun', flush=True)\n"
        "process = ChildProcess('os:getpid', 60.0, 0)\n"
        "process.send()\n"
        "print(process.receive().value > 0)\n"
        "process.close()\n"
    )
    done = subprocess.run([sys.executable, tmp_path / "program.py"], capture_output=True, text=True, check=True)
    assert done.stdout == "begun\nTrue\n"
