"""The requests of the viewer, with fixed names and few values, never a path."""

from __future__ import annotations

import json
import logging
from importlib.resources import files
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import PlainTextResponse
from starlette.exceptions import HTTPException

from monai_tpseg.annotate.session.session_error import SessionError
from monai_tpseg.annotate.web.bodies import (
    Box,
    Brush,
    Case,
    Click,
    Done,
    File,
    Merge,
    Name,
    Number,
    Open,
    Outline,
    Pair,
    Pixel,
    Propagate,
    Save,
    Scribble,
    Slice,
    Task,
    Tidy,
    Use,
)
from monai_tpseg.annotate.web.wire import decode_base64, decode_png, encode_png, runs
from monai_tpseg.annotate.web.workspace import NotOpen, Workspace
from monai_tpseg.io.errors import ReadError
from monai_tpseg.results.codes import StudyError

__all__ = ["LIMITS", "create_app"]

logger = logging.getLogger(__name__)

LIMITS = {"/api/exemplar": 32 * 2**20, "/api/open-mask": 256 * 2**20}
"""Path -> bytes that a request may have: a picture and its mask, or the mask of a volume, as base64."""

_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


class _Requests:
    """Request handlers of a workspace."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace

    def state(self) -> Response:
        return _json(self.workspace.state())

    def open(self, body: Open) -> Response:
        return _json(self.workspace.open(body.case, body.task))

    def view(self, case: int, index: int, low: float, high: float) -> Response:
        picture = self.workspace.session(case).view(index, (low, high))
        return Response(encode_png(picture), media_type="image/png")

    def mask(self, case: int, index: int) -> Response:
        return _json({"index": index, "runs": runs(self.workspace.session(case).mask(index))})

    def reformat(self, case: int, plane: str, index: int, low: float, high: float) -> Response:
        picture = self.workspace.session(case).reformat(plane, index, (low, high))
        return Response(encode_png(picture), media_type="image/png")

    def reformat_mask(self, case: int, plane: str, index: int) -> Response:
        mask = self.workspace.session(case).reformat_mask(plane, index)
        return _json({"index": index, "runs": runs(mask)})

    def click(self, body: Click) -> Response:
        return self._change(body, lambda s: s.click(body.row, body.column, body.positive, body.index))

    def scribble(self, body: Scribble) -> Response:
        return self._change(body, lambda s: s.scribble(_pairs(body.points), body.positive, body.index))

    def brush(self, body: Brush) -> Response:
        return self._change(body, lambda s: s.brush(_pairs(body.points), body.diameter, body.mark, body.index))

    def outline(self, body: Outline) -> Response:
        return self._change(body, lambda s: s.outline(_pairs(body.points), body.mark, body.index))

    def tidy(self, body: Tidy) -> Response:
        return self._change(body, lambda s: s.tidy(body.how, body.index))

    def remove_piece(self, body: Pixel) -> Response:
        return self._change(body, lambda s: s.remove_piece(body.row, body.column, body.index))

    def remove_lesion(self, body: Pixel) -> Response:
        return self._change(body, lambda s: s.remove_lesion(body.row, body.column, body.index))

    def merge_lesions(self, body: Merge) -> Response:
        (a, b, c), (d, e, f) = body.first, body.second
        return self._change(body, lambda s: s.merge_lesions((a, b, c), (d, e, f)))

    def name_lesion(self, body: Name) -> Response:
        return self._change(body, lambda s: s.name_lesion(body.row, body.column, body.name, body.index))

    def box(self, body: Box) -> Response:
        start, end = _pairs([body.start, body.end])
        return self._change(body, lambda s: s.box(start, end, body.index))

    def open_mask(self, body: File) -> Response:
        data = decode_base64(body.data, "The mask")
        return self._change(body, lambda s: self.workspace.open_mask(s, body.name, data))

    def lesions(self, case: int) -> Response:
        found = self.workspace.session(case).lesions()
        return _json([{**lesion._asdict(), "axes": lesion.axes._asdict()} for lesion in found])

    def pixel(self, case: int, index: int, row: int, column: int) -> Response:
        return _json(self.workspace.session(case).pixel(row, column, index)._asdict())

    def segment(self, body: Slice) -> Response:
        return self._change(body, lambda s: s.segment(body.index))

    def clear(self, body: Slice) -> Response:
        return self._change(body, lambda s: s.clear(body.index))

    def accept(self, body: Slice) -> Response:
        return self._change(body, lambda s: s.accept(body.index))

    def undo(self, body: Case) -> Response:
        return self._change(body, lambda s: s.undo())

    def redo(self, body: Case) -> Response:
        return self._change(body, lambda s: s.redo())

    def task(self, body: Task) -> Response:
        return self._change(body, lambda s: s.set_task(body.task))

    def use_class(self, body: Use) -> Response:
        return self._change(body, lambda s: s.set_use_class(body.use))

    def propagate(self, body: Propagate) -> Response:
        return self._change(body, lambda s: s.propagate(body.index, body.steps, body.direction, by=body.by))

    def exemplar(self, body: Pair) -> Response:
        pair = decode_png(body.image, "The picture"), decode_png(body.label, "The mask")
        return self._change(body, lambda s: self.workspace.add_exemplar(s, *pair))

    def exemplar_slice(self, body: Slice) -> Response:
        return self._change(body, lambda s: s.add_slice_exemplar(body.index))

    def exemplar_remove(self, body: Number) -> Response:
        return self._change(body, lambda s: s.remove_exemplar(body.number))

    def accept_all(self, body: Case) -> Response:
        return self._change(body, lambda s: s.accept_all())

    def save(self, body: Save) -> Response:
        return _json(self.workspace.save(body.case, body.empty))

    def done(self, body: Done) -> Response:
        return _json(self.workspace.mark_done(body.case, body.done, body.empty))

    def export_done(self) -> Response:
        return _json(self.workspace.export_done())

    def _change(self, body: Case, work: Any) -> Response:
        return _json(self.workspace.change(body.case, work))


def _pairs(points: list[list[float]]) -> list[tuple[float, float]]:
    return [(row, column) for row, column in points]


def create_app(workspace: Workspace) -> FastAPI:
    """Return the app of the viewer, without access control.

    Args:
        workspace: workspace with the cases.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    _add_page(app)
    _add_errors(app)
    ask = _Requests(workspace)
    for name in ("state", "view", "mask", "reformat", "reformat_mask", "lesions", "pixel"):
        path = name.replace("_", "-")
        app.add_api_route(f"/api/{path}", getattr(ask, name), methods=["GET"], response_model=None)
    changing = ("open", "click", "scribble", "segment", "clear", "accept", "undo", "redo", "task", "use_class")
    finishing = ("accept_all", "save", "done", "export_done")
    drawing = ("brush", "outline", "tidy", "remove_piece", "box", "open_mask")
    listing = ("remove_lesion", "merge_lesions", "name_lesion")
    for name in (
        *changing,
        *drawing,
        *listing,
        *finishing,
        "propagate",
        "exemplar",
        "exemplar_slice",
        "exemplar_remove",
    ):
        path = name.replace("exemplar_", "exemplar/").replace("_", "-")
        app.add_api_route(f"/api/{path}", getattr(ask, name), methods=["POST"], response_model=None)
    return app


