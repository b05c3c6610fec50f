"""What resizing, boxes, points and suppression refuse: all that no definition settles."""

from __future__ import annotations

import mil
import numpy as np
import pytest
import torch
from mil import mb

from modelbuild.errors import RecipeError
from modelbuild.runtimes.coreml.evaluator.arithmetic import Arithmetic
from modelbuild.runtimes.coreml.evaluator.ops import KERNELS

IMAGE = np.ones((1, 1, 3, 4), np.float32)
X = torch.ones(1, 1, 3, 4)
POINTS = torch.zeros(1, 2, 2, 2)
PLAIN = Arithmetic()


def resize(**settings):
    return lambda x: mb.resize(x=x, shape=[5, 6], resized_dims=np.uint32(2), **settings)


def boxes(**settings):
    return lambda x: mb.crop_resize(x=x, boxes=np.ones((1, 4), np.float32), **settings)


def affine(align: bool):
    return lambda x: mb.affine(
        x=x,
        transform_matrix=np.eye(2, 3, dtype=np.float32).reshape(1, 6),
        output_height=2,
        output_width=2,
        sampling_mode="bilinear",
        padding_mode="constant",
        padding_value=np.float32(0),
        coordinates_mode="normalized_minus_one_to_one",
        align_corners=align,
    )


@pytest.mark.parametrize(
    ("operation", "build", "fact"),
    [
        (
            "resize",
            resize(interpolation_mode="NEAREST_NEIGHBOR", sampling_mode="ALIGN_CORNERS"),
            "nearest neighbours have no definition for the sampling_mode ALIGN_CORNERS",
        ),
        ("crop_resize", boxes(sampling_mode="UNALIGN_CORNERS"), "UNALIGN_CORNERS: what Core ML gives there"),
        ("affine", affine(align=False), "asked for .*False"),
        (
            "upsample_bilinear",
            lambda x: mb.upsample_bilinear(x=x, align_corners=True, half_pixel_centers=True),
            "exclude each other",
        ),
    ],
)
def test_settings_that_no_definition_settles_are_refused(operation: str, build, fact: str) -> None:
    with pytest.raises(RecipeError, match=f"{operation} .*{fact}"):
        mil.evaluate(build, {"x": IMAGE}, "iOS17")


def test_whole_numbers_are_not_interpolated() -> None:
    with pytest.raises(RecipeError, match=r"resize .*no definition says how linear interpolation rounds"):
        mil.evaluate(resize(), {"x": IMAGE.astype(np.int32)}, "iOS17")


def test_a_box_of_an_image_that_does_not_exist_is_refused() -> None:
    def build(x, images):
        return mb.crop_resize(x=x, boxes=np.ones((2, 4), np.float32), box_indices=images)

    for images in ([0, 1], [-1, 0]):
        with pytest.raises(RecipeError, match=r"crop_resize .*an image that is none of the 1"):
            mil.evaluate(build, {"x": IMAGE, "images": np.array(images, np.int32)}, "iOS17")


IMAGES = torch.arange(24.0).reshape(2, 1, 3, 4)
WHOLE_IMAGE = torch.tensor([[0.0, 0.0, 2.0, 3.0]] * 2)


def test_boxes_without_numbers_are_of_the_images_in_order() -> None:
    """The builder writes the numbers out; another converter may leave them to the definition."""
    arguments = {"target_height": 3, "target_width": 4, "sampling_mode": "ALIGN_CORNERS", "arithmetic": PLAIN}
    found = KERNELS["crop_resize"].function(IMAGES, boxes=WHOLE_IMAGE, **arguments)
    assert torch.equal(found, IMAGES)


def test_a_roi_of_five_numbers_is_of_the_image_that_the_first_names() -> None:
    """As the definition says, [n, 1, c, h, w]; coremltools states [n, images, c, h, w] for more than one image."""
    numbers = torch.tensor([[1.0], [0.0]])
    roi = torch.cat([numbers, WHOLE_IMAGE], dim=1).reshape(2, 1, 5, 1, 1)
    arguments = {"target_height": 3, "target_width": 4, "sampling_mode": "ALIGN_CORNERS", "arithmetic": PLAIN}
    found = KERNELS["crop_resize"].function(IMAGES, roi, **arguments)
    assert torch.equal(found, IMAGES.flip(0).unsqueeze(1))


# What the builder does not let through, but another converter might write.
UNKNOWN = [
    ("resize_bilinear", (X, 2, 2, "CORNERS"), {}, 'sampling_mode "CORNERS" is unknown'),
    ("resize", (X, (2, 2), 2, "CUBIC"), {}, 'interpolation_mode "CUBIC" is unknown'),
    ("resize", (X, (2,), 2), {}, "cannot resize 2 axes of 4 to the last of 1 sizes"),
    ("resize", (X, (1, 1, 1, 2, 2), 2), {}, "cannot resize 2 axes of 4 to the last of 5 sizes"),
    ("crop_resize", (X,), {}, 'has neither "roi" nor "boxes"'),
    (
        "crop_resize",
        (X,),
        {"boxes": torch.ones(1, 4), "box_coordinate_mode": "CORNERS"},
        "box_coordinate_mode",
    ),
    (
        "crop_resize",
        (X,),
        {"boxes": torch.ones(1, 4), "box_coordinate_mode": "SIZE_WIDTH_FIRST"},
        "is unknown",
    ),
    ("resample", (X, POINTS, "cubic", "border", 0.0, "unnormalized", True), {}, 'sampling_mode "cubic"'),
    ("resample", (X, POINTS, "nearest", "edge", 0.0, "unnormalized", True), {}, 'padding_mode "edge"'),
    ("resample", (X, POINTS, "nearest", "border", 0.0, "pixels", True), {}, 'coordinates_mode "pixels"'),
]


@pytest.mark.parametrize(("operation", "arguments", "more", "fact"), UNKNOWN)
def test_unknown_settings_are_refused(operation: str, arguments: tuple, more: dict, fact: str) -> None:
    with pytest.raises(ValueError, match=fact):
        KERNELS[operation].function(*arguments, **more, arithmetic=PLAIN)


def test_a_point_that_is_no_number_takes_nothing_from_the_image() -> None:
    points = np.full((1, 1, 1, 2), np.nan, np.float32)
    (found,) = mil.evaluate(
        lambda x, points: mb.resample(
            x=x,
            coordinates=points,
            sampling_mode="bilinear",
            padding_mode="constant",
            padding_value=np.float32(2),
            coordinates_mode="unnormalized",
            align_corners=True,
        ),
        {"x": IMAGE, "points": points},
    )
    assert np.isnan(found).all()


@pytest.mark.parametrize(("opset", "threshold"), [(6, None), (7, 0.5)])
def test_a_score_threshold_belongs_to_the_early_op_sets(opset: int, threshold: float | None) -> None:
    with pytest.raises(
        ValueError, match="score_threshold is an argument before iOS 17, and none from there on"
    ):
        KERNELS["non_maximum_suppression"].function(
            torch.ones(1, 4, 4), torch.ones(1, 4, 4), 0.5, 2, threshold, opset=opset
        )
