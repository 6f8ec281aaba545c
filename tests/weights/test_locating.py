"""Weights by name and address: what is meant, downloads that go wrong, and what then is said."""

import hashlib
import io
import os
import re
import socket
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from unreliable_server import UnreliableServer, serving

import mvsplat
from mvsplat.cli.commands import reconstruct
from mvsplat.reconstruction.checkpoint import load_trained
from mvsplat.weights import downloading, hub, known, read_weights
from mvsplat.weights.locating import find_weights, is_path

torch.manual_seed(0)
ENCODER = mvsplat.CostVolumeEncoder(
    d_feature=8,
    cnn_widths=(8, 8, 8),
    transformer_blocks=1,
    depth_candidates=4,
    cost_volume_widths=(8,),
    cost_volume_attention=(),
    refinement_widths=(8,),
    refinement_attention=(),
    gaussian_head_width=8,
    sh_degree=0,
)


def checkpoint() -> bytes:
    described = {"encoder": ENCODER.config, "decoder": mvsplat.SplattingDecoder().config}
    state = {f"encoder.{name}": tensor for name, tensor in ENCODER.state_dict().items()}
    file = io.BytesIO()
    torch.save({"mvsplat": described, "state_dict": state}, file)
    return file.getvalue()


CONTENT = checkpoint()
HASH = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache, and no pauses between attempts."""
    monkeypatch.setenv("MVSPLAT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(downloading, "_PAUSE", 0.0)
    for name in ("HF_TOKEN", "HF_ENDPOINT", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))  # nor the user's own token
    return tmp_path / "cache"


@pytest.fixture
def server():
    with serving(UnreliableServer({"/w.ckpt": CONTENT})) as serving_now:
        yield serving_now


def in_cache(cache):
    """The whole files in the cache; parts, marks and locks begin with a dot."""
    return [p for p in cache.rglob("*") if p.is_file() and not p.name.startswith(".")]


# What is meant


def test_a_known_name_wins_over_a_file_of_that_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "package.ckpt").write_bytes(CONTENT)
    (tmp_path / "small").write_bytes(b"mine")
    monkeypatch.setattr(known, "SMALL_FILE", tmp_path / "package.ckpt")
    assert find_weights("small") == tmp_path / "package.ckpt"
    assert find_weights("./small") == Path("small") == find_weights(Path("small"))
    found = read_weights("small")
    assert found.name == found.origin == "small"


def test_what_is_neither_name_nor_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint at smal; did you mean 'small'?"):
        find_weights("smal")
    with pytest.raises(FileNotFoundError, match="which is a folder"):
        find_weights(str(tmp_path))
    with pytest.raises(ValueError, match="hf://owner only .* hf://owner/repository/file"):
        find_weights("hf://owner only")


def test_a_package_without_its_weights_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(known, "SMALL_FILE", tmp_path / "gone.ckpt")
    with pytest.raises(FileNotFoundError, match="not in this installation"):
        find_weights("small")


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("hf://me/room", ("me/room", "model.safetensors", "main")),
        ("hf://me/room/a/b.ckpt", ("me/room", "a/b.ckpt", "main")),
        ("hf://me/room@v1.2/w.pth", ("me/room", "w.pth", "v1.2")),
    ],
)
def test_forms_of_hub_addresses(address, expected):
    assert tuple(hub.parse(address)) == expected


def test_places_stay_in_the_cache_and_apart(cache):
    addresses = [
        "https://a.org/x/../../../../etc/passwd",
        "https://a.org/w.ckpt",
        "https://b.org/w.ckpt",
        "https://b.org/w.ckpt?version=2",
        "https://b.org:8080/w.ckpt",
        "https://user:secret@c.org/w.ckpt",
    ]
    places = [downloading.place_of(address).resolve() for address in addresses]
    assert len(set(places)) == len(places)
    assert all(place.is_relative_to(cache.resolve()) for place in places)
    assert not any("secret" in str(place) for place in places)


def test_the_cache_is_torch_s_unless_said_otherwise(monkeypatch, tmp_path):
    monkeypatch.delenv("MVSPLAT_CACHE")
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    assert downloading.cache_folder().is_relative_to(tmp_path / "hub")


# Downloads


def test_an_address_is_downloaded_once(server, cache, capsys):
    address = f"{server.address}/w.ckpt"
    model = mvsplat.load_model(address)
    for name, value in model.encoder.state_dict().items():
        assert torch.equal(value, ENCODER.state_dict()[name])
    (place,) = in_cache(cache)
    assert place.read_bytes() == CONTENT
    err = capsys.readouterr().err
    assert address in err and str(place) in err
    assert find_weights(address) == place and len(server.requests) == 1


def test_what_breaks_off_is_gone_on_with(server, cache):
    server.breaks_after = [100, 0, 5000]
    with pytest.raises(ConnectionError, match="broke off after 100 of"):
        find_weights(f"{server.address}/w.ckpt")  # the second attempt brought nothing
    assert not in_cache(cache)
    place = find_weights(f"{server.address}/w.ckpt")
    assert place.read_bytes() == CONTENT
    assert server.ranges() == [None, "bytes=100-", "bytes=100-", "bytes=5100-"]


@pytest.mark.parametrize("tells_versions", [True, False])
def test_a_file_that_has_changed_meanwhile_is_begun_anew(server, tells_versions):
    server.breaks_after, server.tells_versions = [1000, 0], tells_versions
    with pytest.raises(ConnectionError):
        find_weights(f"{server.address}/w.ckpt")
    other = CONTENT if tells_versions else CONTENT + b"\0"  # another size is seen all the same
    other = other[:-1] + b"\0"
    server.files["/w.ckpt"] = other
    assert find_weights(f"{server.address}/w.ckpt").read_bytes() == other


def test_a_server_that_tells_no_versions(server):
    server.breaks_after, server.tells_versions = [1000], False
    assert find_weights(f"{server.address}/w.ckpt").read_bytes() == CONTENT
    assert server.ranges() == [None, "bytes=1000-"]


def test_a_server_without_ranges(server):
    server.ignores_ranges, server.breaks_after = True, [100]
    assert find_weights(f"{server.address}/w.ckpt").read_bytes() == CONTENT


def test_a_part_that_is_longer_than_the_file(server):
    server.says, server.breaks_after = 100, []
    with pytest.raises(ConnectionError, match="416|broke off"):
        find_weights(f"{server.address}/w.ckpt")
    assert len(server.requests) < 10
    server.says = 0
    assert find_weights(f"{server.address}/w.ckpt").read_bytes() == CONTENT


def test_a_size_that_is_too_small(server, cache):
    server.says = -500
    with pytest.raises(ValueError, match=rf"what {server.address}/w.ckpt sent is damaged"):
        find_weights(f"{server.address}/w.ckpt")
    assert not list(cache.rglob("*.part")) and not in_cache(cache)


def test_a_cache_that_cannot_be_made(server, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("MVSPLAT_CACHE", str(tmp_path / "file"))
    with pytest.raises(PermissionError, match="MVSPLAT_CACHE names another folder"):
        find_weights(f"{server.address}/w.ckpt")


@pytest.mark.parametrize(
    ("content", "expected"),
    [(b"<!doctype html>sign in", "is a web page"), (b"", "is empty"), (b"abc", "damaged or not")],
)
def test_what_is_no_weights_is_not_kept(server, cache, content, expected):
    server.files["/w.ckpt"] = content
    with pytest.raises(ValueError, match=expected):
        find_weights(f"{server.address}/w.ckpt")
    assert not in_cache(cache)


def test_what_is_downloaded_does_not_choose_what_is_imported(server, tmp_path, monkeypatch):
    """A file that happens to lie in the working directory would be executed."""
    content = torch.load(io.BytesIO(CONTENT), weights_only=True)
    content["mvsplat"]["encoder"]["class_path"] = "harmless_setup.Encoder"
    file = io.BytesIO()
    torch.save(content, file)
    server.files["/w.ckpt"] = file.getvalue()
    (tmp_path / "harmless_setup.py").write_text("raise SystemExit('executed')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match="has a harmless_setup.Encoder, .* import its module"):
        read_weights(f"{server.address}/w.ckpt")
    monkeypatch.setitem(sys.modules, "harmless_setup", SimpleNamespace(Encoder=type(ENCODER)))
    assert read_weights(f"{server.address}/w.ckpt").build_encoder() is not None


@pytest.fixture
def released(monkeypatch, server):
    """A known name whose file the server has, as a mirror of the Hub."""
    file = hub.HubFile("me/room", "w.ckpt")
    monkeypatch.setenv("HF_ENDPOINT", server.address + "/")
    server.files["/me/room/resolve/main/w.ckpt"] = CONTENT
    entry = known.KnownWeights(
        "room", "MVSplat", "rooms", "2", (64, 64), "MIT", "1 MB", file, HASH[:8]
    )
    monkeypatch.setattr(known, "_KNOWN", (entry,))
    return entry


def test_released_weights_by_name(released, server, cache):
    found = read_weights("room")
    assert (
        found.name == "room" and found.good_for == "MVSplat trained on rooms, 2 views, 64x64 pixels"
    )
    assert in_cache(cache) == [released.place] == [found.path]
    # The same file, whatever it is called, and without the network.
    server.files.clear()
    assert find_weights("hf://me/room/w.ckpt") == released.place


def test_another_file_than_expected(released, server, cache):
    server.files["/me/room/resolve/main/w.ckpt"] = CONTENT + b"x"
    with pytest.raises(ValueError, match=f"sent another file than expected.*not with {HASH[:8]}"):
        find_weights("room")
    assert not in_cache(cache) and not list(cache.rglob("*.part"))
    server.files["/me/room/resolve/main/w.ckpt"] = CONTENT
    assert find_weights("room").is_file()


@pytest.mark.parametrize(
    "hashed", [HASH[:8], HASH, "0123abcd", "20240131"], ids=["short", "whole", "another's", "date"]
)
def test_a_hash_in_the_name(server, cache, hashed):
    server.files[f"/room-{hashed}.pth"] = CONTENT
    if hashed == "0123abcd":
        with pytest.raises(ValueError, match="another file than expected"):
            find_weights(f"{server.address}/room-{hashed}.pth")
        assert not in_cache(cache)
    else:  # a date is no hash
        assert find_weights(f"{server.address}/room-{hashed}.pth").read_bytes() == CONTENT


def test_without_a_network(released, monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens there
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(ConnectionError) as error:
            find_weights("room")
    message = str(error.value)
    assert "/me/room/resolve/main/w.ckpt" in message and "refused" in message
    assert f"place it here as {released.place}" in message
    released.place.write_bytes(CONTENT)  # as told
    assert read_weights("room").name == "room"


def test_the_hub_s_hash_is_checked_and_the_token_stays_with_the_hub(monkeypatch, server, cache):
    with serving(UnreliableServer(needs="secret")) as hub_server:
        path = "/me/room/resolve/v1/model.safetensors"
        hub_server.redirects[path] = (f"{server.address}/w.ckpt", "0" * 64)
        monkeypatch.setenv("HF_ENDPOINT", hub_server.address)
        with pytest.raises(ConnectionError, match=r"401 .* set HF_TOKEN"):
            find_weights("hf://me/room@v1")
        monkeypatch.setenv("HF_TOKEN", "secret")
        with pytest.raises(ValueError, match="another file than expected"):
            find_weights("hf://me/room@v1")
        assert not in_cache(cache)
        hub_server.redirects[path] = (f"{server.address}/w.ckpt", HASH)
        assert find_weights("hf://me/room@v1").read_bytes() == CONTENT
    assert not any("Authorization" in headers for _, _, headers in server.requests)


def test_a_token_is_not_sent_elsewhere(monkeypatch, server):
    monkeypatch.setenv("HF_TOKEN", "secret")
    find_weights(f"{server.address}/w.ckpt")
    assert "Authorization" not in server.requests[0][2]


def test_proxies_of_the_environment(monkeypatch, server):
    monkeypatch.setenv("http_proxy", server.address)
    server.files["http://weights.invalid/w.ckpt"] = CONTENT
    assert find_weights("http://weights.invalid/w.ckpt").read_bytes() == CONTENT


# The table


def test_known_weights_are_listed_as_their_pages_do():
    names = known.known_weights()
    assert "small" in names and len(names) == len(known._KNOWN)
    for weights in names.values():
        if weights.file is not None:
            # DepthSplat's files end with the beginning of their hash.
            tail = re.search(r"-([0-9a-f]{8})\.pth$", weights.file.file)
            assert tail is None or weights.sha256 == tail[1]
            assert weights.place.name == weights.file.file
            assert os.fspath(weights.place).count(weights.file.repository) == 1


def test_reconstruct_takes_the_packaged_weights_unless_told_otherwise(tmp_path, monkeypatch):
    (tmp_path / "package.ckpt").write_bytes(CONTENT)
    monkeypatch.setattr(known, "SMALL_FILE", tmp_path / "package.ckpt")
    parser = reconstruct._parser()
    assert parser.parse_args(["photos", "--output=x"]).checkpoint == "small"
    given = parser.parse_args(["photos", "--output=x", "--checkpoint=./small"]).checkpoint
    assert is_path(given) and given == "./small"
    model = load_trained("small")
    assert model.name == "small"
    assert torch.equal(model.encoder.cnn.stem.weight, ENCODER.cnn.stem.weight)
