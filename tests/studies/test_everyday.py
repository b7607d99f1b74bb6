"""What people do on an ordinary day loses nothing: scan again, another task or input, OUT inside IN, twice at once."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from monai.transforms import Compose, Lambda

from monai_tpseg.cli import main
from monai_tpseg.files import complete
from monai_tpseg.results import StudyError
from monai_tpseg.results.codes import outcome_of
from monai_tpseg.results.folder import case_folder, decisions, sweep
from monai_tpseg.studies import Entry, Model, Reader, Run, find_entries, prepare_output, read_manifest, write_manifest
from monai_tpseg.studies import case as cases_module
from monai_tpseg.studies.case import CaseRunner
from monai_tpseg.studies.events import events
from monai_tpseg.studies.lock import locked
from monai_tpseg.studies.reading import Read
from monai_tpseg.testing.phantoms import make_phantom, write_png
from monai_tpseg.transforms.transfer import load_case
from tests.full_disc import largest_file


def pictures(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for n, name in enumerate(names):
        write_png(make_phantom("skin_lesion", n + len(str(folder)), 40).image, folder / name)
    return folder


def records(out: Path) -> dict[str, tuple[str, str, str]]:
    """Folder of a case -> its source's name, task and code."""
    rows = {row.case: row for row in read_manifest(out / "manifest.csv")}
    found = {path.parent.name: json.loads(path.read_text()) for path in out.glob("cases/*/result.json")}
    return {name: (rows[name].path, one["task"], one["code"]) for name, one in found.items()}


def contents(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in out.glob("cases/*/*") if path.is_file()}


def command(weights: Path, out: Path, *arguments: str) -> list[str]:
    return ["run", *arguments, "--out", str(out), "--checkpoint", str(weights), "--device", "cpu", "--readers", "1"]


def segment(model: Model, entries: list[Entry], out: Path, resume: bool = True) -> None:
    """Run cases with the sources read in this process."""
    runner = CaseRunner(model, out, resume)
    for name, entry in prepare_output(out, entries, "salted", resume):
        plan = runner.planner.plan(name, entry)
        runner.finish(plan, None if plan.source is None else Read(load_case(plan.source), None))