def _add_page(app: FastAPI) -> None:
    """Add a route for each file of the page, read now, so that requests do not access the file system."""
    for file in files("monai_tpseg.annotate.web").joinpath("page").iterdir():
        suffix = file.name[file.name.rfind(".") :]
        if suffix in _TYPES:
            path = "/" if file.name == "index.html" else f"/page/{file.name}"
            app.add_api_route(path, _sender(file.read_bytes(), _TYPES[suffix]), methods=["GET"], response_model=None)


def _sender(content: bytes, media_type: str) -> Any:
    return lambda: Response(content, media_type=media_type)


def _add_errors(app: FastAPI) -> None:
    """Convert every error to one line for the user; the log contains no text that may identify patients."""

    def unknown(_request: Request, error: Any) -> Response:
        return PlainTextResponse(f"{error.detail}.", error.status_code)

    def wrong(_request: Request, error: Any) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:]) or "body"
        return PlainTextResponse(f"The request is wrong at {where}: {first['msg']}.", 422)

    def refused(_request: Request, error: Exception) -> Response:
        return PlainTextResponse(" ".join(str(error).split()), 409 if isinstance(error, NotOpen) else 422)

    def failed(_request: Request, error: Exception) -> Response:
        reason = (isinstance(error, OSError) and error.strerror) or type(error).__name__
        logger.error("A request failed: %s.", reason)
        return PlainTextResponse(f"That failed ({reason}); what was done before is kept.", 500)

    app.add_exception_handler(HTTPException, unknown)
    app.add_exception_handler(RequestValidationError, wrong)
    for known in (SessionError, ReadError, StudyError):
        app.add_exception_handler(known, refused)
    app.add_exception_handler(Exception, failed)


def _json(content: Any) -> Response:
    return Response(json.dumps(content, allow_nan=False), media_type="application/json")
