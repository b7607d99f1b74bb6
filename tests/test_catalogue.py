"""The catalogue of tasks and the one place where names become rows."""

from __future__ import annotations

from pathlib import Path

import pytest

from monai_tpseg.catalogue import (
    CATEGORY,
    TASK_NAMES,
    TASKS,
    Modality,
    check_new_name,
    get_task,
    match_task,
    resolve_task,
    task_names,
)


def test_catalogue_names_eight_tasks_over_seven_modalities() -> None:
    assert len(TASKS) == len(set(TASK_NAMES)) == 8
    assert {task.modality for task in TASKS} == set(Modality)


def test_codes_are_known_to_pydicom() -> None:
    from pydicom.sr.codedict import codes

    entries = (getattr(codes.SCT, name) for name in dir(codes.SCT))
    values = {str(entry.value) for entry in entries if hasattr(entry, "value")}
    for code in (CATEGORY, *(code for task in TASKS for code in (task.lesion, task.anatomy))):
        assert code.value in values, code.meaning


@pytest.mark.parametrize(("task", "row"), [("wet_amd", 0), ("skin_lesion", 7), (3, 3), ("3", 3)])
def test_names_and_rows(task: str | int, row: int) -> None:
    assert resolve_task(task) == row


@pytest.mark.parametrize("task", ["lung", 8, -1, "", "1.5", None, True])
def test_unknown_tasks_list_the_choices(task: object) -> None:
    with pytest.raises(ValueError, match=r"choose one of wet_amd, .*, skin_lesion"):
        resolve_task(task)  # type: ignore[arg-type]


def test_unknown_name() -> None:
    with pytest.raises(ValueError, match="Unknown task 'lung'; choose one of"):
        get_task("lung")


@pytest.mark.parametrize("typo", ["skin_leson", "Skin-Leson", "skinlesion", "skin_lesions", "skin_lesoin"])
def test_a_typo_of_a_known_task_is_no_new_task(typo: str) -> None:
    with pytest.raises(ValueError, match=r"did you mean skin_lesion\? If it is a new task, add --x"):
        check_new_name(typo, confirm="add --x")
    with pytest.raises(ValueError, match=r"did you mean skin_lesion\? Choose one of wet_amd, "):
        resolve_task(match_task(typo))


@pytest.mark.parametrize("name", ["liver_lesion", "kidney_lesion", "dry_amd", "gastric_polyp", "lung_nodule"])
def test_new_names_of_tasks_are_taken(name: str) -> None:
    assert check_new_name(f" {name.upper()}".lower()) == name


@pytest.mark.parametrize("names", [[], ["a", "a"]])
def test_lists_of_names_are_checked(names: list[str]) -> None:
    with pytest.raises(ValueError, match="without duplicates"):
        task_names(names)


def test_abbreviated_modalities_are_written_in_capitals() -> None:
    """As in the README's table, whose tasks and modalities are those of the catalogue."""
    readme = (Path(__file__).resolve().parents[1] / "README.md").read_text()
    for task in TASKS:
        assert f"| `{task.name}` | {task.modality.display_name} |" in readme
