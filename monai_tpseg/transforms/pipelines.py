"""Loads the YAML of the top-level `transforms/` folder: how the pixels of a modality become network input."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Hashable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ComponentLocator, ConfigComponent
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import Compose, MapTransform

from monai_tpseg.catalogue import Modality, Task, get_task
from monai_tpseg.io.meta_keys import INTENSITY, INVERTED, Intensity
from monai_tpseg.io.no_data import BlackenNoDatad, HideNoDatad
from monai_tpseg.keys import IMAGE, TASK, TASK_NAME
from monai_tpseg.parsing import ParseError, read_yaml
from monai_tpseg.words import choose

__all__ = [
    "InvertMonochrome1d",
    "NormalizeByModalityd",
    "load_pipeline",
    "pipeline_path",
    "pipelines_hash",
    "slide_mpp",
    "warn_of_other_pipelines",
]

logger = logging.getLogger(__name__)

_SECTIONS = ("physical", "display", "network")
_BASE = "base.yaml"  # sections that the files of a folder share
_MPP = "mpp"  # a number beside the sections of pathology
_MONAI = ComponentLocator()  # short names of MONAI classes, looked up once


def pipeline_path(modality: Modality | str, directory: str | Path | None = None) -> Path:
    """Return the YAML file of `modality`.

    Args:
        modality: a `Modality` or its value, e.g. `ct`.
        directory: a custom folder with all seven files, and a `base.yaml` with the sections that they share; None uses
            the installed ones.

    Raises:
        ValueError: there is no such modality, or the folder has no file for it.
    """
    names = [choice.value for choice in Modality]
    name = modality.value if isinstance(modality, Modality) else modality
    if name not in names:
        raise ValueError(f"Unknown modality {name!r}; {choose(name, names)}.")
    folder = _installed() if directory is None else Path(directory)
    path = folder / f"{name}.yaml"
    if not path.is_file():
        raise ValueError(f"No pipeline {path}; the folder needs {', '.join(f'{choice}.yaml' for choice in names)}.")
    return path


def load_pipeline(
    modality: Modality | str, intensity: Intensity, directory: str | Path | None = None, network: bool = True
) -> Compose:
    """Return the transforms that convert the key `image` from values as read to network input.

    Args:
        modality: a `Modality` or its value.
        intensity: `physical` or `display`, as `LoadMedicalImaged` left it in the meta.
        directory: see `pipeline_path`.
        network: end with the `network` section; without it, the result is in 0..1, for display.

    Raises:
        ValueError: the file is missing, has an invalid section, or names a transform that cannot be built.
    """
    if intensity not in ("physical", "display"):
        raise ValueError(f"Unknown intensity {intensity!r}; choose physical or display.")
    path = pipeline_path(modality, directory)
    sections = _read(path)
    steps = [*_build(sections[intensity], path), InvertMonochrome1d(IMAGE)]
    if intensity == "physical":  # on a screen, what is no data is black as read
        steps = [HideNoDatad(IMAGE, absolute=Modality(modality).is_absolute), *steps, BlackenNoDatad(IMAGE)]
    return Compose([*steps, *(_build(sections["network"], path) if network else [])])


def pipelines_hash(directory: str | Path | None = None) -> str:
    """Return the sha256 over the content of all seven pipelines; comments, key order and layout are ignored.

    Args:
        directory: see `pipeline_path`.

    Raises:
        ValueError: a file is missing or malformed.
    """
    content = {modality.value: _read(pipeline_path(modality, directory)) for modality in Modality}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def warn_of_other_pipelines(trained: str) -> None:
    """Log a warning if the pipelines differ from those of the training, whose `pipelines_hash` is `trained`."""
    if trained != pipelines_hash():
        logger.warning("The modality files in transforms/ differ from those the weights were trained with.")


def slide_mpp(directory: str | Path | None = None) -> float:
    """Return the magnification of whole slides, micrometres per pixel of network input: `mpp` in `pathology.yaml`.

    It is not part of `pipelines_hash`: it does not apply to pictures.

    Args:
        directory: see `pipeline_path`.

    Raises:
        ValueError: the file is missing or malformed, or lacks the value.
    """
    path = pipeline_path(Modality.PATHOLOGY, directory)
    mpp = _content(path).get(_MPP)
    if isinstance(mpp, bool) or not isinstance(mpp, int | float) or not 0 < mpp < 100:
        raise ValueError(f"{path}: mpp must be a number of micrometres per pixel, got {mpp!r}.")
    return float(mpp)


class InvertMonochrome1d(MapTransform):
    """Turn images whose meta says `inverted` from white-is-low to white-is-high, once.

    Args:
        keys: keys of MetaTensors in 0..1.
        allow_missing_keys: skip keys that a case does not have.
    """

    def __init__(self, keys: KeysCollection = IMAGE, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return `data` with inverted images and `inverted` cleared."""
        case = dict(data)
        for key in self.key_iterator(case):
            if bool(case[key].meta.get(INVERTED, False)):
                case[key] = 1 - case[key]
                case[key].meta[INVERTED] = False
        return case


