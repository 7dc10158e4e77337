import numpy as np
import pytest

from case_jax.data.crops import MeanOfCrops, crops_first
from tests.helpers.refusals import assert_parts, refusal

CROPS = np.random.default_rng(0).standard_normal((10, 6, 4))


@pytest.mark.parametrize("rows", [3, -1, slice(None), slice(1, 6, 2), np.array([5, 0, 0]), np.array([], int)])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int16])
def test_the_mean_of_the_snippets_that_are_asked_for(rows, dtype):
    crops = (100 * CROPS).astype(dtype)
    mean = MeanOfCrops(crops)
    expected = crops.astype(np.float64).mean(0)
    assert (mean.shape, mean.ndim, len(mean), mean.dtype) == ((6, 4), 2, 6, np.float32)
    assert mean[rows].dtype == np.float32
    np.testing.assert_allclose(mean[rows], expected[rows], rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(np.asarray(mean), expected, rtol=1e-5, atol=1e-4)
    assert np.asarray(mean, np.float64).dtype == np.float64
    np.testing.assert_allclose(mean.part(4, 1, 3)[:], expected[:4, 1:3], rtol=1e-5, atol=1e-4)


def test_no_other_snippets_of_a_memory_map_are_read():
    class Watched:
        shape = CROPS.shape

        def __getitem__(self, index):
            self.index = index
            return CROPS[index]

    crops = Watched()
    MeanOfCrops(crops)[np.array([2, 4])]
    every_crop, snippets = crops.index
    assert every_crop == slice(None)
    assert snippets.tolist() == [2, 4]


@pytest.mark.parametrize(
    "shape, crops, axis",
    [
        ((10, 6, 4), "mean", 0),
        ((6, 10, 4), "mean", 1),
        ((5, 6, 10), "mean", 0),
        ((900, 5, 4), "mean", 1),
        ((3, 7, 4), "mean", 0),
        ((1, 1, 4), "mean", 0),
        ((10, 10, 4), "mean_first", 0),
        ((10, 5, 4), "mean_second", 1),
        ((10, 6, 4), "mean_second", 1),
        ((7, 3, 4), "mean_first", 0),
    ],
)
def test_the_axis_of_the_crops(shape, crops, axis):
    array = np.random.default_rng(0).standard_normal(shape)
    np.testing.assert_array_equal(crops_first(array, crops, "v.npy"), np.moveaxis(array, axis, 0))


@pytest.mark.parametrize("shape", [(10, 10, 4), (5, 10, 4), (7, 3, 4)])
def test_a_shape_that_does_not_tell_is_refused(shape):
    message = refusal(crops_first, np.zeros(shape), "mean", "v.npy")
    assert_parts(message, "v.npy", f"shape {shape} … may be the crops", '"mean_first" or "mean_second"')
