"""Chunks from a web server and their cache: whole, checked, bounded, and a clear end."""

import errno
import hashlib
import multiprocessing
import os
import signal
import threading
import time
from collections import Counter
from itertools import islice

import fsspec
import pytest
import torch
from fsspec.registry import known_implementations
from tiny_scenes import make_entry
from web_server import WebServer, serving

from mvsplat.data.chunks.chunk_scenes import ChunkScenes, write_chunks
from mvsplat.data.faults import StorageAway, faults_are
from mvsplat.data.loading.examples import ExampleSettings, SceneExamples
from mvsplat.data.loading.loaders import BatchLoader, ExampleBatches, LoaderSettings
from mvsplat.data.loading.mixture import MixedExamples
from mvsplat.data.loading.skips import SkipReport
from mvsplat.data.loading.streams import (
    EndlessPlan,
    InOrder,
    RankShare,
    ShuffledOrder,
    StreamStart,
    combined_seed,
)
from mvsplat.data.loading.view_samplers import BoundedViewSampler
from mvsplat.data.readers.opening import AnyScenes
from mvsplat.data.storage import cache, drivers, patience
from mvsplat.data.storage.addresses import Address, location
from mvsplat.data.storage.cache import DamagedInStorage, FileCache
from mvsplat.data.storage.prefetching import Prefetcher


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(patience, "_FIRST_PAUSE", 0.02)
    monkeypatch.setattr(cache, "_BLOCK", 5000)
    cache._without_md5.clear()


@pytest.fixture
def server(root):
    """Serves the chunks of five training and two test files, some KB each."""
    with serving(WebServer()) as server:
        server.add(root)
        yield server


@pytest.fixture
def kept(tmp_path):
    """A cache that holds everything, and gives up after two seconds."""
    return FileCache(folder=str(tmp_path / "cache"), patience=2.0)


def source_of(server, cache) -> ChunkScenes:
    source = ChunkScenes(server.address)
    source.cache = cache
    return source


def cameras_and_pixels(source):
    scenes = [source.scene("train", key) for key in source.keys("train")]
    return [(scene.key, scene.extrinsics, scene.image(8).tobytes()) for scene in scenes]


def same(one, other) -> bool:
    return len(one) == len(other) and all(
        a[0] == b[0] and torch.equal(a[1], b[1]) and a[2] == b[2]
        for a, b in zip(one, other, strict=True)
    )


@pytest.mark.parametrize(
    "faults",
    [
        {},
        {"faults": ["break", "503", "damage", "damage", "429", "break", "hang"]},
        {"takes_ranges": False, "faults": ["break", "damage"]},
    ],
    ids=["sound", "unreliable", "whole files only"],
)
def test_the_same_bits_come_over_any_line(root, server, kept, faults, monkeypatch):
    monkeypatch.setattr(drivers, "STALLED", 0.3)
    for name, value in faults.items():
        setattr(server, name, value)
    expected = cameras_and_pixels(ChunkScenes(str(root)))
    assert same(cameras_and_pixels(source_of(server, kept)), expected)
    assert not server.faults and len(server.chunks()) >= 5
    # From now on the copies serve: the server sends no chunk any more.
    before = len(server.chunks())
    assert same(cameras_and_pixels(source_of(server, kept)), expected)
    assert len(server.chunks()) == before
    assert {path.read_bytes() for path in kept.place.glob("*.torch")} == {
        path.read_bytes() for path in (root / "train").glob("*.torch")
    }


def test_what_is_damaged_there_is_said_and_not_kept(server, kept):
    path = "/train/000001.torch"
    server.files[path] = server.files[path][:-300] + b"?" + server.files[path][-299:]
    source = source_of(server, kept)
    with pytest.raises(DamagedInStorage, match=r"train/000001\.torch is damaged: its hash is"):
        source.scene("train", "a03")
    assert source.scene("train", "a00").key == "a00"
    assert len(list(kept.place.glob("*.torch"))) == 1


