"""The catalogue: what is known of each modality and of each lesion task, one record each.

This file is the only place that knows them; a modality has its pipeline in the top-level `transforms/` beside it. The
order of `TASKS` is the order of the task rows of a network trained on all of them; a weights file carries its own list
of names (see `docs/conventions.md`), and the modality of those that `tpseg new-task` gave it beyond the catalogue.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import NamedTuple

from monai_tpseg.words import choose, nearest

__all__ = [
    "CATEGORY",
    "LESION",
    "TASKS",
    "TASK_NAMES",
    "Code",
    "Modality",
    "Task",
    "check_name",
    "check_new_name",
    "get_task",
    "get_title",
    "match_task",
    "resolve_task",
    "task_names",
]


class Modality(str, Enum):
    """Imaging modality; the value is the stem of its file in the top-level `transforms/` folder."""

    OCT = "oct"
    MRI = "mri"
    PATHOLOGY = "pathology"
    ULTRASOUND = "ultrasound"
    ENDOSCOPY = "endoscopy"
    CT = "ct"
    DERMOSCOPY = "dermoscopy"

    @property
    def display_name(self) -> str:
        """How it is written in texts and figures: an abbreviation in capitals."""
        return self.value.upper() if _IMAGING[self].is_abbreviation else self.value

    @property
    def dicom(self) -> frozenset[str]:
        """What (0008,0060) of a DICOM object may say of it."""
        return _IMAGING[self].dicom

    @property
    def windows(self) -> Mapping[str, tuple[float, float]]:
        """Name -> lowest and highest value, in the unit of the stored values; the first is that of its pipeline."""
        return _IMAGING[self].windows

    @property
    def is_absolute(self) -> bool:
        """Whether stored values have an absolute scale, such as Hounsfield units."""
        return bool(self.windows)

    @property
    def has_screen_text(self) -> bool:
        """Whether scanners draw names and dates beside the picture."""
        return _IMAGING[self].has_screen_text

    @property
    def tolerance_mm(self) -> float:
        """How far two outlines may lie apart and still agree in the surface Dice, in millimetres."""
        return _IMAGING[self].tolerance_mm

    @property
    def tolerance_px(self) -> float:
        """The same where the size of a pixel is not known, in pixels of the original picture."""
        return _IMAGING[self].tolerance_px


class _Imaging(NamedTuple):
    """What is known of a modality; see the properties of `Modality`."""

    dicom: frozenset[str]
    tolerance_mm: float
    tolerance_px: float = 2.0
    windows: Mapping[str, tuple[float, float]] = MappingProxyType({})
    has_screen_text: bool = False
    is_abbreviation: bool = False


_HOUNSFIELD: dict[str, tuple[float, float]] = {  # as radiologists name them: level and width
    "lung": (-1350.0, 150.0),  # -600, 1500
    "soft tissue": (-160.0, 240.0),  # 40, 400
    "mediastinum": (-125.0, 225.0),  # 50, 350
    "liver": (-15.0, 135.0),  # 60, 150
    "brain": (0.0, 80.0),  # 40, 80
    "bone": (-450.0, 1050.0),  # 300, 1500
}

_IMAGING: dict[Modality, _Imaging] = {
    Modality.OCT: _Imaging(  # how finely the edge of a layer is drawn
        frozenset({"OPT", "OP"}), tolerance_mm=0.05, is_abbreviation=True
    ),
    Modality.MRI: _Imaging(frozenset({"MR"}), tolerance_mm=2.0, is_abbreviation=True),  # two pixels of a head
    Modality.PATHOLOGY: _Imaging(frozenset({"SM", "GM", "XC"}), tolerance_mm=0.02, tolerance_px=3.0),  # two cells
    Modality.ULTRASOUND: _Imaging(  # margins are blurred over about a millimetre
        frozenset({"US", "IVUS"}), tolerance_mm=1.0, tolerance_px=3.0, has_screen_text=True
    ),
    Modality.ENDOSCOPY: _Imaging(frozenset({"ES", "XC"}), tolerance_mm=1.0, tolerance_px=3.0),
    Modality.CT: _Imaging(  # about 3 pixels
        frozenset({"CT"}), tolerance_mm=2.0, windows=MappingProxyType(_HOUNSFIELD), is_abbreviation=True
    ),
    Modality.DERMOSCOPY: _Imaging(  # margins of moles fade out; pictures have a thousand pixels per side and more
        frozenset({"DMS", "XC"}), tolerance_mm=0.5, tolerance_px=5.0
    ),
}


@dataclass(frozen=True)
class Code:
    """A coded concept of SNOMED CT: `value` is the concept id, `meaning` its English name."""

    value: str
    meaning: str


CATEGORY = Code("49755003", "Morphologically Abnormal Structure")
"""The segmented property category of every task."""

_LONGEST = 32

_TYPO = 0.85  # similarity from which a new name is refused; kidney_lesion and skin_lesion have 0.83

LESION = Code("52988006", "Lesion")
"""What is segmented, where nothing narrower is known."""


@dataclass(frozen=True)
class Task:
    """One lesion segmentation task.

    `lesion` and `anatomy` are the SNOMED CT codes written into DICOM segmentations; a clinician must sign them off. A
    task without `anatomy` says none.

    Attributes:
        proposed_by: terms of (0008,0060) of which this is the only task of the catalogue that fits. Ultrasound shows
            thyroid or breast, and XC any skin or wound: those are not guessed.
        regions: of the body, of which a header must name one if it names any; none: it may lie anywhere.
        other_regions: those that speak against it even beside its own.
    """

    name: str
    modality: Modality
    lesion: Code
    anatomy: Code | None = None
    proposed_by: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    other_regions: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """The name as people write it, e.g. `wet AMD`."""
        return get_title(self.name)


TASKS: tuple[Task, ...] = (
    Task(
        *("wet_amd", Modality.OCT, LESION, Code("5665001", "Retina")),
        proposed_by=("OPT",),
        regions=("eye",),
        other_regions=("cornea",),
    ),
    Task(
        *("brain_tumor", Modality.MRI, Code("108369006", "Neoplasm"), Code("12738006", "Brain")),
        proposed_by=("MR",),
        regions=("head",),
        other_regions=("whole body",),
    ),
    Task(
        *("adenocarcinoma", Modality.PATHOLOGY, Code("1187332001", "Adenocarcinoma"), Code("71854001", "Colon")),
        proposed_by=("SM", "GM"),
        regions=("colon",),
    ),
    Task("thyroid_nodule", Modality.ULTRASOUND, Code("27925004", "Nodule"), Code("69748006", "Thyroid")),
    Task(
        *("colon_polyp", Modality.ENDOSCOPY, Code("68496003", "Polyp"), Code("71854001", "Colon")),
        proposed_by=("ES",),
        regions=("colon",),
    ),
    Task(
        *("lung_infection", Modality.CT, Code("409774005", "Inflammation"), Code("39607008", "Lung")),
        proposed_by=("CT",),
        regions=("chest",),
        other_regions=("whole body",),
    ),
    Task("breast_lesion", Modality.ULTRASOUND, Code("4147007", "Mass"), Code("76752008", "Breast")),
    Task("skin_lesion", Modality.DERMOSCOPY, LESION, Code("39937001", "Skin"), proposed_by=("DMS",)),
)

TASK_NAMES: tuple[str, ...] = tuple(task.name for task in TASKS)


def get_title(name: str) -> str:
    """Return the name of a task as people write it, e.g. `wet AMD`."""
    return name.replace("_", " ").replace("amd", "AMD")


def check_name(name: str) -> str:
    """Return `name` if a task may be called so.

    Raises:
        ValueError: it is no identifier of small letters, or longer than 32 letters: DICOM's texts of 64 hold more.

    >>> check_name("liver_lesion")
    'liver_lesion'
    """
    if not (name.isascii() and name.isidentifier() and name == name.lower() and len(name) <= _LONGEST):
        raise ValueError(f"'{name}' is not a valid task name; use up to {_LONGEST} lower-case letters, digits and _.")
    return name


def check_new_name(text: str, names: Iterable[str] = TASK_NAMES, confirm: str = "") -> str:
    """Return the task that a person's `text` means where new names are allowed: one of `names`, or a new one.

    Args:
        text: what was given.
        names: of the known tasks.
        confirm: how to say that a name resembling a known one is meant, e.g. an option.

    Raises:
        ValueError: it resembles a known name so much that it may be a typo, or it is not a valid name.

    >>> check_new_name("Skin-lesion"), check_new_name("liver_lesion")
    ('skin_lesion', 'liver_lesion')
    """
    name = match_task(text, names)
    close = "" if name in names else nearest(_folded(name), names, _TYPO)
    if close:
        raise ValueError(f"Unknown task '{name}'; did you mean {close}? If it is a new task, {confirm}.")
    return check_name(name)


def get_task(name: str, modalities: Mapping[str, str] = MappingProxyType({})) -> Task:
    """Return the catalogue entry called `name`, or a task beyond the catalogue that weights know.

    Args:
        name: of the task.
        modalities: name -> modality of the tasks beyond the catalogue, as weights describe them. Such a task segments
            a lesion and names no anatomy.

    Raises:
        ValueError: there is no such task or modality; the message lists the names.

    >>> get_task("lung_infection").modality.value
    'ct'
    >>> get_task("liver_lesion", {"liver_lesion": "ct"}).lesion.meaning
    'Lesion'
    """
    for task in TASKS:
        if task.name == name:
            return task
    if name not in modalities:
        raise ValueError(f"Unknown task {name!r}; {choose(name, (*TASK_NAMES, *modalities))}.")
    if modalities[name] not in {modality.value for modality in Modality}:
        known = choose(modalities[name], (modality.value for modality in Modality))
        raise ValueError(f"Unknown modality {modalities[name]!r} of task {name!r}; {known}.")
    return Task(name, Modality(modalities[name]), LESION)


def match_task(text: str, names: Iterable[str] = ()) -> str:
    """Return the task that a person's `text` means, whatever its case, and with spaces or hyphens for `_`.

    Args:
        text: e.g. a cell of a table.
        names: of tasks; the catalogue's by default.

    Returns:
        one of `names`, or `text` without the spaces around it where it is none of them.

    >>> match_task(" Lung infection "), match_task("liver")
    ('lung_infection', 'liver')
    """
    known = {_folded(name): name for name in names or TASK_NAMES}
    return known.get(_folded(text), text.strip())


def _folded(name: str) -> str:
    return re.sub(r"[\s_\-\u200b]+", "_", name.strip("\u200b \u00a0").casefold())


def resolve_task(task: str | int, names: Sequence[str] = TASK_NAMES) -> int:
    """Return the row of `task`, a name or a row number, in `names`: the one place where names become numbers.

    Raises:
        ValueError: `task` is neither a name in `names` nor a row of it.

    >>> resolve_task("wet_amd"), resolve_task(3), resolve_task("3")
    (0, 3, 3)
    """
    if isinstance(task, str) and task in names:
        return list(names).index(task)
    if isinstance(task, bool) or not str(task).lstrip("-").isdigit() or not 0 <= int(task) < len(names):
        raise ValueError(f"Unknown task {task!r}; {choose(task, names)} (or 0 to {len(names) - 1}).")
    return int(task)


def task_names(tasks: Iterable[str | Task]) -> tuple[str, ...]:
    """Return `tasks` as names, checked for repetition; they need not be in the catalogue.

    Raises:
        ValueError: the list is empty, a name stands twice, or one name is given in place of a list.
    """
    if isinstance(tasks, str):
        raise ValueError(f"Task names must be a list, got {tasks!r}; write [{tasks!r}].")
    names = tuple(task.name if isinstance(task, Task) else task for task in tasks)
    if not names or len(set(names)) != len(names):
        raise ValueError(f"Task names must be a non-empty list without duplicates, got {list(names)}.")
    return names
