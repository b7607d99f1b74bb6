"""K-Prism as two ONNX files, for a browser or a viewer: an image is encoded once, each prompt on it is decoded."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from monai.utils import optional_import
from torch import Tensor, nn

from monai_tpseg.files import complete
from monai_tpseg.networks.kprism.kprism import ImageState, KPrism
from monai_tpseg.networks.kprism.prompt import Prompt

__all__ = ["NO_MASK", "export_prompts", "file_pair"]

NO_MASK = -1e4
"""What `previous_logits` is full of where there is no previous mask: its probability is 0."""

_OPSET = 18  # the first that knows the largest of several values written to one place, as clicks are drawn
_TOLERANCE = 1e-3  # of the largest logit, float32


class _Encoder(nn.Module):
    """(B, 3, H, W) -> the maps that the decoder takes."""

    def __init__(self, net: KPrism) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        state = self.net.encode(image)
        return (*state.pixels, *(() if state.fine is None else (state.fine,)))


class _Decoder(nn.Module):
    """Clicks, a previous mask and the maps -> logits, for one class or none."""

    def __init__(self, net: KPrism, size: tuple[int, int], row: int | None) -> None:
        super().__init__()
        self.net, self.size, self.row = net, size, row

    def forward(self, clicks: Tensor, previous_logits: Tensor, *maps: Tensor) -> Tensor:
        fine = None if self.net.detail is None else maps[-1]
        pixels = maps if fine is None else maps[:-1]
        # without exemplars, nothing but the batch of the first field is looked at
        state = ImageState(pixels[0], tuple(pixels), None, self.size, fine)
        task = None if self.row is None else torch.full_like(clicks[:, 0, 0], self.row, dtype=torch.int64)
        return self.net.decode(state, Prompt(task, clicks, previous_logits))


def file_pair(path: str | os.PathLike[str]) -> tuple[Path, Path]:
    """Return the files of encoder and decoder: `click.onnx` becomes `click_encoder.onnx` and `click_decoder.onnx`."""
    stem = Path(path).with_suffix("")
    return stem.with_name(f"{stem.name}_encoder.onnx"), stem.with_name(f"{stem.name}_decoder.onnx")


@torch.no_grad()
def export_prompts(
    net: KPrism, path: str | os.PathLike[str], size: tuple[int, int], row: int | None = None
) -> tuple[float, tuple[Path, Path]]:
    """Write encoder and decoder, run both with `onnxruntime` and compare them with the network.

    The encoder takes `image` (B, 3, H, W) and gives `pixels_0` and so on, and `fine` where the network has a detail
    block. The decoder takes these maps beside `clicks` (B, N, 3), N >= 1, as in `Prompt`, a click of polarity 0 being
    none, and `previous_logits` (B, 1, H, W), full of `NO_MASK` where there is no mask yet; it gives `logits`
    (B, 1, H, W). Any B and N; H and W are fixed. All are float32. Exemplars are not exported.

    Args:
        net: on the CPU.
        path: see `file_pair`; files there are replaced once the new ones are compared.
        size: H and W.
        row: the class that clicks refine; None for clicks alone.

    Returns:
        the largest difference of the logits, relative to the largest logit, and the two files.

    Raises:
        ValueError: an unknown class, a size that the network cannot take, or files that compute another result,
            which are removed.
        OSError: the disc is full, or the write is refused.
        OptionalImportError: `onnxruntime` is not installed.
    """
    if row is not None and not 0 <= row < net.num_tasks:
        raise ValueError(f"Unknown class {row}; the network has 0 to {net.num_tasks - 1}.")
    net, files = net.eval(), file_pair(path)
    encoder, decoder = _Encoder(net), _Decoder(net, size, row)
    image, clicks, previous = _sample(2, 2, size)
    maps = encoder(image)
    names = [f"pixels_{level}" for level in range(len(maps) - (net.detail is not None))]
    names += ["fine"] * (net.detail is not None)
    with complete(files[0]) as first, complete(files[1]) as second:
        _write(encoder, (image,), first, ["image"], names)
        _write(decoder, (clicks, previous, *maps), second, ["clicks", "previous_logits", *names], ["logits"])
        samples = [_sample(*counts, size) for counts in ((1, 1), (3, 4))]
        error = max(_difference(encoder, decoder, (first, second), names, sample) for sample in samples)
        if not error < _TOLERANCE:
            raise ValueError(
                f"'{files[1]}' differs from the network by {error:.1g} of the largest logit and is not kept."
            )
    return error, files


def _sample(batch: int, clicks: int, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Image, clicks of either polarity with a padding among them, and a previous mask."""
    generator = torch.Generator().manual_seed(batch)
    image = torch.randn(batch, 3, *size, generator=generator)
    place = torch.rand(batch, clicks, 2, generator=generator) * (torch.tensor(size) - 1)
    polarity = torch.arange(batch * clicks).view(batch, clicks, 1) % 3 - 1.0
    previous = torch.randn(batch, 1, *size, generator=generator)
    previous[0] = NO_MASK
    return image, torch.cat([place, polarity], dim=2), previous


def _write(
    part: nn.Module, inputs: tuple[Tensor, ...], file: Path, names: Sequence[str], outputs: Sequence[str]
) -> None:
    """Write a part whose batch and number of clicks are free."""
    axes = {name: {0: "batch", **({1: "clicks"} if name == "clicks" else {})} for name in (*names, *outputs)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer warns of every shape check
        torch.onnx.export(
            part.eval(),
            inputs,
            str(file),
            input_names=list(names),
            output_names=list(outputs),
            dynamic_axes=axes,
            opset_version=_OPSET,
            dynamo=False,  # as for TP-Seg: the other exporter fixes the number of windows
        )


def _difference(
    encoder: _Encoder,
    decoder: _Decoder,
    files: tuple[Path, Path],
    names: list[str],
    sample: tuple[Tensor, Tensor, Tensor],
) -> float:
    """Run both files as a viewer would, and both parts; return how far the logits are apart."""
    runtime, _ = optional_import("onnxruntime")
    sessions: list[Any] = [runtime.InferenceSession(str(file), providers=["CPUExecutionProvider"]) for file in files]
    image, clicks, previous = sample
    maps = dict(zip(names, sessions[0].run(None, {"image": image.numpy()}), strict=True))
    given = {"clicks": clicks.numpy(), "previous_logits": previous.numpy(), **maps}
    wanted = {one.name for one in sessions[1].get_inputs()}
    found = torch.from_numpy(sessions[1].run(None, {name: given[name] for name in wanted})[0])
    expected = decoder(clicks, previous, *encoder(image))
    return float((found - expected).abs().max() / expected.abs().max())
