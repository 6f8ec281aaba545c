"""Weights: the packaged model and LPIPS' networks, whether they are here and in order."""

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


def small() -> Iterator[Finding]:
    """The model that comes with the package: whether it loads, and what it is good for."""
    from mvsplat.weights import read_weights
    from mvsplat.weights.known import SMALL, SMALL_FILE

    try:
        weights = read_weights(SMALL)
        encoder = weights.build_encoder()
    except FileNotFoundError:
        advice = "name weights wherever they are needed: mvsplat weights lists some"
        yield Finding("small", "note", f"not in this installation ({SMALL_FILE})", advice)
        return
    except (OSError, ValueError) as error:
        advice = "install the package again; mvsplat weights lists other weights"
        yield Finding("small", "problem", str(error).splitlines()[0], advice)
        return
    count = sum(parameter.numel() for parameter in encoder.parameters())
    text = f"{count:,} parameters; {weights.good_for or 'it does not say what for'}"
    yield Finding("small", "ok", text)
