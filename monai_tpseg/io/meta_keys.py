"""The keys that readers set in `MetaTensor.meta`, each with its value.

Every value can be collated into a batch: text, a number or an array, never None; unknown values are absent.
"""

from __future__ import annotations

from typing import Literal

__all__ = [
    "AFFINE",
    "CHANNEL_DIM",
    "COLOUR_DOUBTFUL",
    "EXIF",
    "FILENAME",
    "FILES",
    "FORMAT",
    "GEOMETRY_DOUBTFUL",
    "INTENSITY",
    "INVERTED",
    "IRREGULAR",
    "KIND",
    "LOADED_SHAPE",
    "LOADED_SPACING",
    "MODALITY",
    "NIFTI_HEADER",
    "NON_FINITE",
    "NO_DATA",
    "ORIGINAL_AFFINE",
    "PANELS_DOUBTFUL",
    "PHOTOMETRIC",
    "PLANE",
    "REGION",
    "REGIONS",
    "SCALE_DOUBTFUL",
    "SKIPPED",
    "SLICE_AFFINES",
    "SOURCE_SHAPE",
    "SPACING",
    "SPATIAL_SHAPE",
    "STEM",
    "Intensity",
    "SourceKind",
]

SourceKind = Literal["picture", "volume"]
Intensity = Literal["display", "physical"]

KIND = "source_kind"
"""`picture`: (C, H, W); `volume`: (C, H, W, D)."""

INTENSITY = "intensity"
"""`display`: values as on a screen, 0 to 255; `physical`: HU after rescale, MR or other units."""

INVERTED = "inverted"
"""bool: MONOCHROME1, low values are white, not inverted yet; the modality pipeline inverts them after the window."""

FILENAME = "filename_or_obj"
"""str: the path read, a file or a series folder; for a list of files, the first one."""

STEM = "source_stem"
"""str: stem of the names of the results, see `output_names.stem_of`, if the reader has also listed the folder of the
source; absent otherwise."""

FILES = "files"
"""str: JSON list of the files of a DICOM source, decoded by `files_of`. Those of a series are in the order of the last
axis of the tensor (of the source array, if the plane requested is not that of the slices)."""

IRREGULAR = "irregular"
"""`gap` or `tilt`: slices at unequal distances or stacked obliquely, read one by one; absent for a regular grid."""

SLICE_AFFINES = "slice_affines"
"""(D, 4, 4) of irregular slices: index (row, column, 0) of slice `[..., n]` of the tensor as loaded -> RAS millimetres;
the third step is the slice's thickness. Their `affine` takes the mean step instead, and `spacing` is absent."""

FORMAT = "source_format"
"""`picture`, `nifti`, `itk` (NRRD, MetaImage) or `dicom`."""

AFFINE = "affine"
"""(4, 4) index of this tensor -> RAS millimetres; identity for a picture. A key of MONAI."""

CHANNEL_DIM = "original_channel_dim"
"""0: channels come first. A key of MONAI, by which `EnsureChannelFirstd` leaves the tensor unchanged."""

ORIGINAL_AFFINE = "original_affine"
"""(4, 4) index of the source array -> RAS millimetres; identity for a picture."""

SPATIAL_SHAPE = "spatial_shape"
"""The shape for `original_affine`: (H, W) of a picture, (x, y, z) of a volume. A key of MONAI, whose writers
resample to that grid on request."""

LOADED_SHAPE = "loaded_shape"
"""The spatial shape of the tensor when loaded: (H, W) or (H, W, D)."""

SOURCE_SHAPE = "source_shape"
"""The shape of the source array: (H, W) of a picture; the file's own order for a volume, e.g. (x, y, z) or (x, y)."""

PLANE = "plane"
"""`axial`, `coronal`, `sagittal` or `stored`: the plane of the slices of a volume."""

SPACING = "spacing"
"""Spacing of rows, columns and slices of the tensor in mm; absent if unknown. It follows the affine, see `GridMeta`;
in a batch it keeps its value at that time."""

LOADED_SPACING = "loaded_spacing"
"""The `spacing` of the tensor when loaded."""

EXIF = "exif_orientation"
"""int 1 to 8: the orientation tag of a picture, already applied."""

PHOTOMETRIC = "photometric"
"""str: PIL mode of a picture, photometric interpretation of a DICOM object, as stored."""

COLOUR_DOUBTFUL = "colour_doubtful"
"""True: header and codestream of a JPEG state different colour spaces, so that programs differ; absent otherwise."""

GEOMETRY_DOUBTFUL = "geometry_doubtful"
"""True: the header of a volume states two geometries, or one that programs read differently; absent otherwise."""

SCALE_DOUBTFUL = "scale_doubtful"
"""True: only some slices or frames of the series have a rescale slope, an intercept or a modality LUT, so that the
others may be on another scale, or CT declares a unit other than HU; absent otherwise."""

PANELS_DOUBTFUL = "panels_doubtful"
"""True: a DICOM object may show a screen, paper or several pictures instead of one slice; absent otherwise."""

MODALITY = "dicom_modality"
"""str: (0008,0060) of a DICOM object."""

NIFTI_HEADER = "nifti_header"
"""uint8: the header of a NIfTI file, little-endian, so that a mask gets its geometry bit for bit."""

NON_FINITE = "non_finite"
"""int: voxels that were NaN or infinite without being declared as padding; +inf became the largest finite value."""

NO_DATA = "no_data"
"""float: the value of pixels without data: declared padding and NaN. It lies just below all others (above, if
`inverted`); for CT, below -1024 HU. Absent for display images, where such pixels are black, and if there are none. The
modality pipelines exclude such pixels from their statistics and make them black."""

SKIPPED = "skipped_files"
"""int: files of a series folder that were left out: reports, presentation states, localizers, copies of slices."""

REGION = "region"
"""(4,) int: top, left, bottom, right, half-open, in pixels: the calibrated 2D region of an ultrasound object, or the
one that contains the others. `CropToRegiond` crops to it."""

REGIONS = "regions"
"""int: the number of such regions side by side, none of which was chosen: the whole screen is segmented."""
