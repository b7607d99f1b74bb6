"""SAM 2's official files: strict loading of the trunk, and download with SHA-256 verification."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from monai_tpseg.files import file_sha256
from monai_tpseg.networks.checkpoint import CheckpointError, load_strictly, read_checkpoint
from monai_tpseg.words import choose

__all__ = ["SAM2_FILES", "TRUNK_PREFIX", "download_sam2", "load_sam2_trunk", "sam2_trunk_state"]

logger = logging.getLogger(__name__)

SAM2_FILES: dict[str, tuple[str, ...]] = {
    "hiera_tiny": ("sam2.1_hiera_tiny.pt", "sam2_hiera_tiny.pt"),
    "hiera_small": ("sam2.1_hiera_small.pt", "sam2_hiera_small.pt"),
    "hiera_base_plus": ("sam2.1_hiera_base_plus.pt", "sam2_hiera_base_plus.pt"),
    "hiera_large": ("sam2.1_hiera_large.pt", "sam2_hiera_large.pt"),
}
"""The official checkpoint files of each backbone, SAM 2.1 first."""

_SAM2_URL = "https://dl.fbaipublicfiles.com/segment_anything_2/092824"
_SAM2_SHA256 = {
    "sam2.1_hiera_tiny.pt": "7402e0d864fa82708a20fbd15bc84245c2f26dff0eb43a4b5b93452deb34be69",
    "sam2.1_hiera_small.pt": "6d1aa6f30de5c92224f8172114de081d104bbd23dd9dc5c58996f0cad5dc4d38",
    "sam2.1_hiera_base_plus.pt": "a2345aede8715ab1d5d31b4a509fb160c5a4af1970f199d9054ccfb746c004c5",
    "sam2.1_hiera_large.pt": "2647878d5dfa5098f2f8649825738a9345572bae2d4350a2468587ece47dd318",
}
TRUNK_PREFIX = "image_encoder.trunk."
"""What names of the trunk begin with in SAM 2's files."""


def sam2_trunk_state(checkpoint: Mapping[str, Any], source: str = "checkpoint") -> dict[str, Tensor]:
    """Return the trunk's state dict from an official SAM 2 / 2.1 checkpoint `{"model": state_dict}`.

    Raises:
        CheckpointError: the dictionary is not of that form.
    """
    model = checkpoint.get("model")
    if isinstance(model, Mapping):
        state = {k[len(TRUNK_PREFIX) :]: v for k, v in model.items() if k.startswith(TRUNK_PREFIX)}
        if state:
            return state
    raise CheckpointError(
        f"'{source}' is not an official SAM 2 file: expected a dictionary 'model' with keys '{TRUNK_PREFIX}...'; "
        f"get one of {', '.join(files[0] for files in SAM2_FILES.values())} from {_SAM2_URL}."
    )


def load_sam2_trunk(trunk: nn.Module, path: str | os.PathLike[str], backbone: str) -> None:
    """Load the trunk of an official SAM 2 / 2.1 checkpoint file, or of `tpseg pretrain`, strictly.

    Args:
        trunk: `sam2`'s Hiera.
        path: local file, e.g. `sam2.1_hiera_large.pt` or `encoder.pt`.
        backbone: name of the trunk's variant, for the error message.

    Raises:
        CheckpointError: one line with the expected file and its source.
    """
    files = " or ".join(SAM2_FILES.get(backbone, ()))
    ours = "the encoder.pt of tpseg pretrain with the same backbone and stem"
    hint = f"Backbone '{backbone}' expects {f'{files} from {_SAM2_URL}' if files else ours}."
    if not Path(path).is_file():
        raise CheckpointError(f"No SAM 2 file at '{path}'. {hint}" if files else f"No encoder at '{path}'. {hint}")
    load_strictly(trunk, sam2_trunk_state(read_checkpoint(path), str(path)), str(path), hint)
    logger.info("Loaded the trunk of %s from %s", backbone, Path(path).name)


def download_sam2(backbone: str, folder: str | os.PathLike[str]) -> Path:
    """Download the SAM 2.1 file of `backbone` into `folder` if missing, and verify its sha256.

    A convenience: existing files work everywhere, and nothing else downloads.

    Args:
        backbone: one of the keys of `SAM2_FILES`.
        folder: destination of the file.

    Returns:
        path of the file.

    Raises:
        ValueError: no such backbone.
        CheckpointError: the digest differs; the file is kept under its download name for inspection.
    """
    if backbone not in SAM2_FILES:
        raise ValueError(f"No SAM 2 file for backbone {backbone!r}; {choose(backbone, SAM2_FILES)}.")
    name = SAM2_FILES[backbone][0]
    target = Path(folder) / name
    source = target
    if not target.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        source = target.with_suffix(".part")
        torch.hub.download_url_to_file(f"{_SAM2_URL}/{name}", str(source))
    if (found := file_sha256(source)) != _SAM2_SHA256[name]:
        raise CheckpointError(
            f"'{source}' has sha256 {found} instead of {_SAM2_SHA256[name]}; remove it and try again."
        )
    os.replace(source, target)
    return target
