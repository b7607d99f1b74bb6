"""JSON, YAML, safetensors and zip files of others: size, nesting and references are checked before use."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import yaml


__all__ = [
    "MAX_DEPTH",
    "MAX_JSON_BYTES",
    "MAX_TENSOR_HEADER",
    "MAX_YAML_BYTES",
    "MAX_YAML_NODES",
    "ParseError",
    "check_safetensors",
    "check_stored",
    "json_of",
    "read_json",
    "read_record",
    "read_yaml",
]

MAX_DEPTH = 100
"""Lists and objects inside of each other; our own files have six."""

MAX_JSON_BYTES = 2**28
"""Bytes of a JSON file: a datalist of a million cases has half of that."""

MAX_YAML_BYTES = 2**20
"""Bytes of a YAML file, which is parsed at about a megabyte in two seconds."""

MAX_YAML_NODES = 10**5
"""Values of a YAML file, each reference counted as often as what it refers to would be written."""

MAX_TENSOR_HEADER = 2**24
"""Bytes of the header of a safetensors file: that of 100,000 tensors."""


Kind: TypeAlias = "type | tuple[type, ...]"
_NOTHING: Mapping[str, Kind] = MappingProxyType({})


class ParseError(ValueError):
    """Why a text is not taken, in one line that repeats nothing of it; who asked for it adds the file."""


def check_stored(path: str | os.PathLike[str]) -> None:
    """Refuse a zip file, as PyTorch writes weights, that would unpack to more than it holds; other files pass.

    Raises:
        ParseError: it is compressed, which PyTorch's files are not, or its parts overlap.
        OSError: it cannot be opened.
    """
    file = Path(path)
    if not zipfile.is_zipfile(file):
        return
    try:
        with zipfile.ZipFile(file) as content:
            size = sum(part.file_size for part in content.infolist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise ParseError("its list of parts is damaged") from error
    if size > file.stat().st_size:
        raise ParseError(f"it would unpack to {size} bytes and has {file.stat().st_size}")


def read_json(path: str | os.PathLike[str]) -> Any:
    """Return the content of a JSON file in UTF-8, with or without the mark that some editors put at its beginning.

    Raises:
        ParseError: it is none, or larger or nested deeper than anything real.
        OSError: it cannot be opened.
    """
    file = Path(path)
    if file.stat().st_size > MAX_JSON_BYTES:
        raise ParseError(f"larger than {MAX_JSON_BYTES >> 20} MiB")
    return json_of(file.read_bytes())


def read_record(path: str | os.PathLike[str], needed: Mapping[str, Kind] = _NOTHING, kind: Kind = dict) -> Any:
    """Return the content of a JSON file that this package wrote.

    Args:
        path: the file.
        needed: types of the values that an object must have, by key.
        kind: what the file holds: `dict`, `list` or both.

    Raises:
        ParseError: it is damaged; the message names the file and the way out.
        OSError: it cannot be opened.
    """
    try:
        content: Any = read_json(path)
        fits = isinstance(content, kind)
        if not fits:
            kinds = kind if isinstance(kind, tuple) else (kind,)
            raise ParseError(f"no {' or '.join('object' if one is dict else one.__name__ for one in kinds)}")
        for key, of in needed.items():
            if key not in content or not isinstance(content[key], of):
                raise ParseError(f"'{key}' is {'wrong' if key in content else 'missing'}")
    except ParseError as error:
        raise ParseError(f"'{path}' is damaged ({error}); restore it, or begin again in another folder.") from error
    return content


def json_of(text: str | bytes) -> Any:
    """Return the content of a JSON text.

    Args:
        text: UTF-8 where it is bytes.

    Raises:
        ParseError: see `read_json`.
    """
    try:
        content = json.loads(text if isinstance(text, str) else text.decode("utf-8-sig"))
    except RecursionError:
        raise ParseError(f"nested over {MAX_DEPTH} levels deep") from None
    except UnicodeDecodeError as error:
        raise ParseError(f"invalid UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise ParseError(f"{error.msg} at line {error.lineno}, column {error.colno}") from None
    except ValueError:  # a number of thousands of digits
        raise ParseError("it contains a number that is too long") from None
    level, depth = [content], 0
    while level := [part for one in level for part in _parts(one) if isinstance(part, dict | list)]:
        depth += 1
        if depth >= MAX_DEPTH:
            raise ParseError(f"nested over {MAX_DEPTH} levels deep")
    return content


def _parts(content: Any) -> Any:
    return content.values() if isinstance(content, dict) else content if isinstance(content, list) else ()


def read_yaml(path: str | os.PathLike[str]) -> Any:
    """Return the content of a YAML file in UTF-8: plain values alone, no object is built.

    Raises:
        ParseError: it is no YAML, larger or nested deeper than anything real, or multiplies itself by references.
        OSError: it cannot be opened.
    """
    import yaml  # late: the help of the command needs none

    file = Path(path)
    if file.stat().st_size > MAX_YAML_BYTES:
        raise ParseError(f"larger than {MAX_YAML_BYTES >> 20} MiB")
    loader = None
    try:
        loader = yaml.SafeLoader(file.read_text(encoding="utf-8"))
        node = loader.get_single_node()
        if node is None:
            return None
        _check_nodes(node)
        return loader.construct_document(node)
    except RecursionError:
        raise ParseError(f"nested over {MAX_DEPTH} levels deep") from None
    except UnicodeDecodeError as error:
        raise ParseError(f"invalid UTF-8 at byte {error.start}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark is not None else ""
        raise ParseError(f"no valid YAML{where}") from None
    finally:
        if loader is not None:
            loader.dispose()


def _check_nodes(root: yaml.Node) -> None:
    """Refuse a tree that is too deep, refers to itself, or is too large once its references are written out."""
    sizes: dict[int, int] = {}  # of nodes that are done
    open_nodes: set[int] = set()
    stack = [(root, False)]
    while stack:
        node, done = stack.pop()
        key = id(node)
        if done:
            open_nodes.discard(key)
            sizes[key] = 1 + sum(sizes[id(child)] for child in _children(node))
            if sizes[key] > MAX_YAML_NODES:
                raise ParseError(f"over {MAX_YAML_NODES} values after expanding its references")
        elif key not in sizes:
            if key in open_nodes:
                raise ParseError("it refers to itself")
            open_nodes.add(key)
            if len(open_nodes) > MAX_DEPTH:
                raise ParseError(f"nested over {MAX_DEPTH} levels deep")
            stack.append((node, True))
            stack += [(child, False) for child in _children(node)]


def _children(node: yaml.Node) -> list[yaml.Node]:
    import yaml

    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def check_safetensors(path: str | os.PathLike[str]) -> None:
    """Refuse a safetensors file whose header is longer than the file or than any real one.

    Raises:
        ParseError: it is.
        OSError: it cannot be opened.
    """
    file = Path(path)
    with file.open("rb") as stream:
        head = stream.read(8)
    length = int.from_bytes(head, "little")
    if len(head) < 8 or length > file.stat().st_size - 8:
        raise ParseError("its header is longer than the file")
    if length > MAX_TENSOR_HEADER:
        raise ParseError(f"its header is larger than {MAX_TENSOR_HEADER >> 20} MiB")
