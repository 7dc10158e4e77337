import json
import shutil

import jax
import numpy as np
import pytest

from case_jax.data.torch_files import read_state_dict
from case_jax.runs.workdir import Workdir
from tests.conftest import ROOT
from tests.helpers.commands import refuse_here, succeed_here
from tests.helpers.files import torch_file
from tests.helpers.published import published_arrays
from tests.helpers.refusals import assert_parts

INERTIAL = f"--flagfile={ROOT / 'experiments' / 'flags' / 'inertial.flags'}"


@pytest.fixture(scope="module")
def inertial(shared_data):
    return shared_data / "inertial"


def test_a_checkpoint_becomes_a_workdir(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "dataset.json").write_text(json.dumps({"classes": ["Jump", "Run"]}))
    (tmp_path / "data" / "split_train.txt").touch()
    np.save(tmp_path / "q.npy", np.full((2, 2), 0.5))
    arrays = published_arrays()
    (tmp_path / "model.pkl").write_bytes(torch_file(arrays))
    files = [f"--torch={tmp_path / 'model.pkl'}", f"--cluster_labels={tmp_path / 'q.npy'}"]
    flags = [f"--output={tmp_path / 'W'}", f"--data_dir={tmp_path / 'data'}", "--num_snippets=64"]
    printed = succeed_here("convert", *files, *flags)
    assert printed.startswith("2 classes, streams rgb (3), flow (3), 2 clusters, as step ")
    settings, state = Workdir(tmp_path / "W").load("last")
    assert settings.config.num_snippets == 64
    assert settings.info.classes == ("Jump", "Run")
    kernel = state.params["flow"]["cas_head"]["kernel"]
    np.testing.assert_array_equal(kernel, arrays["cas_module_flow.2.weight"][..., 0].T)
    np.testing.assert_array_equal(state.cluster_labels, np.full((2, 2), 0.5))


# Files of the published code, and arrays that it recorded


def published(folder):
    return [
        f"--{n}={folder / 'published' / f}"
        for n, f in (("torch", "best_model.pkl"), ("cluster_labels", "cls_gt.npy"))
    ]


@pytest.fixture(scope="module")
def converted(inertial, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("converted") / "W"
    printed = succeed_here(
        "convert", *published(inertial), f"--output={workdir}", f"--data_dir={inertial}", INERTIAL
    )
    assert printed == (
        f"9 classes, streams acc (103), gyro (103), 16 clusters, as step 1,500: {workdir}\n"
        "tested with 140 snippets a video (--num_snippets), 50 frames per second, one snippet every 16\n"
    )
    return workdir


@pytest.mark.slow
def test_a_published_checkpoint_has_its_published_map(converted, inertial, tmp_path):
    output = tmp_path / "p.json"
    succeed_here(
        "localize",
        f"--checkpoint={converted}",
        f"--features={inertial / 'features/test'}",
        f"--output={output}",
    )
    truth = [
        f"--ground_truth={inertial / 'gt.json'}",
        f"--predictions={output}",
        "--tiou=0.1:0.7:0.1",
        "--json",
    ]
    ours = json.loads(succeed_here("evaluate", *truth))
    theirs = json.loads((inertial / "published" / "map.json").read_text())
    np.testing.assert_allclose(ours["map"], theirs["map"], atol=5e-4)
    assert ours["average"] == pytest.approx(theirs["average"], abs=5e-4)


@pytest.mark.slow
def test_a_converted_checkpoint_has_a_report(converted, inertial, tmp_path):
    workdir = tmp_path / "W"
    shutil.copytree(converted, workdir)
    flags = [f"--workdir={workdir}", f"--data_dir={inertial}", INERTIAL]
    printed = succeed_here("train", "--mode=evaluate", *flags)
    assert "last (step 1500)  42.23" in printed
    assert "Detection mAP" in (workdir / "report.html").read_text()


def test_outputs_are_those_of_the_published_code(golden, tmp_path):
    # The recorded parameters become a checkpoint of ours, and then one of PyTorch again.
    torch = pytest.importorskip("torch")
    arrays = np.load(golden / "trained_state.npz")
    state = {name: torch.from_numpy(arrays[name]) for name in arrays.files if name != "cls_gt"}
    torch.save(state, tmp_path / "best_model.pkl")
    np.save(tmp_path / "cls_gt.npy", np.full((16, 2), 0.5, np.float32))
    files = [f"--torch={tmp_path / 'best_model.pkl'}", f"--cluster_labels={tmp_path / 'cls_gt.npy'}"]
    succeed_here("convert", *files, f"--output={tmp_path / 'W'}")
    back = [f"--torch={tmp_path / 'back.pkl'}", f"--cluster_labels={tmp_path / 'back.npy'}"]
    succeed_here("convert", f"--checkpoint={tmp_path / 'W'}", *back)
    again = torch.load(tmp_path / "back.pkl", weights_only=True)
    assert {name: value.shape for name, value in again.items()} == {n: v.shape for n, v in state.items()}
    for name, value in state.items():
        np.testing.assert_array_equal(again[name].numpy(), value.numpy())
    np.testing.assert_array_equal(np.load(tmp_path / "back.npy"), np.load(tmp_path / "cls_gt.npy"))


def test_parameters_and_labels_are_kept(converted, inertial):
    settings, state = Workdir(converted).load("last")
    assert settings.info.classes[0] == json.loads((inertial / "dataset.json").read_text())["classes"][0]
    labels = np.load(inertial / "published" / "cls_gt.npy")
    np.testing.assert_array_equal(state.cluster_labels, labels)
    theirs = read_state_dict(inertial / "published" / "best_model.pkl")
    np.testing.assert_array_equal(
        jax.device_get(state.params["acc"]["cas_head"]["bias"]), theirs["cas_module_rgb.2.bias"]
    )


def test_a_data_set_of_other_classes_is_named(inertial, tmp_path):
    message = refuse_here("convert", *published(inertial), f"--output={tmp_path / 'W'}")
    assert_parts(message, inertial / "published" / "best_model.pkl", "9 classes", "20 … --data_dir")
    assert not (tmp_path / "W").exists()


def test_a_workdir_is_not_overwritten(inertial, converted):
    flags = [f"--output={converted}", f"--data_dir={inertial}", INERTIAL]
    assert_parts(refuse_here("convert", *published(inertial), *flags), converted, "not empty", "new folder")
