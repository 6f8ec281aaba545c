"""The format ``.html``: a page that holds a scene, looked at as a file and in a real browser."""

import base64
import io
import json
import shutil
import time
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mvsplat.decoder import SplattingDecoder
from mvsplat.export import (
    Cameras,
    Frame,
    load_cameras,
    load_splat,
    save_cameras,
    save_ply,
    save_splat,
)
from mvsplat.types import Gaussians
from mvsplat.viewer.library import find_items

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>&quot;'\"\u2028"
LENS = torch.tensor([[0.9, 0, 0.53], [0, 1.2, 0.46], [0, 0, 1]])
NEAR, FAR = 0.5, 50.0
WIDTH, HEIGHT = 480, 300
PATIENCE = 120.0
ALIKE = 30.0
"""dB. The page's colours and footprints are rounded, which leaves over 34 dB of 41 that SOG does;
another camera's picture comes to less than 20."""


def make_gaussians(count: int = 12_000, degree: int = 1) -> Gaussians:
    """A ball of Gaussians in colours that differ much from side to side.

    Most are smaller than a pixel: the low-pass filter of a renderer decides what these look like.
    """
    generator = torch.Generator().manual_seed(3)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(1, count, *shape, generator=generator)

    harmonics = 0.2 * normal(3, (degree + 1) ** 2)
    harmonics[..., 0] = 0.5 * normal(3)
    scales = (0.4 * normal(3) - 2).exp()
    scales[:, 40:] *= 0.015
    return Gaussians(
        means=0.8 * normal(3) + torch.tensor([30.0, -20.0, 10.0]),
        scales=scales,
        rotations=torch.nn.functional.normalize(normal(4), dim=-1),
        harmonics=harmonics,
        opacities=(normal() + 1).sigmoid(),
    )


def make_poses(tilts: tuple[float, ...] = (0.1, -0.25, 0.2)) -> torch.Tensor:
    """Cameras on an arc around the ball, each tilted, in a world whose up is no axis."""
    poses = torch.eye(4).repeat(len(tilts), 1, 1)
    for number, (pose, tilt) in enumerate(zip(poses, tilts, strict=True)):
        angle = torch.tensor(0.6 * number)
        backward = torch.stack([angle.sin(), torch.tensor(-0.3), -angle.cos()])
        pose[:3, :3] = looking_along(-backward, torch.tensor([0.0, -1, 0]), tilt)
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(5))).Q
    poses[:, :3, :3] = turn * torch.linalg.det(turn) @ poses[:, :3, :3]
    poses[:, :3, 3] = torch.tensor([30.0, -20.0, 10.0]) - 5 * poses[:, :3, 2]
    return poses


def looking_along(forward: torch.Tensor, up: torch.Tensor, tilt: float = 0.0) -> torch.Tensor:
    """A camera's axes as columns, right, down and forward, for an up and a tilt to the right."""
    forward = torch.nn.functional.normalize(forward, dim=0)
    right = torch.nn.functional.normalize(torch.linalg.cross(forward, up), dim=0)
    down = torch.linalg.cross(forward, right)
    angle = torch.tensor(tilt)
    turned = angle.cos() * right + angle.sin() * down
    return torch.stack([turned, torch.linalg.cross(forward, turned), forward], dim=1)


def render(gaussians: Gaussians, pose: torch.Tensor, lens: torch.Tensor, size: tuple[int, int]):
    near, far = torch.full((1, 1), NEAR), torch.full((1, 1), FAR)
    with torch.no_grad():
        cameras = (pose[None, None], lens[None, None], near, far, size)
        return SplattingDecoder(sh_degree=3)(gaussians, *cameras).color[0, 0].clamp(0, 1)


def window_lens() -> torch.Tensor:
    """Of a centred view of the window that holds a photograph of ``LENS`` wholly, and no more."""
    half = max(0.54 / 1.2, 0.53 / 0.9 * HEIGHT / WIDTH)
    focal = 0.5 / half
    return torch.tensor([[focal * HEIGHT / WIDTH, 0, 0.5], [0, focal, 0.5], [0, 0, 1]])


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(-10 * (a - b).square().mean().clamp(min=1e-10).log10())


