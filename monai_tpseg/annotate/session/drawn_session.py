"""Manual drawing and clean-up of the masks of a case, in addition to proposals of the network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from monai_tpseg.annotate.session.checks import check_flag, check_number, check_pixel, check_points
from monai_tpseg.annotate.session.drawing import brushed, fill_holes, outlined, piece_at, smooth
from monai_tpseg.annotate.session.history import SliceState, Status, Step
from monai_tpseg.annotate.session.lesion_list import ListedLesion, bridge_lesions, list_lesions, renamed, without_lesion
from monai_tpseg.annotate.session.lesion_names import check_name
from monai_tpseg.annotate.session.masks import Change, no_change
from monai_tpseg.annotate.session.predictor import Recipe, Result
from monai_tpseg.annotate.session.read_only_session import synchronized
from monai_tpseg.annotate.session.reviewed_session import ReviewedSession
from monai_tpseg.annotate.session.session_error import SessionError
from monai_tpseg.words import choose

__all__ = ["DrawnSession", "Tidying"]

Mask = NDArray[np.bool_]
Tidying = Literal["fill_holes", "smooth"]
"""What makes a mask tidy: `fill_holes`, all that it goes around; `smooth`, its outline is rounded."""

_TIDY: dict[str, Callable[[Mask], Mask]] = {"fill_holes": fill_holes, "smooth": smooth}
_LARGEST = 1000.0  # maximum diameter of a brush in pixels


class DrawnSession(ReviewedSession):
    """Session with drawing tools; arguments as for `ReadOnlySession`. A click on a drawn slice corrects the drawing."""

    @synchronized
    def brush(
        self, points: Sequence[tuple[float, float]], diameter: float, mark: bool = True, index: int = 0
    ) -> Change:
        """Draw with a round brush, or erase.

        Args:
            points: (row, column) of the stroke in pixels of the source, integers at pixel centres; it may
                leave the picture.
            diameter: diameter in units of the shorter side of a pixel, more than 0; the brush is round in the patient.
            mark: True adds the covered pixels to the mask, False removes them.
            index: number of the slice, from 0.

        Raises:
            SessionError: there is no point, the diameter is invalid, or there is no such slice.
        """
        diameter = check_number(diameter, 0, _LARGEST, "The diameter of a brush")
        covered = brushed(check_points(points), diameter, self.shape[:2], self._sides_of_pixel)
        return self._covered(covered, mark, self._index(index), "brush")

    @synchronized
    def outline(self, points: Sequence[tuple[float, float]], mark: bool = True, index: int = 0) -> Change:
        """Add or remove the pixels whose centres lie inside a closed line.

        Args:
            points: (row, column) of its vertices, see `brush`; the last one is joined to the first.
            mark: True adds the pixels to the mask, False removes them.
            index: number of the slice, from 0.

        Raises:
            SessionError: there is no point, or no such slice.
        """
        inside = outlined(check_points(points), self.shape[:2])
        return self._covered(inside, mark, self._index(index), "outline")

    @synchronized
    def tidy(self, how: Tidying, index: int = 0) -> Change:
        """Fill the holes of the mask of slice `index`, or smooth its outline.

        Raises:
            SessionError: `how` is unknown, or there is no such slice.
        """
        if how not in get_args(Tidying):
            raise SessionError(f"Unknown way {how!r} to tidy; {choose(how, get_args(Tidying))}.")
        index = self._index(index)
        return self._replaced({index: _TIDY[how](self._marked(index))}, how)[0]

    @synchronized
    def remove_piece(self, row: int, column: int, index: int = 0) -> Change:
        """Remove the connected component of the mask of slice `index` at a pixel.

        Raises:
            SessionError: the pixel is not marked, or there is no such pixel or slice.
        """
        index, mask = self._index(index), self._marked(self._index(index))
        piece = piece_at(mask, *check_pixel(row, column, self.shape[:2]))
        if not piece.any():
            raise SessionError(f"Nothing is marked at row {row}, column {column}; point at a part of the mask.")
        return self._replaced({index: mask & ~piece}, "remove_piece")[0]

    @synchronized
    def open_mask(self, path: str | Path) -> list[Change]:
        """Replace the masks of all slices by those of a file, in one step; they are marked as proposed.

        Args:
            path: NIfTI, NRRD, MetaImage or a picture on the grid of the source, or a DICOM segmentation of it; all
                labels and segments are merged.

        Raises:
            ReadError: the file cannot be read, or is not on the grid of the source.
            SessionError: the DICOM segmentation refers to another source.
        """
        mask = self._sources.mask(Path(path), self._pixels.image, self._headers)
        return self._replaced({index: mask[..., index] for index in range(self.shape[2])}, "opened", "proposed")

    @synchronized
    def lesions(self) -> list[ListedLesion]:
        """Return the connected lesions of the case, largest first, as in `lesions.csv`."""
        high, wide = (self.spacing or (1.0, 1.0))[:2]
        return list_lesions(self._stack(), self._pixels.meta, (high, wide), self._history.setup.names)

    @synchronized
    def name_lesion(self, row: int, column: int, name: str, index: int = 0) -> Change:
        """Name the lesion at a pixel; exports contain the name.

        The name is bound to a pixel deep inside the lesion, and independent of its number. It is written unchanged into
        tables and DICOM objects, so it must not identify the patient.

        Args:
            row, column: a marked pixel of the lesion.
            name: name of the lesion; "" removes it.
            index: number of the slice, from 0.

        Raises:
            SessionError: the name is invalid or in use; the pixel is not marked or does not exist.
        """
        place = (self._index(index), *check_pixel(row, column, self.shape[:2]))
        setup, name = self._history.setup, check_name(name)
        names = renamed(self._stack(), self._pixels.meta, setup.names, place, name)
        if names is None:
            raise SessionError(f"There is no lesion at row {row}, column {column} of slice {index}; reload the list.")
        return self._set_up(replace(setup, names=names))

    @synchronized
    def remove_lesion(self, row: int, column: int, index: int = 0) -> list[Change]:
        """Remove the lesion at a pixel from all slices, in one step.

        Raises:
            SessionError: the pixel is not marked, or there is no such pixel or slice.
        """
        place = (self._index(index), *check_pixel(row, column, self.shape[:2]))
        masks = without_lesion(self._stack(), self._pixels.meta, place)
        if masks is None:
            raise SessionError(f"There is no lesion at row {row}, column {column} of slice {index}; reload the list.")
        return self._replaced(masks, "remove_lesion")

    @synchronized
    def merge_lesions(self, first: tuple[int, int, int], second: tuple[int, int, int]) -> list[Change]:
        """Merge two lesions by a line one pixel wide, on the slice where they are closest.

        Args:
            first, second: (slice, row, column) of a marked pixel of each lesion.

        Raises:
            SessionError: a pixel has no lesion or does not exist, both lesions are the same, or no slice shows both.
        """
        places = [(self._index(n), *check_pixel(row, column, self.shape[:2])) for n, row, column in (first, second)]
        high, wide = (self.spacing or (1.0, 1.0))[:2]
        masks = bridge_lesions(self._stack(), self._pixels.meta, places, (high, wide))
        if masks is None:
            raise SessionError("These are not two lesions visible on one slice; draw a connection instead.")
        return self._replaced(masks, "merge_lesions")

    def _stack(self) -> dict[int, tuple[Mask, NDArray[np.float32]]]:
        kept = {n: state.result for n, state in self._history.slices.items() if state.result is not None}
        found = {n: self._predictor.results[result].found for n, result in kept.items()}
        return {n: (one.mask() > 0, one.prob()) for n, one in found.items() if not one.is_empty}

    def _covered(self, covered: Mask, mark: bool, index: int, how: str) -> Change:
        mask = self._marked(index)
        return self._replaced({index: mask | covered if check_flag(mark, "mark") else mask & ~covered}, how)[0]

    def _replaced(self, masks: dict[int, Mask], how: str, status: Status = "edited") -> list[Change]:
        """Replace the masks of slices in one step, leaving out slices with unchanged masks."""
        steps: list[Step] = []
        answers: list[tuple[int, Result] | None] = []
        for index, mask in masks.items():
            if np.array_equal(mask, self._marked(index)):
                continue
            state = self._history.at(index)
            recipe = Recipe(index, self.modality, previous=state.result, drawn=how)
            number, result = self._predictor.draw(recipe, mask, beyond=len(answers))
            answers.append((number, result))
            steps.append(self._history.step(index, SliceState(state.clicks, number, status)))
        return self._take_together(steps, answers) if steps else [no_change(index) for index in masks]

    def _marked(self, index: int) -> Mask:
        return self._mask(self._history.at(index)) > 0

    @property
    def _sides_of_pixel(self) -> tuple[float, float]:
        """Return height and width of a pixel, relative to the shorter one."""
        high, wide = (self.spacing or (1.0, 1.0))[:2]
        return high / min(high, wide), wide / min(high, wide)
