"""Several tasks on one source: read once, segmented at once, and each result as that of a run for its task alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from monai_tpseg.catalogue import TASK_NAMES
from monai_tpseg.cli import main
from monai_tpseg.networks.fast.inference_network import InferenceNetwork
from monai_tpseg.networks.weights_info import read_info, save_weights
from monai_tpseg.results.case_files import write_segmented
from monai_tpseg.segment import Segmentation
from monai_tpseg.studies import Entry, Limits, Model, Run, find_entries, prepare_output
from monai_tpseg.studies.case import CaseOutcome, CaseRunner
from monai_tpseg.studies.joint_tasks import finish_group, group_by_source, group_plans
from monai_tpseg.studies.manifest import new_salt, shard_of
from monai_tpseg.studies.on_ray import Job, Worker
from monai_tpseg.studies.reading import Read, Reader
from monai_tpseg.transforms.transfer import load_case

from .conftest import MARKER, write_weights

ULTRASOUND, VOLUME = f"{MARKER}_thyroid_nodule.dcm", f"{MARKER}_mr.nii.gz"
BOTH = ("thyroid_nodule", "breast_lesion")


@pytest.fixture(scope="module")
def hard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights with hard gates: the network runs in its fast form."""
    path = write_weights(tmp_path_factory.mktemp("weights") / "soft.pt")
    state = torch.load(path, weights_only=True)
    state["encoder.gate.hard"].fill_(True)
    save_weights(path.with_name("hard.pt"), state, read_info(path))
    return path.with_name("hard.pt")


def tasks_of(source: Path, *tasks: str, salt: str = "5a" * 16) -> list[Entry]:
    (entry,) = find_entries(source, tasks[0], salt)
    return [replace(entry, task=task) for task in tasks]


def files(out: Path, task: str) -> dict[str, bytes]:
    """What a run wrote for a task, by what a file is; without the record, which holds the name of the case."""
    found = (path for path in out.glob("cases/*/*") if f"_{task}_" in path.name or path.name == "lesions.csv")
    own = [path for path in found if json.loads((path.parent / "result.json").read_text())["task"] == task]
    return {path.name.split(f"_{task}_")[-1]: path.read_bytes() for path in own if not path.name.endswith("seg.dcm")}


def record(out: Path, task: str) -> dict[str, Any]:
    every = (json.loads(path.read_text()) for path in out.glob("cases/*/result.json"))
    return next(one for one in every if one["task"] == task)


def segment_here(model: Model, out: Path, entries: list[Entry], resume: bool = False) -> list[CaseOutcome]:
    """What `Run` does, with the sources read in this process."""
    runner = CaseRunner(model, out, resume)
    plans = [runner.planner.plan(name, entry) for name, entry in prepare_output(out, entries, "salted", resume)]
    ended = []
    for group in group_plans(plans, runner):
        source = group[0].source
        ended += finish_group(runner, group, None if source is None else Read(load_case(source), None))
    return ended


