"""Conversion of the parts of a session to and from JSON."""

from __future__ import annotations

import base64
from typing import Any

from monai_tpseg.annotate.session.history import STATUSES, Click, Exemplar, LesionName, Setup, SliceState
from monai_tpseg.annotate.session.masks import PackedMask
from monai_tpseg.annotate.session.predictor import Recipe, Result
from monai_tpseg.catalogue import Modality

__all__ = ["read_result", "read_setup", "read_slice", "result_record", "setup_record", "slice_record"]


def setup_record(setup: Setup) -> dict[str, Any]:
    """Return the settings as JSON."""
    exemplars = [_exemplar_record(one) for one in setup.exemplars]
    done = {"done": True} if setup.done else {}
    names = {"names": [list(one) for one in setup.names]} if setup.names else {}
    return {"task": setup.task, "use_class": setup.use_class, "exemplars": exemplars, **done, **names}


def read_setup(record: dict[str, Any]) -> Setup:
    """Return the settings of a record; an invalid one raises KeyError, TypeError or ValueError."""
    exemplars = tuple(Exemplar(*one) for one in record["exemplars"])
    names = tuple(LesionName(str(name), *map(int, place)) for name, *place in record.get("names", []))
    return Setup(record["task"], bool(record["use_class"]), exemplars, bool(record.get("done", False)), names)


def slice_record(state: SliceState) -> dict[str, Any]:
    """Return the state of a slice as JSON."""
    return {"clicks": [list(click) for click in state.clicks], "result": state.result, "status": state.status}


def read_slice(record: dict[str, Any]) -> SliceState:
    """Return the state of a slice from a record; an invalid one raises KeyError, TypeError or ValueError."""
    status = STATUSES[STATUSES.index(record["status"])]
    return SliceState(_clicks(record["clicks"]), record["result"], status)


def result_record(number: int, result: Result) -> dict[str, Any]:
    """Return a result with its number as JSON, with the compressed mask."""
    recipe, found = result.recipe, result.found
    drawn = {"drawn": recipe.drawn} if recipe.drawn else {}
    trust = {"trust": result.trust} if result.trust else {}
    return {
        "number": number,
        **drawn,
        **trust,
        "index": recipe.index,
        "modality": recipe.modality.value,
        "class": recipe.task,
        "clicks": [list(click) for click in recipe.clicks],
        "exemplars": [_exemplar_record(one) for one in recipe.exemplars],
        "previous": recipe.previous,
        "shape": list(found.shape),
        "bits": base64.b64encode(found.bits).decode(),
        "levels": base64.b64encode(found.levels).decode(),
    }


def read_result(record: dict[str, Any]) -> tuple[int, Result]:
    """Return number and result of a record; an invalid one raises KeyError, TypeError or ValueError."""
    recipe = Recipe(
        index=record["index"],
        modality=Modality(record["modality"]),
        task=record["class"],
        clicks=_clicks(record["clicks"]),
        exemplars=tuple(Exemplar(*one) for one in record["exemplars"]),
        previous=record["previous"],
        drawn=record.get("drawn", ""),
    )
    height, width = record["shape"]
    bits, levels = (base64.b64decode(record[key], validate=True) for key in ("bits", "levels"))
    return int(record["number"]), Result(recipe, PackedMask((height, width), bits, levels), record.get("trust"))


def _clicks(records: list[list[float]]) -> tuple[Click, ...]:
    return tuple(Click(row, column, int(sign)) for row, column, sign in records)


def _exemplar_record(exemplar: Exemplar) -> list[Any]:
    return [exemplar.picture, exemplar.index, exemplar.result]
