"""What weights are worth on photographs with cameras, and on generated scenes of new seeds.

    python tests/benchmarks/benchmark_weights.py CHECKPOINT [...] --scenes FOLDER[=CHOICE] ...

A scene is a folder of any format that ``mvsplat index`` reads. CHOICE says how its context and
target views are chosen: OverlapTiers (the default, as in ``mvsplat index``), WholeScene, or an
index file. Depth bounds are estimated where the scene has none of its own. Each row is a scene at a
size, PSNR over its target views: the nearest context view copied, the plane at the median depth of
the scene's sparse points (triangulated from its pictures where it has none; exact depth where it
has that), then for each checkpoint the model, and the model with its cost volume zeroed. Means are
over the scenes given, so give a place only once. ``--sizes 128`` and 256 also tell whether a size
is worth its pixels: the column "halved" is the model's 256 x 256 rendering, averaged 2 x 2, against
the pictures of 128 x 128.
"""

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from statistics import fmean

import torch
import torch.nn.functional as F

from mvsplat import MVSplat, load_model
from mvsplat.data import (
    EvaluationViewSampler,
    MiddleViewSampler,
    OverlapTiers,
    SceneDataModule,
    SceneSource,
    VariedScenes,
    ViewSampler,
    WholeScene,
    make_index,
    open_scenes,
    write_evaluation_index,
)
from mvsplat.data.loading.loaders import LoaderSettings
from mvsplat.data.triangulation import points_from_pictures
from mvsplat.evaluation.baselines import median_plane, nearest_view
from mvsplat.evaluation.metrics import psnr
from mvsplat.types import Batch, Views

CHOICES = {"OverlapTiers": OverlapTiers, "WholeScene": WholeScene}


def views_of(source: SceneSource, choice: str, work: Path) -> EvaluationViewSampler:
    """The views of an index, which is made unless ``choice`` is one."""
    if choice not in CHOICES:
        return EvaluationViewSampler(choice)
    path = work / f"index{len(list(work.iterdir()))}.json"
    write_evaluation_index(path, make_index(source, "test", CHOICES[choice](), workers=0).entries)
    return EvaluationViewSampler(str(path))


def batches(source: SceneSource, views: ViewSampler, size: int) -> Iterator[Batch]:
    """Every sample once, a batch each."""
    module = SceneDataModule(
        source, image_shape=(size, size), test_views=views, test_loader=LoaderSettings(1, 0)
    )
    yield from module.test_dataloader()


def points_depth(points: torch.Tensor, views: Views) -> torch.Tensor:
    """The median depth of the points that the views show, as a map that baselines take."""
    away = points - views.extrinsics[0, :, None, :3, 3]
    camera = away @ views.extrinsics[0, :, :3, :3]
    picture = camera @ views.intrinsics[0].mT
    place = picture[..., :2] / picture[..., 2:]
    seen = (camera[..., 2] > 0) & ((place > 0) & (place < 1)).all(-1)
    depth = camera[..., 2][seen].median()
    return depth.expand(views.image[:, :, 0].shape)


def render(model: MVSplat, batch: Batch, zeroed: bool) -> torch.Tensor:
    ablations = model.encoder.ablations()
    with torch.no_grad(), ablations["zeroed_cost_volume"] if zeroed else nullcontext():
        return model.render(model.encoder(batch.context), batch.target).color


def scores(
    models: list[MVSplat], source: SceneSource, views: ViewSampler, size: int
) -> dict[str, float]:
    """Means over the samples of a source: of each its target views' mean."""
    found: dict[str, list[float]] = {}

    def add(name: str, picture: torch.Tensor, truth: torch.Tensor) -> None:
        found.setdefault(name, []).append(float(psnr(picture, truth).mean()))

    points: dict[str, torch.Tensor] = {}
    halves = batches(source, views, size // 2) if size == 256 else None
    for batch in batches(source, views, size):
        truth = batch.target.image
        add("copy", nearest_view(batch), truth)
        depth = None
        if batch.context.depth is None:
            key = views.choose(source.keys("test")).samples[batch.scene[0]]
            if key not in points:
                scene = source.scene("test", key)
                known = scene.points if scene.points is not None else points_from_pictures(scene)
                assert known is not None, f"{key} shows nothing that could be triangulated"
                points[key] = known
            depth = points_depth(points[key].to(truth), batch.context)
        add("plane", median_plane(batch, depth), truth)
        half = next(halves).target.image if halves is not None else None
        for number, model in enumerate(models):
            picture = render(model, batch, zeroed=False)
            add(f"model {number}", picture, truth)
            add(f"zeroed {number}", render(model, batch, zeroed=True), truth)
            if half is not None:
                add(f"halved {number}", F.avg_pool2d(picture.clamp(0, 1)[0], 2)[None], half)
    return {name: fmean(values) for name, values in found.items()}


def show(name: str, size: int, row: dict[str, float], columns: list[str]) -> None:
    cells = [f"{row[column]:.2f}" if column in row else "" for column in columns]
    print(f"| {name} | {size} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoints", nargs="*")
    parser.add_argument("--scenes", nargs="*", default=[], metavar="FOLDER[=CHOICE]")
    parser.add_argument("--sizes", type=int, nargs="*", default=[64, 128, 256])
    parser.add_argument("--generated", type=int, default=0, help="so many scenes of a new seed")
    parser.add_argument("--seed", type=int, default=1000)
    parser.add_argument("--root", default="datasets/generated", help="where these are written")
    options = parser.parse_args()
    models = [load_model(checkpoint) for checkpoint in options.checkpoints]
    kinds = ("model", "zeroed", "halved")
    columns = ["copy", "plane"] + [f"{k} {n}" for n in range(len(models)) for k in kinds]
    print(f"| scene | size | {' | '.join(columns)} |\n|{'---|' * (2 + len(columns))}")
    with tempfile.TemporaryDirectory() as work:
        sources: dict[str, tuple[SceneSource, ViewSampler]] = {}
        for argument in options.scenes:
            folder, _, choice = argument.partition("=")
            source = open_scenes(folder)
            views = views_of(source, choice or "OverlapTiers", Path(work))
            sources[Path(folder).name] = source, views
        for size in options.sizes:
            rows = []
            for name, (source, views) in sources.items():
                rows.append(scores(models, source, views, size))
                show(name, size, rows[-1], columns)
            if len(rows) > 1:
                means = {name: fmean(row[name] for row in rows) for name in rows[0]}
                show("mean", size, means, columns)
    if options.generated:
        made = VariedScenes(
            options.root, train_scenes=0, test_scenes=options.generated, seed=options.seed
        )
        made.prepare()
        for size in options.sizes:
            row = scores(models, made, MiddleViewSampler(target_views=1), size)
            show(f"{options.generated} generated", size, row, columns)


if __name__ == "__main__":
    main()
