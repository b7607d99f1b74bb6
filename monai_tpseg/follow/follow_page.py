"""The HTML page of a follow-up: studies side by side and the change of each lesion. It loads no other files."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from markupsafe import Markup

from monai_tpseg.catalogue import get_title
from monai_tpseg.files import write_atomically
from monai_tpseg.follow.comparison import REASONS, Followed
from monai_tpseg.follow.visits import Visit
from monai_tpseg.report.case_list import case_picture
from monai_tpseg.report.case_tables import readable
from monai_tpseg.report.page import asset, digest
from monai_tpseg.report.thumbnails import Thumbnail

__all__ = ["PAGE", "write_page"]

PAGE = "follow.html"
"""The name of the page in the folder of a follow-up."""

CHANGE_TEXTS: dict[str, str] = {
    "matched": "one lesion in both studies",
    "new": "no lesion was there, and the earlier study shows the place",
    "gone": "no lesion is there any more, and the later study shows the place",
    "merged": "several lesions have become one, or touch now",
    "split": "one lesion has become several",
    "regrouped": "several lesions overlap with several",
    "not_covered_before": "the earlier study does not show the place",
    "not_covered_any_more": "the later study does not show the place",
}
"""Kinds of change -> what they mean, in the order of the page's head."""

_LONG_SIDE = 900  # pixels: an overlay of a volume has up to 12 slices
_METHODS = {"frame_of_reference": "same frame of reference", "registration": "rigid registration, checked"}


def write_page(out: Path, followed: Sequence[Followed], cases: int) -> Path:
    """Write `follow.html` and return its path.

    Args:
        out: folder of the follow-up.
        followed: patients and tasks, in order.
        cases: total number of cases.
    """
    compared = [comparison for one in followed for comparison in one.comparisons]
    total = sum((comparison.counts for comparison in compared), Counter[str]())
    style, script = asset("report.css") + _own("follow.css"), asset("enlarge.js")
    import jinja2  # imported late: needed for the page only

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    page = environment.from_string(_own("follow.html.j2")).render(
        followed=followed,
        title=get_title,
        counts=[(kind, total[kind]) for kind in CHANGE_TEXTS],
        explained={**CHANGE_TEXTS, "all": "sum over all lesions"},
        reasons=REASONS,
        methods=_METHODS,
        unsafe=sum(bool(comparison.reason) for comparison in compared),
        compared=len(compared),
        alone=cases - sum(len(one.visits) for one in followed),
        picture=_picture,
        link=lambda visit: _link(out, visit),
        readable=readable,
        change=_percent,
        **{"style": Markup(style), "style_hash": digest(style)},
        **{"script": Markup(script), "script_hash": digest(script)},
    )
    path = out / PAGE
    write_atomically(path, page.encode(errors="replace"))
    return path


def _picture(visit: Visit) -> Thumbnail | None:
    try:
        return case_picture(visit.folder, dict(visit.record), _LONG_SIDE)
    except OSError:  # it was removed, which the page states
        return None


def _link(out: Path, visit: Visit) -> str:
    """Return the folder of a case relative to the page."""
    return Path(os.path.relpath(visit.folder.absolute(), out.absolute())).as_posix()


def _percent(value: float | None) -> str:
    return "" if value is None else f"{round(value):+d} %" if round(value) else "0 %"


def _own(name: str) -> str:
    return (files("monai_tpseg.follow") / name).read_text(encoding="utf-8")
