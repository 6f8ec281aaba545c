"""The viewer's page in a real Chromium, without a display and rendered by software."""

import io
import re
import shutil
import time
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image
from viewer_scenes import make_gaussians, make_poses, render, write_run

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
if CHROMIUM is None:
    pytest.skip("no Chromium: apt-get install chromium", allow_module_level=True)
sync_playwright = pytest.importorskip("playwright.sync_api").sync_playwright
pytest.importorskip("viser")

from mvsplat.export import save_ply  # noqa: E402
from mvsplat.viewer import Viewer, session  # noqa: E402
from mvsplat.viewer.scene import pose_of  # noqa: E402

WIDTH, HEIGHT = 800, 360
FREE = slice(0, 460)  # columns left of the panel
PATIENCE = 60.0

# viser draws splats with a two-dimensional quad, in which three.js finds no bounding sphere.
KNOWN_ERROR = "THREE.BufferGeometry.computeBoundingSphere(): Computed radius is NaN"

# The panel's lower margin overflows the page by 7 pixels: a click that scrolls to a control at the
# end may move the scene as far.
SCROLL_BACK = """() => {
    const scene = document.querySelector("canvas");
    for (let box = scene; box; box = box.parentElement) box.scrollTop = 0;
}"""

ALIKE = 38.0
"""dB. The page's colours have 8 bits and its footprints end at exp(-4) or an alpha of 0.01, ours at
1/255, which leaves 40 to 50 dB; another camera's picture or its colours come to 15 to 30."""


class Page:
    """The page, what it asked for, and what it complained about."""

    def __init__(self, browser, viewer: Viewer):
        self.viewer = viewer
        self.requests: list[str] = []
        self.errors: list[str] = []
        self.page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        self.page.set_default_timeout(1000 * PATIENCE)
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("websocket", lambda websocket: self.requests.append(websocket.url))
        self.page.on("console", self._note)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(viewer.url)
        self.page.get_by_role("button", name="Play").wait_for()

    def _note(self, message) -> None:
        if message.type == "error":
            self.errors.append(message.text)

    def choose(self, name: str, option: str) -> None:
        self.page.get_by_role("combobox", name=name, exact=True).click()
        self.page.get_by_role("option", name=option, exact=True).click()

    def click(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).click()

    def picture(self) -> torch.Tensor:
        """What the window shows where nothing lies above the scene [3, h, w]."""
        notes = self.page.get_by_role("alert").get_by_role("button")
        while notes.count():
            notes.first.click()
            self.page.wait_for_timeout(300)
        self.page.evaluate(SCROLL_BACK)
        pixels = np.asarray(Image.open(io.BytesIO(self.page.screenshot())).convert("RGB"))
        return torch.from_numpy(pixels.copy()).movedim(-1, 0)[..., FREE] / 255

    def wait_until_alike(self, expected: torch.Tensor) -> None:
        best, deadline = -100.0, time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            best = max(best, psnr(self.picture(), expected[..., FREE]))
            if best > ALIKE:
                return
        raise AssertionError(f"the window's picture never came nearer than {best:.1f} dB")

    def pose(self) -> torch.Tensor:
        """The camera, in the world."""
        (client,) = self.viewer._server.get_clients().values()
        (session,) = self.viewer._sessions.values()
        pose = pose_of(client.camera.wxyz, client.camera.position)
        return session._scene.to_world(pose)


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(-10 * (a - b).square().mean().clamp(min=1e-10).log10())


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def browser():
    arguments = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def page(browser, tmp_path_factory):
    """One page for all tests of this module: they start where the one before has left it."""
    folder = tmp_path_factory.mktemp("viewer")
    runs = [
        write_run(folder / "first", {"one": 1, "two": 2}),
        write_run(folder / "second", {"two": 3}),
    ]
    predictions = runs[0] / "predictions"
    shutil.copy(predictions / "one.ply", predictions / "three.ply")
    with Viewer(runs, port=0) as viewer, pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "_LOOK", 0.1)
        # What was damaged before would not be listed.
        (predictions / "three.ply").write_bytes(b"ply\nnothing else")
        yield Page(browser, viewer)


def test_the_window_shows_what_the_decoder_renders(page):
    page.page.get_by_text("Appearance").click()
    page.page.get_by_text("Fill gaps").click()
    page.page.get_by_text("Appearance").click()
    gaussians, pose = make_gaussians(1), make_poses()[0]
    expected = render(gaussians, pose, HEIGHT, WIDTH)
    assert expected[..., FREE].std() > 0.1
    page.wait_until_alike(expected)
    torch.testing.assert_close(page.pose(), pose, atol=1e-4, rtol=0)


def test_another_camera_shows_its_own_colours(page):
    page.click("Next")
    gaussians, pose = make_gaussians(1), make_poses()[1]
    expected = render(gaussians, pose, HEIGHT, WIDTH)
    page.wait_until_alike(expected)
    torch.testing.assert_close(page.pose(), pose, atol=1e-4, rtol=0)
    gaussians.harmonics = gaussians.harmonics[..., :1]
    assert psnr(render(gaussians, pose, HEIGHT, WIDTH), expected) < ALIKE - 5


