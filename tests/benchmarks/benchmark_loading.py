"""What a loader worker does beyond decoding and resizing, in time and in memory.

    python tests/benchmarks/benchmark_loading.py

A sample is six 640x360 JPEG frames of a scene in a chunk, cropped to 256x256: two context and four
target views with cameras. Its time in the loader is compared to that of the same six frames decoded
and resized with Lanczos by PIL and nothing else, sample by sample in turn, so that both meet the
same machine. Both read the chunks from the page cache, where they have just been written.
"""

import argparse
import io
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch
from PIL import Image

from mvsplat.data.chunks.chunk_scenes import ChunkScenes, pack_cameras, write_chunks
from mvsplat.data.loading.examples import ExampleSettings, SceneExamples
from mvsplat.data.loading.loaders import ExampleBatches
from mvsplat.data.loading.streams import SampleRequest, ShuffledOrder
from mvsplat.data.loading.view_samplers import BoundedViewSampler

FRAME, SHAPE, FRAMES = (360, 640), (256, 256), 60


def photograph(seed: int) -> Image.Image:
    """A picture with detail at every scale, about 50 KB as a JPEG, as RE10K's frames have."""
    generator = np.random.default_rng(seed)
    picture = np.zeros((*FRAME, 3), np.float32)
    for scale in (1, 2, 4, 8, 16, 32, 64):
        size = (FRAME[1] // scale + 1, FRAME[0] // scale + 1)
        noise = generator.integers(0, 256, (size[1], size[0], 3), np.uint8)
        layer = Image.fromarray(noise).resize(FRAME[::-1], Image.Resampling.BICUBIC)
        picture += np.asarray(layer, np.float32) * scale**0.75
    picture = (picture - picture.min()) / np.ptp(picture)
    return Image.fromarray((picture * 255).astype(np.uint8))


def jpeg(picture: Image.Image) -> torch.Tensor:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return torch.frombuffer(bytearray(buffer.getvalue()), dtype=torch.uint8)


def scene(number: int, encoded: list[torch.Tensor]) -> dict:
    extrinsics = torch.eye(4).repeat(FRAMES, 1, 1)
    extrinsics[:, 0, 3] = 0.1 * torch.arange(FRAMES)
    intrinsics = torch.tensor([[0.9, 0, 0.5], [0, 1.6, 0.5], [0, 0, 1]]).repeat(FRAMES, 1, 1)
    images = [encoded[(number + frame) % len(encoded)] for frame in range(FRAMES)]
    return {
        "key": f"{number:04d}",
        "cameras": pack_cameras(extrinsics, intrinsics),
        "images": images,
    }


def plain(encoded: list[torch.Tensor]) -> None:
    """The least there is to do: decode the frames of a sample, and resize them."""
    for frame in encoded:
        picture = Image.open(io.BytesIO(frame.numpy().tobytes()))
        picture.resize((455, 256), Image.Resampling.LANCZOS)


def resident() -> float:
    """MB of this process that are in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    private = pages - int(Path("/proc/self/statm").read_text().split()[2])
    return private * 4096 / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--scenes", type=int, default=60)
    parser.add_argument("--samples", type=int, default=300)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        encoded = [jpeg(photograph(seed)) for seed in range(12)]
        size = sum(map(len, encoded)) / len(encoded)
        write_chunks(Path(folder) / "train", (scene(n, encoded) for n in range(arguments.scenes)))
        source = ChunkScenes(folder)
        examples = SceneExamples(
            source, "train", BoundedViewSampler(), ExampleSettings(SHAPE, near=1, far=100), 0.5
        )
        batches = ExampleBatches(
            examples, ShuffledOrder(examples.groups(), 8, 0), 0, replace_skipped=True
        )
        batches[[SampleRequest(0, 0)]]
        loader, alone, memory = [], [], []
        for position in range(arguments.samples):
            start = time.perf_counter()
            made = batches[[SampleRequest(position, 0)]]
            loader.append(time.perf_counter() - start)
            frames = {*made.batch.context.index[0].tolist(), *made.batch.target.index[0].tolist()}
            images = source.scene("train", made.batch.scene[0])._images
            start = time.perf_counter()
            plain([images[frame] for frame in frames])
            alone.append(time.perf_counter() - start)
            memory.append(resident())
    ratio = median(one / other for one, other in zip(loader, alone, strict=True))
    third = arguments.samples // 3
    print(f"frames of {size / 1000:.0f} KB, {arguments.samples} samples on one thread")
    print(f"a sample in the loader     {1000 * median(loader):6.2f} ms")
    print(f"decoded and resized alone  {1000 * median(alone):6.2f} ms")
    print(f"ratio                      {ratio:6.3f}   (at most 1.3)")
    print(f"private memory             {median(memory[:third]):6.1f} MB in the first third, "
          f"{median(memory[-third:]):.1f} MB in the last")  # fmt: skip


if __name__ == "__main__":
    main()
