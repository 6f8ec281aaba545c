"""Chunks in object storage, by a real S3 server on this machine: trained on, checked, converted to.

The server is moto's; s3fs asks it as it would ask any other.
"""

import json
import os
from contextlib import contextmanager
from pathlib import Path

import fsspec
import pytest
import torch
from moto.server import ThreadedMotoServer
from tiny_scenes import make_entry, write_dataset

from mvsplat.cli.commands.convert import ConvertOptions, convert
from mvsplat.data import ChunkScenes, open_scenes, write_chunks
from mvsplat.data.chunks import stored_conversion
from mvsplat.data.chunks.scene_conversion import ConversionSettings
from mvsplat.data.faults import StorageAway
from mvsplat.data.storage import patience
from mvsplat.data.storage.addresses import Address
from mvsplat.data.storage.cache import FileCache


@pytest.fixture(scope="module")
def s3():
    """A running server with an empty bucket; the driver's file system for it."""
    with pytest.MonkeyPatch.context() as environment:
        for name, value in {
            "AWS_ACCESS_KEY_ID": "someone",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            environment.setenv(name, value)
        server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
        server.start()
        host, port = server.get_host_and_port()
        environment.setitem(fsspec.config.conf, "s3", {"endpoint_url": f"http://{host}:{port}"})
        files = fsspec.filesystem("s3")
        files.mkdir("bucket")
        yield files
        server.stop()


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MVSPLAT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(patience, "_FIRST_PAUSE", 0.02)


@pytest.fixture(scope="module")
def chunks(s3, root):
    """The address of a data set of five training chunks and two test chunks."""
    s3.put(f"{root}/", "bucket/rooms/", recursive=True)
    return "s3://bucket/rooms"


def test_scenes_are_those_of_the_local_disk(root, chunks):
    here, there = ChunkScenes(str(root)), ChunkScenes([chunks])
    for split in ("train", "test"):
        assert there.keys(split) == here.keys(split) and there.groups(split) == here.groups(split)
        for key in here.keys(split):
            one, other = here.scene(split, key), there.scene(split, key)
            assert torch.equal(one.extrinsics, other.extrinsics)
            assert one.image(3).tobytes() == other.image(3).tobytes()
    kept = FileCache().place
    assert kept.is_relative_to(os.environ["MVSPLAT_CACHE"])
    assert len(list(kept.glob("*.torch"))) == 7


def test_sizes_and_hashes_are_known_from_one_list(s3, chunks):
    facts = Address(f"{chunks}/train").files()["000000.torch"]
    content = s3.cat_file("bucket/rooms/train/000000.torch")
    assert facts.size == len(content) and facts.has_hash and not facts.md5_is_sure


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("s3://another-bucket/rooms", "no train scenes: s3://another-bucket/rooms/train is no"),
        ("s3://bucket/elsewhere", "no train scenes: s3://bucket/elsewhere/train is no folder"),
    ],
)
def test_wrong_buckets_and_folders_are_named(chunks, address, message):
    with pytest.raises(FileNotFoundError, match=message):
        ChunkScenes(address).keys("train")


def denied(*arguments, **options):
    raise PermissionError("Access Denied")


def test_denied_access_is_said(s3, chunks, monkeypatch):
    source = ChunkScenes(chunks)
    monkeypatch.setattr(s3, "info", denied)
    with pytest.raises(StorageAway, match=r"rooms/train/index.*denies access.*Access Denied"):
        source.keys("train")


def test_chunks_may_be_read_where_lists_are_denied(s3, chunks, monkeypatch):
    source = ChunkScenes(chunks)
    monkeypatch.setattr(s3, "ls", denied)
    with pytest.raises(PermissionError):
        s3.ls("bucket")
    assert source.keys("test") == ["t00", "t01", "t02", "t03", "t04"]
    assert source.scene("test", "t04").key == "t04"


def test_verify_and_index(s3, chunks, program, tmp_path):
    assert program("verify", chunks, "--workers", "0", config=False) == 0
    assert "nothing is wrong" in program.out
    s3.pipe_file("bucket/broken/train/000000.torch", b"no chunk")
    assert program("verify", "s3://bucket/broken", "--workers", "0", config=False) == 1
    assert "s3://bucket/broken/train/000000.torch is damaged" in " ".join(program.out.split())
    options = ["--choice", "FrameGaps", "--choice.gaps", "[4]", "--rows", "0", "--workers", "0"]
    output = tmp_path / "index.json"
    options += ["--output", output, "--image_shape", "null"]
    assert program("index", chunks, *options, config=False) == 0
    assert len(json.loads(output.read_text())) > 0


def test_what_is_no_chunks_is_said(s3, chunks):
    s3.pipe_file("bucket/notes/readme.txt", b"nothing")
    with pytest.raises(FileNotFoundError, match=r"s3://bucket/notes holds no \.torch chunks"):
        open_scenes("s3://bucket/notes")
    with pytest.raises(ValueError, match="only chunks are read from object storage, not colmap"):
        open_scenes(chunks, "colmap")
    assert len(open_scenes(f"{chunks}/test").keys("test")) == 5


def test_chunks_are_written_there(s3):
    write_chunks("s3://bucket/written/train", [make_entry("one"), make_entry("two")])
    assert ChunkScenes("s3://bucket/written").scene("train", "two").key == "two"
    with pytest.raises(FileExistsError, match="s3://bucket/written/train already holds chunks"):
        write_chunks("s3://bucket/written/train", [make_entry("one")])
    with pytest.raises(ValueError, match="http://127.0.0.1:1/a/000000.torch: http:// is for read"):
        Address("http://127.0.0.1:1/a/000000.torch").write_bytes(b"")


class Stopped(BaseException):
    """The process is gone."""


