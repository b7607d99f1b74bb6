"""Body regions named by a DICOM header, and whether it describes auxiliary images such as localizers.

Header text does not leave this module: callers receive regions of a closed list.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Any

__all__ = ["REGIONS", "Regions", "is_auxiliary", "regions_named"]

Regions = tuple[frozenset[str], ...]
"""The regions named by each attribute; attributes without a region are omitted."""

REGIONS: dict[str, tuple[str, ...]] = {
    "chest": ("chest", "thorax", "lung", "pulmon", "poumon", "torax", "torac", "polmon", "hrct"),
    "heart": ("heart", "cardi", "coron", "herz", "coeur", "corazon", "cuore", "aort"),
    "abdomen": (
        *("abd", "liver", "hepat", "pancrea", "pankreas", "kidney", "renal", "spleen", "adrenal", "gallbladder"),
        *("leber", "niere", "bauch", "oberbauch", "foie", "higado", "fegato", "mrcp", "kub"),
    ),
    "pelvis": ("pelvi", "becken", "prostat", "uter", "ovar", "bassin", "bacino", "bladder", "blase"),
    "head": (
        *("head", "brain", "skull", "crani", "neuro", "cereb", "kopf", "schadel", "schaedel", "gehirn", "hirn"),
        *("tete", "crane", "cerveau", "cabeza", "testa", "encefal", "enceph"),
    ),
    "face": ("sinus", "orbit", "temporal", "iac", "dental", "mandib", "maxill", "tmj", "nnh", "facial"),
    "neck": ("neck", "hals", "cuello", "collo", "carotid", "thyroid", "schilddruse", "cou"),
    "spine": (
        *("spine", "cspine", "tspine", "lspine", "lumb", "cervical", "sacr", "wirbel", "hws", "bws", "lws"),
        *("rachi", "columna", "vertebr", "thoracic"),
    ),
    "limb": (
        *("knee", "shoulder", "hip", "ankle", "wrist", "hand", "foot", "elbow", "femur", "tibia", "extrem", "leg"),
        *("arm", "finger", "toe", "humer", "forearm", "thigh", "calf", "knie", "schulter", "hufte", "huefte", "fuss"),
        *("genou", "epaule", "rodilla", "hombro", "ginocchio", "spalla"),
    ),
    "breast": ("breast", "mamm", "seno"),
    "eye": ("eye", "retin", "macula", "fundus", "auge", "oeil", "ojo", "occhio"),
    "cornea": ("cornea", "anterior segment", "hornhaut"),
    "colon": ("colon", "kolon", "rect", "rekt", "sigm", "cecum", "caecum", "coecum", "colo", "large intestine"),
    "stomach": ("stomach", "gastr", "esophag", "oesophag", "duoden", "magen", "estomago", "estomac", "stomaco"),
    "airways": ("bronch", "trache", "laryn", "pharyn", "nose", "nasal"),
    "urinary tract": ("cysto", "ureter", "urethr"),
    "lymph nodes": ("lymph",),
    "skin": ("skin", "haut", "derm", "piel", "peau", "pelle"),
    "whole body": ("whole body", "wholebody", "total body", "ganzkorper", "ganzkoerper"),
}
"""Region -> prefixes of its names in English, German, French, Spanish and Italian, without accents."""

_SEVERAL = {  # names that cover several regions
    "cap": ("chest", "abdomen", "pelvis"),
    "tap": ("chest", "abdomen", "pelvis"),
    "neckchestabdpelv": ("neck", "chest", "abdomen", "pelvis"),
}
_WHOLE = frozenset({"abd", "arm", "cou", "hand", "hip", "iac", "kub", "leg", "nose", "toe"})  # whole words
_ASIDE = (  # localizers, bolus timing and reports
    *("localizer", "localiser", "lokalizer", "scout", "topogram", "survey", "surview", "scanogram", "smartprep"),
    *("premonitoring", "monitoring", "testbolus", "dose", "dosis"),
)
_ASIDE_WHOLE = frozenset({"loc", "locs", "3plane", "3pl"})
_ASIDE_TYPES = frozenset({"LOCALIZER", "PROJECTION IMAGE", "MIP", "SCREEN SAVE", "DOSE_INFO", "REPORT", "POSDISP"})
_MAPS = frozenset({"ADC", "CBF", "CBV", "FA", "MTT", "PHASE MAP", "TTP"})  # without the usual tissue contrast


def regions_named(header: Any) -> Regions:
    """Return the regions named in body part, anatomic region, series description and protocol of `header`.

    The study description is used only if these name none, since a study may cover several regions.
    """
    closed = str(header.get("BodyPartExamined") or "")
    texts = [
        closed,
        *_anatomy(header),
        *(str(header.get(word) or "") for word in ("SeriesDescription", "ProtocolName")),
    ]
    named = [_regions(text, inside=text is closed) for text in texts]
    named = [found for found in named if found] or [_regions(str(header.get("StudyDescription") or ""))]
    return tuple(found for found in named if found)


def is_auxiliary(header: Any) -> bool:
    """Return whether `header` describes its images as localizer, projection, map, monitoring scan or report."""
    kinds = header.get("ImageType") or ()
    kinds = {kinds} if isinstance(kinds, str) else {str(kind).strip().upper() for kind in kinds}
    words = _words(str(header.get("SeriesDescription") or ""))
    told = any(word.startswith(_ASIDE) or word in _ASIDE_WHOLE for word in words)
    return told or bool(kinds & (_ASIDE_TYPES | _MAPS))


def _anatomy(header: Any) -> Iterator[str]:
    for item in header.get("AnatomicRegionSequence") or ():
        yield str(item.get("CodeMeaning") or "")


def _regions(text: str, inside: bool = False) -> frozenset[str]:
    """Match words by prefix; defined terms such as CHESTABDOMEN by what they contain."""
    words = _words(text)
    joined = " ".join(words)
    found = {region for word in words for region in _SEVERAL.get(word, ())}
    for region, stems in REGIONS.items():
        for stem in stems:
            if " " in stem or (inside and stem not in _WHOLE):
                hit = stem in joined
            else:
                hit = any(word == stem if stem in _WHOLE else word.startswith(stem) for word in words)
            if hit or (stem == "abd" and any(word.startswith(("abd", "upperabd")) for word in words)):
                found.add(region)
    return frozenset(found)


def _words(text: str) -> list[str]:
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.findall(r"[a-z0-9]+", plain)
