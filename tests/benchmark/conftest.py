"""Tiny data sets in DAVIS layout, drawn for the tests."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SIZE = 24, 32  # height, width


def draw(index: int, objects: int = 1) -> np.ndarray:
    """Ids of frame `index`: squares of 6 pixels, one below the other, that move to the right."""
    ids = np.zeros(SIZE, np.uint8)
    for id_ in range(1, objects + 1):
        ids[8 * id_ - 7 : 8 * id_ - 1, 2 * index : 2 * index + 6] = id_
    return ids


def save_palette(path: Path, ids: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(ids, "P")
    image.putpalette([value for index in range(256) for value in (index, 255 - index, 7)])
    image.save(path)


def save_gray(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


@pytest.fixture
def make_set(tmp_path):
    """Function that draws a set: `make_set(year, {name: objects})` -> root; 6 frames per sequence."""

    def make(year: int, sequences: dict[str, int], resolution: str = "480p") -> Path:
        root = tmp_path / f"davis{year}"
        for name, objects in sequences.items():
            for index in range(6):
                frame = root / "JPEGImages" / resolution / name / f"{index:05d}.jpg"
                save_gray(frame, np.full((*SIZE, 3), 40 * index, np.uint8))
                annotation = root / "Annotations" / resolution / name / f"{index:05d}.png"
                ids = draw(index, objects)
                if year == 2016:
                    save_gray(annotation, np.where(ids > 0, 255, 0).astype(np.uint8))
                else:
                    save_palette(annotation, ids)
        split = root / "ImageSets" / str(year) / "val.txt"
        split.parent.mkdir(parents=True, exist_ok=True)
        split.write_text("\n".join(sequences) + "\n")
        return root

    return make
