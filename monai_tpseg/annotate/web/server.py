"""The viewer's requests: each has fixed names and few values, none of which is a path."""

from __future__ import annotations

import json
import logging
from importlib.resources import files
from typing import Annotated, Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from monai_tpseg.annotate.session.drawn import Tidying
from monai_tpseg.annotate.session.errors import SessionError
from monai_tpseg.annotate.session.volume import Proposal
from monai_tpseg.annotate.web.wire import decode_base64, decode_png, encode_png, runs
from monai_tpseg.annotate.web.workspace import Desk, NotOpen
from monai_tpseg.io.errors import ReadError
from monai_tpseg.results.codes import StudyError

__all__ = ["LIMITS", "create_app"]

logger = logging.getLogger(__name__)

LIMITS = {"/api/exemplar": 32 * 2**20, "/api/open-mask": 256 * 2**20}
"""Path -> bytes that a request may have: a picture and its mask, or the mask of a volume, as base64."""

_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


_Point = Annotated[list[float], Field(min_length=2, max_length=2)]


class _Body(BaseModel):
    """What a request says; anything else is refused."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class _Open(_Body):
    case: int
    task: str | None = None


class _Case(_Body):
    case: int


class _Slice(_Case):
    index: int


class _Click(_Slice):
    row: float
    column: float
    positive: bool


class _Scribble(_Slice):
    points: list[_Point] = Field(min_length=1, max_length=1000)
    positive: bool


class _Outline(_Slice):
    points: list[_Point] = Field(min_length=1, max_length=1000)
    mark: bool


class _Brush(_Outline):
    diameter: float


class _Tidy(_Slice):
    how: Tidying


class _Pixel(_Slice):
    row: int
    column: int


class _Task(_Case):
    task: str | None


class _Use(_Case):
    use: bool


class _Propagate(_Slice):
    steps: int = Field(ge=1, le=1000)
    direction: int
    by: Proposal = "previous"


class _Pair(_Case):
    image: str
    label: str


class _Save(_Case):
    empty: bool = False


class _File(_Case):
    name: str = Field(min_length=1, max_length=255)
    data: str


class _Number(_Case):
    number: int


class _Requests:
    """What the page can ask of a desk."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    def state(self) -> Response:
        return _json(self.desk.state())

    def open(self, body: _Open) -> Response:
        return _json(self.desk.open(body.case, body.task))

    def view(self, case: int, index: int, low: float, high: float) -> Response:
        picture = self.desk.session(case).view(index, (low, high))
        return Response(encode_png(picture), media_type="image/png")

    def mask(self, case: int, index: int) -> Response:
        return _json({"index": index, "runs": runs(self.desk.session(case).mask(index))})

    def click(self, body: _Click) -> Response:
        return self._change(body, lambda s: s.click(body.row, body.column, body.positive, body.index))

    def scribble(self, body: _Scribble) -> Response:
        return self._change(body, lambda s: s.scribble(_pairs(body.points), body.positive, body.index))

    def brush(self, body: _Brush) -> Response:
        return self._change(body, lambda s: s.brush(_pairs(body.points), body.diameter, body.mark, body.index))

    def outline(self, body: _Outline) -> Response:
        return self._change(body, lambda s: s.outline(_pairs(body.points), body.mark, body.index))

    def tidy(self, body: _Tidy) -> Response:
        return self._change(body, lambda s: s.tidy(body.how, body.index))

    def remove_piece(self, body: _Pixel) -> Response:
        return self._change(body, lambda s: s.remove_piece(body.row, body.column, body.index))

    def remove_lesion(self, body: _Pixel) -> Response:
        return self._change(body, lambda s: s.remove_lesion(body.row, body.column, body.index))

    def open_mask(self, body: _File) -> Response:
        data = decode_base64(body.data, "The mask")
        return self._change(body, lambda s: self.desk.open_mask(s, body.name, data))

    def lesions(self, case: int) -> Response:
        return _json([lesion._asdict() for lesion in self.desk.session(case).lesions()])

    def segment(self, body: _Slice) -> Response:
        return self._change(body, lambda s: s.segment(body.index))

    def clear(self, body: _Slice) -> Response:
        return self._change(body, lambda s: s.clear(body.index))

    def accept(self, body: _Slice) -> Response:
        return self._change(body, lambda s: s.accept(body.index))

    def undo(self, body: _Case) -> Response:
        return self._change(body, lambda s: s.undo())

    def redo(self, body: _Case) -> Response:
        return self._change(body, lambda s: s.redo())

    def task(self, body: _Task) -> Response:
        return self._change(body, lambda s: s.set_task(body.task))

    def use_class(self, body: _Use) -> Response:
        return self._change(body, lambda s: s.set_use_class(body.use))

    def propagate(self, body: _Propagate) -> Response:
        return self._change(body, lambda s: s.propagate(body.index, body.steps, body.direction, by=body.by))

    def exemplar(self, body: _Pair) -> Response:
        pair = decode_png(body.image, "The picture"), decode_png(body.label, "The mask")
        return self._change(body, lambda s: self.desk.add_exemplar(s, *pair))

    def exemplar_slice(self, body: _Slice) -> Response:
        return self._change(body, lambda s: s.add_slice_exemplar(body.index))

    def exemplar_remove(self, body: _Number) -> Response:
        return self._change(body, lambda s: s.remove_exemplar(body.number))

    def save(self, body: _Save) -> Response:
        return _json(self.desk.save(body.case, body.empty))

    def _change(self, body: _Case, work: Any) -> Response:
        return _json(self.desk.change(body.case, work))