@pytest.mark.parametrize("name", [ULTRASOUND, VOLUME])
def test_each_task_gets_the_bytes_of_a_run_of_its_own(
    hard: Path, corpus: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Model(hard, "cpu")
    assert isinstance(model.network, InferenceNetwork)
    calls: list[int] = []
    plain = model.network.segment_tasks
    monkeypatch.setattr(model.network, "segment_tasks", lambda x, rows: calls.append(len(rows)) or plain(x, rows))
    entries = tasks_of(corpus / name, *BOTH)
    segment_here(model, tmp_path / "both", entries)
    assert calls
    assert set(calls) == {2}
    for entry in entries:
        alone = tmp_path / entry.task
        segment_here(model, alone, [entry])
        one, other = files(tmp_path / "both", entry.task), files(alone, entry.task)
        assert set(one) >= {"mask.nii.gz" if name == VOLUME else "mask.png", "lesions.csv", "overlay.png"}
        assert one == other


def test_a_run_reads_their_source_once(
    hard: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[Any] = []
    ask = Reader.ask
    monkeypatch.setattr(Reader, "ask", lambda self, source: reads.append(source) or ask(self, source))
    entries = tasks_of(corpus / ULTRASOUND, *BOTH)
    counts = Run(Model(hard, "cpu"), tmp_path, quiet=True)(prepare_output(tmp_path, entries, "salted", False))
    assert sum(counts.values()) == 2
    assert len(reads) == 1


def test_tasks_of_another_modality_run_by_themselves(hard: Path, corpus: Path, tmp_path: Path) -> None:
    runner = CaseRunner(Model(hard, "cpu"), tmp_path)
    entries = tasks_of(corpus / ULTRASOUND, "breast_lesion", "lung_infection", "thyroid_nodule")
    names = ["a", "b", "c"]
    plans = [runner.planner.plan(name, entry) for name, entry in zip(names, entries, strict=True)]
    assert [len(group) for group in group_plans(plans, runner)] == [1, 1, 1]
    assert [len(group) for group in group_plans([plans[0], plans[2], plans[1]], runner)] == [2, 1]
    unknown = runner.planner.plan("d", replace(entries[0], task=""))
    assert [len(group) for group in group_plans([plans[0], unknown, plans[2]], runner)] == [1, 1, 1]
    with pytest.raises(ValueError, match="one modality, got breast_lesion, lung_infection"):
        runner.model.segment_tasks(torch.zeros(3, 32, 32), ["breast_lesion", "lung_infection"])  # type: ignore[arg-type]


def test_what_fails_for_one_task_leaves_the_other(
    hard: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(found: Segmentation, task: str, *more: Any) -> Any:
        if task == BOTH[0]:
            raise KeyError(task)
        return write_segmented(found, task, *more)

    monkeypatch.setattr("monai_tpseg.studies.case.write_segmented", write)
    entries = tasks_of(corpus / ULTRASOUND, *BOTH)
    segment_here(Model(hard, "cpu"), tmp_path, entries)
    assert record(tmp_path, BOTH[0])["code"] == "E_INTERNAL"
    assert record(tmp_path, BOTH[1])["status"] in ("ok", "ok_empty")


def test_a_network_that_fails_for_all_at_once_is_asked_one_by_one_and_resume_keeps_each(
    hard: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*args: Any) -> Any:
        raise RuntimeError("out of memory")

    model = Model(hard, "cpu")
    entries = tasks_of(corpus / ULTRASOUND, *BOTH)
    with monkeypatch.context() as patch:
        patch.setattr(model, "segment_tasks", fail)
        patch.setattr(model, "segment_image", lambda image, task, batch: Model.segment_tasks(model, image, [task])[0])
        ended = segment_here(model, tmp_path, entries)
    assert {one.outcome.status.value for one in ended} <= {"ok", "ok_empty"}
    assert f"{', '.join(BOTH)} do not run together (RuntimeError); each runs separately." in caplog.messages
    more = tasks_of(corpus / ULTRASOUND, *BOTH, "skin_lesion")
    assert [one.kept for one in segment_here(model, tmp_path, more, resume=True)] == [True, True, False]
    more[1] = replace(more[1], task="colon_polyp")
    assert [one.kept for one in segment_here(model, tmp_path, more, resume=True)] == [True, False, True]


def test_no_shard_and_no_worker_parts_the_tasks_of_a_source(hard: Path, corpus: Path, tmp_path: Path) -> None:
    salt = new_salt()
    entries = [*tasks_of(corpus / ULTRASOUND, *BOTH, salt=salt), *tasks_of(corpus / VOLUME, "brain_tumor", salt=salt)]
    entries = [replace(entry, root=corpus) for entry in entries]
    cases = prepare_output(tmp_path, entries, "salted", False)
    groups = group_by_source(cases)
    assert [len(group) for group in groups] == [2, 1]
    assert [len(group) for i in (1, 2) for group in shard_of(groups, f"{i}/2")] == [2, 1]
    worker = Worker(Job(hard, tmp_path, "cpu", limits=Limits(readers=1)), threads=1)
    assert worker.ready() == ""
    ended = [
        one for group, following in zip(groups, [groups[1], ()], strict=True) for one in worker.take(group, following)
    ]  # type: ignore[union-attr]
    assert [one.name for one in ended] == [name for name, _ in cases]
    assert {one.outcome.status.value for one in ended} <= {"ok", "ok_empty"}
    again = worker.lost(groups[0], "E_CRASH")
    assert [one.kept for one in again] == [False, False]  # type: ignore[union-attr]
    assert record(tmp_path, BOTH[0])["status"] != "failed"  # it was complete when its worker died
    worker._reader.close()


def test_the_command_takes_several_tasks(
    hard: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = ["run", str(corpus / ULTRASOUND), "--checkpoint", str(hard), "--device", "cpu", "--quiet"]
    assert main([*run, "--out", str(tmp_path / "out"), "--tasks", "thyroid_nodule, breast_lesion"]) == 0
    assert {record(tmp_path / "out", task)["task"] for task in BOTH} == set(BOTH)
    for wrong, message in {
        ("--tasks", "wet_amd,wet_amd"): "--tasks contains a task twice",
        ("--tasks", "wet_amd", "--task", "wet_amd"): "Give --task or --tasks, not both",
        ("--tasks", "wet_amd,liver"): f"do not know liver; choose one of {', '.join(TASK_NAMES)}",
        ("--tasks", ","): "There is no default task",
    }.items():
        assert main([*run, "--out", str(tmp_path / "other"), *wrong]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "other").exists()
