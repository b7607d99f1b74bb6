"""The catalogue of tasks and the one place where names become rows."""

from __future__ import annotations

import pytest

from monai_tpseg.catalogue import CATEGORY, TASK_NAMES, TASKS, Modality, get_task, resolve_task, task_names


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


@pytest.mark.parametrize("names", [[], ["a", "a"]])
def test_lists_of_names_are_checked(names: list[str]) -> None:
    with pytest.raises(ValueError, match="without duplicates"):
        task_names(names)
