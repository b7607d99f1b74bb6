"""A network keeps the arguments that it was built with, so that its weights can say what they are of."""

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
    """Mixin of networks whose builders keep their arguments, see `monai_tpseg.networks.describe`.

    Attributes:
        built_with: arguments of `build_network`, by name; empty for a network that was put together by hand.
    """

    built_with: Mapping[str, Any] = MappingProxyType({})


def keep_arguments(architecture: str) -> Callable[[Callable[P, N]], Callable[P, N]]:
    """Decorate a builder: the network it returns keeps all its arguments, defaults too.

    Args:
        architecture: what `build_network` calls this kind of network.
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
