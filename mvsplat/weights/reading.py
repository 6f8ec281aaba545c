"""Weights of any kind: telling by a file's content what it is, filling a model with it.

Whatever takes weights asks here (``--model.weights``, ``load_model``, ``reconstruct``). Another
kind of file is one more function of ``_KINDS``; another way to name one belongs to
:mod:`mvsplat.weights.locating`. Nothing here needs Lightning, whose import takes seconds.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from mvsplat.configurable import CONFIG_KEY, completed, from_config, path_of, to_primitives
from mvsplat.decoder import SplattingDecoder
from mvsplat.encoder import Encoder
from mvsplat.encoder.published import loading as published
from mvsplat.encoder.published.reading import check_names_and_shapes
from mvsplat.encoder.settings import Config, check_agreement
from mvsplat.weights.file_content import load_content
from mvsplat.weights.known import known_weights
from mvsplat.weights.locating import find_weights, is_path
from mvsplat.weights.packing import ABOUT

_ENCODER = "encoder."


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

    def build_encoder(self) -> Encoder:
        """The encoder that the weights belong to, with them, in eval mode.

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
        encoder = from_config(self.encoder)
        self.store(encoder)
        return encoder.eval()

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


def read_weights(weights: str | Path) -> Weights:
    """Whatever this package can read as weights; nothing in a file is executed.

    Args:
        weights: A known name (``small``; ``mvsplat weights`` lists them), an address
            (``https://...``, ``hf://owner/repository/file``), or a file: a checkpoint of ``fit``, a
            released MVSplat checkpoint, or the bare state dict of either, of the encoder or of the
            whole model, as ``.ckpt``, ``.pth`` or ``.safetensors``. A Path is always a file.

    Raises:
        FileNotFoundError: There is no such file.
        ConnectionError: It cannot be downloaded.
        ValueError: It is damaged, or something else.
    """
    path = find_weights(weights)
    by_path = is_path(weights)
    content, origin = load_content(path), str(path) if by_path else str(weights)
    if not by_path:
        _refuse_imports(content.get(CONFIG_KEY), origin)
    for kind in _KINDS:
        if (found := kind(content, origin)) is not None:
            found.path, found.name = path, path.name if by_path else str(weights)
            said = (known.good_for for known in known_weights().values() if known.place == path)
            found.good_for = str(found.about.get("good_for") or next(said, ""))
            return found
    raise ValueError(f"{origin} is not a checkpoint: found no state dict in it")


def _refuse_imports(described: Any, origin: str) -> None:
    """What was downloaded must not choose which modules are imported, which executes them."""
    if isinstance(described, Mapping):
        path = described.get("class_path")
        if isinstance(path, str) and path.partition(".")[0] not in ("mvsplat", *sys.modules):
            raise ValueError(
                f"{origin} has a {path}, which is no part of this package: import its module "
                "first, or give the file by its path, if you trust whoever made it"
            )
        described = list(described.values())
    if isinstance(described, (list, tuple)):
        for item in described:
            _refuse_imports(item, origin)


def _described(content: Mapping[str, Any], origin: str) -> Weights | None:
    """A checkpoint of this package, which says what its model is."""
    if CONFIG_KEY not in content:
        return None
    try:
        described, state = content[CONFIG_KEY], _encoder_state(content["state_dict"])
        encoder, decoder = completed(described["encoder"]), completed(described["decoder"])
        views, about = described.get("views") or {}, described.get(ABOUT) or {}
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{origin} is damaged, or of another version: {error}") from error
    store = partial(_store, state, f"{origin} is damaged, or of another version: it")
    return Weights(origin, store, encoder, decoder, views, about)


def _released(content: Mapping[str, Any], origin: str) -> Weights | None:
    """A released MVSplat or DepthSplat checkpoint, or the state dict of one."""
    state = _encoder_state(content.get("state_dict", content.get("model", content)))
    if not published.is_published(state):
        return None
    path = path_of(published.encoder_class(state, origin))
    model = "DepthSplat" if path.endswith("DepthSplatEncoder") else "MVSplat"
    named = f"{origin}, which has the names of {model}'s tensors,"
    store = partial(published.store, state=state, origin=named)
    arguments = to_primitives(published.determined_arguments(state), origin)
    return Weights(origin, store, {"class_path": path, "init_args": arguments})


def _backbone(content: Mapping[str, Any], origin: str) -> None:
    """UniMatch's weights are no model: of use, but elsewhere."""
    if isinstance(content.get("model"), Mapping) and "state_dict" not in content:
        raise ValueError(
            f"{origin} holds an entry 'model', as UniMatch's weights do, which only initialise the "
            "backbone: give them as --model.backbone_weights"
        )


def _bare(content: Mapping[str, Any], origin: str) -> Weights | None:
    """A state dict with this package's names, or a checkpoint that does not describe its model."""
    state = _encoder_state(content.get("state_dict", content))
    if not state:
        return None
    origin = f"{origin} (a state dict of {len(state)} tensors, {next(iter(state))} first)"
    return Weights(origin, partial(_store, state, origin))


_KINDS: tuple[Callable[[Mapping[str, Any], str], Weights | None], ...] = (
    _described,
    _released,
    _backbone,
    _bare,
)
"""The first that does not say None decides; each tells its kind by the file's content alone."""


def _encoder_state(state: Any) -> dict[str, Tensor]:
    """The tensors of the encoder in a state dict of it or of a whole model."""
    if not isinstance(state, Mapping):
        return {}
    if any(str(name).startswith(_ENCODER) for name in state):
        state = {n.removeprefix(_ENCODER): x for n, x in state.items() if n.startswith(_ENCODER)}
    return {name: value for name, value in state.items() if isinstance(value, Tensor)}


def _store(state: dict[str, Tensor], origin: str, encoder: Encoder) -> None:
    check_names_and_shapes(state, encoder.state_dict(), origin)
    encoder.load_state_dict(state)
