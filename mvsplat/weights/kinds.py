"""The kinds of files that hold weights, told by their content.

Another kind of file is one more function of ``_KINDS``.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import Tensor

from mvsplat.configurable import CONFIG_KEY, class_of, completed, path_of, to_primitives
from mvsplat.encoder import DepthSplatDepth, DepthSplatEncoder, Encoder
from mvsplat.encoder.published import loading as published
from mvsplat.encoder.published.reading import check_names_and_shapes
from mvsplat.weights.model_weights import Weights
from mvsplat.weights.packing import ABOUT
from mvsplat.weights.released_views import depthsplat_views, mvsplat_views

_ENCODER = "encoder."


def understand(content: Mapping[str, Any], origin: str, name: str) -> Weights:
    """The weights that a file holds.

    Args:
        content: What is in it.
        origin: What to call it in messages.
        name: The file's name, which tells more of released weights than their tensors.

    Raises:
        ValueError: It holds none, is damaged, or of no use as such.
    """
    for kind in _KINDS:
        if (found := kind(content, origin, name)) is not None:
            return found
    raise ValueError(f"{origin} is not a checkpoint: found no state dict in it")


def _described(content: Mapping[str, Any], origin: str, name: str) -> Weights | None:
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
    weights = Weights(origin, store, encoder, decoder, views, about)
    if class_of(encoder) is DepthSplatEncoder:
        weights.depth = lambda: _depth_of(weights.build_encoder())
    return weights


def _depth_of(encoder: Encoder) -> DepthSplatDepth:
    assert isinstance(encoder, DepthSplatEncoder)
    return encoder.depth


def _released(content: Mapping[str, Any], origin: str, name: str) -> Weights | None:
    """A released MVSplat or DepthSplat checkpoint, or the state dict of one."""
    state = _encoder_state(content.get("state_dict", content.get("model", content)))
    if not published.is_published(state):
        return None
    of_depth = published.is_depth_alone(state)
    cls = DepthSplatEncoder if of_depth else published.encoder_class(state, origin)
    determined, proposed = (
        to_primitives(arguments(state), origin)
        for arguments in (published.determined_arguments, published.proposed_arguments)
    )
    of_depthsplat = cls is DepthSplatEncoder
    model = "DepthSplat" if of_depthsplat else "MVSplat"
    named = f"{origin}, which has the names of {model}'s tensors,"
    views = depthsplat_views(name, determined, of_depth) if of_depthsplat else mvsplat_views()
    return Weights(
        origin,
        partial(_store_depth if of_depth else published.store, state=state, origin=named),
        {"class_path": path_of(cls), "init_args": determined},
        views=views._asdict(),
        proposed=proposed,
        depth=partial(published.depth_of, state, named) if of_depthsplat else None,
        of_depth=of_depth,
    )


def _store_depth(encoder: Encoder, state: dict[str, Tensor], origin: str) -> None:
    published.store(_depth_of(encoder), state, origin)


def _backbone(content: Mapping[str, Any], origin: str, name: str) -> None:
    """UniMatch's weights are no model: of use, but elsewhere."""
    if isinstance(content.get("model"), Mapping) and "state_dict" not in content:
        raise ValueError(
            f"{origin} holds an entry 'model', as UniMatch's weights do, which only initialise the "
            "backbone: give them as --model.backbone_weights"
        )


def _bare(content: Mapping[str, Any], origin: str, name: str) -> Weights | None:
    """A state dict with this package's names, or a checkpoint that does not describe its model."""
    state = _encoder_state(content.get("state_dict", content))
    if not state:
        return None
    origin = f"{origin} (a state dict of {len(state)} tensors, {next(iter(state))} first)"
    return Weights(origin, partial(_store, state, origin))


_KINDS: tuple[Callable[[Mapping[str, Any], str, str], Weights | None], ...] = (
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