def test_an_etag_that_looks_like_a_hash_may_be_none(root, tmp_path):
    """Storage that encrypts has such: what comes twice alike is what is there."""
    server = WebServer(etag=lambda content: hashlib.md5(content + b"key").hexdigest())
    with serving(server):
        server.add(root)
        del server.files["/train/checksums.json"]
        cached = FileCache(folder=str(tmp_path / "cache"), patience=1.0)
        found = cameras_and_pixels(source_of(server, cached))
    assert same(found, cameras_and_pixels(ChunkScenes(str(root))))
    # Only the first of five chunks was fetched twice.
    counts = Counter(server.chunks())
    assert len(counts) == 5
    assert counts["/train/000000.torch"] == 2 * counts["/train/000001.torch"]


def test_an_etag_that_is_a_hash_finds_damage(root, tmp_path):
    server = WebServer(etag=lambda content: hashlib.md5(content).hexdigest())
    with serving(server):
        server.add(root)
        del server.files["/train/checksums.json"]
        server.faults = ["damage"]
        cached = FileCache(folder=str(tmp_path / "cache"), patience=1.0)
        path = Address(f"{server.address}/train/000000.torch")
        assert hold(cached, path) == (root / "train/000000.torch").read_bytes()


def test_storage_that_stays_away_ends_the_run_in_a_sentence(server, tmp_path):
    source = source_of(server, FileCache(folder=str(tmp_path / "cache"), patience=0.3))
    source.keys("train")
    server.always = "503"
    with pytest.raises(StorageAway, match=r"000000\.torch: storage has not answered for .* same"):
        # It is no scene's fault: nothing may be skipped for it.
        with faults_are("damaged", reading=True):
            source.scene("train", "a00")
    server.always = ""
    assert source.scene("train", "a00").key == "a00"


def test_a_server_that_is_gone_is_told_from_an_empty_one(server, tmp_path):
    little = FileCache(folder=str(tmp_path), patience=0.2)
    with pytest.raises(FileNotFoundError, match=r"no train scenes: .*/nowhere/train is no folder"):
        ChunkScenes(f"{server.address}/nowhere").keys("train")
    gone = ChunkScenes("http://127.0.0.1:9/scenes")
    gone.cache = little
    with pytest.raises(StorageAway, match=r"http://127\.0\.0\.1:9/scenes/train.* not answered"):
        gone.keys("train")


def test_refusals_end_at_once(server, kept):
    source = source_of(server, kept)
    source.keys("train")
    server.faults = ["403"]
    with pytest.raises(StorageAway, match=r"storage denies access: are the credentials"):
        source.scene("train", "a00")
    assert len(server.chunks()) == 0 and not server.faults


def test_a_missing_driver_is_named(monkeypatch):
    known = {"class": "lostfs.files.LostFileSystem", "err": "Install lostfs"}
    monkeypatch.setitem(known_implementations, "lost", known)
    with pytest.raises(ValueError, match=r"lost://a/train.*package lostfs.*pip install lostfs"):
        ChunkScenes("lost://a").keys("train")
    with pytest.raises(ValueError, match="there is no storage nothing://.*s3://"):
        ChunkScenes("nothing://a").keys("train")


def test_addresses_of_this_machine_are_paths(root):
    assert location(f"file://{root}") == root
    assert ChunkScenes(f"file://{root}").keys("test") == ["t00", "t01", "t02", "t03", "t04"]


@pytest.fixture
def stored():
    """Five files of 1000 bytes in memory."""
    files = fsspec.filesystem("memory")
    for number in range(5):
        files.pipe_file(f"/few/{number}.torch", bytes([number]) * 1000)
    yield [Address(f"memory://few/{number}.torch", patience=0.1) for number in range(5)]
    files.rm("/few", recursive=True)


def names_in(cached):
    return sorted(path.name[-7:-6] for path in cached.place.glob("*.torch"))


def hold(cached, address, **options):
    with cached.holding(address, **options) as path:
        return None if path is None else path.read_bytes()


