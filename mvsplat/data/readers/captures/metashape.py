"""Agisoft Metashape's cameras as XML (File > Export > Export Cameras > Agisoft XML).

A camera's ``transform`` is its 4 x 4 camera-to-world matrix with OpenCV's axes, in the chunk's own
coordinates (its placement on earth is not applied: it would cost precision and change nothing). A
sensor's calibration, as the manual's appendix on camera models has it: f, and cx, cy from the
middle of the picture, in pixels; k1 to k4 radial; p1 and p2 are OpenCV's p2 and p1; b1 is added to
the focal length across. Pictures are found by the cameras' labels, their names without or with
suffix.
"""

import logging
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from mvsplat.data.readers.captures.frames import Frames, Pose, numbers, pictures_in
from mvsplat.data.readers.clutter import entries
from mvsplat.data.readers.distortion import Brown, Distortion, Fisheye
from mvsplat.data.readers.lens import Lens
from mvsplat.data.readers.reader import Reader
from mvsplat.data.scene import Scene
from mvsplat.data.untrusted import is_file, is_folder, read_text

_WAY_OUT = "export the cameras as COLMAP instead (File > Export > Export Cameras > COLMAP)"
_FOLDERS = (".", "images", "photos", "Images", "Photos")
_log = logging.getLogger("mvsplat.data")


class MetashapeReader(Reader):
    """Metashape's cameras.xml beside pictures."""

    expected = "Metashape's cameras.xml (beside images/)"

    def recognises(self, path: Path) -> bool:
        return _file(path) is not None

    def read(self, path: Path) -> Scene:
        file = _file(path)
        if file is None:
            raise FileNotFoundError(f"{path} holds no XML file of Metashape's cameras")
        chunk = _chunk(file)
        sensors = {sensor.get("id"): sensor for sensor in chunk.iter("sensor")}
        pictures = _pictures(file.parent)
        cameras = [camera for camera in chunk.iter("camera") if camera.get("label")]
        component = _largest_component(cameras)
        frames = Frames(file)
        for camera in cameras:
            label = str(camera.get("label"))
            if camera.find("transform") is None:
                frames.left_out.add("not aligned by Metashape", label)
            elif camera.get("component_id") != component:
                frames.left_out.add("in another component than most pictures", label)
            else:
                sensor = sensors.get(camera.get("sensor_id"))
                frames.add(label, pictures.get(label), partial(_camera, camera, sensor))
        return frames.scene(path.name)


def _camera(camera: ElementTree.Element, sensor: ElementTree.Element | None) -> tuple[Lens, Pose]:
    if sensor is None:
        raise ValueError(f"there is no sensor {camera.get('sensor_id')}")
    words = (camera.findtext("transform") or "").split()
    return _lens(sensor), numbers(list(map(_decimal, words)), (16,), "transform").view(4, 4)


def _lens(sensor: ElementTree.Element) -> Lens:
    kind = sensor.get("type", "frame")
    if kind not in ("frame", "fisheye", "equidistant_fisheye"):
        raise ValueError(f"a sensor of type {kind} cannot be read; {_WAY_OUT}")
    calibrations = sensor.findall("calibration")
    best = next((c for c in calibrations if c.get("class") == "adjusted"), None)
    calibration = best if best is not None else next(iter(calibrations), None)
    if calibration is None:
        raise ValueError("its sensor has no calibration")

    def value(name: str) -> float:
        return _decimal(calibration.findtext(name) or "0")

    resolution = calibration.find("resolution")
    resolution = sensor.find("resolution") if resolution is None else resolution
    size = resolution.attrib if resolution is not None else {}
    sides = [_decimal(size.get(name, "0")) for name in ("width", "height")]
    width, height = (round(float(side)) for side in numbers(sides, (2,), "the resolution"))
    focal = value("f")
    fx = _decimal(calibration.findtext("fx") or str(focal + value("b1")))
    fy = _decimal(calibration.findtext("fy") or str(focal))
    if abs(value("b2")) > 1e-3 * max(fx, 1):
        raise ValueError(f"its sensor's skew b2 is {value('b2'):g}, which is not supported")
    centre = (width / 2 + value("cx"), height / 2 + value("cy"))
    radial = tuple(value(f"k{i}") for i in range(1, 5))
    tangential = (value("p2"), value("p1"))
    distortion: Distortion | None = None
    if any((*radial, *tangential)) or kind != "frame":
        brown = Brown(radial, (), tangential)
        distortion = brown if kind == "frame" else Fisheye(brown)
    return Lens.from_pixels((fx, fy), centre, (width, height), distortion)


def _decimal(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        raise ValueError(f"{word[:50]!r} is no number") from None


def _chunk(file: Path) -> ElementTree.Element:
    """The chunk with the most cameras."""
    text = read_text(file)
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise ValueError(f"{file} declares entities, which Metashape's files never do")
    try:
        document = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise ValueError(f"{file} is damaged, or no XML: {error}") from error
    chunks = sorted(document.iter("chunk"), key=lambda chunk: -len(list(chunk.iter("camera"))))
    if not chunks:
        raise ValueError(f"{file} holds no chunk of cameras; {_WAY_OUT}")
    if len(chunks) > 1:
        _log.warning("%s: %d chunks; the one with the most cameras is taken", file, len(chunks))
    return chunks[0]


def _largest_component(cameras: list[ElementTree.Element]) -> str | None:
    aligned = [camera for camera in cameras if camera.find("transform") is not None]
    counts = Counter(camera.get("component_id") for camera in aligned)
    return counts.most_common(1)[0][0] if counts else None


def _pictures(folder: Path) -> dict[str, Path]:
    """Pictures by name with and without suffix, of the folder and its usual subfolders."""
    found: dict[str, Path] = {}
    for name in _FOLDERS:
        for picture in pictures_in(folder / name) if is_folder(folder / name) else ():
            found.setdefault(picture.name, picture)
            found.setdefault(picture.stem, picture)
    return found


def _file(path: Path) -> Path | None:
    """Metashape's file: the path itself, or the first such in a folder."""
    files: list[Any] = [path] if is_file(path) else entries(path)
    for file in files:
        if file.suffix.lower() == ".xml" and is_file(file):
            with file.open("rb") as stream:
                head = stream.read(4096)
            if b"<document" in head and b"<chunk" in head:
                return file
    return None
