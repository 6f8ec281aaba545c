"""What every encoder is: a network from views to Gaussians."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, ClassVar

import torch
from torch import nn

from mvsplat.configurable import Configurable
from mvsplat.encoder.compiler import check_compiler
from mvsplat.types import Gaussians, Views


class Encoder(Configurable, nn.Module, ABC):
    """Turns context views into Gaussians; derive from it to plug in another network.

    This is all that the package asks of an encoder. Only ``forward`` must be written.
    """

    behaviours: ClassVar[tuple[str, ...]] = ()
    """Switches that change what weights mean but not their shapes: a checkpoint of an encoder whose
    switches differ is refused."""

    of_training: ClassVar[tuple[str, ...]] = ()
    """Arguments that say how to train the encoder, not what it is: with given weights, they follow
    the configuration and all others the weights."""

    divisor: int = 1
    """Height and width of the views must be multiples of this many pixels."""

    maximum_views: int | None = None
    """How many views of a scene it takes at most; None for any number."""

    @abstractmethod
    def forward(self, views: Views) -> Gaussians:
        """Gaussians of each scene of the batch, from all its views."""

    def ablations(self) -> Mapping[str, AbstractContextManager[Any]]:
        """What a test scores beside the encoder itself, by the name that it has in the results.

        Returns:
            New contexts in which ``forward`` goes without something, and after which it is as
            before.
        """
        return {}

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile ``forward``; takes the arguments of ``nn.Module.compile``.

        Raises:
            ValueError: There is no C++ compiler, which ``torch.compile`` needs.
        """
        check_compiler(kwargs.get("backend", "inductor"))
        super().compile(*args, **kwargs)


@contextmanager
def output_zeroed(part: nn.Module) -> Iterator[None]:
    """Let a part of an encoder say nothing but zeros, for an ablation."""
    hook = part.register_forward_hook(lambda _, __, output: torch.zeros_like(output))
    try:
        yield
    finally:
        hook.remove()