@contextmanager
def stopping_at(moment: int):
    """Stops the process before the writing of a file in storage, or after it."""
    write, calls = Address.write_bytes, 0

    def stopping(self, data):
        nonlocal calls
        calls += 1
        if calls == moment // 2 + 1 and moment % 2 == 0:
            raise Stopped
        write(self, data)
        if calls == moment // 2 + 1:
            raise Stopped

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Address, "write_bytes", stopping)
        yield


def contents(files, folder):
    names = [name for name in files.find(folder) if not name.endswith("conversion.json")]
    return {name.partition(folder)[2]: files.cat_file(name) for name in names}


def test_a_conversion_goes_on_wherever_it_was_stopped(tmp_path, monkeypatch):
    """Stopped before and after each file, then begun on another machine, which lists what is there.

    In memory, to be quick: it has the same interface, and renames nothing.
    """
    source = str(write_dataset(tmp_path / "in", train=2, test=1, frames=2))

    def run(output: str) -> None:
        convert([source], ConvertOptions(output, chunk_mb=0.0001, workers=0), ConversionSettings())

    run(str(tmp_path / "whole"))
    expected = {
        f"/{path.relative_to(tmp_path / 'whole')}": path.read_bytes()
        for path in (tmp_path / "whole").glob("*/*")
    }
    assert sum(name.endswith(".torch") for name in expected) == 3
    memory = fsspec.filesystem("memory")
    for moment in range(100):
        monkeypatch.setenv("MVSPLAT_CACHE", str(tmp_path / f"one{moment}"))
        try:
            with stopping_at(moment):
                run(f"memory://stopped{moment}")
            break
        except Stopped:
            pass
        here = "one" if moment % 3 == 0 else "another"
        monkeypatch.setenv("MVSPLAT_CACHE", str(tmp_path / f"{here}{moment}"))
        run(f"memory://stopped{moment}")
        assert contents(memory, f"/stopped{moment}") == expected
    assert moment > 20
    memory.rm("/", recursive=True)


def test_a_conversion_to_s3(s3, program, tmp_path, monkeypatch):
    source = write_dataset(tmp_path / "in", train=3, test=1, frames=2)
    options = [source, "--chunk_mb", 0.0001, "--workers", 0, "--output"]
    assert program("convert", *options, tmp_path / "whole", config=False) == 0
    with stopping_at(7), pytest.raises(Stopped):
        program("convert", *options, "s3://bucket/out", config=False)
    assert s3.exists("bucket/out/.conversion/plan.json")
    assert program("convert", *options, "s3://bucket/out", "--quality", 80, config=False) == 2
    assert "interrupted conversion of other data or with other options" in program.err
    monkeypatch.setenv("MVSPLAT_CACHE", str(tmp_path / "another machine"))
    written = []
    add = stored_conversion.StoredConversion.add
    monkeypatch.setattr(
        stored_conversion.StoredConversion,
        "add",
        lambda self, split, chunk, *rest: (
            written.append(chunk),
            add(self, split, chunk, *rest),
        ),
    )
    assert program("convert", *options, "s3://bucket/out", config=False) == 0
    assert 0 < len(written) < 4 and not s3.exists("bucket/out/.conversion")
    for path in Path(tmp_path / "whole").glob("*/*"):
        assert s3.cat_file(f"bucket/out/{path.parent.name}/{path.name}") == path.read_bytes()
    assert program("convert", *options, "s3://bucket/out", config=False) == 0
    assert "report: s3://bucket/out/conversion.json" in program.out
    assert program("convert", *options, "s3://bucket/out", "--quality", 80, config=False) == 2
    assert "s3://bucket/out/train is not empty" in program.err


def test_a_run_that_storage_has_ended_goes_on_to_the_same_bits(
    s3, chunks, root, program, tmp_path, monkeypatch
):
    """Six steps from the local disk, and from S3, which goes away meanwhile, with a tiny cache."""
    assert fit(program, tmp_path / "here", root) == 0, program.err
    expected = torch.load(program.checkpoint(), weights_only=True)
    read, calls = s3.cat_file, []

    def going_away(path, *arguments, **options):
        calls.append(path)
        if sum(path.endswith(".torch") for path in calls) > 2:
            raise ConnectionError("no route to host")
        return read(path, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(s3, "cat_file", going_away)
        assert fit(program, tmp_path / "there", chunks) == 2
    assert "storage has not answered for 0 s (ConnectionError: no route" in program.err
    begun = torch.load(program.checkpoint(), weights_only=True)["global_step"]
    assert 0 < begun < 6
    assert fit(program, tmp_path / "there", chunks, "--ckpt_path", "last") == 0, program.err
    found = torch.load(program.checkpoint(), weights_only=True)
    assert found["global_step"] == expected["global_step"] == 6
    assert found["SceneDataModule"] == expected["SceneDataModule"]
    for name, value in expected["state_dict"].items():
        assert torch.equal(value, found["state_dict"][name]), name
    assert len(list((tmp_path / "there/cache").glob("*.torch"))) == 1


TINY = Path(__file__).parents[2] / "configs/tiny.yaml"


def fit(program, folder, scenes, *more) -> int:
    program.run_dir = folder
    source = {"class_path": "mvsplat.data.ChunkScenes", "init_args": {"roots": str(scenes)}}
    return program(
        "fit",
        *("--config", TINY, "--run_dir", folder),
        f"--data.source={json.dumps(source)}",
        f"--data.cache.folder={folder}/cache",
        "--data.cache.gigabytes=1e-6",
        "--data.cache.patience=0",
        "--trainer.max_steps=6",
        "--trainer.limit_val_batches=0",
        "--trainer.logger=false",
        "--data.max_field_of_view=null",
        "--checkpoint.every_n_steps=1",
        *more,
        config=False,
    )
