"""Exemplars of a session: pictures with masks."""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from monai.data import MetaTensor
from torch import Tensor

from monai_tpseg.annotate.session.session_error import SessionError, no_writing
from monai_tpseg.catalogue import Modality
from monai_tpseg.files import complete
from monai_tpseg.io import meta_keys
from monai_tpseg.io.safety import base_name
from monai_tpseg.keys import IMAGE, LABEL
from monai_tpseg.transforms import CropToRegiond, ResizePictured
from monai_tpseg.transforms.pipelines import load_pipeline
from monai_tpseg.transforms.transfer import load_pair

__all__ = ["ExemplarPicture", "read_exemplar_picture"]


@dataclass(frozen=True)
class ExemplarPicture:
    """An exemplar as network input.

    Attributes:
        image: (3, h, w) float32, normalised.
        label: (1, h, w) float32 in {0, 1}, not empty.
    """

    image: Tensor
    label: Tensor

    @property
    def digest(self) -> str:
        """The digest of the exemplar, its identifier."""
        return hashlib.sha256(self.image.numpy().tobytes() + self.label.numpy().tobytes()).hexdigest()[:32]

    def save(self, path: Path) -> None:
        """Write the exemplar atomically.

        Raises:
            SessionError: the file cannot be written.
        """
        try:
            with complete(path) as part, part.open("wb") as file:
                np.savez_compressed(file, image=self.image.numpy(), label=np.packbits(self.label.numpy() > 0))
        except OSError as error:
            raise no_writing(path.parent, error) from error

    @classmethod
    def load(cls, path: Path) -> ExemplarPicture:
        """Read a file written by `save`.

        Raises:
            SessionError: the file is missing or damaged.
        """
        try:
            with np.load(path, allow_pickle=False) as content:
                image, bits = content["image"], content["label"]
            flat = np.unpackbits(bits, count=image[0].size).reshape(1, *image.shape[1:])
            shown = cls(torch.from_numpy(image), torch.from_numpy(flat.astype(np.float32)))
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise SessionError("An exemplar of the session is missing or damaged; start a new session.") from error
        if shown.digest != path.stem:
            raise SessionError("An exemplar of the session is damaged; start a new session.")
        return shown


def read_exemplar_picture(
    image: Path,
    label: Path,
    modality: Modality,
    size: tuple[int, int],
    read: Callable[[Path, Path], tuple[MetaTensor, MetaTensor]] = load_pair,
) -> ExemplarPicture:
    """Read a picture and its mask as in training.

    Args:
        image: file of the picture; volumes are rejected.
        label: file of its mask, of the same size.
        modality: modality that selects the preprocessing.
        size: (h, w) of the network's input.
        read: reads both files; by default in this process.

    Raises:
        ReadError: one of them cannot be read, or their sizes differ.
        SessionError: the image is a volume, or the mask is empty.
    """
    case: dict[Any, Any] = dict(zip((IMAGE, LABEL), read(image, label), strict=True))
    if case[IMAGE].ndim != 3:
        raise SessionError(f"An exemplar is a picture, and {base_name(image)} is a volume; give one slice of it.")
    case = cast(dict[Any, Any], CropToRegiond((IMAGE, LABEL))(case))
    intensity = cast(Any, str(case[IMAGE].meta[meta_keys.INTENSITY]))
    case[IMAGE] = cast(dict[Any, Any], load_pipeline(modality, intensity)({IMAGE: case[IMAGE]}))[IMAGE]
    case = cast(dict[Any, Any], ResizePictured(size)(case))
    shown = ExemplarPicture(case[IMAGE].float().contiguous(), case[LABEL].float().contiguous())
    if not bool(shown.label.any()):
        raise SessionError(f"The mask {base_name(label)} marks nothing; an exemplar must show what to look for.")
    return shown