def test_a_scan_over_a_manifest_adds_what_is_new(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, manifest = pictures(tmp_path / "in", "a.png", "b.png"), tmp_path / "m.csv"
    assert main(["scan", str(folder), "--out", str(manifest)]) == 0
    assert "2 cases, 2 without a task" in capsys.readouterr().err
    rows = read_manifest(manifest)
    rows[0] = replace(rows[0], task="skin_lesion", note="looked at", extra_columns=(("site", "Bern"),))
    write_manifest(manifest, rows)
    pictures(folder, "c.png")
    (folder / "b.png").unlink()
    assert main(["scan", str(folder), "--out", str(manifest)]) == 0
    assert "3 cases, 1 new, 1 not found any more, 2 without a task" in capsys.readouterr().err
    merged = read_manifest(manifest)
    assert merged[:2] == rows
    assert (merged[2].path, merged[2].salt) == ("c.png", rows[0].salt)
    (tmp_path / "other.csv").write_text("name,age\nx,1\n")
    assert main(["scan", str(folder), "--out", str(tmp_path / "other.csv")]) == 1
    assert (tmp_path / "other.csv").read_text() == "name,age\nx,1\n"
    assert main(["scan", str(folder / "c.png"), "--out", str(tmp_path / "one.csv")]) == 0
    assert "one.csv: 1 case, " in capsys.readouterr().err


def test_a_second_task_and_a_second_input_leave_every_result_and_row(model: Model, tmp_path: Path) -> None:
    one, two, out = pictures(tmp_path / "1", "a.png"), pictures(tmp_path / "2", "a.png"), tmp_path / "out"
    salt = "c0" * 16
    segment(model, find_entries(one, "skin_lesion", salt), out)
    before, rows = contents(out), read_manifest(out / "manifest.csv")
    segment(model, find_entries(one, "colon_polyp", salt), out)
    segment(model, find_entries(two, "skin_lesion", salt), out)  # the same path in another folder
    after = contents(out)
    assert {name: after[name] for name in before} == before
    assert read_manifest(out / "manifest.csv")[:1] == rows
    assert sorted(task for _, task, _ in records(out).values()) == ["colon_polyp", "skin_lesion", "skin_lesion"]
    assert len({path.parent for path in out.glob("cases/*/*_mask.png")}) == 3
    (name,) = [case for case, (_, task, _) in records(out).items() if task == "colon_polyp"]
    assert (out / "cases" / name / f"{name}_mask.png").is_file()


def test_a_source_that_cannot_be_reached_costs_no_result(
    weights: Path, model: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A drive that is not mounted: the masks of an earlier run stay, and the run says that it is not complete."""
    folder, out = pictures(tmp_path / "in", "a.png", "b.png"), tmp_path / "out"
    run = [*command(weights, out, str(folder), "--task", "skin_lesion"), "--resume"]
    segment(model, find_entries(folder, "skin_lesion", "c0" * 16), out)
    (folder / "b.png").unlink()
    before = contents(out)
    write_manifest(tmp_path / "m.csv", [replace(row, case="") for row in read_manifest(out / "manifest.csv")])
    by_list = [*command(weights, out, "--data", str(tmp_path / "m.csv")), "--resume"]
    assert main(by_list) == 3
    said = capsys.readouterr().err
    assert "1 case with a result, but no readable source, stays as it is; check the paths." in said
    assert "1 failed, 1 ok" in said
    assert contents(out) == before
    assert '"code": "E_NOT_FOUND", "kept": true' in (out / "events.jsonl").read_text()
    assert main([*by_list, "--threshold", "0.4"]) == 3  # not what these settings would give
    assert sorted(code for _, _, code in records(out).values()) == ["", "E_NOT_FOUND"]
    assert main(run) == 0


def test_a_task_that_is_filled_in_takes_the_place_of_the_skipped_case(model: Model, tmp_path: Path) -> None:
    folder, out = pictures(tmp_path / "in", "a.png", "b.png"), tmp_path / "out"
    (a, b), salt = find_entries(folder, "", "c0" * 16), "c0" * 16
    segment(model, [a, replace(b, task="skin leison")], out)
    assert sorted(code for _, _, code in records(out).values()) == ["E_TASK", "S_NO_TASK"]
    assert not any("leison" in name for name in records(out))
    segment(model, [replace(a, task="skin_lesion"), replace(b, task="skin_lesion")], out)
    assert {(path, code) for path, _, code in records(out).values()} == {("a.png", ""), ("b.png", "")}
    assert len(records(out)) == len(read_manifest(out / "manifest.csv")) == 2
    assert salt == read_manifest(out / "manifest.csv")[0].salt


def test_results_inside_of_the_input_are_never_taken_for_input(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = pictures(tmp_path / "in", "a.png")
    run = command(weights, folder / "results", str(folder), "--task", " Skin_Lesion ")
    assert main(run) == 0
    assert f"1 ok_empty. Next: tpseg report {folder / 'results'}" in capsys.readouterr().err.replace(
        "1 ok.", "1 ok_empty."
    )
    assert main([*run, "--resume"]) == 0
    assert len(records(folder / "results")) == 1
    assert [entry.path for entry in find_entries(folder)] == ["a.png"]
    assert main(command(weights, folder, str(folder), "--task", "skin_lesion")) == 2
    assert f"'{folder}' is both IN and --out" in capsys.readouterr().err
    inner = pictures(tmp_path / "project" / "scans", "b.png")
    assert [e.path for e in find_entries(inner, leave_out=inner.parent)] == ["b.png"]


@contextmanager
def another(out: Path, shard: str = "") -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock of an output folder."""
    code = (
        "import sys\nfrom monai_tpseg.studies.lock import locked\n"
        "with locked(*sys.argv[1:]):\n print(1, flush=True)\n input()"
    )
    arguments = [sys.executable, "-c", code, str(out), shard]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()


def test_a_second_run_into_one_folder_is_told_at_once(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = pictures(tmp_path / "in", "a.png"), tmp_path / "out"
    with another(out) as first:
        assert main(command(weights, out, str(folder), "--task", "skin_lesion")) == 1
        assert capsys.readouterr().err == (
            f"Error: Another run is writing to '{out}'; wait until it ends, or choose another --out.\n"
        )
        with pytest.raises(StudyError, match="Another run"), locked(out, "1/2"):
            pass
        first.kill()  # the system gives the lock of a killed process back
        first.wait()
        with locked(out):
            pass
    with another(out, "1/2"):
        with locked(out, "2/2"):
            pass
        for shard in ("", "1/2", "1/3"):
            with pytest.raises(StudyError, match="Another run"), locked(out, shard):
                pass
    with locked(tmp_path / "new" / "out"):
        pass
    assert not (tmp_path / "new").exists()


def test_whatever_writing_a_case_raises_stays_with_the_case(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries, out = find_entries(pictures(tmp_path / "in", "a.png", "b.png"), "skin_lesion"), tmp_path / "out"
    plain = cases_module.write_segmented
    wrong: list[Any] = [float("nan"), {1, 2}, RecursionError(), OSError(36, "File name too long")]

    def write(*arguments: Any) -> Any:
        outcome, more = plain(*arguments)
        if first not in str(arguments[2]):
            return outcome, more
        if isinstance(what, Exception):
            raise what
        return outcome, {**more, "decisions": {"spacing": what}}

    monkeypatch.setattr(cases_module, "write_segmented", write)
    first = prepare_output(out, entries, "salted", True)[0][1].source_id
    for what in wrong:
        segment(model, entries, out)
        codes = {path: code for path, _, code in records(out).values()}
        assert codes["a.png"] in ("E_INTERNAL", "E_WRITE"), what
        assert codes["b.png"] == ""
    monkeypatch.undo()
    segment(model, entries, out)
    assert {code for _, _, code in records(out).values()} == {""}


def test_numbers_that_are_none_are_null_in_a_record() -> None:
    made = decisions({"spacing": np.array([[np.nan, np.inf], [0.5, -np.inf]]), "inverted": np.bool_(True)})
    assert made == {"spacing": [[None, None], [0.5, None]], "inverted": True}


def test_a_source_that_changes_while_it_is_read_fails_and_is_read_again(model: Model, tmp_path: Path) -> None:
    folder, out = pictures(tmp_path / "in", "a.png"), tmp_path / "out"
    entries = find_entries(folder, "skin_lesion")
    runner = CaseRunner(model, out, True)
    ((name, entry),) = prepare_output(out, entries, "salted", False)
    plan = runner.planner.plan(name, entry)
    assert plan.source is not None
    read = Read(load_case(plan.source), None)
    write_png(make_phantom("skin_lesion", 99, 48).image, folder / "a.png")
    assert runner.finish(plan, read).outcome.code == "E_CHANGED"
    segment(model, entries, out)
    assert [code for _, _, code in records(out).values()] == [""]


def test_a_killed_run_leaves_the_result_that_it_was_about_to_replace(tmp_path: Path) -> None:
    (tmp_path / ".old-1-of-2-abcd1234-case_a-b").mkdir()
    (tmp_path / ".new-1-of-2-abcd1234-case_a-b").mkdir()
    (tmp_path / ".new-all-abcd1234-x").mkdir()
    sweep(tmp_path, "1-of-2")
    assert {path.name for path in tmp_path.iterdir()} == {"case_a-b", ".new-all-abcd1234-x"}


def test_temporary_names_differ_in_every_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 1)
    with complete(tmp_path / "a.png") as one, complete(tmp_path / "a.png") as two:
        assert one != two
        assert one.suffix == ".png"
        for part in (one, two):
            part.touch()
    with case_folder(tmp_path / "c", "all") as first, case_folder(tmp_path / "c", "all") as second:
        assert first != second
    with complete(tmp_path / ("\U0001d49c" * 60 + ".nii.gz")) as part:
        part.touch()


def test_a_full_disc_is_one_line_that_names_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither the temporary name nor the source of a copy, and nothing half written is left."""
    source = pictures(tmp_path / "in", "a.png") / "a.png"
    out = tmp_path / "out"
    out.mkdir()
    with largest_file(10):
        assert main(["scan", str(source.parent), "--out", str(out / "manifest.csv")]) == 1
        with pytest.raises(OSError, match="too large") as caught, complete(out / "mask.png") as part:
            shutil.copyfile(source, part)
    line = f"Error: '{out / 'manifest.csv'}': File too large; free some space, then repeat the command."
    assert capsys.readouterr().err.splitlines()[-1] == line
    assert (caught.value.filename, caught.value.filename2) == (str(out / "mask.png"), None)
    assert list(out.iterdir()) == []


def test_results_whose_manifest_was_lost_are_not_mixed_with_others(tmp_path: Path) -> None:
    """A new salt would give the same sources other names: each case would be there twice."""
    entries = find_entries(pictures(tmp_path / "in", "a.png"), "skin_lesion")
    out = tmp_path / "out"
    ((name, _),) = prepare_output(out, entries, "salted", True)
    (out / "cases" / name).mkdir()
    (out / "manifest.csv").unlink()
    with pytest.raises(StudyError, match=r"manifest\.csv' is missing, so its cases have no sources"):
        prepare_output(out, entries, "salted", True)
    assert not (out / "manifest.csv").exists()


def test_runs_and_sessions_keep_apart(tmp_path: Path) -> None:
    entries = find_entries(pictures(tmp_path / "in", "a.png"), "skin_lesion")
    (tmp_path / "sessions").mkdir()
    with pytest.raises(StudyError, match="tpseg annotate"):
        prepare_output(tmp_path, entries, "salted", True)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "events.jsonl").touch()
    with pytest.raises(StudyError, match="tpseg run"):
        prepare_output(tmp_path / "run", entries, "salted", True, tasks=None)


def test_hostile_names_reach_neither_terminal_nor_table(
    model: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = "\U0001d49c" * 62
    names = [f"{long[:61]}.png", "=cmd()|x.png", "a\x1b[2J\x07.png", os.fsdecode(b"bad\xff.png")]
    folder, out = pictures(tmp_path / "in", *names), tmp_path / "out"
    entries = find_entries(folder, "skin_lesion")
    assert len(entries) == 4
    Run(model, out, quiet=True, reader=Reader())(prepare_output(out, entries, "source", False))
    found = records(out)
    assert sorted(path for path, _, _ in found.values()) == sorted(names)
    assert {code for _, _, code in found.values()} == {""}
    assert all(name.isprintable() and name[0] != "=" for name in found)
    for table in out.glob("cases/*/lesions.csv"):
        assert not any(cell.startswith(("=", "+", "@")) for cell in table.read_text().replace("\n", ",").split(","))
    assert main(["report", str(out)]) == 0
    assert (out / "report.html").read_text().count("<li data-status") == 4
    assert main(["scan", str(folder / "no\x1b[2J"), "--out", str(tmp_path / "m.csv")]) == 1
    said = capsys.readouterr().err
    assert "\x1b" not in said
    assert "no\\x1b[2J" in said


def test_the_package_is_the_command() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "monai_tpseg", "--version"], capture_output=True, text=True, check=True
    )
    assert shown.stdout.startswith("tpseg ")


@pytest.mark.parametrize("reason", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_memory_that_runs_out_in_a_transform_is_memory(reason: Exception) -> None:
    def fail(_: Any) -> None:
        raise reason

    with pytest.raises(RuntimeError, match="applying transform") as caught:
        Compose([Lambda(fail)])(0)
    assert outcome_of(caught.value).code == "E_MEMORY"
    assert outcome_of(RuntimeError("another")).code == "E_INTERNAL"


def test_links_lead_to_the_same_sources(tmp_path: Path) -> None:
    """One case, whatever way leads to it: a link to its folder, to itself, or a manifest of older versions."""
    real, out = pictures(tmp_path / "real", "a.png", "b.png"), tmp_path / "out"
    (tmp_path / "linked").symlink_to(real)
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "c.png").symlink_to(real / "a.png")
    first = prepare_output(out, find_entries(real, "skin_lesion"), "salted", True)
    assert len(first) == 2
    linked = find_entries(tmp_path / "linked", "skin_lesion")
    assert prepare_output(out, linked, "salted", True) == first
    named = find_entries(tmp_path / "links" / "c.png", "skin_lesion")
    assert [entry.source() for entry in named] == [real / "a.png"]  # named itself, it leads out of no folder
    assert prepare_output(out, named, "salted", True) == first[:1]
    rows = [replace(row, root=tmp_path / "linked") for row in read_manifest(out / "manifest.csv")]
    write_manifest(out / "manifest.csv", rows)
    assert [name for name, _ in prepare_output(out, linked, "salted", True)] == [name for name, _ in first]
    assert len(read_manifest(out / "manifest.csv")) == 2


def test_a_scan_through_a_link_finds_what_is_known(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    real, manifest = pictures(tmp_path / "real", "a.png", "b.png"), tmp_path / "m.csv"
    (tmp_path / "linked").symlink_to(real)
    assert main(["scan", str(real), "--out", str(manifest)]) == 0
    (real / "b.png").unlink()
    assert main(["scan", str(tmp_path / "linked"), "--out", str(manifest)]) == 0
    assert "2 cases, 0 new, 1 not found any more" in capsys.readouterr().err
    assert [row.path for row in read_manifest(manifest)] == ["a.png", "b.png"]


def test_a_deleted_root_is_told(tmp_path: Path) -> None:
    write_manifest(tmp_path / "m.csv", find_entries(pictures(tmp_path / "in", "a.png"), "skin_lesion"))
    lines = [line.split(",") for line in (tmp_path / "m.csv").read_text("utf-8-sig").splitlines()]
    place = lines[0].index("root")
    (tmp_path / "m.csv").write_text("\n".join(",".join(cells[:place] + cells[place + 1 :]) for cells in lines))
    with pytest.raises(StudyError, match=r"Line 2 .* has a salt and no root.*--root, or scan again"):
        read_manifest(tmp_path / "m.csv")
    assert read_manifest(tmp_path / "m.csv", root=tmp_path / "in")[0].source() == tmp_path / "in" / "a.png"


@pytest.mark.parametrize("before", ["", '{"event": "start"}\n', '{"event": "sta'])
def test_a_line_of_events_that_was_cut_does_not_take_the_next_one_with_it(before: str, tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text(before)
    with events(path, 1, quiet=True):
        pass
    lines = path.read_text().splitlines()
    there = len(before.splitlines())
    assert lines[:there] == before.splitlines()
    assert [json.loads(line)["event"] for line in lines[there:]] == ["start", "end"]
