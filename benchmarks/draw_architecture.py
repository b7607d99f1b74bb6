"""Draw `docs/figures/architecture.png`: the network, one adapter, one decoder. Nothing is computed or downloaded.

Run it from anywhere: `python -m benchmarks.draw_architecture [OUTPUT]`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

OUTPUT = Path(__file__).resolve().parents[1] / "docs" / "figures" / "architecture.png"

FROZEN, SHARED, TASK, DECODER, DATA = "#dfe7ef", "#d9efe0", "#fbe3c8", "#e7def2", "#f4f4f4"
EDGE, NOTE = "#333333", "#555555"
Point = tuple[float, float]


def box(
    axes: Axes, left: float, bottom: float, width: float, height: float, text: str, color: str, file: str = ""
) -> None:
    """Draw a box with its text in the middle and the file it lives in below the text."""
    shape = FancyBboxPatch(
        (left, bottom), width, height, boxstyle="round,pad=0,rounding_size=0.8", facecolor=color, edgecolor=EDGE, lw=1.0
    )
    axes.add_patch(shape)
    middle = left + width / 2
    axes.text(
        middle, bottom + height / 2 + (1.0 if file else 0), text, ha="center", va="center", fontsize=9, linespacing=1.35
    )
    if file:
        axes.text(middle, bottom + 0.7, file, ha="center", va="bottom", fontsize=7, color=NOTE, family="monospace")


def arrow(axes: Axes, points: Sequence[Point], dashed: bool = False, color: str = EDGE) -> None:
    """Draw a line through `points` with a head at the last."""
    style = "--" if dashed else "-"
    for (x0, y0), (x1, y1) in pairwise(points[:-1]):
        axes.plot([x0, x1], [y0, y1], style, color=color, lw=1.1, solid_capstyle="round")
    head = {"arrowstyle": "-|>", "color": color, "lw": 1.1, "linestyle": style, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", xy=points[-1], xytext=points[-2], arrowprops=head)


def note(axes: Axes, x: float, y: float, text: str, ha: str = "center") -> None:
    """Write a small remark."""
    axes.text(x, y, text, ha=ha, va="center", fontsize=7.5, color=NOTE)


def canvas(axes: Axes, title: str, width: float, height: float) -> None:
    """Set up a panel without axes."""
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.axis("off")
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold")


def draw_network(axes: Axes) -> None:
    """The whole network; numbers are those of Hiera-L."""
    canvas(axes, "TP-Seg on Hiera-L", 150, 66)
    rows, height = (41.0, 28.0, 15.0, 2.0), 10.0
    box(axes, 1, 55, 14, 8, "task\n(B,)", DATA)
    box(axes, 1, 41, 14, 10, "image\n(B, 3, H, W)", DATA)
    box(axes, 23, 55, 30, 9, "split gate: w (B, 48)", TASK, "route.py")
    box(axes, 88, 55, 28, 9, "prototypes (T, 2, C)   (5)", TASK, "prototype.py")
    arrow(axes, [(15, 59.5), (23, 59.5)])
    arrow(axes, [(15, 46), (23, 46)])
    arrow(axes, [(38, 55), (38, 51)])
    note(axes, 39, 53, "w of each block", "left")
    for i, (y, blocks, channels) in enumerate(zip(rows, (2, 6, 36, 4), (144, 288, 576, 1152), strict=True)):
        text = f"stage {i}: {blocks} x (adapter + block)\n{channels} channels, stride {4 * 2**i}"
        box(axes, 23, y, 30, height, text, FROZEN, "hiera.py, adapter.py")
        box(axes, 61, y, 17, height, f"RFB\n{(64, 128, 256, 512)[i]} channels", DECODER, "layers.py")
        arrow(axes, [(53, y + 5), (61, y + 5)])
        arrow(axes, [(78, y + 5), (88, y + 5)])
        if i:
            arrow(axes, [(38, rows[i - 1]), (38, y + height)])
    for i, channels in enumerate((128, 128, 256)):
        box(axes, 88, rows[i], 28, height, f"PGTD{i + 1}: {channels} channels\nlogits, f~", DECODER, "decoder.py")
    box(axes, 88, rows[3], 28, height, "side head on stage 3\nlogits", DECODER, "decoder.py, layers.py")
    arrow(axes, [(102, 28 + height), (102, 41)])
    arrow(axes, [(102, 15 + height), (102, 28)])
    arrow(axes, [(83, 7), (83, 17.5), (88, 17.5)])
    note(axes, 103, 26.5, "features y, coarse to fine", "left")
    arrow(axes, [(98, 55), (98, 51)])
    note(axes, 97, 53, "of each sample's task", "right")
    arrow(axes, [(111, 51), (111, 55)], dashed=True, color="#b3541e")
    axes.text(112, 53, "update, training only  (12) (13)", fontsize=7.5, color="#b3541e", va="center")
    box(
        axes,
        126,
        15,
        22,
        23,
        "fusion: one softmax\nrow of 4 weights\nper task\n\nlogits (B, 1, H, W)",
        TASK,
        "decoder.py",
    )
    for y, to in zip(rows, (34.5, 30.5, 22.5, 18.5), strict=True):
        arrow(axes, [(116, y + 5), (121, y + 5), (121, to), (126, to)])
    note(axes, 137, 41, "the task also selects the rows of heads and fusion")
    for color, label, x in (
        (FROZEN, "frozen SAM 2 blocks with adapters", 23),
        (TASK, "one row per task", 61),
        (DECODER, "shared by all tasks, except the rows of the heads", 88),
    ):
        axes.add_patch(
            FancyBboxPatch((x, -2.6), 2, 1.6, boxstyle="round,pad=0", facecolor=color, edgecolor=EDGE, lw=0.7)
        )
        note(axes, x + 3, -1.9, label, "left")
    axes.set_ylim(-4, 66)


def draw_adapter(axes: Axes) -> None:
    """One task-conditioned routing block before a block of the trunk."""
    canvas(axes, "Adapter before every block  (adapter.py)", 66, 60)
    box(axes, 2, 26, 10, 8, "h", DATA)
    box(axes, 17, 26, 9, 8, "GN", DATA)
    box(axes, 31, 42, 19, 11, "shared route  (1)\nC -> 64 -> C", SHARED)
    box(axes, 31, 7, 19, 11, "route of the task  (2)\nC -> 64 -> C", TASK)
    box(axes, 54, 25, 10, 10, "h'", DATA)
    arrow(axes, [(12, 30), (17, 30)])
    arrow(axes, [(26, 31), (28.5, 31), (28.5, 47.5), (31, 47.5)])
    arrow(axes, [(26, 29), (28.5, 29), (28.5, 12.5), (31, 12.5)])
    arrow(axes, [(50, 47.5), (59, 47.5), (59, 35)])
    arrow(axes, [(50, 12.5), (59, 12.5), (59, 25)])
    arrow(axes, [(7, 34), (7, 57), (63, 57), (63, 35)])
    arrow(axes, [(59, 25), (59, 25.01)])
    note(axes, 57.5, 42, "x (1 - w)", "right")
    note(axes, 57.5, 19.5, "x w", "right")
    note(axes, 33, 55.2, "identity; the up-projections start at zero")
    note(axes, 41, 30, "w = 0: shared\nw = 1: task\nmonotone in the block")
    note(axes, 33, 2.5, "h' then goes through the frozen block")


def draw_decoder(axes: Axes) -> None:
    """One prototype-guided task decoder."""
    canvas(axes, "Prototype-guided task decoder, PGTD  (decoder.py)", 106, 60)
    box(axes, 1, 42, 14, 9, "f_high\ncoarser", DATA)
    box(axes, 1, 26, 14, 9, "f_low\nfiner", DATA)
    box(axes, 20, 34, 15, 10, "project,\nconcat, fuse  (4)", DECODER)
    box(axes, 40, 46, 21, 10, "f' = f (1 + alpha S)  (9)", DECODER)
    box(axes, 40, 26, 21, 10, "f~ = encode(f)", DECODER)
    box(axes, 20, 4, 15, 10, "P_fg, P_bg\nof the task", TASK, "")
    box(axes, 67, 26, 16, 10, "S, S_raw  (8)", DECODER)
    box(axes, 40, 4, 21, 10, "attention, z  (6) (7)", DECODER)
    box(axes, 67, 4, 16, 10, "6 kernels and\nweights  (10)", DECODER)
    box(axes, 67, 46, 16, 10, "experts: y  (10)", DECODER)
    box(axes, 89, 46, 16, 10, "head of\nthe task  (11)", TASK)
    box(axes, 89, 4, 16, 10, "logits", DATA)
    arrow(axes, [(15, 46.5), (17.5, 46.5), (17.5, 41), (20, 41)])
    arrow(axes, [(15, 30.5), (17.5, 30.5), (17.5, 37), (20, 37)])
    arrow(axes, [(35, 41), (37.5, 41), (37.5, 51), (40, 51)])
    arrow(axes, [(35, 37), (37.5, 37), (37.5, 31), (40, 31)])
    arrow(axes, [(61, 31), (67, 31)])
    arrow(axes, [(50.5, 26), (50.5, 14)])
    arrow(axes, [(35, 9), (40, 9)])
    arrow(axes, [(27.5, 14), (27.5, 20), (75, 20), (75, 26)])
    arrow(axes, [(61, 9), (67, 9)])
    arrow(axes, [(73, 36), (73, 41), (50.5, 41), (50.5, 46)])
    arrow(axes, [(61, 51), (67, 51)])
    arrow(axes, [(83, 9), (86, 9), (86, 40), (77, 40), (77, 46)])
    arrow(axes, [(83, 51), (89, 51)])
    arrow(axes, [(75, 56), (75, 59.5)])
    note(axes, 76, 58.5, "y to the next PGTD", "left")
    arrow(axes, [(99, 46), (99, 14)])
    arrow(axes, [(83, 31), (93, 31), (93, 14)])
    note(axes, 93.5, 33, "vote  (11)")


def draw() -> Figure:
    """Return the figure of three panels."""
    figure = Figure(figsize=(15, 12), dpi=110, facecolor="white")
    grid = figure.add_gridspec(
        2,
        2,
        height_ratios=(1.25, 1),
        width_ratios=(1, 1.6),
        left=0.015,
        right=0.985,
        top=0.965,
        bottom=0.015,
        hspace=0.1,
    )
    draw_network(figure.add_subplot(grid[0, :]))
    draw_adapter(figure.add_subplot(grid[1, 0]))
    draw_decoder(figure.add_subplot(grid[1, 1]))
    return figure


def main() -> None:
    """Write the picture to the given path, by default into `docs/figures`."""
    output = Path(sys.argv[1]) if len(sys.argv) > 1 else OUTPUT
    output.parent.mkdir(parents=True, exist_ok=True)
    draw().savefig(output, metadata={"Software": None})
    print(output)


if __name__ == "__main__":
    main()
