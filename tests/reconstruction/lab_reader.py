"""Scenes of our lab: pictures and a cameras.csv with a line for each."""

import csv

import torch

from mvsplat.data import Lens, Photo, PhotoScene, Reader


class LabReader(Reader):
    """A line is NAME, width, height, focal length, and camera-to-world (OpenCV) row by row."""

    expected = "a capture of our lab (cameras.csv beside its pictures)"

    def recognises(self, path):
        return (path / "cameras.csv").is_file()

    def nearly(self, path):
        others = [file.name for file in path.glob("*.csv")]
        return f"{path} has {others[0]}; rename it to cameras.csv" if others else None

    def read(self, path):
        with (path / "cameras.csv").open() as file:
            photos = [self.photo(path, row) for row in csv.reader(file)]
        return PhotoScene(path.name, photos, origin=path / "cameras.csv")

    def photo(self, path, row):
        width, height, focal, *pose = map(float, row[1:])
        size = (round(width), round(height))
        lens = Lens.from_pixels((focal, focal), (width / 2, height / 2), size)
        matrix = torch.tensor(pose, dtype=torch.float64).view(4, 4)
        return Photo(path / row[0], row[0], lens, matrix)
