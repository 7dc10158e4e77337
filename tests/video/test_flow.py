"""Optical flow of textures that move by known amounts."""

import sys

import numpy as np
import pytest

from case_jax.video.flow import flow_of, make_flow
from tests.helpers.refusals import assert_parts, refusal

METHODS = ["tvl1", "dis"]
INSIDE = np.s_[16:-16, 16:-16]  # what enters at the border has no place before


def texture(right=0.0, down=0.0, size=(64, 80)):
    """A smooth grey texture (h, w) uint8 that was moved by so many pixels."""
    y, x = np.mgrid[: size[0], : size[1]].astype(float)
    y, x = y - down, x - right
    waves = np.random.default_rng(1).normal(size=(12, 2)) * 0.25
    value = sum(np.sin(a * x + b * y + k) for k, (a, b) in enumerate(waves))
    return np.clip(128 + 18 * value, 0, 255).astype(np.uint8)


def frame(*moved):
    return np.repeat(texture(*moved)[:, :, None], 3, axis=2)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("right, down", [(1.0, 0.0), (0.0, -1.0), (0.5, 0.25), (-2.5, 1.5), (3.0, 3.0)])
def test_a_texture_that_moves(method, right, down):
    flow = make_flow(method)(texture(), texture(right, down))
    assert flow.shape == (64, 80, 2)
    assert flow.dtype == np.float32
    moved = 20 * flow[INSIDE]
    np.testing.assert_allclose(np.median(moved, axis=(0, 1)), [right, down], atol=0.08)
    assert np.abs(moved - [right, down]).mean() < 0.15


@pytest.mark.parametrize("method", METHODS)
def test_motion_beyond_20_pixels_is_clipped(method, monkeypatch):
    """The calculators cannot follow small textures that far: here they are told what they found."""
    import cv2

    class Far:
        def calc(self, before, after, start):
            return np.broadcast_to(np.float32([35.0, -20.5]), (*before.shape, 2)).copy()

    monkeypatch.setattr(cv2, "DISOpticalFlow_create", lambda preset: Far())
    monkeypatch.setattr(cv2.optflow, "DualTVL1OpticalFlow_create", Far)
    flow = make_flow(method)(texture(), texture())
    np.testing.assert_array_equal(flow[..., 0], 1.0)
    np.testing.assert_array_equal(flow[..., 1], -1.0)


def test_a_wide_texture_that_moves_by_26_pixels_is_clipped():
    y, x = np.mgrid[:160, :200].astype(float)
    images = [np.uint8(128 + 100 * np.sin((x - right) / 40) * np.cos(y / 40)) for right in (0, 26)]
    flow = make_flow("dis")(*images)
    assert np.median(flow[40:-40, 40:-40, 0]) == 1.0


@pytest.mark.parametrize("method", METHODS)
def test_as_many_flows_as_frames(method):
    frames = [frame(2.0 * k) for k in range(4)]
    flows = list(flow_of(iter(frames), method))
    assert len(flows) == 4
    pair = make_flow(method)
    for k in range(3):
        np.testing.assert_array_equal(flows[k], pair(texture(2.0 * k), texture(2.0 * k + 2)))
    np.testing.assert_array_equal(flows[3], flows[2])


@pytest.mark.parametrize("method", METHODS)
def test_a_repeated_frame_does_not_move(method):
    one, other = frame(), frame(2.0)
    for frames in ([one, one, other], [one, one.copy(), other]):
        flows = list(flow_of(frames, method))
        np.testing.assert_array_equal(flows[0], 0.0)
        np.testing.assert_allclose(20 * np.median(flows[1][INSIDE], axis=(0, 1)), [2.0, 0.0], atol=0.08)


def test_one_frame_and_none():
    (flow,) = flow_of([frame()], "dis")
    np.testing.assert_array_equal(flow, np.zeros((64, 80, 2), np.float32))
    assert list(flow_of([], "dis")) == []


def test_frames_are_taken_one_by_one():
    """The first flow needs two frames and no more."""
    taken = []
    flows = flow_of((taken.append(k) or frame(2.0 * k) for k in range(100)), "dis")
    assert taken == []
    next(flows)
    assert taken == [0, 1]


def test_colours_weigh_as_in_grey_television():
    red = np.zeros((64, 80, 3), np.uint8)
    red[..., 0] = texture()
    moved = np.zeros_like(red)
    moved[..., 0] = texture(2.0)
    flow, _ = flow_of([red, moved], "tvl1")
    grey = (0.299 * texture()).round().astype(np.uint8), (0.299 * texture(2.0)).round().astype(np.uint8)
    np.testing.assert_allclose(flow, make_flow("tvl1")(*grey), atol=0.02)


def test_parameters_of_tvl1_are_those_that_are_told():
    import cv2

    calculator = cv2.optflow.DualTVL1OpticalFlow_create()
    names = (
        "Tau Lambda Theta ScalesNumber ScaleStep WarpingsNumber Epsilon OuterIterations InnerIterations Gamma"
    )
    values = [getattr(calculator, f"get{name}")() for name in [*names.split(), "MedianFiltering"]]
    assert values == [0.25, 0.15, 0.3, 5, 0.8, 5, 0.01, 10, 30, 0.0, 5]


@pytest.mark.parametrize("method", ["none", "raft", ""])
def test_another_method(method):
    assert_parts(refusal(flow_of, [], method), "--flow", repr(method), "tvl1, dis")


@pytest.mark.parametrize("missing", ["cv2", "cv2.optflow"])
def test_without_the_package(monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    message = refusal(flow_of, [], "tvl1")
    assert_parts(message, "opencv-contrib-python-headless", "not installed", "pip install 'case_jax[video]'")
