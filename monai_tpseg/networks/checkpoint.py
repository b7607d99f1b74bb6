"""Weights files: reading them safely, SAM 2 trunks, and state dicts of the released TP-Seg layout.

Everything here maps dictionaries to dictionaries or loads them strictly; nothing guesses, and nothing unpickles code.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from monai_tpseg.files import file_sha256
from monai_tpseg.parsing import check_safetensors

__all__ = [
    "SAM2_FILES",
    "CheckpointError",
    "content_sha256",
    "convert_released",
    "download_sam2",
    "load_sam2_trunk",
    "load_strictly",
    "load_weights",
    "read_checkpoint",
    "sam2_trunk_state",
    "write_checkpoint",
]

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
_TRUNK_PREFIX = "image_encoder.trunk."


class CheckpointError(ValueError):
    """A weights file that is missing, damaged, or made for something else; the message is one line."""


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a `.pt` / `.pth` file (tensors and plain containers only, nothing is unpickled) or a `.safetensors` file.

    Raises:
        CheckpointError: the file is missing, damaged, or holds no dictionary.
    """
    file = Path(path)
    if not file.is_file():
        raise CheckpointError(f"No weights file at '{file}'; give the path of an existing file.")
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            check_safetensors(file)
            content: Any = load_file(file)
        else:
            content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # the readers raise a dozen types for damaged files
        reason = " ".join(str(error).split())[:120]
        raise CheckpointError(
            f"Cannot read '{file}' as weights ({type(error).__name__}: {reason}); the file is damaged or no state dict."
        ) from error
    if not isinstance(content, dict) or not content:
        raise CheckpointError(f"'{file}' holds {type(content).__name__} instead of a dictionary of tensors.")
    return content


