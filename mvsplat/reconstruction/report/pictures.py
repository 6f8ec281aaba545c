"""Pictures inside the report's page: embedded JPEGs, and a map of the cameras."""

import base64
import io
from html import escape

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from mvsplat.export.images import to_pil

_MAP_SIZE, _MAP_MARGIN = 420, 30
_MOST_POINTS = 1500


def embedded(picture: Float[Tensor, "3 h w"] | Image.Image, alt: str, width: int = 200) -> str:
    """An ``img`` element that holds its picture, shown ``width`` pixels wide."""
    image = to_pil(picture) if isinstance(picture, Tensor) else picture
    if image.width < width:
        factor = -(-width // image.width)
        image = image.resize(
            (image.width * factor, image.height * factor), Image.Resampling.BICUBIC
        )
    elif image.width > 2 * width:
        height = round(image.height * 2 * width / image.width)
        image = image.resize((2 * width, height), Image.Resampling.LANCZOS)
    data = io.BytesIO()
    image.save(data, format="JPEG", quality=88)
    text = base64.b64encode(data.getvalue()).decode("ascii")
    return f'<img width="{width}" alt="{escape(alt)}" src="data:image/jpeg;base64,{text}">'


def embedded_video(content: bytes, width: int) -> str:
    """A ``video`` element that holds its film."""
    text = base64.b64encode(content).decode("ascii")
    return (
        f'<video width="{width}" autoplay loop muted playsinline controls '
        f'src="data:video/mp4;base64,{text}"></video>'
    )


def camera_map(
    extrinsics: Float[Tensor, "n 4 4"],
    kinds: list[str],
    names: list[str],
    points: Float[Tensor, "p 3"] | None = None,
) -> str:
    """The cameras seen from above, as SVG: dots with their viewing directions.

    Args:
        extrinsics: Camera-to-world matrices.
        kinds: The CSS class of each.
        names: Shown when the mouse is over a camera.
        points: Points of the scene, for orientation.
    """
    centers = extrinsics[:, :3, 3].double()
    plane = _ground(extrinsics.double())
    flat = centers @ plane.mT
    ahead = extrinsics[:, :3, 2].double() @ plane.mT
    cloud = _cloud(points, centers, plane)
    shown = torch.cat([flat, cloud])
    low, high = shown.amin(0), shown.amax(0)
    scale = (_MAP_SIZE - 2 * _MAP_MARGIN) / float((high - low).max().clamp(min=1e-9))
    corner = (low + high) / 2

    def place(xy: Tensor) -> tuple[float, float]:
        x, y = ((xy - corner) * scale).tolist()
        return round(_MAP_SIZE / 2 + x, 1), round(_MAP_SIZE / 2 - y, 1)

    parts = [f'<svg width="{_MAP_SIZE}" height="{_MAP_SIZE}" role="img" aria-label="Cameras">']
    for xy in cloud:
        x, y = place(xy)
        parts.append(f'<circle class="point" cx="{x}" cy="{y}" r="1"/>')
    for number, kind in enumerate(kinds):
        (x, y), direction = place(flat[number]), ahead[number]
        x2, y2 = round(x + 18 * float(direction[0]), 1), round(y - 18 * float(direction[1]), 1)
        parts.append(
            f'<g class="{kind}"><title>{escape(names[number])}</title>'
            f'<line x1="{x}" y1="{y}" x2="{x2}" y2="{y2}"/><circle cx="{x}" cy="{y}" r="4"/></g>'
        )
    return "\n".join([*parts, "</svg>"])


def _ground(extrinsics: Float[Tensor, "n 4 4"]) -> Float[Tensor, "2 3"]:
    """Rightward and forward of the mean camera, in the plane that its pictures stand upright on."""
    up = -extrinsics[:, :3, 1].mean(0)
    ahead = extrinsics[:, :3, 2].mean(0)
    if float(up.norm()) < 1e-6:
        up = -extrinsics[0, :3, 1]
    up = up / up.norm()
    ahead = ahead - (ahead @ up) * up
    if float(ahead.norm()) < 1e-6:
        ahead = extrinsics[0, :3, 0]
        ahead = ahead - (ahead @ up) * up
    ahead = ahead / ahead.norm()
    return torch.stack([torch.linalg.cross(ahead, up), ahead])


def _cloud(
    points: Float[Tensor, "p 3"] | None,
    centers: Float[Tensor, "n 3"],
    plane: Float[Tensor, "2 3"],
) -> Float[Tensor, "m 2"]:
    """Some of the points, without the farthest tenth, which would make all else tiny."""
    if points is None or not len(points):
        return centers.new_zeros(0, 2)
    points = points.double()
    distance = (points - centers.mean(0)).norm(dim=-1)
    points = points[distance <= distance.sort().values[int(0.9 * (len(points) - 1))]]
    chosen = torch.linspace(0, len(points) - 1, min(len(points), _MOST_POINTS)).round().long()
    return points[chosen] @ plane.mT
