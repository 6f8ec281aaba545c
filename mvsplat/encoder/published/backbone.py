"""Weights of others that parts of an encoder start from: UniMatch's backbone, DINOv2's ViT."""

import os
from collections.abc import Mapping

from torch import Tensor, nn

from mvsplat.encoder import CostVolumeEncoder, DepthSplatDepth, DepthSplatEncoder
from mvsplat.encoder.networks.vit import VisionTransformer
from mvsplat.encoder.published import depthsplat, mvsplat
from mvsplat.encoder.published.names import Entry
from mvsplat.encoder.published.reading import check_names_and_shapes, load_content

# What Depth Anything V2 calls its ViT.
DEPTH_ANYTHING = "pretrained."
# In the files but without effect: it stands for patches that training hides.
MASK_TOKEN = "mask_token"


def load_backbone(encoder: nn.Module, path: str | os.PathLike) -> list[str]:
    """Initialise CNN and transformer from UniMatch's weights.

    MVSplat was trained from ``gmdepth-scale1-resumeflowthings-scannet``, DepthSplat from
    ``gmflow-scale1-things``.

    Args:
        encoder: A ``CostVolumeEncoder`` or ``DepthSplatEncoder``, changed in place.
        path: A file whose entry ``model`` is a state dict; only names that the backbone has count.

    Returns:
        The names that were loaded.

    Raises:
        ValueError: The file has no such entry, nothing in it fits, or a tensor is misshapen.
    """
    backbone, state = _backbone_entries(encoder, path)
    for name, tensor in state.items():
        backbone[name].store(encoder, tensor)
    return list(state)


def check_backbone(encoder: nn.Module, path: str | os.PathLike) -> None:
    """Raise what ``load_backbone`` would, and change nothing."""
    _backbone_entries(encoder, path)


def load_vit(model: nn.Module, path: str | os.PathLike) -> None:
    """Initialise the ViT from a file of DINOv2 or Depth Anything V2.

    Args:
        model: A ``DepthSplatEncoder``, ``DepthSplatDepth`` or the ViT itself, changed in place.
        path: A file whose content is a state dict by DINOv2's names, with or without the prefix
            ``pretrained.``; of Depth Anything V2, only its ViT counts.

    Raises:
        ValueError: The file holds something else, or tensors are missing, unexpected (of a ViT with
            registers, for instance) or misshapen; all of them are named in one message.
    """
    vit, state = _vit_entries(model, path)
    vit.load_state_dict(state)


def check_vit(model: nn.Module, path: str | os.PathLike) -> None:
    """Raise what ``load_vit`` would, and change nothing."""
    _vit_entries(model, path)


def _vit_entries(
    model: nn.Module, path: str | os.PathLike
) -> tuple[VisionTransformer, dict[str, Tensor]]:
    vit = model
    if isinstance(vit, DepthSplatEncoder):
        vit = vit.depth
    if isinstance(vit, DepthSplatDepth):
        vit = vit.vit
    if not isinstance(vit, VisionTransformer):
        raise ValueError(f"a {type(model).__name__} has no ViT to initialise from {path}")
    content = load_content(path)
    tensors = content.items() if isinstance(content, Mapping) else ()
    state = {str(name): value for name, value in tensors if isinstance(value, Tensor)}
    if any(name.startswith(DEPTH_ANYTHING) for name in state):
        prefix = DEPTH_ANYTHING
        state = {n.removeprefix(prefix): x for n, x in state.items() if n.startswith(prefix)}
    state.pop(MASK_TOKEN, None)
    if "cls_token" not in state:
        raise ValueError(f"{path}: no cls_token; is it a file of DINOv2 or Depth Anything V2?")
    check_names_and_shapes(state, vit.state_dict(), str(path))
    return vit, state


def _backbone_entries(
    encoder: nn.Module, path: str | os.PathLike
) -> tuple[dict[str, Entry], dict[str, Tensor]]:
    if isinstance(encoder, CostVolumeEncoder):
        entries, prefix = mvsplat.correspondence(encoder), "backbone."
    elif isinstance(encoder, DepthSplatEncoder):
        entries, prefix = depthsplat.correspondence(encoder), depthsplat.DEPTH
    else:
        raise ValueError(
            "model.backbone_weights are CostVolumeEncoder's and DepthSplatEncoder's, this encoder "
            f"is a {type(encoder).__name__}"
        )
    content = load_content(path)
    if not isinstance(content, Mapping) or not isinstance(content.get("model"), Mapping):
        raise ValueError(
            f"{path}: no entry 'model' with a state dict; is it a UniMatch checkpoint?"
        )
    parts = (f"{prefix}backbone.", f"{prefix}transformer.")
    backbone = {
        name.removeprefix(prefix): entry for name, entry in entries if name.startswith(parts)
    }
    state = {name: tensor for name, tensor in content["model"].items() if name in backbone}
    if not state:
        raise ValueError(
            f"{path}: none of its {len(content['model'])} tensors is one of the backbone's, "
            f"such as {next(iter(backbone))}"
        )
    check_names_and_shapes(state, {name: backbone[name] for name in state}, str(path))
    return backbone, state