def write_scene(folder: Path, names: tuple[str, ...] = (HOSTILE, "second", "third")) -> Path:
    """A splat beside the cameras that see it, with what they see as large photographs."""
    gaussians = make_gaussians()
    save_ply(gaussians, folder / "scene.ply")
    frames = []
    for number, (name, pose) in enumerate(zip(names, make_poses(), strict=True)):
        photo = render(gaussians, pose, LENS, (300, 400)).movedim(0, -1)
        file = folder / f"{number}.png"
        Image.fromarray((255 * photo).byte().numpy()).resize((1280, 960)).save(file)
        frames.append(Frame(name, pose, LENS, 1280, 960, file))
    save_cameras(Cameras(frames, NEAR, FAR), folder / "scene.cameras.json")
    return folder / "scene.ply"


@pytest.fixture(scope="module")
def scene(tmp_path_factory) -> Path:
    return write_scene(tmp_path_factory.mktemp("scene"))


@pytest.fixture(scope="module")
def page(scene) -> Path:
    """A page of the scene, in a file of a hostile name."""
    path = scene.parent / "out" / "<b>&amp;.html"
    save_splat(load_splat(scene), path, cameras=load_cameras(scene.with_name("scene.cameras.json")))
    return path


class Elements(HTMLParser):
    """The elements of a page and what each holds."""

    def __init__(self, path: Path):
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None], str]] = []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs), ""))

    def handle_data(self, data):
        if self.found:
            tag, attributes, text = self.found[-1]
            self.found[-1] = (tag, attributes, text + data)

    def about(self) -> dict:
        return next(json.loads(text) for _, a, text in self.found if a.get("id") == "about")


def test_a_page_holds_its_scene_cameras_and_viewer(page, scene, tmp_path):
    """The scene as SOG has it, the cameras as they were; and it names no other file or address."""
    save_splat(load_splat(scene), tmp_path / "same.sog")
    found, expected = load_splat(page), load_splat(tmp_path / "same.sog")
    for name in ("means", "scales", "rotations", "harmonics", "opacities"):
        assert torch.equal(getattr(found, name), getattr(expected, name))
    cameras, original = load_cameras(page), load_cameras(scene.with_name("scene.cameras.json"))
    for a, b in zip(cameras.frames, original.frames, strict=True):
        assert (a.name, a.width, a.height, a.image) == (b.name, 1280, 960, None)
        assert torch.equal(a.extrinsics, b.extrinsics) and torch.equal(a.intrinsics, b.intrinsics)
    elements = Elements(page).found
    addresses = [a.get(name) for _, a, _ in elements for name in ("src", "href") if name in a]
    assert addresses == []
    assert not any(tag in ("link", "iframe", "base", "object") for tag, _, _ in elements)


def test_names_stay_text(page):
    elements = Elements(page)
    tags = [tag for tag, _, _ in elements.found]
    assert tags.count("script") == 4 and tags.count("img") == 1 and "b" not in tags
    assert next(text for tag, _, text in elements.found if tag == "title").strip() == "<b>&amp;"
    assert elements.about()["cameras"][0]["name"] == HOSTILE


def test_photographs_are_small_or_left_out(program, scene, tmp_path):
    def photos(*options) -> list[bytes | None]:
        out = tmp_path / "page.html"
        assert program("export", scene, out, *options, config=False) == 0, program.err
        assert [path.name for path in tmp_path.glob("page*")] == ["page.html"]
        texts = [camera["photo"] for camera in Elements(out).about()["cameras"]]
        return [
            text and base64.b64decode(text.removeprefix("data:image/jpeg;base64,"))
            for text in texts
        ]

    generator = np.random.default_rng(0)
    noise = generator.integers(0, 256, (750, 1000, 3), dtype=np.uint8)
    content = scene.with_name("1.png").read_bytes()
    try:
        Image.fromarray(noise).save(scene.with_name("1.png"))  # the hardest there is to reduce
        scene.with_name("2.png").rename(scene.with_name("kept.png"))
        scene.with_name("2.png").write_bytes(b"no picture")
        first, hard, broken = photos()
    finally:
        scene.with_name("1.png").write_bytes(content)
        scene.with_name("kept.png").rename(scene.with_name("2.png"))
    assert broken is None and first is not None and hard is not None
    with Image.open(io.BytesIO(first)) as picture, Image.open(scene.with_name("0.png")) as original:
        small = original.convert("RGB").resize(picture.size)
        a, b = (torch.from_numpy(np.array(image)) / 255 for image in (picture, small))
        assert picture.size == (960, 720) and psnr(a, b) > 30
    assert max(len(first), len(hard)) <= 100_000
    assert photos("--no-photos") == [None] * 3
    assert program("export", scene, tmp_path / "a.spz", "--no-photos", config=False) == 2
    assert ".spz files take no option 'photos'" in program.err


