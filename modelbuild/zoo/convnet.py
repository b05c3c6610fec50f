"""A small convolutional network for 8x8 images, whose width makes it teacher or student."""

from __future__ import annotations

from torch import Tensor, nn


class ConvNet(nn.Module):
    """Three 3x3 convolutions with batch normalisation, of `width`, 2 `width` and 2 `width` channels.

    Input: [n, 1, 8, 8] float32. Output "logits": [n, classes] float32.
    """

    output_names = ("logits",)

    def __init__(self, width: int = 8, classes: int = 10) -> None:
        super().__init__()
        self.features = nn.Sequential(
            _block(1, width),
            nn.MaxPool2d(2),
            _block(width, 2 * width),
            nn.MaxPool2d(2),
            _block(2 * width, 2 * width),
        )
        self.head = nn.Linear(2 * width * 4, classes)

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(image).flatten(1))
        return logits


def _block(channels_in: int, channels_out: int) -> nn.Sequential:
    # The normalisation that follows has a bias of its own.
    convolution = nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(channels_out), nn.ReLU())
