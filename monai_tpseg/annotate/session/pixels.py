"""The pixels of a case: display, network input, and positions."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from monai.data import MetaTensor
from numpy.typing import NDArray
from torch import Tensor

from monai_tpseg.annotate.session.reformats import Reformat, cut, reformats_of
from monai_tpseg.annotate.session.session_error import SessionError
from monai_tpseg.catalogue import Modality
from monai_tpseg.io import meta_keys
from monai_tpseg.io.orientation import voxel_sizes
from monai_tpseg.io.source_grid import is_irregular, matrix
from monai_tpseg.results.measurements import fits_modality
from monai_tpseg.segment import PrepareImage
from monai_tpseg.studies.proposals import PROPOSED_TASKS
from monai_tpseg.transforms.transfer import PackedImage, pack, unpack

__all__ = ["Pixels", "Window"]

Window = tuple[float, float]

_PERCENTILES = (0.5, 99.5)  # for values without a defined scale: noise is black, artefacts do not darken tissue
_NARROWER = ((2.0, 98.0), (10.0, 90.0), (50.0, 99.5))  # more contrast; the last one for bright tissue
_SAMPLE = 2**20  # maximum number of values for percentiles


class Pixels:
    """A picture (one slice) or a volume.

    Args:
        image: (3, H, W) or (3, H, W, D) from `LoadMedicalImage`.
    """

    def __init__(self, image: MetaTensor) -> None:
        values, self.meta = pack(image)[:2]
        self._values = values.copy()  # the channels of a grey image share memory
        self._slices = self._values if image.ndim == 4 else self._values[..., None]  # (C, H, W, D)
        self._input: tuple[Modality, Tensor] | None = None
        _, height, width, depth = self._slices.shape
        self.shape: tuple[int, int, int] = (height, width, depth)
        whole = (0, 0, height, width)
        self.region: tuple[int, ...] = tuple(int(n) for n in np.asarray(self.meta.get(meta_keys.REGION, whole)))

    @property
    def image(self) -> MetaTensor:
        """The image from `LoadMedicalImage`."""
        return unpack(PackedImage(self._values, dict(self.meta)))

    @property
    def spacing(self) -> tuple[float, ...] | None:
        """Spacing of rows, columns and slices in mm; two numbers if slice distances differ; None if unknown."""
        if is_irregular(self.meta):
            return tuple(float(x) for x in voxel_sizes(matrix(self.meta[meta_keys.SLICE_AFFINES])[0])[:2])
        spacing = self.meta.get(meta_keys.SPACING)
        return None if spacing is None else tuple(float(x) for x in np.asarray(spacing))

    @property
    def plane(self) -> str:
        """The orientation of the slices of a volume, "" for a picture."""
        return str(self.meta.get(meta_keys.PLANE, ""))

    @cached_property
    def value_range(self) -> Window:
        """The smallest and the largest value."""
        return float(self._values.min()), float(self._values.max())

    @property
    def region_size(self) -> tuple[int, int]:
        """(H, W) of the region for the network."""
        top, left, bottom, right = self.region
        return bottom - top, right - left

    @property
    def recorded(self) -> str:
        """Modality (0008,0060) of a DICOM object, or ""."""
        return str(self.meta.get(meta_keys.MODALITY, ""))

    @property
    def declared(self) -> Modality | None:
        """The modality declared by the header, None if missing or unknown."""
        if self.recorded in PROPOSED_TASKS:
            return PROPOSED_TASKS[self.recorded].modality
        return Modality.ULTRASOUND if self.recorded in Modality.ULTRASOUND.dicom else None

    def fits(self, modality: Modality) -> bool:
        """Return whether the source may be of a modality, as for the flag `other_modality` of `tpseg run`."""
        return fits_modality(self.recorded, modality)

    def modality(self) -> Modality:
        """Return the modality that selects preprocessing, from the source.

        Raises:
            SessionError: the source does not state its modality.
        """
        if self.declared is not None:
            return self.declared
        if str(self.meta[meta_keys.INTENSITY]) == "display":
            return Modality.ENDOSCOPY  # any one: all modalities process 8-bit pictures alike
        raise SessionError("The source does not declare the meaning of its values; give a task, which does.")

    def window_default(self, modality: Modality) -> Window:
        """Return the default window."""
        if str(self.meta[meta_keys.INTENSITY]) == "display":
            return 0.0, 255.0
        if modality.is_absolute:
            return next(iter(modality.windows.values()))
        return self._between(_PERCENTILES)

    def windows(self, modality: Modality) -> dict[str, Window]:
        """Return further windows by name, from percentiles for values without a defined scale."""
        if str(self.meta[meta_keys.INTENSITY]) == "display":
            return {}  # a picture, also of a CT, has no Hounsfield units
        if modality.is_absolute:
            return dict(modality.windows)
        return {f"{low:g} to {high:g} %": self._between((low, high)) for low, high in _NARROWER}

    def _between(self, percentiles: Window) -> Window:
        sample = self._values.reshape(-1)[:: max(1, self._values.size // _SAMPLE)]
        sample = sample[sample != np.float32(self.meta.get(meta_keys.NO_DATA, np.nan))]
        if not sample.size:
            return self.value_range
        low, high = (float(x) for x in np.percentile(sample, percentiles))
        return (low, high) if high > low else (low, low + 1)

    def values(self, index: int, row: int, column: int) -> tuple[float, ...]:
        """Return the values of a pixel after rescale: one, or red, green and blue."""
        return tuple(float(x) for x in self._slices[:, row, column, index])

    def unit(self, modality: Modality) -> str:
        """Return the unit of `values`, or ""."""
        physical = str(self.meta[meta_keys.INTENSITY]) == "physical"
        return "HU" if physical and modality is Modality.CT else ""

    def position(self, index: int, row: int, column: int) -> tuple[float, ...] | None:
        """Return the position of a pixel's centre in mm.

        Returns:
            (3,) RAS for a volume; (2,) down and to the right of the first pixel if only the pixel size is known; None
            otherwise.
        """
        if str(self.meta[meta_keys.KIND]) == "volume":
            if is_irregular(self.meta):
                place = matrix(self.meta[meta_keys.SLICE_AFFINES])[index] @ (row, column, 0, 1)
            else:
                place = matrix(self.meta[meta_keys.AFFINE]) @ (row, column, index, 1)
            return tuple(float(x) for x in place[:3])
        return None if self.spacing is None else (row * self.spacing[0], column * self.spacing[1])

    def view(self, index: int, window: Window) -> NDArray[np.uint8]:
        """Return slice `index` as (H, W, 3) uint8, with `window` from black to white."""
        return self._shown(self._slices[..., index], window)

    @cached_property
    def reformats(self) -> tuple[Reformat, ...]:
        """The planes across the slices, see `reformats_of`."""
        return reformats_of(self.meta, self.shape, self.spacing)

    def reformat(self, plane: Reformat, index: int, window: Window) -> NDArray[np.uint8]:
        """Return a plane across the slices as (h, w, 3) uint8, see `view`."""
        return self._shown(cut(self._slices, plane, index), window)

    def _shown(self, values: NDArray[Any], window: Window) -> NDArray[np.uint8]:
        low, high = window
        shown = np.clip((values - np.float32(low)) / np.float32(high - low), 0, 1)
        if bool(self.meta.get(meta_keys.INVERTED, False)):
            shown = 1 - shown
        grey = np.rint(shown * 255).astype(np.uint8).transpose(1, 2, 0)  # (C, H, W) -> (H, W, C)
        return np.ascontiguousarray(np.broadcast_to(grey, (*grey.shape[:2], 3)))

    def network_input(self, index: int, modality: Modality, prepare: PrepareImage) -> Tensor:
        """Return the region of slice `index` as (1, 3, h, w), with the normalisation of the whole case."""
        if self._input is None or self._input[0] is not modality:
            self._input = modality, prepare(self.image, modality)
        values = self._input[1]
        return (values if values.ndim == 3 else values[..., index])[None]

    def place(self, row: float, column: float) -> tuple[float, float]:
        """Return the position of a click, clamped from up to half a pixel outside to the outermost pixel centres.

        Raises:
            SessionError: it is outside the picture or its ultrasound region, or not a number.
        """
        height, width, _ = self.shape
        top, left, bottom, right = self.region
        if not (top - 0.5 <= row <= bottom - 0.5 and left - 0.5 <= column <= right - 0.5):
            part = f"the picture of {height} x {width} pixels"
            if self.region_size != (height, width):
                part = f"the ultrasound region (rows {top} to {bottom - 1}, columns {left} to {right - 1})"
            raise SessionError(f"A click at row {row:g}, column {column:g} lies outside {part}; click inside.")
        return float(min(max(row, top), bottom - 1)), float(min(max(column, left), right - 1))
