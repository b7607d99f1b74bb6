"""A run on a local Ray cluster: every case once, also when a worker dies in the middle of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

from monai_tpseg.cli import main
from monai_tpseg.results import StudyError
from monai_tpseg.results.codes import DeviceLostError
from monai_tpseg.studies import Model, Run, find_entries, known_salt, prepare_output, read_manifest
from monai_tpseg.studies.case import CaseOutcome
from monai_tpseg.studies.events import Events
from monai_tpseg.studies.on_ray import Cluster, Job, RayRun, Worker
from monai_tpseg.testing.phantoms import write_studies

COUNT = 20


def contents(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in out.glob("cases/**/*") if path.is_file()}


def worker_processes() -> list[int]:
    """Ids of the processes of this user that run our actor, by the title that Ray gives them."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                title = (folder / "cmdline").read_bytes()
            except OSError:
                continue
            if title.startswith(b"ray::Worker"):
                found.append(int(folder.name))
    return found


@pytest.mark.slow
def test_a_worker_that_is_killed_loses_nothing(
    weights: Path, model: Model, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_studies(tmp_path / "in", COUNT, size=40)
    out = tmp_path / "out"
    told: list[str] = []
    tell = Events.ended

    def ended(record: Events, case: CaseOutcome) -> None:
        tell(record, case)
        told.append(case.name)
        if len(told) == 3:  # while both workers have cases left
            os.kill(worker_processes()[0], signal.SIGKILL)

    monkeypatch.setattr(Events, "ended", ended)
    entries = read_manifest(tmp_path / "in" / "manifest.csv")
    cases = prepare_output(out, entries, "salted", False)
    counts = RayRun(Job(weights, out, "cpu"), Cluster(workers=2), quiet=True)(cases)
    monkeypatch.undo()
    assert len(told) == COUNT
    said = capfd.readouterr()
    assert str(tmp_path) not in said.out + said.err  # what Ray tells of its workers names no source
    assert sum(counts.values()) == COUNT
    assert len(list((out / "cases").iterdir())) == COUNT
    events = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
    assert Counter(event["case"] for event in events if event["event"] == "case") == Counter(name for name, _ in cases)
    assert events[-1]["complete"]

    here = tmp_path / "here"
    Run(model, here, quiet=True)(prepare_output(here, entries, "salted", False))
    assert contents(out) == contents(here)
    assert known_salt(out) == known_salt(here)


def head_of(process: int) -> int:
    """Id of the head of the cluster that a process has started."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                program = (folder / "cmdline").read_bytes().split(b"\0")[0]
            except OSError:
                continue
            if parent == process and program.endswith(b"gcs_server"):
                return int(folder.name)
    raise AssertionError("no head of a cluster")


@pytest.mark.slow
def test_where_the_head_dies_the_run_ends_and_goes_on_with_resume(weights: Path, model: Model, tmp_path: Path) -> None:
    write_studies(tmp_path / "in", 8, size=40)
    out, log = tmp_path / "out", tmp_path / "out" / "events.jsonl"
    command = [
        "run",
        "--data",
        str(tmp_path / "in" / "manifest.csv"),
        "--out",
        str(out),
        "--checkpoint",
        str(weights),
    ]
    environment = {**os.environ, "RAY_gcs_rpc_server_reconnect_timeout_s": "5"}  # Ray's own patience is a minute
    on_ray = [sys.executable, "-m", "monai_tpseg", *command, "--engine", "ray", "--workers", "1", "--device", "cpu"]
    with subprocess.Popen(on_ray, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        while not (log.exists() and '"event": "case"' in log.read_text()):
            assert process.poll() is None
            time.sleep(0.1)
        os.kill(head_of(process.pid), signal.SIGKILL)
        process.communicate(timeout=300)
    assert process.returncode not in (0, 3)
    before = {path.name for path in out.glob("cases/[!.]*")}
    assert before  # the worker may have gone on while nobody missed the head
    main([*command, "--resume", "--device", "cpu", "--quiet"])
    events = [json.loads(line) for line in log.read_text().splitlines()]
    kept = {event["case"] for event in events if event["event"] == "case" and event["kept"]}
    assert kept == before
    entries = read_manifest(out / "manifest.csv")
    here = tmp_path / "here"
    Run(model, here, quiet=True)(prepare_output(here, entries, "salted", False))
    assert contents(out) == contents(here)


@pytest.mark.parametrize(
    ("resources", "workers", "device", "count", "each"),
    [
        ({"CPU": 16.0}, 0, None, 4, {"num_cpus": 4, "num_gpus": 0.0}),
        ({"CPU": 2.0}, 2, "cpu", 2, {"num_cpus": 1, "num_gpus": 0.0}),
        ({"CPU": 16.0, "GPU": 4.0}, 0, None, 4, {"num_cpus": 4, "num_gpus": 1.0}),
        ({"CPU": 16.0, "GPU": 4.0}, 0, "cpu", 4, {"num_cpus": 4, "num_gpus": 0.0}),
    ],
)
def test_each_worker_gets_its_share(
    resources: dict[str, float], workers: int, device: str | None, count: int, each: dict[str, float]
) -> None:
    assert Cluster(workers=workers).share(resources, device) == (count, each)


def test_more_workers_than_the_cluster_can_hold_are_refused() -> None:
    with pytest.raises(StudyError, match="--workers 3 needs as many CPUs, the cluster has 2"):
        Cluster(workers=3).share({"CPU": 2.0}, None)
    with pytest.raises(StudyError, match="GPUs, the cluster has 0"):
        Cluster().share({"CPU": 2.0}, "cuda")


def test_a_worker_whose_device_is_lost_starts_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    class Lost:
        def plan(self, *case: object) -> None:
            raise DeviceLostError("Device 'cuda' does not answer any more.")

    def leave(status: int) -> None:
        raise SystemExit(status)

    worker = object.__new__(Worker)
    worker.runner, worker._ahead = SimpleNamespace(planner=Lost()), {}  # type: ignore[assignment]
    monkeypatch.setattr(os, "_exit", leave)
    with pytest.raises(SystemExit, match="1"):
        worker.take((("a", find_entries(__file__, "skin_lesion")[0]),), ())


def test_without_ray_one_line_names_the_extra(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    write_studies(tmp_path / "in", 1, size=32)
    run = ["run", str(tmp_path / "in"), "--task", "lung_infection", "--out", str(tmp_path / "out")]
    assert main([*run, "--checkpoint", str(weights), "--engine", "ray"]) == 1
    error = capsys.readouterr().err
    left_out, line = error.splitlines()
    assert left_out == "Left out: 1 csv."  # of the phantoms' own table
    assert "pip install -e '.[ray]'" in line
    assert not (tmp_path / "out").exists()
    assert find_entries(tmp_path / "in", "lung_infection")
