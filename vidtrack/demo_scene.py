"""The clip of `vidtrack demo`: pictures from the scikit-image package in motion, with exact ground truth.

An astronaut, a cat and a cup of coffee drift through the Hubble deep field. Each crosses more than its own
width and grows by 1.5; early on, the moon hides the cup for exactly five frames. The camera pans and zooms;
its brightness breathes and its sensor has noise. The truth is exact because picture and truth are made from
the same warped alpha.

    for image, ids in render():      # uint8 [480, 854, 3] RGB and uint8 [480, 854]: 0, or 1 + index in NAMES
        ...
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import skimage.data
from PIL import Image

Box = tuple[float, float, float, float]  # left, top, right, bottom

FRAMES = 64  # the length of the whole clip
WIDTH, HEIGHT = 854, 480  # the frame in which the paths below are written
NAMES = ("astronaut", "cat", "cup")  # id 1, 2, 3
GROWTH = 1.5  # every object's size in the last frame over that in the first
HIDDEN = "cup"  # the object that the moon hides for exactly five frames
NOISE = 3.5  # standard deviation of the sensor noise, of 255
BREATH = 0.06  # amplitude of the brightness, relative

# Outlines, x,y in pixels of the picture, rounded by `_smooth`.
ASTRONAUT = """
    153,90 155,70 166,52 190,40 206,22 232,16 262,23 288,45 299,75 298,100 288,120 276,131 266,137
    262,152 253,172 268,178 292,204 303,236 324,245 342,266 350,290 357,322 360,342 342,350 318,362
    300,382 286,408 262,424 215,434 150,434 90,424 45,404 24,392 27,360 36,322 44,292 50,265 66,243
    92,224 116,210 117,192 126,176 138,159 158,151 183,150 181,132 172,122 160,112
"""
CAT = """
    44,22 52,3 82,3 106,12 160,17 230,15 300,16 334,12 352,3 388,2 376,36 362,66 352,84 359,108 358,140
    350,172 332,200 314,220 306,246 288,266 262,280 236,284 200,280 160,268 124,246 92,218 66,186 48,150
    40,110 36,60
"""
CUP = """
    177,100 176,82 152,93 112,128 88,175 80,225 88,270 109,310 144,344 192,372 240,385 300,386 360,371
    410,340 447,299 469,257 477,220 469,175 449,141 424,112 414,97 422,80 416,70 403,70 396,76 378,50
    350,33 312,21 272,20 232,32 202,53 185,74
"""


@dataclass(frozen=True)
class Motion:
    """How a layer moves through the clip, in pixels of the 854x480 frame and degrees.

    Attributes:
        first, last: centre (x, y) in the first and the last frame.
        width: width of the outline in the first frame.
        growth: size in the last frame over that in the first.
        turn: angle in the first and in the last frame; positive turns clockwise.
        bob: amplitude of a vertical sway of one and a half periods.
        ease_in, ease_out: 1 is constant speed; above 1 the start, or the end, is slower.
    """

    first: tuple[float, float]
    last: tuple[float, float]
    width: float
    growth: float = GROWTH
    turn: tuple[float, float] = (0, 0)
    bob: float = 0
    ease_in: float = 1
    ease_out: float = 1

    def at(self, frame: int) -> tuple[float, float, float, float]:
        """Centre x and y, width and angle in `frame`."""
        time = frame / (FRAMES - 1)
        way = 1 - (1 - time**self.ease_in) ** self.ease_out
        x = self.first[0] + way * (self.last[0] - self.first[0])
        y = self.first[1] + way * (self.last[1] - self.first[1]) + self.bob * np.sin(3 * np.pi * time)
        return x, y, self.width * self.growth**time, self.turn[0] + time * (self.turn[1] - self.turn[0])


MOTIONS = {
    "astronaut": Motion((310, 345), (135, 165), width=125, turn=(8, -8), bob=6),
    "cat": Motion((720, 350), (370, 355), width=130, turn=(-10, 8), bob=-10),
    "cup": Motion((330, 130), (690, 150), width=118, turn=(-6, 12), ease_in=1.25),
    "moon": Motion((538, 130), (90, 140), width=230, growth=1, turn=(0, -30), ease_out=3.2),
}
OUTLINES = {"astronaut": ASTRONAUT, "cat": CAT, "cup": CUP}
PICTURES = {"astronaut": "astronaut.png", "cat": "chelsea.png", "cup": "coffee.png"}
BACK_TO_FRONT = ("cup", "moon", "cat", "astronaut")
# The camera over hubble_deep_field.jpg: centre (x, y) in its pixels and frame pixels per picture pixel.
CAMERA = ((360, 430, 1.25), (600, 460, 1.4))


def render(
    frames: int = FRAMES, width: int = WIDTH, height: int = HEIGHT, seed: int = 0
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the first `frames` frames: image uint8 [height, width, 3] RGB and ids uint8 [height, width].

    The id of a pixel is that of the topmost layer which covers at least half of it; 0 is the background, to
    which the moon belongs.

    Args:
        frames: 1 to 64; the motion of a frame doesn't depend on it.
        width, height: of the frame; another size shows the same scene, scaled to fit.
        seed: of the noise and of the phase of the brightness; the truth doesn't depend on it.
    """
    if not 1 <= frames <= FRAMES:
        raise ValueError(f"frames must be 1 to {FRAMES}, not {frames}")
    scene = Scene(width, height, seed)
    for frame in range(frames):
        yield scene.frame(frame)