def test_the_least_recently_used_go_first(stored, tmp_path):
    small = FileCache(gigabytes=3e-6, folder=str(tmp_path))
    for turn, number in enumerate([0, 1, 2, 0, 3, 4]):
        assert hold(small, stored[number]) == bytes([number]) * 1000
        for path in small.place.glob("*.torch"):  # as if some time had gone by
            os.utime(path, ns=(0, path.stat().st_mtime_ns - 10**9))
        assert turn < 2 or len(names_in(small)) == 3
    assert names_in(small) == ["0", "3", "4"]


@pytest.mark.parametrize("gigabytes", [0.0, 5e-7])
def test_a_cache_smaller_than_a_file_holds_that_one(stored, tmp_path, gigabytes):
    small = FileCache(gigabytes, str(tmp_path))
    for number in (0, 1, 0):
        assert hold(small, stored[number]) == bytes([number]) * 1000
        assert names_in(small) == [str(number)]


def test_another_version_is_another_file(stored, tmp_path):
    cached = FileCache(folder=str(tmp_path))
    assert hold(cached, stored[0])[0] == 0
    fsspec.filesystem("memory").pipe_file("/few/0.torch", b"\7" * 1000)
    assert hold(cached, stored[0])[0] == 7


def test_a_full_disk_makes_room_and_then_is_said(stored, tmp_path, monkeypatch):
    cached = FileCache(folder=str(tmp_path))
    hold(cached, stored[0])
    complete, full = cache._complete, [1]

    def failing(address, facts, part):
        part.write_bytes(b"\1" * 300)
        if full and full.pop():
            raise OSError(errno.ENOSPC, "No space left on device")
        complete(address, facts, part)

    monkeypatch.setattr(cache, "_complete", failing)
    assert hold(cached, stored[1]) == b"\1" * 1000
    assert names_in(cached) == ["1"]
    full[:] = [1, 1]
    with pytest.raises(StorageAway, match=r"few/2\.torch \(0 MB\) in the cache .*data\.cache"):
        hold(cached, stored[2])
    # The part that was written waits for room.
    assert hold(cached, stored[2]) == b"\1" * 300 + b"\2" * 700


def test_a_cache_that_cannot_be_made_is_named(stored, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageAway, match=r"the cache .*file/cache cannot be used.*data\.cache"):
        hold(FileCache(folder=str(tmp_path / "file/cache")), stored[0])


