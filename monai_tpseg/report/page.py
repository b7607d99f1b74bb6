"""The HTML report of a run: cases that need attention first, all lesions, and provenance. It loads no other files."""

from __future__ import annotations

import base64
import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

from markupsafe import Markup, escape

from monai_tpseg.catalogue import TASK_NAMES
from monai_tpseg.files import complete
from monai_tpseg.report.case_list import FLAG_TEXTS, MAX_LESION_ROWS, ORDER, Case, collect, write_run_tables
from monai_tpseg.report.case_tables import readable

__all__ = ["REPORT", "asset", "digest", "write_report"]

REPORT = "report.html"
"""The name of the report in an output folder."""


def write_report(out: str | Path, cases: Sequence[Case] | None = None, sources: bool = False) -> Path:
    """Write `report.html`, `cases.csv` and `lesions.csv` into an output folder and return the path of the page.

    Args:
        out: output folder.
        cases: result of `collect`, which is called by default.
        sources: name the source of each case; the page is then readable by its owner only (mode 0600).

    Raises:
        StudyError: there are no results.
    """
    cases = collect(out) if cases is None else cases
    counts = Counter(case.record["status"] for case in cases)
    codes = Counter((case.record["status"], case.record["code"], case.record["next_action"]) for case in cases
                    if case.record["code"])  # fmt: skip
    style, script = asset("report.css"), asset("enlarge.js") + asset("report.js")
    import jinja2  # imported late: `tpseg run` writes no page

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    environment.filters["urlencode"] = lambda name: quote(name.encode(errors="surrogateescape"))  # may not be UTF-8
    environment.filters["whole_options"] = whole_options
    environment.filters["setting"] = _setting
    page = environment.from_string(asset("report.html.j2")).render(
        cases=cases,
        statuses=[(status.value, counts[status.value]) for status in ORDER],
        codes=codes.most_common(),
        tasks=_tasks(cases),
        makers=_makers(cases),
        pictures=sum(case.picture is not None for case in cases),
        most=MAX_LESION_ROWS,
        readable=readable,
        sources=named_sources(out) if sources else {},
        explained=FLAG_TEXTS,
        **{"style": Markup(style), "style_hash": digest(style)},
        **{"script": Markup(script), "script_hash": digest(script)},
    )
    write_run_tables(out, cases)
    path = Path(out) / REPORT
    content = page.replace("@SIZE@", f"{len(page) / 1e6:.1f} MB", 1)
    with complete(path) as part:
        part.touch(0o600 if sources else 0o666)
        part.write_bytes(content.encode(errors="replace"))  # file names may not be valid UTF-8
    return path


def named_sources(out: str | Path) -> dict[str, str]:
    """Return the path of each case's source, relative to the segmented folder, by the name of the case.

    Raises:
        StudyError: the folder has no manifest, or it is damaged.
    """
    from monai_tpseg.studies.manifest import MANIFEST, read_manifest  # imported late: needed for names only

    return {
        entry.case: f"{entry.path} ({entry.part.replace('/', ' of ')})" if entry.part else entry.path
        for entry in read_manifest(Path(out) / MANIFEST)
    }


def _tasks(cases: Sequence[Case]) -> list[str]:
    """Return the tasks of the cases: those of the catalogue in its order, then others."""
    found = {case.record["task"] for case in cases} - {""}
    return [*(name for name in TASK_NAMES if name in found), *sorted(found - set(TASK_NAMES))]


def _makers(cases: Sequence[Case]) -> list[tuple[dict[str, Any], int]]:
    """Return weights and settings with their number of cases: several after runs with different ones."""
    made = {case.record["case"]: case.record["provenance"] for case in cases if "provenance" in case.record}
    keys = {name: str(by) for name, by in made.items()}
    first = {key: made[name] for name, key in keys.items()}
    return [(first[key], count) for key, count in Counter(keys.values()).most_common()]


def whole_options(text: str) -> Markup:
    """Return a sentence as HTML without line breaks inside command-line options.

    >>> whole_options("run again with --resume")
    Markup('run again with <span class="option">--resume</span>')
    """
    return Markup(re.sub(r"--[a-z][a-z-]*", r'<span class="option">\g<0></span>', str(escape(text))))


def _setting(value: Any) -> str:
    """Return a setting of a run as readable text."""
    if value is None or isinstance(value, bool):
        return {None: "not given", True: "yes", False: "no"}[value]
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_setting(one)}" for key, one in value.items())
    return " x ".join(map(_setting, value)) if isinstance(value, list) else str(value)


def asset(name: str) -> str:
    """Return the content of a file of the report: style sheet, script or template."""
    return (files("monai_tpseg.report") / name).read_text(encoding="utf-8")


def digest(text: str) -> str:
    """Return the hash of a style or script for a content security policy."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
