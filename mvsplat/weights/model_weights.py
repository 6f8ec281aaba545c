"""What a file of weights holds: the model that it is of, and building or filling that."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mvsplat.configurable import class_of, from_config
from mvsplat.decoder import SplattingDecoder
from mvsplat.encoder import CostVolumeEncoder, DepthSplatDepth, DepthSplatEncoder, Encoder
from mvsplat.encoder.initialization import nothing_drawn
from mvsplat.encoder.published.loading import ALONE
from mvsplat.encoder.settings import Config, check_agreement


@dataclass
class Weights:
    """What a file of weights holds.

    Args:
        origin: The file, for messages.
        store: Puts the tensors into an encoder; ValueError names those that do not fit.
        encoder: Class and arguments of the encoder, as far as the weights determine them; None for
            a bare state dict of this package, which fits only an encoder like the one it is from.
        decoder: Class and arguments of the decoder that the encoder was trained with, if known.
        views: What the views of training were like, as far as it is known.
        about: What the file says of its weights: configuration, seed, scores ...
        name: What to call them: the known name or address, or the file's name.
        path: The file.
        good_for: What they were trained on, in a phrase, as far as it is known.
        proposed: Arguments that suit the weights where nothing else is wished.
        depth: Builds the model of depth alone that they are of, or that they contain, if any.
        of_depth: They hold no weights for Gaussians.
    """

    origin: str
    store: Callable[[Encoder], None]
    encoder: Config | None = None
    decoder: Config | None = None
    views: dict[str, Any] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)
    name: str = ""
    path: Path = Path()
    good_for: str = ""
    proposed: dict[str, Any] = field(default_factory=dict)
    depth: Callable[[], DepthSplatDepth] | None = None
    of_depth: bool = False

    def build_encoder(self) -> Encoder:
        """The encoder that the weights belong to, with them, in eval mode.

        Raises:
            ValueError: The file does not say what encoder that is, its tensors do not fit it, or
                they are of depth alone.
        """
        self.check_complete()
        return self.start_encoder().eval()

    def check_complete(self) -> None:
        """Refuse weights of depth alone, by a ValueError, where Gaussians are needed."""
        if self.of_depth:
            raise ValueError(f"{self.origin} {ALONE}")

    def start_encoder(self) -> Encoder:
        """The encoder to train on from the weights: what they do not hold is drawn.

        Raises:
            ValueError: The file does not say what encoder that is, or its tensors do not fit it.
        """
        if self.encoder is None:
            raise ValueError(
                f"{self.origin} does not describe its model, nor is it a released one that is "
                "known: a checkpoint of fit, MVSplat's, or a name that mvsplat weights lists would "
                "fit; if it belongs to a configuration of yours, give it with that, as "
                "--model.weights"
            )
        arguments = {**self.proposed, **self.encoder["init_args"]}
        # Of others' encoders, who knows what else is drawn.
        all_stored = class_of(self.encoder) in (CostVolumeEncoder, DepthSplatEncoder)
        with nothing_drawn() if all_stored and not self.of_depth else nullcontext():
            encoder = from_config({**self.encoder, "init_args": arguments})
        self.store(encoder)
        return encoder

    def build_depth(self) -> DepthSplatDepth:
        """The model of depth alone that the weights are of, or contain, in eval mode.

        Raises:
            ValueError: There is none, or its tensors do not fit it.
        """
        if self.depth is None:
            raise ValueError(
                f"{self.origin} holds no model of depth: a file of DepthSplat would fit, such as "
                "depthsplat-depth-small, a name that mvsplat weights lists"
            )
        return self.depth()

    def build_decoder(self) -> SplattingDecoder:
        """The decoder that the encoder was trained with, where that is known, or the usual one."""
        return SplattingDecoder() if self.decoder is None else from_config(self.decoder)

    def load_into(self, encoder: Encoder) -> None:
        """Fill an encoder that was built for these weights; arguments that train it may differ.

        Raises:
            ValueError: Its class, an argument or a tensor differs; the message names it.
        """
        if self.encoder is not None:
            check_agreement(encoder.config, self.encoder, self.origin)
        self.store(encoder)