def test_many_at_once_fetch_a_file_once(root, server, kept):
    server.seconds = 0.05
    address = Address(f"{server.address}/train/000000.torch", patience=1.0)
    facts = address.facts()
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(hold(kept, address, facts=facts)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    content = (root / "train/000000.torch").read_bytes()
    assert found == [content] * 4
    assert sum(size for _, size in server.got) == len(content)


def test_a_killed_process_s_part_is_gone_on_with(root, server, kept):
    server.seconds = 0.15
    content = (root / "train/000000.torch").read_bytes()
    address = Address(f"{server.address}/train/000000.torch", patience=5.0)
    process = multiprocessing.get_context("fork").Process(target=hold, args=(kept, address))
    process.start()
    deadline = time.monotonic() + 30
    while len(server.got) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert not list(kept.place.glob("*.torch"))
    (part,) = kept.place.glob(".*.part")
    assert 0 < part.stat().st_size < len(content)
    server.seconds, before = 0.0, sum(size for _, size in server.got)
    assert hold(kept, address) == content
    assert sum(size for _, size in server.got) - before < len(content)
    assert not list(kept.place.glob(".*.part"))


def test_chunks_that_come_next_are_fetched_ahead_as_far_as_the_cache_reaches(stored, tmp_path):
    cached = FileCache(gigabytes=3e-6, folder=str(tmp_path))
    facts = {address: address.facts() for address in stored}
    hold(cached, stored[4])
    order = [stored[number] for number in (1, 1, 0, 1, 3, 2, 4)]
    ahead = Prefetcher(cached, facts)
    ahead.expect(iter(order))
    deadline = time.monotonic() + 20
    while names_in(cached) != ["0", "1", "3"] and time.monotonic() < deadline:
        time.sleep(0.01)
    assert names_in(cached) == ["0", "1", "3"]
    # What is needed soon is not driven out by what is only fetched ahead.
    assert hold(cached, stored[2], facts=facts[stored[2]], keep=ahead.soon, ahead=True) is None
    assert names_in(cached) == ["0", "1", "3"]


class Told(SceneExamples):
    """Remembers what it is told to expect."""

    def __init__(self, count):
        self.count, self.told = count, []

    def __len__(self):
        return self.count

    def groups(self):
        return [list(range(self.count))]

    def expect(self, upcoming):
        self.told += islice(upcoming, 4)


def test_the_sets_of_a_mixture_are_told_their_own_samples():
    parts = {"few": Told(3), "many": Told(7)}
    mixed = MixedExamples(parts)
    # Training draws sets: position 2 of the second of two.
    order = mixed.shuffled(window=1, seed=0)
    own = ShuffledOrder([list(range(7))], 1, combined_seed(0, 1))
    mixed.expect(order.upcoming(2 * 2 + 1))
    assert parts["many"].told == [own.at(position) for position in range(2, 6)]
    assert not parts["few"].told
    # Evaluation goes through one after the other, and ends.
    mixed.expect(InOrder(10).upcoming(1))
    mixed.expect(InOrder(10).upcoming(8))
    mixed.expect(InOrder(10).upcoming(10))
    assert parts["few"].told == [1, 2] and parts["many"].told[4:] == [5, 6]


def test_several_places_at_once_are_fetched_ahead(tmp_path):
    write_chunks("memory://ahead1/train", [make_entry("a", 2), make_entry("b", 2)], 1)
    write_chunks("memory://ahead2/train", [make_entry("c", 2)])
    source = AnyScenes(train=["memory://ahead1", "memory://ahead2"])
    source.cache = FileCache(folder=str(tmp_path))
    source.expect("train", iter(["b", "c", "a"]))
    source.expect("train", iter(["c", "a"]))
    deadline = time.monotonic() + 20
    while len(list(tmp_path.glob("*.torch"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(list(tmp_path.glob("*.torch"))) == 3


def stream(source, start=0, count=12, workers=0, seed=3):
    settings = ExampleSettings((8, 8), near=1.0, far=10.0)
    views = BoundedViewSampler(min_gap=4, max_gap=4, initial_min_gap=4, initial_max_gap=4)
    examples = SceneExamples(source, "train", views, settings, 0.5, seed=seed)
    batches = ExampleBatches(examples, ShuffledOrder(examples.groups(), 2, seed), seed, True)
    plan = EndlessPlan(RankShare(1), start=lambda: StreamStart(start))
    loader = BatchLoader(plan, batches, LoaderSettings(1, workers), SkipReport("train"))
    made = list(islice(loader, count))
    loader.close()
    return [(batch.scene, batch.target.image, batch.context.index) for batch in made]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("gigabytes", [1.0, 0.0])
def test_a_stream_does_not_depend_on_storage(root, server, tmp_path, workers, gigabytes):
    server.faults = ["break", "503", "damage"]
    source = source_of(server, FileCache(gigabytes, str(tmp_path / "cache"), patience=20.0))
    expected = stream(ChunkScenes(str(root)), count=20)
    begin = stream(source, count=8, workers=workers)
    for one, other in zip(expected, begin + stream(source, 8, 12, workers), strict=True):
        assert one[0] == other[0]
        assert torch.equal(one[1], other[1]) and torch.equal(one[2], other[2])


def test_a_stream_ends_when_storage_stays_away(server, tmp_path):
    source = source_of(server, FileCache(folder=str(tmp_path / "cache"), patience=0.2))
    source.keys("train")
    server.always = "503"
    with pytest.raises(StorageAway, match="storage has not answered"):
        stream(source, workers=1)
