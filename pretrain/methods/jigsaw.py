"""Jigsaw: in which order do these nine tiles make a picture?

Noroozi, Favaro 2016, "Unsupervised Learning of Visual Representations by Solving Jigsaw Puzzles" (arXiv
1603.09246). A square of 3 x 3 cells is cut out of an image, from each cell a tile at a random place, and the
tiles are shuffled by one of a set of permutations that are far apart. A trunk with shared weights sees each
tile alone; what it found, in the shuffled order, tells which permutation it was.

As in the paper: gaps between tiles, so that edges don't run on from one to the next; mean and spread of each
tile taken out, so that they don't give neighbours away; some puzzles gray, and in the others the colour
channels shifted, so that chromatic aberration doesn't tell where in the image a tile was. What differs, for
runs of minutes on a CPU: cells are a third of `size` (42 pixels of 128, tiles 36) instead of 75 (64), 100
permutations by default instead of 1000, a ResNet's pooled features instead of AlexNet's fc6, AdamW, mirrored
images, and batch norm in the head: without it the loss stays at that of guessing for hundreds of steps.

It works from images of 27 pixels on. At 32 the tiles are 9 pixels and jitter by 1: that is allowed, but shows
little more than textures.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from pretrain.config import Config
from pretrain.draws import Draws
from pretrain.errors import InputError
from pretrain.methods.base import Method, Views, full_precision, pooled, width
from pretrain.patches import RIGHT, WRONG, arrange, as_input, cut, frame, normalise
from pretrain.permutations import permutation_set
from pretrain.pictures import Picture, sheet
from pretrain.views import Chance, luma, random_crop

GRID = 3
TILES = GRID * GRID
TILE = 64 / 75  # of the side of a cell
SHIFT = 2 / 64  # of the side of a tile
SMALLEST = 8  # pixels: nothing can be recognised in smaller tiles


class JigsawSettings(Config):
    """Settings of `Jigsaw`.

    Attributes:
        permutations: number of answers, see `pretrain.permutations`.
        tile: side of a tile in pixels; None: 64 of 75 parts of the cell's, which is a third of the image's.
        gray: chance of a gray puzzle.
        shift: pixels by which the channels of a coloured tile are shifted at most, each for itself and not
            beyond the cell; None: 2 of 64 parts of the tile's side.
        hidden: width of the hidden layer that sees all tiles.
        flip: chance of a mirrored image.
    """

    permutations: int = Field(default=100, ge=2, le=10_000)
    tile: int | None = None
    gray: Chance = 0.3
    shift: int | None = Field(default=None, ge=0)
    hidden: int = Field(default=1024, ge=1)
    flip: Chance = 0.5


class Jigsaw(Method):
    """Classification of the permutation of nine tiles, from the pooled features of each.

    Args:
        backbone: see `Method`.
        settings: see `JigsawSettings`.
        size: side of the images in pixels.

    Attributes:
        permutations: int64 `[P, 9]`: the answers. Permutation p puts the tile of cell `permutations[p, i]`
            at place i; cells and places are counted row by row.

    Raises:
        InputError: tiles would be larger than their cells, or too small to show anything.
    """

    Settings: ClassVar[type[Config]] = JigsawSettings
    permutations: Tensor

    def __init__(self, backbone: nn.Module, settings: Any, size: int) -> None:
        super().__init__(backbone, size)
        self.settings = settings
        self.cell = size // GRID
        self.tile = round(self.cell * TILE) if settings.tile is None else settings.tile
        if not SMALLEST <= self.tile <= self.cell:
            raise InputError(
                f"jigsaw can't cut tiles of {self.tile} pixels out of cells of {self.cell}, a third of "
                f"data.size={size}: tiles need {SMALLEST} pixels or more and have to fit in their cells."
            )
        self.shift = round(self.tile * SHIFT) if settings.shift is None else settings.shift
        answers = torch.from_numpy(permutation_set(settings.permutations, TILES))
        self.register_buffer("permutations", answers.long())
        self.head = nn.Sequential(
            nn.Linear(TILES * width(backbone), settings.hidden),
            nn.BatchNorm1d(settings.hidden),
            nn.ReLU(),
            nn.Linear(settings.hidden, settings.permutations),
        )

    def views(self, images: Tensor, draws: Draws) -> Views:
        """A puzzle of each image: `tiles` float `[N, 9, 3, t, t]`, `answers` int64 `[N]`."""
        tiles, answers = self.puzzles(images, draws)
        return {"tiles": as_input(self.backbone, normalise(tiles)), "answers": answers}

    def puzzles(self, images: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """As `views`, with tiles as they are in the image."""
        square = random_crop(images, draws, GRID * self.cell, self.settings.flip)
        gray = draws.chance(self.settings.gray).to(images.device)
        square = luma(square).where(gray[:, None, None, None], square)
        room = self.cell - self.tile
        place = draws.integers(room + 1, TILES, 2, 1).to(images.device)  # in the cell, of all channels
        shifts = draws.integers(2 * self.shift + 1, TILES, 2, 3).to(images.device) - self.shift
        place = (place + shifts * ~gray[:, None, None, None]).clamp(0, room)  # [N, 9, 2, 3]
        answers = draws.integers(len(self.permutations)).to(images.device)
        order = self.permutations[answers]  # [N, 9]
        cells = torch.stack([order // GRID, order % GRID], dim=2) * self.cell  # [N, 9, 2]
        place = place.gather(1, order[..., None, None].expand_as(place)) + cells[..., None]
        return cut(square, place[:, :, 0], place[:, :, 1], self.tile), answers

    def scores(self, tiles: Tensor) -> Tensor:
        """Scores of the answers, float32 `[N, P]`, from what `views` made."""
        features = pooled(self.backbone(tiles.flatten(0, 1))).unflatten(0, tiles.shape[:2])  # [N, 9, C]
        with full_precision(features):
            found: Tensor = self.head(features.flatten(1))
        return found

    def loss(self, views: Views) -> dict[str, Tensor]:
        scores, answers = self.scores(views["tiles"]), views["answers"]
        accuracy = (scores.argmax(dim=1) == answers).float().mean()
        return {"loss": F.cross_entropy(scores, answers), "accuracy": accuracy}

    @torch.no_grad()
    def pictures(self, images: Tensor, draws: Draws) -> list[Picture]:
        """Shuffled puzzles, and how the method put them together."""
        tiles, answers = self.puzzles(images, draws)
        found = self.scores(as_input(self.backbone, normalise(tiles))).argmax(dim=1)
        back = self.permutations[found].argsort(dim=1)[..., None, None, None]  # where each cell's tile lies
        solved = arrange(tiles.gather(1, back.expand_as(tiles)), gap=1)
        shuffled = arrange(tiles, gap=1)
        right = found == answers
        pairs = []
        for before, after, is_right in zip(shuffled, solved, right.tolist(), strict=True):
            pairs += [before, frame(after, RIGHT if is_right else WRONG)]
        caption = (
            "Beside each puzzle how the method put it together, in a green frame if that is right; "
            f"{int(right.sum())} of {len(images)} right."
        )
        return [Picture("Jigsaw puzzles", sheet(torch.stack(pairs), 8), caption)]