def test_a_page_becomes_a_splat_again(program, page, tmp_path):
    """With its cameras, whose pictures say what was lost."""
    assert program("export", page, tmp_path / "back.ply", config=False) == 0, program.err
    assert "no difference from 3 cameras beside it" in program.out
    assert load_cameras(tmp_path / "back.cameras.json").frames[0].name == HOSTILE


def test_several_are_merged(program, scene, tmp_path):
    save_ply(make_gaussians(40, degree=2), tmp_path / "more.ply")
    out = tmp_path / "both.html"
    assert program("export", scene, tmp_path / "more.ply", out, config=False) == 0, program.err
    assert load_splat(out).means.shape[1] == 12_040 and len(load_cameras(out).frames) == 3
    assert "from 3 cameras beside it" in program.out


def test_a_large_scene_without_photographs_is_small(tmp_path):
    """131,072 Gaussians of degree 1 in under 6 MB, even if they are as random as in no scene."""
    few, more = tmp_path / "few.html", tmp_path / "more.html"
    save_splat(make_gaussians(1 << 10), few)
    save_splat(make_gaussians(1 << 14), more)
    each = (more.stat().st_size - few.stat().st_size) / ((1 << 14) - (1 << 10))
    assert few.stat().st_size + each * (1 << 17) < 6_000_000


def test_pages_among_other_files(page, tmp_path):
    """Other pages are no splats, and a page that lies beside its splat is not a second one."""
    shutil.copy(page, tmp_path / "scene.html")
    (tmp_path / "report.html").write_text("<!DOCTYPE html><title>Report</title>")
    assert [item.ply.name for item in find_items([tmp_path])] == ["scene.html"]
    save_ply(make_gaussians(), tmp_path / "scene.ply")
    assert [item.ply.name for item in find_items([tmp_path])] == ["scene.ply"]


def test_bad_input(program, page, scene, tmp_path):
    empty = make_gaussians(1)
    empty = Gaussians(*(getattr(empty, f)[:, :0] for f in ("means", "scales", "rotations")),
                      empty.harmonics[:, :0], empty.opacities[:, :0])  # fmt: skip
    with pytest.raises(ValueError, match="page.html cannot be written.*at least one Gaussian"):
        save_splat(empty, tmp_path / "page.html")
    (tmp_path / "file").write_text("")  # even root cannot write into it
    assert program("export", scene, tmp_path / "file" / "page.html", config=False) == 2
    assert f"{tmp_path / 'file' / 'page.html'} cannot be written: " in program.err
    (tmp_path / "other.html").write_text("<!DOCTYPE html><p>Something else</p>")
    assert program("export", tmp_path / "other.html", tmp_path / "a.ply", config=False) == 2
    assert "other.html is damaged, or no page of a scene" in program.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "other.html"]


def test_damaged_pages(page, tmp_path):
    """Cut short or changed anywhere, they are read or refused in words, never anything else."""
    content = page.read_bytes()
    start = content.index(b'class="splat"')
    places = torch.linspace(start - 40, len(content) - 1, 40).long().tolist()
    damaged = tmp_path / "page.html"
    for number, place in enumerate(places):
        cut = content[:place] if number % 2 else content[:place] + b"</A=" + content[place + 4 :]
        damaged.write_bytes(cut)
        try:
            assert load_splat(damaged).means.shape[-1] == 3
        except ValueError as error:
            assert "page.html" in str(error)


# In a browser.

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
LOADED = "performance.getEntriesByName('first picture').length"


