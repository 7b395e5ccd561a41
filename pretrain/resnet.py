"""Residual blocks and layers, with torchvision's names, initialisation and order of random numbers.

torchvision's own are not used because importing them takes more than a second (it loads torch's compiler),
which every command would wait for.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

BLOCKS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3), "resnet50": (3, 4, 6, 3)}
WIDTHS = (64, 128, 256, 512)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut, `[N, inputs, H, W]` to `[N, width, H/stride, W/stride]`."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int, downsample: nn.Module | None) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        y += x if self.downsample is None else self.downsample(x)
        return self.relu(y)


class Bottleneck(nn.Module):
    """1x1, 3x3 (with the stride: "ResNet v1.5") and 1x1 convolutions, and a shortcut.

    `[N, inputs, H, W]` to `[N, 4 width, H/stride, W/stride]`.
    """

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int, downsample: nn.Module | None) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        y += x if self.downsample is None else self.downsample(x)
        return self.relu(y)


def stem(inputs: int = 3, outputs: int = 64, small: bool = False) -> nn.Conv2d:
    """The first convolution: 7x7 with stride 2, or 3x3 with stride 1 for small images."""
    if small:
        return nn.Conv2d(inputs, outputs, 3, stride=1, padding=1, bias=False)
    return nn.Conv2d(inputs, outputs, 7, stride=2, padding=3, bias=False)


def layers(arch: str, widths: Sequence[int] = WIDTHS) -> list[nn.Sequential]:
    """The four layers of a ResNet, with strides 1, 2, 2, 2; `widths[0]` channels go in."""
    block: type[BasicBlock | Bottleneck] = Bottleneck if arch == "resnet50" else BasicBlock
    inputs, made = widths[0], []
    for number, (depth, width) in enumerate(zip(BLOCKS[arch], widths, strict=True)):
        blocks = []
        for place in range(depth):
            stride = 2 if number and not place else 1
            outputs = width * block.expansion
            shortcut = None
            if stride != 1 or inputs != outputs:
                shortcut = nn.Sequential(
                    nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
                )
            blocks.append(block(inputs, width, stride, shortcut))
            inputs = outputs
        made.append(nn.Sequential(*blocks))
    # The classifier that torchvision makes here draws random numbers: the same seed gives the same weights.
    nn.Linear(inputs, 1000)
    return made


def set_padding(network: nn.Module, padding: str) -> None:
    """What convolutions see beyond the edge of the image: "zeros", "reflect" or "replicate"."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.padding != (0, 0):
            module.padding_mode = padding  # type: ignore[assignment]


def initialise(conv1: nn.Conv2d, layers: list[nn.Sequential], zero: bool) -> None:
    """Convolutions as He et al. (2015, arXiv 1502.01852), by their outputs.

    With `zero` the last batch norm of each block starts at zero (Goyal et al. 2017, arXiv 1706.02677).
    """
    for module in (conv1, *(module for layer in layers for module in layer.modules())):
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    blocks = [block for layer in layers for block in layer] if zero else []
    for block in blocks:
        last = block.bn3 if isinstance(block, Bottleneck) else block.bn2
        nn.init.zeros_(last.weight)  # type: ignore[arg-type, union-attr]