def test_scenes_and_results_are_switched(page):
    page.choose("Scene", "two")
    page.wait_until_alike(render(make_gaussians(2), make_poses()[0], HEIGHT, WIDTH))
    page.click("Next")
    page.wait_until_alike(render(make_gaussians(2), make_poses()[1], HEIGHT, WIDTH))
    page.choose("Result", "second")  # the same scene: the camera stays where it is
    page.wait_until_alike(render(make_gaussians(3), make_poses()[1], HEIGHT, WIDTH))
    assert page.page.get_by_text("psnr 23").is_visible()


def test_the_camera_path_is_played(page):
    page.click("This")
    page.click("Play")
    start, end = make_poses()[1], make_poses()[-1]
    eventually(lambda: page.page.get_by_role("button", name="Pause", exact=True).is_visible())
    eventually(lambda: not torch.allclose(page.pose(), start, atol=1e-2))
    eventually(lambda: page.page.get_by_role("button", name="Play", exact=True).is_visible())
    torch.testing.assert_close(page.pose(), end, atol=1e-3, rtol=0)


def test_a_picture_is_saved_and_shown_exactly(page):
    with page.page.expect_download() as download:
        page.click("Save picture")
    assert download.value.suggested_filename == "two.png"
    saved = np.asarray(Image.open(download.value.path()))
    expected = render(make_gaussians(3), make_poses()[-1], 1080, 2400)
    difference = np.abs(saved / 255 - expected.permute(1, 2, 0).numpy())
    assert saved.shape == (1080, 2400, 3) and difference.mean() < 0.002
    page.choose("When still", "rendering")
    exact = render(make_gaussians(3), make_poses()[-1], HEIGHT, WIDTH)
    eventually(lambda: psnr(page.picture(), exact[..., FREE]) > 50)
    page.choose("When still", "splats")


def test_distant_splats_do_not_fade_away(page):
    gaussians = make_gaussians(3)
    page.page.mouse.move(200, 200)
    while float((page.pose()[:3, 3] - gaussians.means[0].mean(dim=0)).norm()) < 60:
        page.page.mouse.wheel(0, 300)
        page.page.wait_for_timeout(50)

    def as_bright_as_it_should_be() -> bool:  # splats are smaller than pixels
        expected = render(gaussians, page.pose(), HEIGHT, WIDTH)[..., FREE]
        page.page.wait_for_timeout(300)
        return 0.9 < float(page.picture().sum() / expected.sum()) < 1.1

    page.page.get_by_text("Show cameras").click()
    eventually(as_bright_as_it_should_be)
    page.page.get_by_text("Show cameras").click()


def test_a_damaged_scene_is_explained_in_the_page(page):
    page.choose("Result", "first")
    page.choose("Scene", "three")
    page.page.get_by_text("three.ply is damaged, or no PLY file").wait_for()
    page.choose("Scene", "one")
    page.wait_until_alike(render(make_gaussians(1), make_poses()[0], HEIGHT, WIDTH))


def test_a_file_that_is_replaced_is_followed_by_the_same_camera(page):
    page.click("Next")
    page.wait_until_alike(render(make_gaussians(1), make_poses()[1], HEIGHT, WIDTH))
    path, before = page.viewer._items[0].ply, page.pose()
    save_ply(make_gaussians(5), path)
    page.wait_until_alike(render(make_gaussians(5), before, HEIGHT, WIDTH))
    torch.testing.assert_close(page.pose(), before, atol=1e-5, rtol=0)
    assert page.page.get_by_text("has changed").count() == 0


def test_half_a_file_and_none_leave_what_was_shown(page):
    path, pose = page.viewer._items[0].ply, page.pose()
    whole, shown = path.read_bytes(), render(make_gaussians(5), page.pose(), HEIGHT, WIDTH)
    path.write_bytes(whole[: len(whole) // 2])
    page.page.get_by_text(
        re.compile("What was there is still shown: .*one.ply is damaged")
    ).wait_for()
    path.unlink()
    page.page.get_by_text("What was there is still shown: no splat at").wait_for()
    eventually(lambda: page.page.get_by_text("one.ply has changed").count() == 1)
    page.wait_until_alike(shown)
    save_ply(make_gaussians(6), path)
    page.wait_until_alike(render(make_gaussians(6), pose, HEIGHT, WIDTH))
    torch.testing.assert_close(page.pose(), pose, atol=1e-5, rtol=0)


def test_nothing_was_asked_of_another_machine_and_nothing_went_wrong(page):
    address = page.viewer.url.removeprefix("http://")
    allowed = (f"http://{address}", f"ws://{address}", f"blob:http://{address}", "data:")
    assert page.requests and all(url.startswith(allowed) for url in page.requests)
    assert page.viewer.url.startswith("http://127.0.0.1:")
    assert [error for error in page.errors if not error.startswith(KNOWN_ERROR)] == []