def visible_area(ids: np.ndarray) -> np.ndarray:
    """Pixels of each object, in the order of `NAMES`: int [3]."""
    return np.bincount(ids.ravel(), minlength=len(NAMES) + 1)[1:]


class Scene:
    """The layers of the clip at one size; frames can be asked for in any order."""

    def __init__(self, width: int = WIDTH, height: int = HEIGHT, seed: int = 0) -> None:
        if width < 32 or height < 32:
            raise ValueError(f"the frame must be at least 32x32, not {width}x{height}")
        self.width, self.height, self.seed = width, height, seed
        scale = min(width / WIDTH, height / HEIGHT)
        self._fit = _about((WIDTH - 1) / 2, (HEIGHT - 1) / 2, scale, 0, (width - 1) / 2, (height - 1) / 2)
        self._sky = picture("hubble_deep_field.jpg").astype(np.float32)
        self._layers = {name: _cut_out(picture(PICTURES[name]), OUTLINES[name]) for name in NAMES}
        self._layers["moon"] = _moon()
        self._shrunk = {
            name: _shrink(texture, scale * MOTIONS[name].width * MOTIONS[name].growth / (box[2] - box[0]))
            for name, (texture, box) in self._layers.items()
        }
        rng = np.random.default_rng(seed)
        self._phase = rng.uniform(0, 2 * np.pi)
        self._noise = NOISE * rng.standard_normal((height + 64, width + 64, 3), dtype=np.float32)

    def box(self, name: str) -> Box:
        """Left, top, right and bottom of a layer's outline in pixels of its picture."""
        return self._layers[name][1]

    def matrix(self, name: str, frame: int) -> np.ndarray:
        """The warp of a layer in `frame`, from pixels of its picture to pixels of the image: float [2, 3]."""
        x, y, width, angle = MOTIONS[name].at(frame)
        left, top, right, bottom = self.box(name)
        own = _about((left + right) / 2, (top + bottom) / 2, width / (right - left), angle, x, y)
        return (self._fit @ own)[:2]

    def brightness(self, frame: int) -> float:
        """The factor by which the camera brightens `frame`."""
        return 1 + BREATH * float(np.sin(2 * np.pi * frame / 40 + self._phase))

    def full_area(self, name: str, frame: int) -> float:
        """Area of a layer in pixels as if nothing hid it and the image had no border."""
        determinant = np.linalg.det(self.matrix(name, frame)[:, :2])
        return float(self._layers[name][0][..., 3].sum() * determinant)

    def frame(self, frame: int) -> tuple[np.ndarray, np.ndarray]:
        """Image and ids of one frame, see `render`."""
        image = self._background(frame)
        ids = np.zeros((self.height, self.width), np.uint8)
        for name in BACK_TO_FRONT:
            texture, shrunk = self._shrunk[name]
            warp = self.matrix(name, frame) @ np.linalg.inv(shrunk)
            rows, columns = self._window(texture, warp)
            if rows.stop <= rows.start or columns.stop <= columns.start:
                continue
            warp[:, 2] -= columns.start, rows.start
            size = (columns.stop - columns.start, rows.stop - rows.start)
            layer = cv2.warpAffine(
                texture, warp, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT
            )
            alpha = layer[..., 3:]
            image[rows, columns] = image[rows, columns] * (1 - alpha) + layer[..., :3]
            ids[rows, columns][alpha[..., 0] >= 0.5] = NAMES.index(name) + 1 if name in NAMES else 0
        return self._camera(image, frame), ids

    def _background(self, frame: int) -> np.ndarray:
        """The sky as the panning, zooming camera sees it: float32 [H, W, 3] in 0..255."""
        x, y, zoom = np.array(CAMERA[0]) + frame / (FRAMES - 1) * np.subtract(CAMERA[1], CAMERA[0])
        zoom *= max(self.width / WIDTH, self.height / HEIGHT)
        warp = _about(x, y, zoom, 0, (self.width - 1) / 2, (self.height - 1) / 2)[:2]
        size = (self.width, self.height)
        return cv2.warpAffine(self._sky, warp, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)

    def _window(self, texture: np.ndarray, warp: np.ndarray) -> tuple[slice, slice]:
        """Rows and columns of the image that the warped texture can touch."""
        height, width = texture.shape[:2]
        corners = warp @ np.array([[0, width, 0, width], [0, 0, height, height], [1, 1, 1, 1]])
        (left, top), (right, bottom) = np.floor(corners.min(1)) - 1, np.ceil(corners.max(1)) + 2
        rows = slice(max(0, int(top)), min(self.height, int(bottom)))
        return rows, slice(max(0, int(left)), min(self.width, int(right)))

    def _camera(self, image: np.ndarray, frame: int) -> np.ndarray:
        """Brightness, noise and rounding: float32 [H, W, 3] to uint8."""
        down, right = np.random.default_rng([self.seed, frame]).integers(0, 65, 2)
        noise = self._noise[down : down + self.height, right : right + self.width]
        return np.clip(image * np.float32(self.brightness(frame)) + noise + 0.5, 0, 255).astype(np.uint8)


