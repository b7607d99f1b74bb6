"""Weights files: safe reading without unpickling code, atomic writing, strict loading without guesses."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from monai_tpseg.parsing import check_safetensors, check_stored

__all__ = ["CheckpointError", "content_sha256", "load_strictly", "load_weights", "read_checkpoint", "write_checkpoint"]

logger = logging.getLogger(__name__)


class CheckpointError(ValueError):
    """A missing, damaged or mismatched weights file; the message is one line."""


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
            check_stored(file)
            content = torch.load(file, map_location="cpu", weights_only=True)
            _check_repeated(content, file.stat().st_size)
    except Exception as error:  # the readers raise a dozen types for damaged files
        reason = " ".join(str(error).split())[:120]
        raise CheckpointError(
            f"Cannot read '{file}' as weights ({type(error).__name__}: {reason}); it is damaged or not a state dict."
        ) from error
    if not isinstance(content, dict) or not content:
        raise CheckpointError(f"'{file}' holds {type(content).__name__} instead of a dictionary of tensors.")
    return content


def _check_repeated(content: Any, size: int) -> None:
    """Refuse a tensor that is larger than its file: a few numbers, repeated, until whoever copies it has no memory."""
    if isinstance(content, Tensor) and content.numel() * content.element_size() > size:
        raise ValueError(f"a tensor of shape {tuple(content.shape)} in a file of {size} bytes")
    parts = content.values() if isinstance(content, Mapping) else content if isinstance(content, list | tuple) else ()
    for part in parts:
        _check_repeated(part, size)


def write_checkpoint(content: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Write tensors and plain containers as `torch.save` does, but raise OSError if the disc is full.

    Args:
        content: names to tensors, numbers, texts, lists, dictionaries.
        path: a temporary name, see `monai_tpseg.files.complete`.

    Raises:
        OSError: the disc is full, or the write is refused.
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

    The digest survives saving and loading, so it can be stored in the file itself; `torch.load` does not detect a
    changed bit.
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
        net: module to fill; unchanged if the state does not fit.
        state: names to tensors.
        source: name of the state in the error message, e.g. the file's path.
        hint: advice in the error message.

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