def _pairs(points: list[list[float]]) -> list[tuple[float, float]]:
    return [(row, column) for row, column in points]


def create_app(desk: Desk) -> FastAPI:
    """Return the viewer without the door in front of it.

    Args:
        desk: whose cases are shown.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    _add_page(app)
    _add_errors(app)
    ask = _Requests(desk)
    for name in ("state", "view", "mask", "lesions"):
        app.add_api_route(f"/api/{name}", getattr(ask, name), methods=["GET"], response_model=None)
    changing = ("open", "click", "scribble", "segment", "clear", "accept", "undo", "redo", "task", "use_class")
    drawing = ("brush", "outline", "tidy", "remove_piece", "remove_lesion", "open_mask")
    for name in (*changing, *drawing, "propagate", "exemplar", "exemplar_slice", "exemplar_remove", "save"):
        path = name.replace("exemplar_", "exemplar/").replace("_", "-")
        app.add_api_route(f"/api/{path}", getattr(ask, name), methods=["POST"], response_model=None)
    return app


def _add_page(app: FastAPI) -> None:
    """A route for each file of ours, read now: no request leads to the file system."""
    for file in files("monai_tpseg.annotate.web").joinpath("page").iterdir():
        suffix = file.name[file.name.rfind(".") :]
        if suffix in _TYPES:
            path = "/" if file.name == "index.html" else f"/page/{file.name}"
            app.add_api_route(path, _sender(file.read_bytes(), _TYPES[suffix]), methods=["GET"], response_model=None)


def _sender(content: bytes, media_type: str) -> Any:
    return lambda: Response(content, media_type=media_type)


def _add_errors(app: FastAPI) -> None:
    """Whatever goes wrong ends in one line for the person; the log gets no text that may hold a name."""

    def unknown(_request: Request, error: Any) -> Response:
        return PlainTextResponse(f"{error.detail}.", error.status_code)

    def wrong(_request: Request, error: Any) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:]) or "body"
        return PlainTextResponse(f"The request is wrong at {where}: {first['msg']}.", 422)

    def refused(_request: Request, error: Exception) -> Response:
        return PlainTextResponse(" ".join(str(error).split()), 409 if isinstance(error, NotOpen) else 422)

    def failed(_request: Request, error: Exception) -> Response:
        logger.error("A request failed: %s.", type(error).__name__)
        return PlainTextResponse(f"That failed ({type(error).__name__}); what was done before is kept.", 500)

    app.add_exception_handler(HTTPException, unknown)
    app.add_exception_handler(RequestValidationError, wrong)
    for known in (SessionError, ReadError, StudyError):
        app.add_exception_handler(known, refused)
    app.add_exception_handler(Exception, failed)


def _json(content: Any) -> Response:
    return Response(json.dumps(content, allow_nan=False), media_type="application/json")
