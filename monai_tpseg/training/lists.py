"""From what a person has to the datalist of a training: pictures in `training`, and a part held out."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai_tpseg.catalogue import check_name, get_task
from monai_tpseg.data.datalists import Case, checked_entry, read_lists
from monai_tpseg.data.exemplar_files import find_pictures_and_masks
from monai_tpseg.data.findings import TRAINING, VALIDATION
from monai_tpseg.data.layouts import own_layout
from monai_tpseg.data.prepare import Options, prepare, relative_to
from monai_tpseg.data.splits import draw_validation, group_by_keys
from monai_tpseg.files import write_atomically
from monai_tpseg.keys import IMAGE, LABEL, PATIENT, TASK
from monai_tpseg.parsing import read_record
from monai_tpseg.studies.annotated import SLICES, annotated_cases, holds_annotations
from monai_tpseg.training.train_options import TrainingError, TrainOptions
from monai_tpseg.training.volume_slices import slices_as_pictures
from monai_tpseg.words import choose, count

__all__ = ["DATALIST", "Lists", "write_lists"]

logger = logging.getLogger(__name__)

DATALIST = "datalist.json"
MODALITIES = "modalities"
"""Key of a datalist: the modality of each task that the catalogue does not have."""


@dataclass(frozen=True)
class Lists:
    """The lists of a training.

    Attributes:
        training: pictures with masks.
        validation: those that are held out; volumes too.
        modalities: modalities of tasks beyond the catalogue in the datalist, by name.
    """

    training: tuple[Case, ...]
    validation: tuple[Case, ...]
    modalities: dict[str, str]

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names in the order in which they first occur."""
        return tuple(dict.fromkeys(case[TASK] for case in (*self.training, *self.validation)))


def write_lists(request: TrainOptions, out: Path, modalities: Mapping[str, str]) -> Lists:
    """Write `out`/datalist.json, whose paths are relative to `out`, unless it is there; return it with absolute ones.

    Args:
        request: names the data.
        out: folder of the training.
        modalities: modalities of tasks beyond the catalogue in the weights.

    Raises:
        TrainingError: no data, no task, or too few pictures to hold some out.
    """
    if (out / DATALIST).is_file():
        return _again(out / DATALIST)
    data = Path(request.data)
    given = data / DATALIST if data.is_dir() else data
    if given.is_file():
        lists = _listed(request, given)
    elif holds_annotations(data):
        lists = _annotated(request, data)
    elif data.is_dir():
        lists = _found(request, data, out, modalities)
    else:
        raise TrainingError(f"No data at '{data}'; give a datalist, or a folder of pictures and masks.")
    known = {**modalities, **lists.modalities, **request.modalities}
    for task in request.modalities.keys() - {*lists.tasks}:
        raise TrainingError(
            f"--modality names {task!r}, of which '{data}' has no picture; {choose(task, lists.tasks)}."
        )
    _check_tasks(lists.tasks, known)
    training = tuple(one for case in lists.training for one in slices_as_pictures(case, known, out / "slices"))
    if not training:
        raise TrainingError("No mask of the training pictures contains a lesion; training needs some that do.")
    held = tuple(one for case in lists.validation for one in _looked_at(case, known, out / "slices"))
    lists = Lists(training, held, {**lists.modalities, **request.modalities})
    _write(lists, out)
    return lists


def _again(path: Path) -> Lists:
    """The lists of a training that goes on."""
    content = read_record(path, {TRAINING: list, VALIDATION: list})
    training, validation = (tuple(_entries(content[name], name, path)) for name in (TRAINING, VALIDATION))
    return Lists(training, validation, content.get(MODALITIES, {}))


def _check_tasks(tasks: tuple[str, ...], modalities: Mapping[str, str]) -> None:
    for task in tasks:
        check_name(task)
        try:
            get_task(task, modalities)
        except ValueError as error:
            raise TrainingError(
                f"Task '{task}' is new: give its modality, e.g. --modality {task}=ct. ({error})"
            ) from error


def _listed(request: TrainOptions, path: Path) -> Lists:
    content = read_lists(path)
    if request.task:
        raise TrainingError(f"'{path}' gives the task of each picture: omit --task; --tasks A,B chooses some.")
    entries = {name: list(_entries(content.get(name) or [], name, path)) for name in (TRAINING, VALIDATION)}
    sections = {
        name: [case for case in cases if not request.tasks or case[TASK] in request.tasks]
        for name, cases in entries.items()
    }
    if not sections[TRAINING]:
        if not request.tasks:
            raise TrainingError(f"'{path}' has no entry under 'training'; it has {', '.join(map(str, content))}.")
        there = dict.fromkeys(case[TASK] for case in entries[TRAINING])
        named = _other(request.tasks, there, " under 'training'")
        raise TrainingError(f"'{path}' has no entry of {named}.")
    if not sections[VALIDATION]:
        sections = _held_out(sections[TRAINING], request)
    modalities = content.get(MODALITIES) or {}
    return Lists(tuple(sections[TRAINING]), tuple(sections[VALIDATION]), dict(modalities))


