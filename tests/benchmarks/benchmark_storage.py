"""Scenes a second from the local disk, and from an S3 server on this machine, cold and warm.

    python tests/benchmarks/benchmark_storage.py

The server is moto's, in a process of its own. Scenes are 640x360 JPEG frames in chunks; a sample is
six of them, cropped to 256x256. The consumer "trains" for some milliseconds a scene: the share of
time that it waits for the next one is what storage costs a training.
"""

import argparse
import logging
import multiprocessing
import os
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from benchmark_loading import SHAPE, jpeg, photograph, scene

from mvsplat.data.chunks.chunk_scenes import ChunkScenes, write_chunks
from mvsplat.data.loading.examples import ExampleSettings, SceneExamples
from mvsplat.data.loading.loaders import BatchLoader, ExampleBatches, LoaderSettings
from mvsplat.data.loading.skips import SkipReport
from mvsplat.data.loading.streams import FixedPlan, RankShare, ShuffledOrder
from mvsplat.data.loading.view_samplers import BoundedViewSampler
from mvsplat.data.storage.cache import FileCache


def serve(pipe) -> None:
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    pipe.send(server.get_host_and_port())
    with suppress(EOFError):  # until the benchmark ends
        pipe.recv()


def separate(entry: dict) -> dict:
    """Its pictures one by one: those that are the same tensor would be written once."""
    return entry | {"images": [image.clone() for image in entry["images"]]}


def measure(root: str, cache: FileCache, samples: int, step: float, workers: int) -> str:
    """One pass over the scenes of a data set, in words."""
    source = ChunkScenes(root)
    source.cache = cache
    start = time.perf_counter()
    views = BoundedViewSampler(initial_min_gap=None, initial_max_gap=None)
    examples = SceneExamples(source, "train", views, ExampleSettings(SHAPE, near=1, far=100), 0.5)
    batches = ExampleBatches(examples, ShuffledOrder(examples.groups(), 2, 0), 0, True)
    loader = BatchLoader(
        FixedPlan(RankShare(1), samples), batches, LoaderSettings(1, workers), SkipReport("train")
    )
    waited, before = 0.0, time.perf_counter()
    for _ in loader:
        waited += time.perf_counter() - before
        time.sleep(step)
        before = time.perf_counter()
    total = time.perf_counter() - start
    loader.close()
    return f"{samples / total:6.1f} scenes a second, {waited / total:5.0%} of the time waiting"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--scenes", type=int, default=40)
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--chunk_mb", type=float, default=12.0)
    parser.add_argument("--step_ms", type=float, default=50.0, help="of training a scene")
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    os.environ |= {"AWS_ACCESS_KEY_ID": "someone", "AWS_SECRET_ACCESS_KEY": "secret"}
    here, there = multiprocessing.Pipe()
    multiprocessing.get_context("spawn").Process(target=serve, args=(there,), daemon=True).start()
    host, port = here.recv()
    with tempfile.TemporaryDirectory() as folder:
        import fsspec

        fsspec.config.conf["s3"] = {"endpoint_url": f"http://{host}:{port}"}
        encoded = [jpeg(photograph(seed)) for seed in range(12)]
        local = Path(folder) / "scenes/train"
        made = (separate(scene(number, encoded)) for number in range(arguments.scenes))
        write_chunks(local, made, round(arguments.chunk_mb * 1e6))
        storage = fsspec.filesystem("s3")
        storage.mkdir("bucket")
        storage.put(f"{local.parent}/", "bucket/scenes/", recursive=True)
        size = sum(path.stat().st_size for path in local.glob("*.torch"))
        chunks = len(list(local.glob("*.torch")))
        print(f"{arguments.scenes} scenes in {chunks} chunks of {size / chunks / 1e6:.0f} MB")
        print(f"{arguments.workers} workers, {arguments.step_ms:.0f} ms of training a scene")
        large = FileCache(folder=f"{folder}/large")
        small = FileCache(1.5 * size / chunks / 1e9, f"{folder}/small")
        for name, root, cache in (
            ("local disk", str(local.parent), large),
            ("S3, cold cache", "s3://bucket/scenes", large),
            ("S3, warm cache", "s3://bucket/scenes", large),
            ("S3, 1-chunk cache", "s3://bucket/scenes", small),
        ):
            result = measure(
                root, cache, arguments.samples, arguments.step_ms / 1e3, arguments.workers
            )
            print(f"{name:<18} {result}", flush=True)


if __name__ == "__main__":
    main()
