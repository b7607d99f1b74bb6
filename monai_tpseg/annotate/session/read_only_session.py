"""Read access to an open case, by one thread at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import update_wrapper
from threading import RLock
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from monai_tpseg.annotate.session.checks import check_index, check_pixel, check_window
from monai_tpseg.annotate.session.history import Click, History, Setup, SliceState, Status
from monai_tpseg.annotate.session.pixels import Pixels, Window
from monai_tpseg.annotate.session.predictor import Predictor
from monai_tpseg.annotate.session.prompt_model import PromptModel
from monai_tpseg.annotate.session.reformats import Reformat, cut
from monai_tpseg.annotate.session.session_error import SessionError
from monai_tpseg.annotate.session.sides import sides_of
from monai_tpseg.annotate.session.sources import IN_PROCESS, Sources
from monai_tpseg.catalogue import Modality, get_task
from monai_tpseg.io.cases import CaseSource
from monai_tpseg.words import choose

__all__ = ["Pixel", "ReadOnlySession", "synchronized"]

_S = TypeVar("_S", bound="ReadOnlySession")
_P = ParamSpec("_P")
_R = TypeVar("_R")


class Pixel(NamedTuple):
    """Value and position of a pixel.

    Attributes:
        values: one value after rescale, or red, green and blue.
        unit: `HU`, or "" for values without a unit.
        position: (3,) RAS mm in the patient; (2,) mm down and to the right of the first pixel if the position in the
            patient is unknown; None without a pixel size.
    """

    values: tuple[float, ...]
    unit: str
    position: tuple[float, ...] | None


def synchronized(method: Callable[Concatenate[_S, _P], _R]) -> Callable[Concatenate[_S, _P], _R]:
    """Decorate a method of a session so that one thread at a time runs it."""

    def guarded(self: _S, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        with self._lock:
            return method(self, *args, **kwargs)

    update_wrapper(guarded, method)
    return guarded


class ReadOnlySession:
    """A case with its masks, read-only. A picture has one slice, 0.

    Args:
        source: source of the case, read with `load_case`.
        model: model, shared by sessions.
        task: name of a task of the weights, or None.
        sources: reader of the source; by default in this process.

    Raises:
        ReadError: the source cannot be read.
        SessionError: the task is unknown, or None although the source does not state its modality.
    """

    def __init__(
        self, source: CaseSource, model: PromptModel, task: str | None = None, sources: Sources = IN_PROCESS
    ) -> None:
        self._lock = RLock()
        self.source, self.model, self._sources = source, model, sources
        image, self._headers = sources.take(source)
        self._pixels = Pixels(image)
        del image  # the pixels have their own copy
        self._sides = sides_of(self._pixels.meta)
        self._modality_of(task)
        self._predictor = Predictor(model, self._pixels)
        self._history = History(Setup(task, task is not None))
        self._masks: tuple[NDArray[np.uint8], dict[int, int]] | None = None

    @property
    def meta(self) -> Mapping[str, Any]:
        """The metadata of the image from `LoadMedicalImage`."""
        return self._pixels.meta

    @property
    def shape(self) -> tuple[int, int, int]:
        """(H, W, D): rows, columns and slices of the source, the grid of masks and clicks."""
        return self._pixels.shape

    @property
    def spacing(self) -> tuple[float, ...] | None:
        """Spacing of rows, columns and slices in mm; two numbers if slice distances differ; None if unknown."""
        return self._pixels.spacing

    @property
    def region(self) -> tuple[int, ...]:
        """Top, left, bottom, right (half-open) of the region for network and clicks: the whole picture, or the region
        that an ultrasound source declares."""
        return self._pixels.region

    @property
    def tasks(self) -> tuple[str, ...]:
        """The names of the tasks of the weights."""
        return self.model.info.tasks

    @property
    def task(self) -> str | None:
        """The name of the current task, or None."""
        return self._history.setup.task

    @property
    def use_class(self) -> bool:
        """Whether prompts include the class of the task, in addition to clicks and exemplars."""
        return self._history.setup.use_class

    @property
    def done(self) -> bool:
        """Whether the user has confirmed all masks, without later changes."""
        return self._history.setup.done

    @property
    def modality(self) -> Modality:
        """The modality that selects preprocessing and display."""
        return self._modality_of(self.task)

    @property
    def named_modality(self) -> Modality | None:
        """The modality of the header, otherwise of the task; None for a picture without either."""
        return self._pixels.declared or (None if self.task is None else self.modality)

    @property
    def recorded_modality(self) -> str:
        """The DICOM modality of the header, e.g. `CT`, or ""."""
        return self._pixels.recorded

    @property
    def task_fits(self) -> bool:
        """Whether the source may be of the modality of the task; True without a task."""
        return self.task is None or self._pixels.fits(self.modality)

    @property
    def window_default(self) -> Window:
        """The default window: in HU for CT, percentiles otherwise, 0 and 255 for a picture."""
        return self._pixels.window_default(self._pixels.declared or self.modality)

    @property
    def windows(self) -> dict[str, Window]:
        """Further windows by name: in HU for CT, percentiles otherwise, none for a picture."""
        return self._pixels.windows(self.named_modality or self.modality)

    @property
    def plane(self) -> str:
        """The orientation of the slices of a volume: `axial`, `coronal`, `sagittal` or `stored`; "" for a picture."""
        return self._pixels.plane

    @property
    def sides(self) -> dict[str, str]:
        """The patient's side at each edge of the picture, e.g. `{"up": "A", ...}`; empty if unknown."""
        return dict(self._sides)

    @property
    def value_range(self) -> Window:
        """The smallest and the largest value of the source."""
        return self._pixels.value_range

    @property
    def can_undo(self) -> bool:
        """Whether there is a step to undo."""
        return self._history.cursor > 0

    @property
    def can_redo(self) -> bool:
        """Whether there is a step to redo."""
        return self._history.cursor < len(self._history.steps)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of lesions in the order of naming; `lesions` contains the name of each lesion."""
        return tuple(one.name for one in self._history.setup.names)

    @property
    def exemplars(self) -> tuple[str, ...]:
        """The exemplars in use, `picture` or e.g. `slice 12`, in order."""
        return tuple("picture" if one.picture else f"slice {one.index}" for one in self._history.setup.exemplars)

    def view(self, index: int, window: Window | None = None) -> NDArray[np.uint8]:
        """Return slice `index` for display, (H, W, 3) uint8. It does not wait for the network.

        Args:
            index: number of the slice, from 0.
            window: values shown as black and white; by default `window_default`.

        Raises:
            SessionError: there is no such slice, or the window is invalid.
        """
        return self._pixels.view(self._index(index), self.window_default if window is None else check_window(window))

    @property
    def reformats(self) -> tuple[Reformat, ...]:
        """The two planes across the slices of a volume; empty if they would be distorted, see `Reformat`."""
        return self._pixels.reformats

    def reformat(self, plane: str, index: int, window: Window | None = None) -> NDArray[np.uint8]:
        """Return a plane across the slices for display, (h, w, 3) uint8; see `view`.

        Args:
            plane: plane of one of `reformats`.
            index: position along the axis perpendicular to the plane, from 0.
            window: values shown as black and white; by default `window_default`.

        Raises:
            SessionError: there is no such plane or index, or the window is invalid.
        """
        found, index = self._reformat(plane, index)
        return self._pixels.reformat(found, index, self.window_default if window is None else check_window(window))

    @synchronized
    def reformat_mask(self, plane: str, index: int) -> NDArray[np.uint8]:
        """Return the mask on a plane across the slices, (h, w) uint8 in {0, 1}; see `reformat`.

        Raises:
            SessionError: there is no such plane or index.
        """
        found, index = self._reformat(plane, index)
        return np.ascontiguousarray(cut(self._whole_mask(), found, index))

    def pixel(self, row: int, column: int, index: int = 0) -> Pixel:
        """Return the value and the position of a pixel. It does not wait for the network.

        Raises:
            SessionError: there is no such pixel or slice.
        """
        index, (row, column) = self._index(index), check_pixel(row, column, self.shape[:2])
        unit = self._pixels.unit(self._pixels.declared or self.modality)
        return Pixel(self._pixels.values(index, row, column), unit, self._pixels.position(index, row, column))

    @synchronized
    def mask(self, index: int = 0) -> NDArray[np.uint8]:
        """Return the mask of slice `index`, (H, W) uint8 in {0, 1}.

        Raises:
            SessionError: there is no such slice.
        """
        return self._mask(self._history.at(self._index(index)))

    @synchronized
    def volume_mask(self) -> NDArray[np.uint8]:
        """Return the masks of all slices, (H, W, D) uint8 in {0, 1}."""
        whole = np.zeros(self.shape, np.uint8)
        for index, state in self._history.slices.items():
            whole[..., index] = self._mask(state)
        return whole

    @property
    @synchronized
    def is_empty(self) -> bool:
        """Whether no pixel of the case is marked."""
        return all(self._is_unmarked(state) for state in self._history.slices.values())

    @synchronized
    def states(self) -> list[Status]:
        """Return the state of each slice: `empty`, `edited`, `proposed` or `accepted`."""
        return [self._history.at(index).status for index in range(self.shape[2])]

    @synchronized
    def clicks(self, index: int = 0) -> tuple[Click, ...]:
        """Return the clicks on slice `index`: row, column, and 1 (positive) or -1 (negative).

        Raises:
            SessionError: there is no such slice.
        """
        return self._history.at(self._index(index)).clicks

    @property
    def knows_trust(self) -> bool:
        """Whether trust estimates were fitted for the weights."""
        return self.model.judge.knows

    @synchronized
    def trust(self, index: int = 0) -> dict[str, Any] | None:
        """Return the trust estimates of the mask of slice `index`, as in `result.json`.

        None if no estimates were fitted for the weights, or after clicks or drawing, since the estimates were fitted on
        masks without corrections.

        Raises:
            SessionError: there is no such slice.
        """
        result = self._history.at(self._index(index)).result
        return None if result is None else self._predictor.results[result].trust

    def _reformat(self, plane: str, index: int) -> tuple[Reformat, int]:
        for one in self.reformats:
            if one.plane == plane:
                return one, check_index(index, self.shape[one.across], plane)
        planes = " or ".join(one.plane for one in self.reformats) or "no other plane"
        raise SessionError(f"There is no plane {plane!r} across the slices; this case has {planes}.")

    def _whole_mask(self) -> NDArray[np.uint8]:
        """Return the masks of all slices, (H, W, D), decompressing only changed ones."""
        if self._masks is None:
            self._masks = np.zeros(self.shape, np.uint8), {}
        whole, kept = self._masks
        now = {n: state.result for n, state in self._history.slices.items() if state.result is not None}
        for index in kept.keys() | now.keys():
            if kept.get(index) != now.get(index):
                whole[..., index] = self._mask(self._history.at(index))
        self._masks = whole, now
        return whole

    def _index(self, index: int) -> int:
        return check_index(index, self.shape[2])

    def _is_unmarked(self, state: SliceState) -> bool:
        return state.result is None or self._predictor.results[state.result].found.is_empty

    def _mask(self, state: SliceState) -> NDArray[np.uint8]:
        if state.result is None:
            return np.zeros(self.shape[:2], np.uint8)
        return self._predictor.results[state.result].found.mask()

    def _modality_of(self, task: str | None) -> Modality:
        if task is None:
            return self._pixels.modality()
        if task not in self.tasks:
            raise SessionError(f"The weights do not know the task {task!r}; {choose(task, self.tasks)}.")
        return get_task(task, self.model.info.modalities).modality