def _other(wanted: tuple[str, ...], there: Collection[str], where: str = "") -> str:
    """The tasks that were asked for and are not there, and those that are."""
    return f"{', '.join(wanted)}{where}" + (f"; {choose(wanted[0], there)}" if wanted and there else "")


def _entries(entries: Any, name: str, path: Path) -> Iterator[Case]:
    if not isinstance(entries, list):
        raise TrainingError(
            f"'{name}' of '{path}' is not a list of entries; tpseg check explains what a datalist needs."
        )
    for number, entry in enumerate(entries):
        where = f"'{path}', {name}[{number}]"
        task = entry.get(TASK) if isinstance(entry, dict) else None
        if not isinstance(task, str):
            raise TrainingError(f"{where} has no task; every entry needs image, label and task.")
        yield checked_entry(entry, (IMAGE, LABEL), where, path.absolute().parent, (task,))


def _looked_at(case: Case, modalities: Mapping[str, str], folder: Path) -> Iterator[Case]:
    """A volume of which a person has looked at some slices is held out by these; others stay whole."""
    yield from slices_as_pictures(case, modalities, folder) if case.get(SLICES) else (case,)


def _annotated(request: TrainOptions, data: Path) -> Lists:
    found = annotated_cases(data)
    for name, why in found.left_out:
        logger.warning("Left out: %s, as %s.", name, why)
    wanted = request.tasks or ((request.task,) if request.task else ())
    entries = [entry for entry in found.entries if not wanted or entry[TASK] in wanted]
    if not entries:
        there = dict.fromkeys(entry[TASK] for entry in found.entries)
        raise TrainingError(f"No saved mask in '{data}' is of {_other(wanted, there)}.")
    parts = _held_out(entries, request)
    return Lists(tuple(parts[TRAINING]), tuple(parts[VALIDATION]), found.modalities)


def _found(request: TrainOptions, data: Path, out: Path, modalities: Mapping[str, str]) -> Lists:
    if not request.task:
        raise TrainingError(f"'{data}' holds no {DATALIST}: give the task of its pictures with --task.")
    _check_tasks((request.task,), {**modalities, **request.modalities})
    images, masks = find_pictures_and_masks(data)
    layout = own_layout(images, masks, request.task, request.patient_regex)
    options = Options(val_share=request.val_share, seed=request.seed, with_empty=True, workers=0, progress=True)
    (summary,) = prepare(layout, images, out / "prepared.json", options)
    if summary.left_out or summary.unpaired:
        left = [*(one.name for one in summary.left_out), *summary.unpaired]
        logger.warning("Left out as damaged or without a partner: %d, e.g. %s.", len(left), left[0])
    cases = [(one.section, _entry(one.pair.image, one.pair.label, request.task)) for one in summary.placed]
    training, validation = ([case for section, case in cases if section == name] for name in (TRAINING, VALIDATION))
    if not training or not validation:
        raise TrainingError(
            f"{count(len(cases), 'picture')} in '{data}' are too few for a held-out part; give at least two."
        )
    return Lists(tuple(training), tuple(validation), {})


def _entry(image: Path, label: Path, task: str) -> Case:
    return {IMAGE: str(image.absolute()), LABEL: str(label.absolute()), TASK: task}


def _held_out(cases: list[Case], request: TrainOptions) -> dict[str, list[Case]]:
    """Draw a part of each task; what is of one patient, or one file, stays together."""
    keys = [[f"file {case[IMAGE]}", *([f"patient {case[PATIENT]}"] if case.get(PATIENT) else [])] for case in cases]
    groups = group_by_keys(keys)
    held: set[int] = set()
    for task in dict.fromkeys(case[TASK] for case in cases):
        own = [group for group in groups if any(cases[n][TASK] == task for n in group)]
        if len(own) < 2:
            raise TrainingError(
                f"Task '{task}' has pictures of only one patient or file, so none can be held out; add others, or "
                "name some under 'validation' in the datalist."
            )
        target = max(1, round(request.val_share * sum(map(len, own))))
        names = [case[IMAGE] for case in cases]
        held |= draw_validation(own, names, target, request.seed) or set(_smallest(own))
    parts: dict[str, list[Case]] = {TRAINING: [], VALIDATION: []}
    for number, case in enumerate(cases):
        parts[VALIDATION if number in held else TRAINING].append(case)
    return parts


def _smallest(groups: Sequence[Sequence[int]]) -> Sequence[int]:
    return min(groups, key=lambda group: len(group))


def _write(lists: Lists, out: Path) -> None:
    def written(case: Case) -> dict[str, Any]:
        return {**case, **{key: relative_to(out.absolute(), case[key]) for key in (IMAGE, LABEL)}}

    content: dict[str, Any] = {MODALITIES: lists.modalities} if lists.modalities else {}
    content |= {TRAINING: [*map(written, lists.training)], VALIDATION: [*map(written, lists.validation)]}
    write_atomically(out / DATALIST, (json.dumps(content, indent=1) + "\n").encode())