class Opened:
    """A page opened from the disk, what it asked for, and what it complained about."""

    def __init__(self, browser, path: Path):
        self.requests: list[str] = []
        self.errors: list[str] = []
        self.window = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        self.window.on("request", lambda request: self.requests.append(request.url))
        self.window.on("console", self._note)
        self.window.on("pageerror", lambda error: self.errors.append(str(error)))
        self.window.on("dialog", lambda dialog: self.errors.append(dialog.message))
        self.window.set_default_timeout(1000 * PATIENCE)
        self.window.goto(path.as_uri())
        eventually(lambda: self.window.evaluate(LOADED))

    def _note(self, message) -> None:
        if message.type in ("error", "warning"):
            self.errors.append(message.text)

    def picture(self) -> torch.Tensor:
        pixels = np.asarray(Image.open(io.BytesIO(self.window.screenshot())).convert("RGB"))
        return torch.from_numpy(pixels.copy()).movedim(-1, 0) / 255

    def wait_until_alike(self, expected: torch.Tensor, where=slice(None)) -> None:
        best, deadline = -100.0, time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            best = max(best, psnr(self.picture()[:, where], expected[:, where]))
            if best > ALIKE:
                return
        raise AssertionError(f"the window's picture never came nearer than {best:.1f} dB")


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def opened(page):
    if CHROMIUM is None:
        pytest.skip("no Chromium: apt-get install chromium")
    sync_playwright = pytest.importorskip("playwright.sync_api").sync_playwright
    arguments = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield Opened(browser, page)
        browser.close()


def upright(poses: torch.Tensor, number: int) -> torch.Tensor:
    """A camera's view without its tilt, in a world whose up is that of the cameras on average."""
    pose = poses[number].clone()
    pose[:3, :3] = looking_along(pose[:3, 2], -poses[:, :3, 1].mean(0))
    return pose


def test_the_page_shows_what_the_decoder_renders(opened):
    """At the first camera, upright, with nothing of the page's controls when these are hidden."""
    gaussians, poses = make_gaussians(), make_poses()
    expected = render(gaussians, upright(poses, 0), window_lens(), (HEIGHT, WIDTH))
    assert expected.std() > 0.1
    opened.window.keyboard.press("h")
    opened.wait_until_alike(expected)
    opened.window.keyboard.press("h")
    for other in (upright(poses, 1), poses[0]):
        assert psnr(render(gaussians, other, window_lens(), (HEIGHT, WIDTH)), expected) < ALIKE - 5


def test_a_click_leads_to_another_camera_and_its_photograph_lies_where_it_belongs(opened):
    gaussians, poses = make_gaussians(), make_poses()
    names = opened.window.locator("#list button").evaluate_all("all => all.map(b => b.title)")
    assert names == [HOSTILE, "second", "third"]
    opened.window.locator("#list button").nth(1).click()
    opened.window.keyboard.press("h")
    expected = render(gaussians, upright(poses, 1), window_lens(), (HEIGHT, WIDTH))
    opened.wait_until_alike(expected)
    photo = opened.window.locator("#photo")
    eventually(photo.is_visible)
    assert photo.evaluate("image => image.naturalWidth") == 960
    opened.window.locator("#share").fill("1")
    opened.window.evaluate("document.getElementById('scene').style.visibility = 'hidden'")
    shown = opened.picture()
    opened.window.evaluate("document.getElementById('scene').style.visibility = ''")
    covered = (shown > 0.02).any(0)  # the photograph has corners within the window
    assert covered.float().mean() > 0.1
    assert psnr(shown[:, covered], expected[:, covered]) > 25
    wrong = render(gaussians, poses[1], window_lens(), (HEIGHT, WIDTH))
    assert psnr(shown[:, covered], wrong[:, covered]) < 20


def test_walking_away_leaves_the_photograph(opened):
    opened.window.mouse.move(240, 150)
    opened.window.mouse.down()
    opened.window.mouse.move(300, 150, steps=3)
    opened.window.mouse.up()
    eventually(lambda: not opened.window.locator("#photo").is_visible())


def test_nothing_was_asked_of_a_network_and_nothing_went_wrong(opened, page):
    assert all(url.startswith((page.as_uri(), "blob:", "data:")) for url in opened.requests)
    assert page.as_uri() in opened.requests and opened.errors == []
    assert opened.window.title() == "<b>&amp;"
    forbidden = opened.window.evaluate(
        """() => new Promise((told) => {
            document.addEventListener("securitypolicyviolation", (e) => told(e.effectiveDirective));
            fetch("http://127.0.0.1:9/").catch(() => {});
        })"""
    )
    assert forbidden == "connect-src"