class NormalizeByModalityd(MapTransform):
    """Apply the pipeline of each case's modality; the task gives the modality, the metadata the kind of values.

    Args:
        keys: keys of images from `LoadMedicalImaged`.
        task_key: key of the task name; `keys.TASK_NAME` goes first, so it works before and after `TaskToIndexd`.
        directory: see `pipeline_path`.
        network: see `load_pipeline`.
        allow_missing_keys: skip keys that a case does not have.
        modalities: of tasks beyond the catalogue, by name, from the description of the weights.

    Raises:
        ValueError: a pipeline is missing or malformed (raised on construction); the task is unknown; the image was
            not read by `LoadMedicalImaged`.
    """

    def __init__(
        self,
        keys: KeysCollection = IMAGE,
        task_key: str = TASK,
        directory: str | Path | None = None,
        network: bool = True,
        allow_missing_keys: bool = False,
        modalities: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.task_key = task_key
        self.modalities = dict(modalities or {})
        intensities: tuple[Intensity, ...] = ("physical", "display")
        self.pipelines = {
            (modality, intensity): load_pipeline(modality, intensity, directory, network)
            for modality in Modality
            for intensity in intensities
        }

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return `data` with float32 images, normalised."""
        case = dict(data)
        modality = self.get_task(self._task(case)).modality
        for key in self.key_iterator(case):
            case[key] = self.normalised(case[key], modality, key)
        return case

    def normalised(self, image: torch.Tensor, modality: Modality, name: Hashable = IMAGE) -> MetaTensor:
        """Return an image of `LoadMedicalImage`, normalised as `modality` asks, float32.

        Args:
            image: (3, H, W) or (3, H, W, D), with its meta.
            modality: whose pipeline to apply.
            name: of the image in error messages.

        Raises:
            ValueError: the image was not read by `LoadMedicalImage`.
        """
        intensity = getattr(image, "meta", {}).get(INTENSITY)
        if intensity not in ("physical", "display"):
            raise ValueError(
                f"{name!r} does not declare the meaning of its values; read it with LoadMedicalImaged. A dataset that "
                "stores images on disk loses their metadata: PersistentDataset needs track_meta=True and "
                "weights_only=False."
            )
        normalised: MetaTensor = self.pipelines[modality, intensity]({IMAGE: image})[IMAGE].to(torch.float32)
        return normalised

    def get_task(self, name: str) -> Task:
        """Return the task called `name`, of the catalogue or beyond; see `monai_tpseg.catalogue.get_task`."""
        return get_task(name, self.modalities)

    def _task(self, case: Mapping[Hashable, Any]) -> str:
        name = case.get(TASK_NAME, case.get(self.task_key))
        if not isinstance(name, str):
            raise ValueError(
                f"The case has no task name under {self.task_key!r}, got {name!r}; name its task, or keep the "
                f"{TASK_NAME!r} that TaskToIndexd puts beside the row."
            )
        return name


def _installed() -> Path:
    """The folder in a wheel is `monai_tpseg/pipelines`, in a checkout the top-level `transforms`."""
    package = Path(str(files("monai_tpseg")))
    for folder in (package / "pipelines", package.parent / "transforms"):
        if (folder / f"{Modality.CT.value}.yaml").is_file():
            return folder
    raise ValueError(f"No pipelines beside {package}; install monai-tpseg again.")


def _content(path: Path) -> dict[str, Any]:
    """A file, laid over the sections that the folder's files share."""
    base = path.with_name(_BASE)
    return {**(_parsed(base) if base.is_file() else {}), **_parsed(path)}


def _parsed(path: Path) -> dict[str, Any]:
    try:
        content = read_yaml(path)
    except ParseError as error:
        raise ValueError(f"{path} cannot be used ({error}); compare it with the installed one.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} contains no sections; compare it with the installed one.")
    return content


def _read(path: Path) -> dict[str, list[dict[str, Any]]]:
    content = _content(path)
    content.pop(_MPP, None)
    found = list(content)
    if sorted(found) != sorted(_SECTIONS):
        raise ValueError(f"{path} and {_BASE} have the sections {found}; they need exactly {', '.join(_SECTIONS)}.")
    for section, steps in content.items():
        if not isinstance(steps, list) or not all(isinstance(step, dict) and "_target_" in step for step in steps):
            raise ValueError(f"{path}: {section} must be a list of transforms, each with a _target_.")
    sections: dict[str, list[dict[str, Any]]] = content
    return sections


def _build(steps: list[dict[str, Any]], path: Path) -> list[Any]:
    built = []
    for step in steps:
        try:
            built.append(ConfigComponent(dict(step), locator=_MONAI).instantiate())
        except Exception as error:  # a constructor may raise anything; the user needs the file and the transform
            cause = " ".join(str(error.__cause__ or error).split())
            raise ValueError(f"{path}: cannot build {step['_target_']}: {cause}") from error
    return [transform for transform in built if transform is not None]  # None: MONAI's _disabled_
