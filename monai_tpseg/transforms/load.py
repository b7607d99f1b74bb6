"""One reading path for training, evaluation and inference: any source -> a MetaTensor in viewing orientation."""

from __future__ import annotations

import reprlib
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import InvertibleTransform, MapTransform, Transform
from monai.utils import ensure_tuple

from monai_tpseg.io import meta_keys
from monai_tpseg.io.dicom.object import is_dicom
from monai_tpseg.io.dicom.slices import Irregular
from monai_tpseg.io.dicom.volume import read_dicom_file, read_dicom_files, read_dicom_folder
from monai_tpseg.io.display import PlaneChoice, picture_as_seen, source_of, volume_as_seen
from monai_tpseg.io.errors import ReadError
from monai_tpseg.io.grid_meta import GridMeta, with_own_spacing
from monai_tpseg.io.kinds import kind_of
from monai_tpseg.io.labels import binary_picture, binary_volume
from monai_tpseg.io.loaded import Source
from monai_tpseg.io.misnamed import check_content
from monai_tpseg.io.orientation import GridError, align
from monai_tpseg.io.pictures import read_picture
from monai_tpseg.io.safety import base_name, read_safely
from monai_tpseg.io.volumes import read_itk, read_nifti
from monai_tpseg.keys import IMAGE
from monai_tpseg.words import choose

__all__ = [
    "IntensityChoice",
    "LoadMedicalImage",
    "LoadMedicalImaged",
    "PlaneChoice",
    "load_again",
    "match_label",
]

IntensityChoice = Literal["auto", "display", "physical"]


class LoadMedicalImage(Transform):
    """Read a picture, a volume or a DICOM series in viewing orientation.

    Pictures are returned as displayed (EXIF applied, never transposed), grey as three equal channels, 0 to 255. Volumes
    are reoriented so that axial slices have rows anterior -> posterior and columns patient right -> left, coronal and
    sagittal ones rows superior -> inferior; slices come last. The meta follows `monai_tpseg.io.meta_keys`; the turn is
    part of the affine and leaves no trace to invert: `MaskWriter` puts a mask back onto the source grid.

    Args:
        kind: `image` or `label`.
        plane: the plane of the slices; `auto` takes the stacking direction of a DICOM series, or the axis at least 1.5
            times coarser than the others, else axial; `stored` makes the file's y the rows and its x the columns.
        intensity: `auto` decides whether values are a picture (`display`) or carry a unit (`physical`): colour,
            8 bits without a scale and picture-like DICOM modalities are `display`.
        irregular: what becomes of a DICOM series with a gap or a tilted gantry: `refuse` it, as a pipeline would take
            it for a regular grid, or read its `slices` one by one, each with its place in `slice_affines`.

    Raises:
        ValueError: an unsupported argument value.
    """

    def __init__(
        self,
        kind: Literal["image", "label"] = "image",
        plane: PlaneChoice = "auto",
        intensity: IntensityChoice = "auto",
        irregular: Irregular = "refuse",
    ) -> None:
        for name, value, choices in (
            ("kind", kind, ("image", "label")),
            ("plane", plane, get_args(PlaneChoice)),
            ("intensity", intensity, get_args(IntensityChoice)),
            ("irregular", irregular, get_args(Irregular)),
        ):
            if value not in choices:
                raise ValueError(f"Unknown {name} {value!r}; {choose(value, choices)}.")
        self.kind = kind
        self.plane = plane
        self.intensity = intensity
        self.irregular = irregular

    def __call__(self, path: str | Path | Sequence[str | Path]) -> MetaTensor:
        """Read a case.

        Args:
            path: a file, the folder of one DICOM series, or the DICOM files of one series, e.g. `Stack.files`.

        Returns:
            image: (3, H, W) or (3, H, W, D) float32; label: (1, H, W) or (1, H, W, D) float32 in {0, 1}.

        Raises:
            ReadError: with an error code; it gives the file's base name and no header values.
            TypeError: `path` is neither a path nor a sequence of paths.
        """
        paths = [path] if isinstance(path, str | Path) else path
        if not isinstance(paths, Sequence) or not all(isinstance(file, str | Path) for file in paths):
            raise TypeError(f"path must be a path or a list of paths, got {reprlib.repr(path)}.")
        if "" in paths:
            raise ReadError("E_EMPTY", "A path is empty; give the file or folder.")
        files = [Path(file) for file in paths]
        if not files:
            raise ReadError("E_EMPTY", "The case has no file; give at least one.")
        return read_safely(lambda: self._load(files), base_name(files[0]))

    def _load(self, files: list[Path]) -> MetaTensor:
        path = files[0]
        source = (
            _read(path, self.kind == "label", self.irregular) if len(files) == 1 else _read_all(files, self.irregular)
        )
        array = self._channels(source, base_name(path))
        meta = source.meta | {
            meta_keys.FILENAME: str(path),
            meta_keys.INTENSITY: source.intensity if self.intensity == "auto" else self.intensity,
        }
        meta.setdefault(meta_keys.INVERTED, False)
        values = torch.from_numpy(array)
        if source.affine is None:
            image = picture_as_seen(values, source, meta)
        else:
            image = volume_as_seen(values, source, meta, self.plane)
        if self.kind == "label" or len(image) == 3:
            return image
        return MetaTensor(image.as_tensor().repeat_interleave(3, dim=0), affine=image.affine, meta=image.meta)

    def _channels(self, source: Source, name: str) -> Any:
        if self.kind == "label":
            return (binary_picture if source.affine is None else binary_volume)(source.array, name)
        return np.ascontiguousarray(source.array)  # grey becomes three channels last, which takes a third of the memory