def picture(name: str) -> np.ndarray:
    """A picture in the folder of the scikit-image package, never from the network: uint8 [H, W, 3] RGB."""
    return np.asarray(Image.open(Path(skimage.data.__file__).parent / name).convert("RGB"))


def _about(x: float, y: float, scale: float, angle: float, to_x: float, to_y: float) -> np.ndarray:
    """Scaling and turning (degrees, clockwise) about (x, y), which lands on (to_x, to_y): float [3, 3]."""
    cos, sin = scale * np.cos(np.radians(angle)), scale * np.sin(np.radians(angle))
    return np.array(
        [[cos, -sin, to_x - cos * x + sin * y], [sin, cos, to_y - sin * x - cos * y], [0.0, 0.0, 1.0]]
    )


def _smooth(outline: str) -> np.ndarray:
    """Round the corners of a closed polygon "x,y x,y ..." by cutting them thrice (Chaikin): float [N, 2]."""
    points = np.array([point.split(",") for point in outline.split()], float)
    for _ in range(3):
        ahead = np.roll(points, -1, axis=0)
        points = np.stack([0.75 * points + 0.25 * ahead, 0.25 * points + 0.75 * ahead], 1).reshape(-1, 2)
    return points


def _cut_out(image: np.ndarray, outline: str) -> tuple[np.ndarray, Box]:
    """The inside of an outline: premultiplied RGBA float32 [H, W, 4] with alpha 0..1, and its box."""
    points = _smooth(outline)
    alpha = np.zeros(image.shape[:2], np.uint8)
    cv2.fillPoly(alpha, [np.round(points * 16).astype(np.int32)], 255, cv2.LINE_AA, shift=4)
    (left, top), (right, bottom) = points.min(0), points.max(0)
    return _premultiplied(image, alpha / np.float32(255)), (left, top, right, bottom)


def _moon() -> tuple[np.ndarray, Box]:
    """A lit sphere that wears moon.png: the texture and box of `_cut_out`."""
    surface = picture("moon.png").astype(np.float32)
    size = surface.shape[0]
    radius = size / 2 - 2
    y, x = (np.mgrid[:size, :size].astype(np.float32) - (size - 1) / 2) / radius
    far = np.hypot(x, y)
    bulge = np.where(far > 0, np.arcsin(np.clip(far, 0, 1)) / np.maximum(far, 1e-6), 1) * (2 / np.pi)
    at_x, at_y = ((axis * bulge * radius + (size - 1) / 2).astype(np.float32) for axis in (x, y))
    ball = cv2.remap(surface, at_x, at_y, cv2.INTER_LINEAR)
    light = np.clip(-0.45 * x - 0.5 * y + 0.74 * np.sqrt(np.clip(1 - far**2, 0, 1)), 0, 1)[..., None]
    shine = (0.25 + 0.85 * light) * np.array([1.0, 0.98, 0.93], np.float32)
    image = np.clip(128 + 1.8 * (ball - surface.mean()), 0, 255) * shine
    alpha = np.clip((1 - far) * radius + 0.5, 0, 1)
    middle = (size - 1) / 2
    return _premultiplied(image, alpha), (middle - radius, middle - radius, middle + radius, middle + radius)


def _premultiplied(image: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """RGB 0..255 times alpha, and alpha: float32 [H, W, 4]."""
    return np.dstack([image * alpha[..., None], alpha]).astype(np.float32)


def _shrink(texture: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """A texture averaged down to its largest size in the clip, and the warp from picture to texture pixels.

    A transparent border of two pixels lets the warp end every layer softly.
    """
    height, width = texture.shape[:2]
    size = (max(1, round(width * min(1, scale))), max(1, round(height * min(1, scale))))
    small = cv2.resize(texture, size, interpolation=cv2.INTER_AREA)
    across, down = size[0] / width, size[1] / height
    warp = np.array([[across, 0, (across - 1) / 2 + 2], [0, down, (down - 1) / 2 + 2], [0, 0, 1]])
    return cv2.copyMakeBorder(small, 2, 2, 2, 2, cv2.BORDER_CONSTANT, value=0), warp
