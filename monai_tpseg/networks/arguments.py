"""Build arguments kept by a network, so that its weights can be described."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from types import MappingProxyType
from typing import Any, ParamSpec, TypeVar

__all__ = ["KeepsArguments", "keep_arguments"]

P = ParamSpec("P")
N = TypeVar("N", bound="KeepsArguments")

_OF_A_TRAINING = ("freeze_encoder",)
"""What changes how a network is trained, not what it is: no file of weights depends on it."""


class KeepsArguments:
    """Mixin for networks that keep their build arguments, see `monai_tpseg.networks.describe`.

    Attributes:
        built_with: arguments of `build_network`, by name; empty for a manually assembled network.
    """

    built_with: Mapping[str, Any] = MappingProxyType({})


def keep_arguments(architecture: str) -> Callable[[Callable[P, N]], Callable[P, N]]:
    """Decorate a builder so that its network keeps all arguments, including defaults.

    Args:
        architecture: name of this kind of network in `build_network`.
    """

    def decorate(build: Callable[P, N]) -> Callable[P, N]:
        signature = inspect.signature(build)

        @wraps(build)
        def built(*args: P.args, **kwargs: P.kwargs) -> N:
            network = build(*args, **kwargs)
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            given: dict[str, Any] = {"architecture": architecture}
            for name, value in bound.arguments.items():
                several = signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD
                given.update(value if several else {name: value})
            network.built_with = {name: value for name, value in given.items() if name not in _OF_A_TRAINING}
            return network

        return built

    return decorate
