"""Cores by affinity and by quota, threads that follow from them, the sentence where they are too many."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from monai_tpseg.cores import cores, crowded, let_threads_sleep, reading_processes, threads

BOUND = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
needs_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="control groups are Linux's")


def tree(root: Path, files: dict[str, str]) -> Path:
    """A file system of these files."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.fixture
def roomy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that may run on 64 cores, and an environment that says nothing."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)


@needs_linux
@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 64),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, 64),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "200000 100000\n"}, 2),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "150000 100000\n"}, 2),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "10000 100000\n"}, 1),
        (  # a service of systemd: the quota is that of its slice
            {"proc/self/cgroup": "0::/a.slice/b.service\n", "sys/fs/cgroup/a.slice/cpu.max": "300000 100000\n"},
            3,
        ),
        (  # version 1, as seen inside of a container
            {
                "proc/self/cgroup": "4:memory:/x\n3:cpu,cpuacct:/docker/0815\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "400000\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            },
            4,
        ),
        (  # version 1, a group below the top one
            {
                "proc/self/cgroup": "1:cpu:/job/7\n0::/\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
                "sys/fs/cgroup/cpu/job/7/cpu.cfs_quota_us": "50000\n",
                "sys/fs/cgroup/cpu/job/7/cpu.cfs_period_us": "25000\n",
            },
            2,
        ),
        ({"proc/self/cgroup": "1:cpuset:/\n", "sys/fs/cgroup/cpuset/cpu.max": "100000 100000\n"}, 64),
    ],
)
@pytest.mark.usefixtures("roomy")
def test_the_quota_of_a_control_group_counts(files: dict[str, str], expected: int, tmp_path: Path) -> None:
    assert cores(tree(tmp_path, files)) == expected


@pytest.mark.usefixtures("roomy")
def test_threads_obey_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    free = threads()
    assert free == cores()
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert threads() == max(1, free // 2)
    for said, expected in (("3", 3), ("5,2", 5), ("0", max(1, free // 2)), ("many", max(1, free // 2))):
        monkeypatch.setenv("OMP_NUM_THREADS", said)
        assert threads() == expected


@pytest.mark.parametrize(("usable", "expected"), [(1, 1), (2, 1), (4, 2), (64, 4)])
def test_readers_take_half_of_the_cores(usable: int, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monai_tpseg.cores.cores", lambda: usable)
    assert reading_processes() == expected


def test_a_crowded_machine_is_named_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monai_tpseg.cores.cores", lambda: 2)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(os, "getloadavg", lambda: (0.3, 0.0, 0.0), raising=False)
    assert crowded(2) == ""
    assert crowded(8) == "8 threads share 2 cores, and wait for each other: set OMP_NUM_THREADS=2."
    monkeypatch.setattr(os, "getloadavg", lambda: (7.2, 0.0, 0.0), raising=False)
    assert "load 7.2 on 2 cores" in crowded(2)
    assert crowded(1) == ""


@pytest.mark.skipif(shutil.which("taskset") is None, reason="needs taskset")
def test_a_process_bound_to_one_core_has_one_thread_and_one_reader() -> None:
    code = (
        "import torch; torch.set_num_threads(8);"
        "from monai_tpseg.cores import *; print(cores(), threads(), fit_threads(), reading_processes());"
        "from monai_tpseg.data.facts import default_workers; print(default_workers(), torch.get_num_threads())"
    )
    free = {key: value for key, value in os.environ.items() if key not in ("OMP_NUM_THREADS", "LOCAL_WORLD_SIZE")}
    first = str(min(os.sched_getaffinity(0)))

    def said(environment: dict[str, str]) -> list[str]:
        words = ["taskset", "-c", first, sys.executable, "-c", code]
        return subprocess.run(words, env=environment, capture_output=True, text=True, check=True).stdout.split()

    assert said(free) == ["1", "1", "1", "1", "1", "1"]
    assert said({**free, "OMP_NUM_THREADS": "2"}) == ["1", "2", "2", "1", "1", "2"]  # who asks for two gets two


@pytest.mark.parametrize(
    ("said", "expected"), [({}, "passive"), ({"OMP_WAIT_POLICY": "active"}, "active"), ({"GOMP_SPINCOUNT": "9"}, None)]
)
def test_threads_sleep_unless_the_environment_says_how_they_wait(
    said: dict[str, str], expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", said)
    let_threads_sleep()
    assert said.get("OMP_WAIT_POLICY") == expected


@needs_linux
def test_the_command_says_so_before_openmp_looks() -> None:
    code = "from monai_tpseg.cli import main; main(['run', 'nothing', '--task', 'none']); import torch"
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "GOMP_", "KMP_"))}
    environment["OMP_DISPLAY_ENV"] = "true"
    shown = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True).stderr
    assert "OMP_WAIT_POLICY = 'PASSIVE'" in shown
