"""Checkpoints of the published code become workdirs, and runs become checkpoints of the published code."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from case_jax.config import CaseConfig
from case_jax.data.info import DatasetInfo
from case_jax.runs.checkpoints import CheckpointStore
from case_jax.runs.published import adopt, export, params_from_published, params_to_published
from case_jax.runs.workdir import Workdir
from case_jax.training.state import create_train_state
from tests.helpers.files import torch_file
from tests.helpers.refusals import assert_parts, refusal
from tests.helpers.runs import SETTINGS

CONFIG = CaseConfig(num_snippets=8, hidden_dim=4, num_clusters=3)
WIDTHS = {"acc": 5, "gyro": 3}
INFO = DatasetInfo(classes=("Jump", "Run"), streams=("acc", "gyro"))
LABELS = np.array([[0.25, 0.75], [1.0, 0.0], [0.5, 0.5]], np.float32)


@pytest.fixture(scope="module")
def fresh():
    return create_train_state(CONFIG, jax.random.key(0), stream_widths=WIDTHS, num_classes=2)


# Names of parameters


def test_published_names_map_both_ways(golden):
    state_dict = dict(np.load(golden / "init_state.npz"))
    params = params_from_published(state_dict, ("rgb", "flow"))
    widths = {"rgb": 1024, "flow": 1024}
    template = jax.eval_shape(
        lambda: create_train_state(CaseConfig(), jax.random.key(0), stream_widths=widths, num_classes=20)
    )
    shapes = jax.tree.map(lambda leaf: (leaf.shape, str(leaf.dtype)), params)
    assert shapes == jax.tree.map(lambda leaf: (leaf.shape, str(leaf.dtype)), template.params)

    back = params_to_published(params, ("rgb", "flow"))
    assert sorted(back) == sorted(state_dict)
    for name, array in state_dict.items():
        np.testing.assert_array_equal(back[name], array, strict=True)
    without_sequential = {
        name.replace("base_module_rgb.0", "base_module_rgb"): array for name, array in back.items()
    }
    again = params_from_published(without_sequential, ("rgb", "flow"))
    jax.tree.map(np.testing.assert_array_equal, again, params)


def test_to_published_and_back_changes_nothing(fresh):
    params = jax.tree.map(lambda array: 3 * array + 1, fresh.params)
    state_dict = params_to_published(params, ("acc", "gyro"))
    assert state_dict["cas_module_rgb.0.weight"].shape == (4, 5, 1)
    assert state_dict["cas_module_flow.0.weight"].shape == (4, 3, 1)
    back = params_from_published(state_dict, ("acc", "gyro"))
    assert jax.tree.structure(back) == jax.tree.structure(params)
    for ours, theirs in zip(jax.tree.leaves(back), jax.tree.leaves(params), strict=True):
        np.testing.assert_array_equal(ours, np.asarray(theirs), strict=True)


def test_a_missing_name_is_told(fresh):
    state_dict = params_to_published(fresh.params, ("acc", "gyro"))
    del state_dict["att_module_flow.bias"]
    message = refusal(params_from_published, state_dict, ("acc", "gyro"))
    assert_parts(message, "checkpoint", "no 'att_module_flow.bias'", "names")


# Files


def adopted(folder, state_dict, *, labels=LABELS, info=INFO, **options):
    """Writes the published code's files into a folder, and makes the workdir W of them."""
    (folder / "best_model.pkl").write_bytes(torch_file(state_dict))
    np.save(folder / "cls_gt.npy", labels)
    return adopt(
        Workdir(folder / "W"),
        str(folder / "best_model.pkl"),
        str(folder / "cls_gt.npy"),
        CaseConfig(num_snippets=8, num_steps=7),
        info,
        seed=1,
        eval_every=5,
        tiou=(0.5,),
        **options,
    )


@pytest.fixture
def state_dict(fresh):
    return dict(params_to_published(fresh.params, INFO.streams))


def test_a_checkpoint_becomes_a_run(fresh, state_dict, tmp_path):
    settings = adopted(tmp_path, state_dict, data="/data")
    assert settings.config == CaseConfig(num_snippets=8, num_steps=7, hidden_dim=4, num_clusters=3)
    assert settings[1:] == (INFO, WIDTHS, 1, 5, (0.5,), "/data", None, None, "best", None)
    for which in ("best", "last"):
        loaded, state = Workdir(tmp_path / "W").load(which)
        assert (loaded, int(state.step)) == (settings, 7)
        np.testing.assert_array_equal(state.cluster_labels, LABELS)
        jax.tree.map(np.testing.assert_array_equal, state.params, fresh.params)


def _without_bias(state_dict):
    del state_dict["att_module_flow.bias"]


