"""The keys that the reading path leaves in `MetaTensor.meta`, each with its value.

Every value can be collated into a batch: text, a number or an array, never None; what is unknown is absent.
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
"""bool: MONOCHROME1, white is low, and not yet turned; the modality pipeline turns it once, after the window."""

FILENAME = "filename_or_obj"
"""str: the path that was read, a file or a series folder; the first one of a sequence of files."""

STEM = "source_stem"
"""str: what the results of a source are called, see `output_names.stem_of`: who has read the source has looked at its
folder, too. Absent otherwise."""

FILES = "files"
"""str: JSON list of the files of a DICOM source, `files_of` decodes it. Those of a series are in the order of the last
axis of the tensor (of the source array, where a plane was asked for that its slices do not lie in)."""

IRREGULAR = "irregular"
"""`gap` or `tilt`: slices at unequal distances or stacked obliquely, read one by one; absent of a regular grid."""

SLICE_AFFINES = "slice_affines"
"""(D, 4, 4) of irregular slices: index (row, column, 0) of slice `[..., n]` of the tensor as loaded -> RAS millimetres;
the third step is the slice's thickness. Their `affine` takes the mean step instead, and `spacing` is absent."""

FORMAT = "source_format"
"""`picture`, `nifti`, `itk` (NRRD, MetaImage) or `dicom`."""

AFFINE = "affine"
"""(4, 4) index of this tensor -> RAS millimetres; identity for a picture. MONAI's own key."""

CHANNEL_DIM = "original_channel_dim"
"""0: channels come first. MONAI's own key, by which `EnsureChannelFirstd` leaves the tensor as it is."""

ORIGINAL_AFFINE = "original_affine"
"""(4, 4) index of the source array -> RAS millimetres; identity for a picture."""

SPATIAL_SHAPE = "spatial_shape"
"""The shape that belongs to `original_affine`: (H, W) of a picture, (x, y, z) of a volume. MONAI's own key: its writers
resample onto that grid where they are asked to."""

LOADED_SHAPE = "loaded_shape"
"""The spatial shape of the tensor as it was loaded: (H, W) or (H, W, D)."""

SOURCE_SHAPE = "source_shape"
"""The shape of the source array: (H, W) of a picture; the file's own order for a volume, e.g. (x, y, z) or (x, y)."""

PLANE = "plane"
"""`axial`, `coronal`, `sagittal` or `stored`: how the slices of a volume lie."""

SPACING = "spacing"
"""Millimetres between rows, columns and slices of the tensor; absent where unknown. It follows the affine, see
`GridMeta`; what is already in a batch keeps it as it was then."""

LOADED_SPACING = "loaded_spacing"
"""The `spacing` of the tensor as it was loaded."""

EXIF = "exif_orientation"
"""int 1 to 8: the orientation tag of a picture, already applied."""

PHOTOMETRIC = "photometric"
"""str: PIL mode of a picture, photometric interpretation of a DICOM object, as stored."""

COLOUR_DOUBTFUL = "colour_doubtful"
"""True: header and codestream of a JPEG name different colours, so that programs differ; absent otherwise."""

GEOMETRY_DOUBTFUL = "geometry_doubtful"
"""True: sform and pixdim of a NIfTI file state other voxel edges, so that programs differ; absent otherwise."""

SCALE_DOUBTFUL = "scale_doubtful"
"""True: some slices or frames have a rescale slope, an intercept or a modality LUT and others of their series lack it,
so that these may be on another scale, or CT is declared to be in another unit than HU; absent otherwise."""

PANELS_DOUBTFUL = "panels_doubtful"
"""True: a DICOM object that may show a screen, paper or several pictures instead of one slice; absent otherwise."""

MODALITY = "dicom_modality"
"""str: (0008,0060) of a DICOM object."""

NIFTI_HEADER = "nifti_header"
"""uint8: the header of a NIfTI file, little-endian, so that a mask carries its geometry bit for bit."""

NON_FINITE = "non_finite"
"""int: voxels that were NaN or infinite without being declared as no data; +inf became the largest finite value."""

NO_DATA = "no_data"
"""float: the value of pixels that hold no data: padding by their header, NaN. It lies just below all others (above, of
an image that is `inverted`); of CT below -1024 HU. Absent of a picture on a screen, where they are black, and
where there are none. The modality pipelines keep such pixels out of their statistics and make them black."""

SKIPPED = "skipped_files"
"""int: files of a series folder that were left out: reports, presentation states, localizers, copies of slices."""

REGION = "region"
"""(4,) int: top, left, bottom, right, half-open, in pixels: the calibrated 2D region of an ultrasound object, or that
which holds the others. `CropToRegiond` cuts it out."""

REGIONS = "regions"
"""int: several such regions side by side, none of which was chosen: the whole screen is looked at."""