def write_checkpoint(content: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Write tensors and plain containers, as `torch.save`, which calls a full disc a RuntimeError about positions.

    Args:
        content: names to tensors, numbers, texts, lists, dictionaries.
        path: a temporary name, see `monai_tpseg.files.complete`.

    Raises:
        OSError: the disc is full, or refuses.
    """
    try:
        with open(path, "wb") as stream:
            torch.save(dict(content), stream)
    except RuntimeError as error:
        cause = error.__cause__ or error.__context__
        if isinstance(cause, OSError):
            raise OSError(cause.errno, cause.strerror, str(path)) from error
        raise


def content_sha256(content: Any) -> str:
    """Return the sha256 over names, shapes, types and values of tensors and plain containers.

    It is the same before and after a file, so the file can hold it: `torch.load` does not notice a changed bit.
    """
    digest = hashlib.sha256()
    _feed(digest, content)
    return digest.hexdigest()


def _feed(digest: Any, content: Any) -> None:
    if isinstance(content, Tensor):
        plain = content.detach().cpu().contiguous()
        digest.update(f"{plain.dtype}{tuple(plain.shape)}".encode())
        digest.update(plain.reshape(-1).view(torch.uint8).numpy().data)
    elif isinstance(content, Mapping):
        for key, value in content.items():
            digest.update(f"{key!r}:".encode())
            _feed(digest, value)
    elif isinstance(content, list | tuple):
        digest.update(f"{len(content)};".encode())
        for value in content:
            _feed(digest, value)
    else:
        digest.update(repr(content).encode())


def load_strictly(net: nn.Module, state: Mapping[str, Tensor], source: str, hint: str = "") -> None:
    """Load `state` into `net`; every name and shape must fit.

    Args:
        net: module to fill; untouched when the state does not fit.
        state: names to tensors.
        source: what the error calls the state, e.g. the file's path.
        hint: what the error says to do.

    Raises:
        CheckpointError: one line with the number of missing, unexpected and misshapen entries and the first of each.
    """
    own = net.state_dict()
    missing = [k for k in own if k not in state]
    foreign = [k for k in state if k not in own]
    shapes = [
        f"{k} is {tuple(state[k].shape)} instead of {tuple(own[k].shape)}"
        for k in own
        if k in state and state[k].shape != own[k].shape
    ]
    problems = [
        f"{len(found)} {what} (first: {found[0]})"
        for found, what in ((missing, "missing"), (foreign, "unexpected"), (shapes, "of another shape"))
        if found
    ]
    if problems:
        raise CheckpointError(f"'{source}' does not fit this network: {', '.join(problems)}. {hint}".strip())
    net.load_state_dict(dict(state))


def load_weights(net: nn.Module, path: str | os.PathLike[str]) -> None:
    """Load a flat state dict of this package (`model.pt`) strictly into `net`."""
    state = read_checkpoint(path)
    if not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(
            f"'{path}' is not a flat state dict (keys: {', '.join(list(state)[:4])}); give model.pt, not last.pt."
        )
    load_strictly(net, state, str(path), "The backbone, the layout or the tasks of the weights differ.")


# ---------------------------------------------------------------------------------------------------------------------
# SAM 2


def sam2_trunk_state(checkpoint: Mapping[str, Any], source: str = "checkpoint") -> dict[str, Tensor]:
    """Return the trunk's state dict out of an official SAM 2 / 2.1 checkpoint `{"model": state_dict}`.

    Raises:
        CheckpointError: the dictionary is not of that form.
    """
    model = checkpoint.get("model")
    if isinstance(model, Mapping):
        state = {k[len(_TRUNK_PREFIX) :]: v for k, v in model.items() if k.startswith(_TRUNK_PREFIX)}
        if state:
            return state
    raise CheckpointError(
        f"'{source}' is not an official SAM 2 file: expected a dictionary 'model' with keys '{_TRUNK_PREFIX}...'; "
        f"get one of {', '.join(files[0] for files in SAM2_FILES.values())} from {_SAM2_URL}."
    )


def load_sam2_trunk(trunk: nn.Module, path: str | os.PathLike[str], backbone: str) -> None:
    """Load the trunk of an official SAM 2 / 2.1 checkpoint file strictly.

    Args:
        trunk: `sam2`'s Hiera.
        path: local file, e.g. `sam2.1_hiera_large.pt`.
        backbone: name of the trunk's variant, for the error message.

    Raises:
        CheckpointError: one line that says which file is expected and where to get it.
    """
    expected = " or ".join(SAM2_FILES.get(backbone, ())) or f"weights of '{backbone}', for which none are published"
    hint = f"Backbone '{backbone}' expects {expected} from {_SAM2_URL}."
    if not Path(path).is_file():
        raise CheckpointError(f"No SAM 2 file at '{path}'. {hint}")
    load_strictly(trunk, sam2_trunk_state(read_checkpoint(path), str(path)), str(path), hint)
    logger.info("Loaded the SAM 2 trunk of %s from %s", backbone, Path(path).name)


def download_sam2(backbone: str, folder: str | os.PathLike[str]) -> Path:
    """Download the SAM 2.1 file of `backbone` into `folder` unless it is there, and check its sha256.

    A convenience: everything works with a file that is already there, and nothing downloads unless this is called.

    Args:
        backbone: one of the keys of `SAM2_FILES`.
        folder: where the file goes.

    Returns:
        path of the file.

    Raises:
        ValueError: no such backbone.
        CheckpointError: the digest differs; the file is left for you to look at under the name it was downloaded to.
    """
    if backbone not in SAM2_FILES:
        raise ValueError(f"No SAM 2 file for backbone {backbone!r}; choose one of {', '.join(SAM2_FILES)}.")
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


# ---------------------------------------------------------------------------------------------------------------------
# the released layout

_PGTD_RENAMES = {
    "adaptive_scale_weights": "extras.scales.{k}.scale_weight.weight",
    "expert_init_scale": "decoder.pgtds.{k}.experts.blend",
    "sim_temp": "decoder.pgtds.{k}.temperature",
    "proto_amplifier": "decoder.pgtds.{k}.amplifier",
    "multi_scale_protos": "decoder.pgtds.{k}.bank.prototypes",
    "proj_low.": "decoder.pgtds.{k}.project_low.",
    "proj_high.": "decoder.pgtds.{k}.project_high.",
    "fuse.": "decoder.pgtds.{k}.fuse.",
    "scale_encoders.0.": "decoder.pgtds.{k}.encode.",
    "proto_cross_attn.0.": "decoder.pgtds.{k}.attention.",
    "proto_fuser.": "decoder.pgtds.{k}.descriptor.",
    "scale_router.": "extras.scales.{k}.scale_router.",
    "proto_initializer.": "extras.scales.{k}.initializer.",
    "expert_generator.": "decoder.pgtds.{k}.experts.generator.",
    "expert_weight_gen.0.": "decoder.pgtds.{k}.experts.weights.",
    "head.": "decoder.pgtds.{k}.head.",
}

_RENAMES: list[tuple[str, str]] = [
    (r"encoder\.(pos_embed.*|patch_embed\..*)", r"encoder.trunk.\1"),
    (r"encoder\.blocks\.(\d+)\.block\.(.*)", r"encoder.trunk.blocks.\1.\2"),
    (r"encoder\.blocks\.(\d+)\.adapter\.task_scales", r"encoder.adapters.\1.task_scale"),
    (r"encoder\.blocks\.(\d+)\.adapter\.norm\.(.*)", r"encoder.adapters.\1.norm.\2"),
    (r"task_embedding\.(.*)", r"extras.task_embedding.\1"),
    (r"fuser\.weight\.weight", r"fusion.task_weight"),
]
_RFB_PARTS = {"branch": "branches.", "conv_cat.": "merge.", "conv_res.": "residual."}
_HEAD_PARTS = {"0.": "depthwise.", "1.": "norm.", "3.weight": "task_weight", "3.bias": "task_bias"}
_DERIVED = ("proto_initialized", "proto_momentum", "identity_kernel")  # configuration or constants in this package
_ROUTER = re.compile(r"encoder\.blocks\.(\d+)\.adapter\.task_routers\.(\d+)\.([02])\.weight")


def convert_released(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a state dict of the released TP-Seg layout to `tpseg_hiera(..., layout="released")`.

    Foreground and background change places in the prototypes (index 0 is background here), the routers of all tasks
    are stacked into one tensor per block, 1x1 convolutions of heads become rows, and a `module.` prefix is dropped.

    Raises:
        CheckpointError: a key that the layout does not have, or prototypes that were never initialised.
    """
    result: dict[str, Tensor] = {}
    routers: dict[str, dict[int, Tensor]] = {}
    for released_key, value in state.items():
        key = released_key.removeprefix("module.")
        if match := _ROUTER.fullmatch(key):
            block, task, layer = match.groups()
            name = f"encoder.adapters.{block}.{'task_down' if layer == '0' else 'task_up'}"
            routers.setdefault(name, {})[int(task)] = value.flatten(1)
        elif key.endswith(_DERIVED):
            if key.endswith("proto_initialized") and not bool(value.all()):
                raise CheckpointError(
                    f"'{key}' says that prototypes of some tasks were never initialised: train first."
                )
        else:
            new = _rename(key)
            result[new] = _reshape(new, value)
            if new.endswith("bank.prototypes"):  # lambda_p is a constant of the released code
                result[new.replace("bank.prototypes", "reinforcement")] = torch.tensor(5.0)
    for name, rows in routers.items():
        result[name] = torch.stack([rows[task] for task in range(len(rows))])
    return result


def _rename(key: str) -> str:
    for pattern, replacement in _RENAMES:
        if re.fullmatch(pattern, key):
            return re.sub(pattern, replacement, key)
    if match := re.fullmatch(r"rfb([1-4])(_1)?\.(.*)", key):
        stage, second, rest = match.groups()
        base = f"extras.rfbs.{int(stage) - 2}." if second else f"decoder.rfbs.{int(stage) - 1}."
        return base + _swap(rest, _RFB_PARTS, key)
    if match := re.fullmatch(r"predtrans([234])\.(.*)", key):
        base = "decoder.side_head." if match[1] == "4" else f"extras.heads.{int(match[1]) - 2}."
        return base + _swap(match[2], _HEAD_PARTS, key)
    if match := re.fullmatch(r"pgtd([123])\.(.*)", key):
        new = _swap(match[2], _PGTD_RENAMES, key).format(k=int(match[1]) - 1)
        return (
            new
            if ".head." not in new
            else f"{new.split('.head.')[0]}.head." + _swap(new.split(".head.")[1], _HEAD_PARTS, key)
        )
    raise CheckpointError(f"'{key}' is not a name of the released TP-Seg layout; is this another model's state dict?")


def _swap(rest: str, table: Mapping[str, str], key: str) -> str:
    for old, new in table.items():
        if rest.startswith(old):
            return new + rest[len(old) :]
    raise CheckpointError(f"'{key}' is not a name of the released TP-Seg layout; is this another model's state dict?")


def _reshape(name: str, value: Tensor) -> Tensor:
    if name.endswith("bank.prototypes"):
        return value[:, 0].flip(1)  # (T, 1, 2, C), foreground first -> (T, 2, C), background first
    if name.endswith("scale_weight.weight"):
        return value.view(1, 1)
    if name.endswith("task_weight") and value.ndim == 4:
        return value.flatten(1)  # (T, C, 1, 1) -> (T, C)
    return value
