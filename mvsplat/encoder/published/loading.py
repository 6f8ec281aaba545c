"""Released MVSplat and DepthSplat checkpoints, loaded into our encoders.

The published models differ from ours in names and in ways that are folded into the weights or set
as options, so that the same Gaussians come out:

* Their spherical harmonics are the standard 3DGS ones evaluated at the direction (z, x, y), and
  degree 4 never reaches a pixel. Both are linear in the last convolution's outputs: folded there.
* Their quaternions are (x, y, z, w): rows of the same convolution change places.
* Queries, keys and values that we project together have a matrix each.
* What joins the layers of a ViT is concatenated in another order: columns change places.
* ``published_*`` options (see ``CostVolumeEncoder``, ``DepthSplatEncoder``) are switched on.
"""

import os
from collections.abc import Mapping
from typing import Any

from torch import nn

from mvsplat.encoder import CostVolumeEncoder, DepthSplatDepth, DepthSplatEncoder, Encoder
from mvsplat.encoder.depthsplat import PUBLISHED_SCALES
from mvsplat.encoder.initialization import nothing_drawn
from mvsplat.encoder.published import depthsplat, mvsplat
from mvsplat.encoder.published.depthsplat import is_depth_alone
from mvsplat.encoder.published.reading import State, check_names_and_shapes, encoder_state

ALONE = (
    "is a DepthSplat checkpoint of depth alone, which holds no weights for Gaussians: here a file "
    "depthsplat-gs-* would fit; predict and mvsplat.published.load_depth take depth from this one, "
    "reconstruct --depth_weights bounds, and fit --model.weights starts from it"
)
"""What to say of such a file where Gaussians are needed, after its name."""

VERSIONS = "DepthSplat's files of before March 2025 had other tensors, and cannot be read"
Checkpoint = Mapping[str, Any] | str | os.PathLike


def load_encoder(checkpoint: Checkpoint, **encoder_arguments: Any) -> Encoder:
    """The encoder of a released MVSplat or DepthSplat checkpoint, in eval mode.

    Which model it is, its sizes and ablations are read off the tensors' names and shapes.

    Args:
        checkpoint: A released checkpoint, its ``state_dict`` (``model`` in some), or the encoder's
            bare state dict with or without the prefix ``encoder.``; or a file with one of these.
        **encoder_arguments: Arguments of ``CostVolumeEncoder`` or ``DepthSplatEncoder`` that
            override what was inferred, such as ``scale_range``.

    Raises:
        ValueError: The file holds no state dict, or depth alone, or tensors are missing, unexpected
            or misshapen; all of them are named in one message.
    """
    origin, state = _origin(checkpoint), encoder_state(checkpoint)
    cls = encoder_class(state, origin)
    arguments = determined_arguments(state) | proposed_arguments(state) | encoder_arguments
    with nothing_drawn():
        encoder = cls(**arguments)
    store(encoder, state, origin)
    return encoder.eval()


def load_depth(checkpoint: Checkpoint, **arguments: Any) -> DepthSplatDepth:
    """The model of a released DepthSplat file of depth alone, in eval mode: views to depth.

    Args:
        checkpoint: Such a file, or what it holds. Of a checkpoint with Gaussians, the depth is
            taken.
        **arguments: Arguments of ``DepthSplatDepth`` that override what was inferred.

    Raises:
        ValueError: The file holds something else, or tensors are missing, unexpected or misshapen;
            all of them are named in one message.
    """
    return depth_of(encoder_state(checkpoint), _origin(checkpoint), **arguments)


def depth_of(state: State, origin: str, **arguments: Any) -> DepthSplatDepth:
    """The model of depth in published tensors, in eval mode; see :func:`load_depth`."""
    if depthsplat.is_depthsplat(state):
        prefix = depthsplat.DEPTH
        state = {n.removeprefix(prefix): x for n, x in state.items() if n.startswith(prefix)}
    if not is_depth_alone(state):
        raise ValueError(
            f"{origin}: none of DepthSplat's tensors found in it, such as pretrained.cls_token: "
            "expected a released file of DepthSplat"
        )
    with nothing_drawn():
        model = DepthSplatDepth(**{**determined_arguments(state), **arguments})
    store(model, state, origin)
    return model.eval()


def is_published(state: State) -> bool:
    """Whether tensors of an encoder have the names of a published model."""
    kinds = (depthsplat.is_depthsplat, is_depth_alone, mvsplat.is_mvsplat)
    return any(of_kind(state) for of_kind in kinds)


def encoder_class(state: State, origin: str) -> type[CostVolumeEncoder] | type[DepthSplatEncoder]:
    """Whose weights published tensors are.

    Raises:
        ValueError: They are no encoder's but DepthSplat's depth alone.
    """
    if is_depth_alone(state):
        raise ValueError(f"{origin} {ALONE}")
    return DepthSplatEncoder if depthsplat.is_depthsplat(state) else CostVolumeEncoder


def infer_arguments(state: State) -> dict[str, Any]:
    """The arguments of an encoder, or of ``DepthSplatDepth``, that published tensors imply.

    Args:
        state: By the published names, without the prefix ``encoder.``.
    """
    theirs = depthsplat.is_depthsplat(state) or is_depth_alone(state)
    return (depthsplat if theirs else mvsplat).infer_arguments(state)


def determined_arguments(state: State) -> dict[str, Any]:
    """The arguments that published tensors determine: sizes, behaviours."""
    arguments = infer_arguments(state)
    if is_depth_alone(state):
        return {**dict.fromkeys(DepthSplatDepth.behaviours, True), **arguments}
    if depthsplat.is_depthsplat(state):
        return {**dict.fromkeys(DepthSplatEncoder.behaviours, True), **arguments}
    of_published = {name: name.startswith("published_") for name in CostVolumeEncoder.behaviours}
    return {**of_published, **arguments}


def proposed_arguments(state: State) -> dict[str, Any]:
    """Arguments of the encoder that suit published tensors, where nothing else is wished."""
    if is_depth_alone(state):
        width = infer_arguments(state).get("offset_width")
        # As in all released models.
        return {} if width is None else {"feature_width": 2 * width}
    return {"scale_range": PUBLISHED_SCALES} if depthsplat.is_depthsplat(state) else {}


def store(model: nn.Module, state: State, origin: str) -> None:
    """Put published tensors in their places.

    Args:
        model: An encoder, or DepthSplat's depth; changed in place.
        state: By the published names, without the prefix ``encoder.``.
        origin: What to call them in a message.

    Raises:
        ValueError: Tensors are missing, unexpected or misshapen; all are named in one message.
    """
    if not isinstance(model, DepthSplatDepth):
        fitting = encoder_class(state, origin)
        if not isinstance(model, fitting):
            raise ValueError(f"{origin} fits a {fitting.__name__}, not a {type(model).__name__}")
    if isinstance(model, CostVolumeEncoder):
        entries, hint = dict(mvsplat.correspondence(model)), ""
    else:
        assert isinstance(model, (DepthSplatEncoder, DepthSplatDepth))
        entries, hint = dict(depthsplat.correspondence(model)), f"\n{VERSIONS}"
    try:
        check_names_and_shapes(state, entries, origin)
    except ValueError as error:
        raise ValueError(f"{error}{hint}") from None
    filled = {entry.target for entry in entries.values()}
    assert all(name in filled for name, _ in model.named_parameters()), "none may stay undrawn"
    for name, entry in entries.items():
        entry.store(model, state[name])


def _origin(checkpoint: Checkpoint) -> str:
    given = isinstance(checkpoint, (str, os.PathLike))
    return str(checkpoint) if given else "the published checkpoint"
