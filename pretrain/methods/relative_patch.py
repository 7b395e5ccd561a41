"""Relative patch: on which side of this patch does that one lie?

Doersch, Gupta, Efros 2015, "Unsupervised Visual Representation Learning by Context Prediction" (arXiv
1505.05192). A patch and one of its eight neighbours are cut out of an image; a trunk with shared weights sees
each alone, and from both features together follows where the second one lies. To tell, a network has to
recognise things and know how they are made up.

As in the paper: a gap of half a patch and jitter of 7 in 96 pixels, so that edges don't run on from one patch
to the next; the image at a random size, its area varying threefold; each patch loses its mean; against
chromatic aberration two of three channels are replaced by noise, or green against magenta is projected away;
some patches are shrunk to as few as 100 pixels and enlarged again; and all neighbours of a centre take part,
so that its features are computed once for eight pairs. What differs:

- Patches are about a quarter of the side (31 pixels of 128) instead of 96 pixels of an image of 390 to 670.
- The whole neighbourhood lies in the image whichever the answer is, so that the centre patch alone says
  nothing about it.
- A ResNet's pooled features instead of AlexNet's fc6, one hidden layer, AdamW, and mirrored images: for runs
  of minutes on a CPU.

It works from images of 24 pixels on, with patches of 6. Up to about 64 they show little more than textures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from pretrain.config import Config
from pretrain.draws import Draws
from pretrain.errors import InputError
from pretrain.methods.base import Method, Views, full_precision, pooled, width
from pretrain.methods.crop import Scale
from pretrain.patches import RIGHT, WRONG, arrange, cut, frame
from pretrain.pictures import Picture, sheet
from pretrain.views import Chance, random_resized_crop

# The answers: steps down and to the right, row by row around the centre.
DIRECTIONS = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))
JITTER = 7 / 96  # of the side of a patch
SMALLEST = 6  # pixels: nothing can be recognised in smaller patches
COARSEST = 10  # pixels: side of a shrunk patch, 100 pixels in all
NOISE = 0.01  # standard deviation of dropped channels, in units of that of the remaining one
GREEN_MAGENTA = (-1.0, 2.0, -1.0)  # the axis of chromatic aberration in RGB


class RelativePatchSettings(Config):
    """Settings of `RelativePatch`.

    Attributes:
        patch: side in pixels; None: as large as three in a row with gaps and jitter fit in the image.
        gap: pixels between patches before jitter; None: half a patch.
        jitter: pixels by which each patch is moved at most, down and across; None: 7 of 96 parts of a patch.
        neighbours: of each centre; each makes one pair.
        colour: against chromatic aberration "drop" two of three channels, or "project" green against magenta
            away, or "none".
        coarse: chance that a patch is shrunk, to as few as 100 pixels in all, and enlarged again.
        scale: area of the random crop that is resized to the image, as a share.
        hidden: width of the hidden layer that sees both patches.
        flip: chance of a mirrored image.
    """

    patch: int | None = Field(default=None, ge=1)
    gap: int | None = Field(default=None, ge=0)
    jitter: int | None = Field(default=None, ge=0)
    neighbours: int = Field(default=8, ge=1, le=8)
    colour: Literal["drop", "project", "none"] = "drop"
    coarse: Chance = 0.25
    scale: Scale = (0.33, 1.0)
    hidden: int = Field(default=512, ge=1)
    flip: Chance = 0.5


@dataclass(frozen=True)
class Layout:
    """Sizes of a neighbourhood of 3 x 3 patches in pixels: see `RelativePatchSettings`."""

    patch: int
    gap: int
    jitter: int

    @property
    def pitch(self) -> int:
        """From a patch to the next one before jitter."""
        return self.patch + self.gap

    @property
    def span(self) -> int:
        """Side of all that jittered patches can cover."""
        return 3 * self.patch + 2 * self.gap + 2 * self.jitter


def layout(settings: RelativePatchSettings, size: int) -> Layout:
    """The sizes that settings mean for images of `size` pixels.

    Raises:
        InputError: patches that are too small, don't fit, or could touch each other.
    """
    for patch in [settings.patch] if settings.patch is not None else range(size // 3, 0, -1):
        gap = patch // 2 if settings.gap is None else settings.gap
        jitter = round(patch * JITTER) if settings.jitter is None else settings.jitter
        made = Layout(patch, gap, jitter)
        if made.span <= size:
            break
    what = (
        f"relative_patch with patches of {made.patch} pixels, gaps of {made.gap} and jitter of {made.jitter}"
    )
    if made.span > size:
        raise InputError(f"{what} needs {made.span} pixels: lower them or raise data.size={size}.")
    if made.patch < SMALLEST:
        raise InputError(f"{what} shows nothing: patches need {SMALLEST} pixels, so raise data.size={size}.")
    if made.gap < 2 * made.jitter:
        raise InputError(f"{what} lets patches overlap: the gap has to be twice the jitter or more.")
    return made


class RelativePatch(Method):
    """Eight-way classification of where a patch lies, from the pooled features of it and of the centre.

    Args:
        backbone: see `Method`.
        settings: see `RelativePatchSettings`.
        size: side of the images in pixels.

    Raises:
        InputError: patches that are too small, don't fit, or could touch each other.
    """

    Settings: ClassVar[type[Config]] = RelativePatchSettings
    directions: Tensor
    coarsening: Tensor

    def __init__(self, backbone: nn.Module, settings: Any, size: int) -> None:
        super().__init__(backbone, size)
        self.settings, self.layout = settings, layout(settings, size)
        self.register_buffer("directions", torch.tensor(DIRECTIONS), persistent=False)
        self.register_buffer("coarsening", coarsenings(self.layout.patch), persistent=False)
        self.head = nn.Sequential(
            nn.Linear(2 * width(backbone), settings.hidden),
            nn.ReLU(),
            nn.Linear(settings.hidden, len(DIRECTIONS)),
        )

    def views(self, images: Tensor, draws: Draws) -> Views:
        """Centres and neighbours: `patches` float `[N, 1 + k, 3, p, p]`, `answers` int64 `[N, k]`."""
        patches, answers = self.pairs(images, draws)
        return {"patches": self.prepared(patches, draws), "answers": answers}

    def pairs(self, images: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """As `views`, with patches as they are in the image."""
        s = self.settings
        crops = random_resized_crop(images, draws, self.size, scale=s.scale, ratio=(1, 1), flip=s.flip)
        answers = draws.permutations(len(DIRECTIONS))[:, : s.neighbours].to(images.device)
        corners = self.corners(answers, draws)
        return cut(crops, corners[..., 0], corners[..., 1], self.layout.patch), answers

    def corners(self, answers: Tensor, draws: Draws) -> Tensor:
        """Top and left of the centre and of the neighbours that `answers` `[N, k]` name: `[N, 1 + k, 2]`."""
        size, sizes = self.size, self.layout
        first = draws.integers(size - sizes.span + 1, 1, 2).to(answers.device) + sizes.jitter
        steps = F.pad(self.directions[answers], (0, 0, 1, 0)) + 1  # from the first patch; the centre is 1, 1
        moved = draws.integers(2 * sizes.jitter + 1, 1 + answers.shape[1], 2) - sizes.jitter
        return first + steps * sizes.pitch + moved.to(answers.device)

    def prepared(self, patches: Tensor, draws: Draws) -> Tensor:
        """What the backbone is given for patches `[N, P, 3, p, p]`: without mean, colours, fine detail."""
        patches = patches - patches.mean(dim=(-2, -1), keepdim=True)
        if self.settings.colour == "drop":
            kept = draws.integers(3, patches.shape[1]).to(patches.device)
            noise = draws.normal(*patches.shape[1:]).to(patches.device)
            patches = drop_colours(patches, kept, noise)
        elif self.settings.colour == "project":
            patches = project_colours(patches)
        if self.settings.coarse > 0:
            last = len(self.coarsening) - 1
            strength = draws.integers(last + 1, patches.shape[1])
            chosen = draws.uniform(patches.shape[1]) < self.settings.coarse
            matrix = self.coarsening[strength.where(chosen, last).to(patches.device)][:, :, None]
            patches = matrix @ patches @ matrix.mT
        backbone: Any = self.backbone
        return patches + backbone.mean  # which its first layer takes off again

    def scores(self, patches: Tensor) -> Tensor:
        """Scores of the directions, float32 `[N, k, 8]`, from what `views` made."""
        features = pooled(self.backbone(patches.flatten(0, 1))).unflatten(
            0, patches.shape[:2]
        )  # [N, 1 + k, C]
        others = features[:, 1:]
        with full_precision(features):
            found: Tensor = self.head(torch.cat([features[:, :1].expand_as(others), others], dim=2))
        return found

    def loss(self, views: Views) -> dict[str, Tensor]:
        scores, answers = self.scores(views["patches"]).flatten(0, 1), views["answers"].flatten()
        accuracy = (scores.argmax(dim=1) == answers).float().mean()
        return {"loss": F.cross_entropy(scores, answers), "accuracy": accuracy}

    @torch.no_grad()
    def pictures(self, images: Tensor, draws: Draws) -> list[Picture]:
        """Patches where the method places them around their centres, and where they were."""
        patches, answers = self.pairs(images, draws)
        patches, answers = patches[:, :2], answers[:, 0]
        found = self.scores(self.prepared(patches, draws))[:, 0].argmax(dim=1)
        right = found == answers
        diagrams = []
        for pair, is_found, truth in zip(patches, found.tolist(), answers.tolist(), strict=True):
            diagrams.append(diagram(pair, is_found, RIGHT if is_found == truth else WRONG))
            diagrams.append(diagram(pair, truth, RIGHT))
        caption = (
            "A centre patch with another one where the method places it, in a green frame if that is right, "
            f"and beside it where that one was; {int(right.sum())} of {len(images)} right."
        )
        return [Picture("Relative patches", sheet(torch.stack(diagrams), 8), caption)]


def drop_colours(patches: Tensor, kept: Tensor, noise: Tensor) -> Tensor:
    """Replace two of three channels by noise with a hundredth of the spread of the one that is kept.

    Args:
        patches: `[N, P, 3, p, p]`, without their means.
        kept: int64 `[N, P]`: the channel.
        noise: standard normal, as `patches`.
    """
    kept = kept[..., None, None, None]
    spread = patches.std(dim=(-2, -1), keepdim=True, correction=0).gather(2, kept)
    channels = torch.arange(3, device=patches.device)[:, None, None]
    return patches.where(channels == kept, NOISE * spread * noise)


def project_colours(patches: Tensor) -> Tensor:
    """Take the share along the axis from magenta to green out of each pixel of `[..., 3, p, p]`."""
    axis = F.normalize(patches.new_tensor(GREEN_MAGENTA), dim=0)[:, None, None]
    return patches - axis * (axis * patches).sum(dim=-3, keepdim=True)


def coarsenings(patch: int) -> Tensor:
    """Matrices that shrink the columns of a patch and enlarge them again: float `[S, patch, patch]`.

    For each side from `COARSEST` to `patch` pixels one, as bilinear interpolation with antialiasing does it;
    the last one changes nothing. `M @ image @ M.T` treats rows and columns.
    """
    matrices = []
    for side in range(min(COARSEST, patch), patch + 1):
        shrink = _resizing(patch, side)
        matrices.append(_resizing(side, patch) @ shrink)
    return torch.stack(matrices)


def _resizing(before: int, after: int) -> Tensor:
    identity = torch.eye(before)[None, None]
    return F.interpolate(identity, (after, before), mode="bilinear", antialias=True)[0, 0]  # [after, before]


def diagram(pair: Tensor, direction: int, colour: tuple[float, float, float]) -> Tensor:
    """A centre patch and another one, `[2, 3, p, p]`, in a field of 3 x 3 with a margin: `[3, H, W]`."""
    places = pair.new_full((9, *pair.shape[1:]), 0.9)
    down, right = DIRECTIONS[direction]
    places[4] = pair[0]
    places[4 + 3 * down + right] = frame(pair[1], colour, width=1)
    return F.pad(arrange(places[None], gap=2)[0], (4, 4, 4, 4), value=1)
