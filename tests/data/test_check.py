"""A datalist is checked before a training: what would break it, what would spoil it, and what is only worth knowing."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from monai_tpseg.cli import main
from monai_tpseg.data.check import check_datalist
from monai_tpseg.data.facts import CaseFacts, inspect_case, inspect_cases
from monai_tpseg.testing.phantoms import make_phantom, write_png

TASKS = ("wet_amd", "skin_lesion")


def entry(folder: Path, task: str, seed: int, **changes: Any) -> dict[str, Any]:
    """Write one phantom and return its entry."""
    phantom = make_phantom(task, seed, 40)
    write_png(phantom.image, folder / f"{task}_{seed}.png")
    write_png(phantom.label, folder / f"{task}_{seed}_label.png")
    return {"image": f"{task}_{seed}.png", "label": f"{task}_{seed}_label.png", "task": task, **changes}


def lists(folder: Path, training: int = 2, validation: int = 1) -> dict[str, list[dict[str, Any]]]:
    """Write a sound data set."""
    return {
        "training": [entry(folder, task, n) for task in TASKS for n in range(training)],
        "validation": [entry(folder, task, 50 + n) for task in TASKS for n in range(validation)],
    }


def checked(folder: Path, content: Any) -> tuple[int, set[tuple[str, str]]]:
    """Return the status of a check and the codes with their places."""
    (folder / "list.json").write_text(json.dumps(content))
    report = check_datalist(folder / "list.json", tasks=TASKS, workers=0)
    return report.status, {(finding.code, finding.where) for finding in report.findings}


def test_a_sound_list_has_no_findings(tmp_path: Path) -> None:
    assert checked(tmp_path, lists(tmp_path)) == (0, set())


def test_broken_entries_are_all_named_at_once(tmp_path: Path) -> None:
    content = lists(tmp_path, training=6)
    training = content["training"]
    for name, damage in (("cut", b"\x89PNG\r\n\x1a\n broken"), ("empty", b"")):
        (tmp_path / f"{name}.png").write_bytes(damage)
    Image.fromarray(np.full((40, 40), 7, np.uint8)).save(tmp_path / "seven.png")
    Image.fromarray(np.zeros((40, 41), np.uint8)).save(tmp_path / "wide.png")
    training[0]["image"] = "cut.png"
    training[1]["label"] = "empty.png"
    training[2]["label"] = "seven.png"
    training[3]["label"] = "wide.png"
    training[4]["label"] = "nowhere.png"
    training[5]["task"] = "lung"
    training[6] = "skin_lesion_0.png"  # type: ignore[call-overload]
    del training[7]["task"], training[8]["label"]
    status, found = checked(tmp_path, content)
    assert status == 1
    assert found == {
        ("E_FORMAT", "training[0]"),
        ("E_TRUNCATED", "training[1]"),
        ("E_LABEL_VALUES", "training[2]"),
        ("E_SHAPE_MISMATCH", "training[3]"),
        *(("D_ENTRY", f"training[{n}]") for n in range(4, 9)),
    }


def test_the_same_pixels_in_both_lists_are_found_under_another_name_and_format(tmp_path: Path) -> None:
    content = lists(tmp_path)
    Image.open(tmp_path / content["training"][0]["image"]).save(tmp_path / "other.bmp")
    content["validation"][0]["image"] = "other.bmp"
    status, found = checked(tmp_path, content)
    assert (status, found) == (3, {("D_LEAK", "validation[0]")})


def test_repetitions_and_contradictions_in_one_list(tmp_path: Path) -> None:
    content = lists(tmp_path)
    first = content["training"][0]
    content["training"] += [dict(first), {**first, "label": content["training"][1]["label"]}]
    both = make_phantom("skin_lesion", 0, 40)
    write_png(both.label, tmp_path / "both.png")
    content["training"].append({**content["training"][2], "task": "wet_amd"})  # one picture for two tasks is no error
    status, found = checked(tmp_path, content)
    assert (status, found) == (3, {("D_REPEATED", "training[4]"), ("D_CONTRADICTION", "training[5]")})


def test_what_a_task_lacks(tmp_path: Path) -> None:
    content = lists(tmp_path)
    one = [case for case in content["training"] if case["task"] == "skin_lesion"][:1]
    no_validation = {"training": content["training"], "validation": content["validation"][:1]}
    assert checked(tmp_path, no_validation) == (3, {("D_NO_VALIDATION", "skin_lesion")})
    assert checked(tmp_path, {**content, "training": content["training"][:2] + one}) == (
        3,
        {("D_ONE_PICTURE", "skin_lesion")},
    )
    assert checked(tmp_path, {**content, "training": one * 2}) == (
        3,
        {("D_NO_TRAINING", "wet_amd"), ("D_REPEATED", "training[1]")},
    )
    wet = {name: [case for case in part if case["task"] == "wet_amd"] for name, part in content.items()}
    assert checked(tmp_path, wet) == (0, {("D_ABSENT_TASK", "skin_lesion")})


def test_masks_without_lesion_are_counted_and_full_ones_suspected(tmp_path: Path) -> None:
    content = lists(tmp_path, training=3)
    for name, value in (("none", 0), ("all", 255)):
        Image.fromarray(np.full((40, 40), value, np.uint8)).save(tmp_path / f"{name}.png")
    content["training"][0]["label"], content["training"][1]["label"] = "none.png", "all.png"
    content["validation"][1]["label"] = "none.png"
    status, found = checked(tmp_path, content)
    assert status == 3
    assert found == {
        ("D_EMPTY_MASK", "training, wet_amd"),
        ("D_FULL_MASK", "training, wet_amd"),
        ("D_NO_LESION", "validation, skin_lesion"),
    }


def test_patients_in_both_lists(tmp_path: Path) -> None:
    content = lists(tmp_path)
    content["training"][0]["patient"] = content["validation"][0]["patient"] = "p1"
    content["training"][2]["patient"] = "p1"  # of the other task: other data, another patient
    assert checked(tmp_path, content) == (3, {("D_LEAK_PATIENT", "wet_amd")})


def test_volumes_are_for_validation_only(tmp_path: Path) -> None:
    from monai_tpseg.testing.phantoms import make_volume, write_nifti

    content = lists(tmp_path)
    image, label = write_nifti(make_volume("wet_amd", 3, shape=(32, 32, 6)), tmp_path / "volume.nii.gz")
    volume = {"image": image.name, "label": label.name, "task": "wet_amd"}
    assert checked(tmp_path, {**content, "validation": [*content["validation"], volume]}) == (0, set())
    assert checked(tmp_path, {**content, "training": [*content["training"], volume]}) == (
        1,
        {("D_VOLUME", "training[4]")},
    )


@pytest.mark.parametrize("lacking", [{}, {"training": []}, {"training": "a.png"}, {"testing": []}])
def test_lists_that_are_not_there(tmp_path: Path, lacking: dict[str, Any]) -> None:
    status, found = checked(tmp_path, lacking)
    assert status == 1
    assert {("D_LIST", "training"), ("D_LIST", "validation")} <= found


def test_workers_find_what_one_process_finds(tmp_path: Path) -> None:
    content = lists(tmp_path)
    (tmp_path / "cut.png").write_bytes(b"\x89PNG")
    pairs = [(str(tmp_path / c["image"]), str(tmp_path / c["label"])) for c in content["training"]]
    pairs += [(str(tmp_path / "cut.png"), None), pairs[0]]
    alone = inspect_cases(pairs)
    assert inspect_cases(pairs, workers=2) == alone
    assert alone[0] == alone[-1] == inspect_case(*pairs[0])
    assert alone[-2] == CaseFacts(code="E_FORMAT", message=alone[-2].message)
    label = np.asarray(Image.open(pairs[0][1] or "")) > 127
    assert alone[0].lesion == pytest.approx(label.mean())


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = lists(tmp_path)
    content["validation"].append(dict(content["validation"][0]))
    (tmp_path / "list.json").write_text(json.dumps(content))
    command = ["check", "--data", str(tmp_path / "list.json"), "--tasks", ",".join(TASKS), "--workers", "0"]
    assert main(command) == 3
    out, err = capsys.readouterr()
    assert err == ""
    assert "| wet_amd | 2 | 2 | 0 | 0 |" in out
    assert "errors: 0, warnings: 1, notes: 0" in out
    assert main([*command, "--json"]) == 3
    report = json.loads(capsys.readouterr().out)
    assert report["tasks"]["wet_amd"]["validation"] == 2
    assert [f["code"] for f in report["findings"]] == ["D_REPEATED"]
    (tmp_path / "moved").mkdir()
    os.rename(tmp_path / "list.json", tmp_path / "moved" / "list.json")
    command[2] = str(tmp_path / "moved" / "list.json")
    assert main(command) == 1
    assert main([*command, "--root", str(tmp_path)]) == 3
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("content", "words"),
    [("[", "is not JSON"), ("[]", "must hold an object"), ("[" * 100_000, "is not JSON"), (None, "No datalist at")],
)
def test_what_is_no_datalist(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None, words: str
) -> None:
    if content is not None:
        (tmp_path / "list.json").write_text(content)
    assert main(["check", "--data", str(tmp_path / "list.json")]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err
    assert err.startswith("Error: ")
    assert err.count("\n") == 1


def test_a_task_that_is_not_in_the_catalogue(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "list.json").write_text(json.dumps(lists(tmp_path)))
    assert main(["check", "--data", str(tmp_path / "list.json"), "--tasks", "wet_amd,lung"]) == 2
    assert "Unknown task 'lung'; choose one of wet_amd" in capsys.readouterr().err


def test_real_lesions(shared_dir: Path) -> None:
    content = json.loads((shared_dir / "data" / "lesions" / "datalist.json").read_text())
    few = {name: part[:: len(part) // 20] for name, part in content.items() if isinstance(part, list)}
    facts = inspect_cases(
        [tuple(str(shared_dir / "data" / "lesions" / case[k]) for k in ("image", "label")) for case in few["training"]]  # type: ignore[misc]
    )
    assert [fact.code for fact in facts] == [""] * len(facts)
    assert len({fact.image_hash for fact in facts}) == len(facts)