def _not_finite(state_dict):
    state_dict["att_module_flow.bias"] = np.array([np.inf], np.float32)


def _long_kernel(state_dict):
    state_dict["att_module_flow.weight"] = np.ones((1, 4, 3), np.float32)


def _other_width(state_dict):
    state_dict["att_module_flow.weight"] = np.ones((1, 6, 1), np.float32)


@pytest.mark.parametrize(
    "change, wrong, expected",
    [
        (_without_bias, "no 'att_module_flow.bias'", "names"),
        (_not_finite, "'att_module_flow.bias' … not finite", "finite"),
        (_long_kernel, "'att_module_flow.weight' … (1, 4, 3)", "layer of CASE"),
        (_other_width, "'gyro'", "CASE"),
    ],
)
def test_parameters_that_are_not_those_of_case(change, wrong, expected, state_dict, tmp_path):
    change(state_dict)
    message = refusal(adopted, tmp_path, state_dict)
    assert_parts(message, tmp_path / "best_model.pkl", wrong, expected)
    assert not (tmp_path / "W").exists()


def test_classes_and_streams_must_fit(state_dict, tmp_path):
    one_class = DatasetInfo(classes=("Jump",), streams=INFO.streams)
    message = refusal(lambda: adopted(tmp_path, state_dict, info=one_class, classes_from="D"))
    assert_parts(message, tmp_path / "best_model.pkl", "2 classes", "1 of D")
    one_stream = DatasetInfo(classes=INFO.classes, streams=("acc",))
    message = refusal(lambda: adopted(tmp_path, state_dict, info=one_stream, classes_from="D"))
    assert_parts(message, "D", "1 stream", "two")


@pytest.mark.parametrize(
    "labels, wrong, expected",
    [
        (np.ones((3, 2)), "rows that do not sum to 1", "probabilities"),
        (np.full((3, 2), [2.0, -1.0]), "rows that do not sum to 1", "probabilities"),
        (np.full((4, 2), 0.5), "(4, 2)", "(3, 2)"),
    ],
)
def test_cluster_labels_must_be_probabilities(labels, wrong, expected, state_dict, tmp_path):
    message = refusal(lambda: adopted(tmp_path, state_dict, labels=labels))
    assert_parts(message, tmp_path / "cls_gt.npy", wrong, expected)


def test_a_folder_that_is_not_empty_is_left_alone(state_dict, tmp_path):
    (tmp_path / "W").mkdir()
    (tmp_path / "W" / "diary").touch()
    assert_parts(refusal(adopted, tmp_path, state_dict), tmp_path / "W", "not empty", "new folder")
    assert [path.name for path in (tmp_path / "W").iterdir()] == ["diary"]
    (tmp_path / "W" / "diary").rename(tmp_path / "W" / ".DS_Store")  # which file managers leave in folders
    adopted(tmp_path, state_dict)


def test_a_file_in_place_of_the_folder_is_left_alone(state_dict, tmp_path):
    (tmp_path / "W").touch()
    assert_parts(refusal(adopted, tmp_path, state_dict), tmp_path / "W", "Not a directory", "new folder")


def test_a_run_becomes_a_checkpoint_and_a_run_again(state_dict, tmp_path):
    torch = pytest.importorskip("torch")
    adopted(tmp_path, state_dict)
    files = str(tmp_path / "back.pkl"), str(tmp_path / "back.npy")
    state = export(Workdir(tmp_path / "W"), *files, which="last")
    assert int(state.step) == 7
    back = torch.load(files[0], weights_only=True)
    assert back.keys() == state_dict.keys()
    for name, array in state_dict.items():
        np.testing.assert_array_equal(back[name].numpy(), array)
    np.testing.assert_array_equal(np.load(files[1]), LABELS)


@pytest.mark.parametrize(
    "settings",
    [
        SETTINGS._replace(
            info=DatasetInfo(classes=("Jump", "Run"), streams=("rgb",)), stream_widths={"rgb": 3}
        ),
        SETTINGS._replace(
            config=CaseConfig(
                num_snippets=8, hidden_dim=4, num_clusters=2, ccc=False, clustering_assisted_testing=False
            )
        ),
    ],
    ids=["one stream", "no clusters"],
)
def test_only_a_run_of_case_with_two_streams_is_exported(settings, tmp_path):
    workdir = Workdir(tmp_path / "W")
    workdir.begin(settings)
    with CheckpointStore(workdir.checkpoints) as store:
        store.save(settings.fresh_state().replace(step=jnp.int32(2)), quality=0.5)
    message = refusal(export, workdir, str(tmp_path / "a.pkl"), str(tmp_path / "a.npy"))
    assert_parts(message, workdir.path, "not a run of CASE with two streams", "published code")