class LoadMedicalImaged(MapTransform, InvertibleTransform):
    """Dictionary version of `LoadMedicalImage` that also lays each label onto the grid of its image.

    Args:
        keys: keys of images, replaced by their tensors; what another process has read already stays as it is.
        label_keys: keys of labels, likewise; each must match the first image in size and, for volumes, in space.
        plane: see `LoadMedicalImage`.
        intensity: see `LoadMedicalImage`.
        irregular: see `LoadMedicalImage`; labels are refused where they are no regular grid.
        allow_missing_keys: skip keys missing from a case.

    Raises:
        ReadError: see `LoadMedicalImage`; `E_SHAPE_MISMATCH` or `E_GEOMETRY`, a label does not lie on its image. Inside
            a `Compose` it arrives wrapped: `find_read_error` unwraps it.
    """

    def __init__(
        self,
        keys: KeysCollection = IMAGE,
        label_keys: KeysCollection = (),
        plane: PlaneChoice = "auto",
        intensity: IntensityChoice = "auto",
        irregular: Irregular = "refuse",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.label_keys: tuple[Hashable, ...] = ensure_tuple(label_keys)
        self.load_image = LoadMedicalImage("image", plane, intensity, irregular)
        self.load_label = LoadMedicalImage("label", plane)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return `data` with its paths replaced by tensors."""
        case = dict(data)
        for key in self.key_iterator(case):
            case[key] = data[key] if isinstance(data[key], MetaTensor) else self.load_image(data[key])
        image = next((case[key] for key in self.keys if key in case), None)
        for key in self.label_keys:
            if key not in data and self.allow_missing_keys:
                continue
            if key not in data:
                raise KeyError(f"The case has no {key!r}; its keys are {', '.join(map(str, data))}.")
            label = data[key] if isinstance(data[key], MetaTensor) else self.load_label(data[key])
            case[key] = label if image is None else match_label(label, image)
        return case

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return `data` as loaded: orientation is kept, and `spacing` in the metadata is again that of its grid.

        `Invertd` gives a prediction the metadata of its image, which batching has turned into a plain dict.
        """
        case = dict(data)
        for key in self.key_iterator(case):
            if isinstance(case[key], MetaTensor):
                case[key].meta = with_own_spacing(case[key].meta)
        return case


def load_again(meta: Mapping[str, Any]) -> MetaTensor:
    """Read the image of `meta` again, as before, for display in place of the network's input.

    Args:
        meta: the meta of an image from `LoadMedicalImage`.

    Raises:
        ReadError: the image can no longer be read.
    """
    plane = cast(PlaneChoice, str(meta[meta_keys.PLANE]) if meta_keys.PLANE in meta else "auto")
    intensity = cast(IntensityChoice, str(meta[meta_keys.INTENSITY]))
    return LoadMedicalImage("image", plane, intensity, "slices" if meta_keys.IRREGULAR in meta else "refuse")(
        source_of(meta)
    )


def match_label(label: MetaTensor, image: MetaTensor) -> MetaTensor:
    """Return `label` on the grid of `image`: axes are permuted and flipped if needed, without resampling.

    Args:
        label: (1, H, W) or (1, H, W, D) with the meta of `LoadMedicalImage`.
        image: (3, H, W) or (3, H, W, D), likewise.

    Raises:
        ReadError: `E_SHAPE_MISMATCH`, the sizes differ; `E_GEOMETRY`, the positions in space differ.
    """
    label_name, image_name = (base_name(Path(str(one.meta[meta_keys.FILENAME]))) for one in (label, image))
    names = f"Label {label_name} of image {image_name}"
    sizes = f"{' x '.join(map(str, label.shape[1:]))} and {' x '.join(map(str, image.shape[1:]))}"
    if sorted(label.shape[1:]) != sorted(image.shape[1:]) or (label.ndim == 3 and label.shape[1:] != image.shape[1:]):
        raise ReadError("E_SHAPE_MISMATCH", f"{names}: sizes {sizes} differ; export the label at the image's size.")
    if label.ndim == 3:
        return label
    try:
        array = align(label[0].numpy(), label.affine.numpy(), image.affine.numpy(), image.shape[1:])
    except GridError as error:
        raise ReadError("E_GEOMETRY", f"{names}: {error}; copy the image's geometry to the label.") from error
    meta = label.meta | {meta_keys.LOADED_SHAPE: np.array(array.shape), meta_keys.AFFINE: image.affine.clone()}
    meta |= {key: image.meta[key] for key in (meta_keys.SPACING, meta_keys.LOADED_SPACING) if key in image.meta}
    return MetaTensor(torch.from_numpy(array[None]), meta=GridMeta(meta))


def _read(path: Path, label: bool, irregular: Irregular) -> Source:
    """Choose the reader by content, or by suffix if the content is inconclusive."""
    if not path.exists():
        raise ReadError("E_NOT_FOUND", f"{base_name(path)} does not exist; check the path.")
    if path.is_dir():
        return read_dicom_folder(path, irregular)
    if not path.is_file():  # a pipe would be waited for, a device read without end
        raise ReadError("E_FORMAT", f"{base_name(path)} is not a regular file; give a file or a folder.")
    kind = kind_of(path)
    if kind == "dicom":
        return read_dicom_file(path, irregular)
    check_content(path, kind)
    if kind == "slide":
        raise ReadError("E_SLIDE", f"{base_name(path)} is a whole slide; give it to tpseg run.")
    if kind == "nifti":
        return read_nifti(path)
    if kind == "itk":
        return read_itk(path)
    if kind == "picture":
        return read_picture(path, label)
    if path.suffix.lower() in (".hdr", ".img"):
        raise ReadError("E_FORMAT", f"{base_name(path)} is one of a pair (.hdr and .img); save both as one .nii.gz.")
    raise ReadError(
        "E_FORMAT", f"{base_name(path)} is not DICOM, NIfTI, NRRD, PNG, JPEG, TIFF or BMP; convert it to one of them."
    )


def _read_all(files: list[Path], irregular: Irregular) -> Source:
    for path in files:
        if not path.is_file():
            raise ReadError("E_NOT_FOUND", f"{base_name(path)} is not a file; give the files of one series.")
        if not is_dicom(path):
            raise ReadError("E_FORMAT", f"{base_name(path)} is not DICOM; only DICOM files can form one case.")
    return read_dicom_files(files, irregular)
