"""LPIPS' networks: whether their weights are here, and are what they should be."""

from collections.abc import Iterator
from typing import get_args

from mvsplat.doctor.findings import Finding

USES = {"vgg": "training and the published tables", "alex": "LPIPS' smaller variant"}


def lpips() -> Iterator[Finding]:
    """The feature networks in PyTorch's hub cache; never downloads."""
    from mvsplat.evaluation.lpips import Net, PerceptualDistance, weights_file

    for net in get_args(Net):
        path, subject = weights_file(net), f"LPIPS {net}"
        if not path.exists():
            yield Finding(
                subject,
                "note",
                f"not at {path} ({USES[net]})",
                "downloaded on first use; without a network, place the file there, or name it with "
                "--model.losses.lpips.backbone_weights FILE",
            )
            continue
        try:
            PerceptualDistance.pretrained(net)
        except Exception as error:  # whatever a damaged file does to its reader
            reason = str(error).splitlines()[0]
            yield Finding(
                subject, "problem", reason, f"delete {path}, or place the right file there"
            )
        else:
            yield Finding(subject, "ok", str(path))
