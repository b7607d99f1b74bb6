"""Pictures of a masked autoencoder's reconstructions: original, visible part, reconstruction."""

from __future__ import annotations

import io
from pathlib import Path

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from monai_tpseg.engines.masked_pretraining import draw_hidden, unit_statistics
from monai_tpseg.files import write_atomically
from monai_tpseg.networks.masked_autoencoder import MaskedAutoencoder, from_units, to_units

__all__ = ["PICTURE", "draw_reconstructions"]

PICTURE = "reconstruction.png"

_GREY = 0.5  # of what is hidden, in the 0..1 of the picture
_INCHES = 1.7  # of a picture's side


@torch.no_grad()
def draw_reconstructions(
    network: MaskedAutoencoder, image: Tensor, titles: list[str], ratio: float, seed: int, path: Path
) -> None:
    """Draw input, visible part and reconstruction of each picture, a column each.

    The network guesses the values of a unit relative to its own mean and deviation. Those are taken from the picture,
    as its authors do: so brightness is not guessed, what lies inside is. What was visible is shown as it is.

    Args:
        network: on any device.
        image: (B, 3, H, W) as the network takes it.
        titles: above the columns.
        ratio: part that is hidden.
        seed: random seed.
        path: the file, `.png`.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        hidden = draw_hidden(len(image), network.units, ratio)
    device = next(network.parameters()).device
    network.eval()
    pixels = network(image.to(device), hidden.to(device)).pixels.float().cpu()
    network.train()
    own, size = to_units(image), (image.shape[-2], image.shape[-1])
    mean, deviation = unit_statistics(image)
    guessed = torch.where(hidden[:, :, None], pixels * deviation + mean, own.flatten(2)).view_as(own)
    low, high = image.amin((1, 2, 3), keepdim=True), image.amax((1, 2, 3), keepdim=True)
    rows = [(part - low) / (high - low).clamp(min=1e-6) for part in (image, from_units(guessed, size))]
    seen = from_units(torch.where(hidden[:, :, None, None, None], _GREY, to_units(rows[0])), size)
    _write([rows[0], seen, rows[1]], titles, path)


def _write(rows: list[Tensor], titles: list[str], path: Path) -> None:
    columns = len(titles)
    figure = Figure((_INCHES * columns + 0.4, 3 * _INCHES + 0.4), layout="constrained")
    axes = figure.subplots(3, columns, squeeze=False)
    for r, (pictures, name) in enumerate(zip(rows, ("input", "seen", "guessed"), strict=True)):
        for c in range(columns):
            axes[r, c].imshow(pictures[c].clamp(0, 1).permute(1, 2, 0).numpy())
            axes[r, c].set_xticks([])
            axes[r, c].set_yticks([])
        axes[r, 0].set_ylabel(name)
    for c, title in enumerate(titles):
        axes[0, c].set_title(title, fontsize=9)
    drawn = io.BytesIO()
    FigureCanvasAgg(figure).print_png(drawn)
    write_atomically(path, drawn.getvalue())
