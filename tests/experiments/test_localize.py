import json
import shutil

import numpy as np
import pytest


@pytest.fixture
def flags(trained, small_dataset, tmp_path):
    features = small_dataset / "features" / "test"
    return [
        f"--checkpoint={trained.workdir}",
        f"--features={features}",
        f"--output={tmp_path / 'found.json'}",
    ]


def test_the_best_checkpoint_finds_again_what_training_predicted(trained, flags, tmp_path, succeed):
    printed = succeed("localize", *flags)
    rows = [json.loads(line) for line in (trained.workdir / "metrics.jsonl").read_text().splitlines()]
    best = max(rows, key=lambda row: row["average"])["step"]
    found = (tmp_path / "found.json").read_bytes()
    assert found == (trained.workdir / "predictions.json").read_bytes()
    results = json.loads(found)["results"]
    assert printed == (
        f"{sum(map(len, results.values()))} detections in 4 videos, by the best checkpoint (step {best}): "
        f"{tmp_path / 'found.json'}\n"
    )


def test_fps_and_frames_per_snippet_scale_time(trained, flags, tmp_path, succeed):
    """Scores may change, for the published soft-NMS adds a second to every length; segments scale."""
    expected = json.loads((trained.workdir / "predictions.json").read_text())["results"]

    succeed("localize", *flags, "--fps=100", "--frames_per_snippet=32")  # 0.32 s in place of 0.64 s
    found = json.loads((tmp_path / "found.json").read_text())["results"]
    assert list(found) == list(expected)
    for name in expected:
        np.testing.assert_allclose(_segments(found[name]), _segments(expected[name]) / 2, rtol=1e-12)


@pytest.mark.parametrize(
    "changed, message",
    [
        ("--output=", "--output: is missing; expected the path of a JSON file to write"),
        ("--checkpoint={tmp}", "{tmp}/config.json: no such file; expected a JSON file"),
        ("--features={tmp}", "{tmp}/rgb: no such folder; expected <video>.npy files of stream 'rgb'"),
        (
            "--features={tmp}/alone",
            "{tmp}/alone/flow/v.npy: no such file; expected a .npy file with a (snippets, channels) array of "
            "numbers",
        ),
        (
            "--features={tmp}/wide",
            "{tmp}/wide: stream 'rgb' has 5 channels; expected 8 as in training",
        ),
        ("--output={tmp}/alone", "{tmp}/alone: cannot be written (Is a directory)"),
    ],
)
def test_errors(changed, message, flags, tmp_path, fail):
    _write_features(tmp_path / "alone", rgb=(3, 8))
    _write_features(tmp_path / "wide", rgb=(3, 5), flow=(3, 8))
    before = sorted(tmp_path.rglob("*"))
    assert fail("localize", *flags, changed.format(tmp=tmp_path)) == message.format(tmp=tmp_path)
    assert sorted(tmp_path.rglob("*")) == before


def test_rescaled_training_tells_no_time(trained, flags, tmp_path, succeed, fail):
    workdir = tmp_path / "rescaled"
    shutil.copytree(trained.workdir, workdir)
    config = json.loads((workdir / "config.json").read_text())
    config["dataset"]["rescaled"] = True
    (workdir / "config.json").write_text(json.dumps(config))
    flags = [f"--checkpoint={workdir}", *flags[1:]]
    assert fail("localize", *flags) == (
        f"{workdir}: was trained on rescaled features, which tell no time; expected --fps and "
        "--frames_per_snippet of these"
    )
    succeed("localize", *flags, "--fps=25", "--frames_per_snippet=16")


def test_a_damaged_checkpoint_is_named(trained, flags, tmp_path, fail):
    workdir = shutil.copytree(trained.workdir, tmp_path / "workdir")
    metadata = workdir / "checkpoints" / "6" / "default" / "_METADATA"
    metadata.write_bytes(metadata.read_bytes()[:20])
    message = fail("localize", *flags, f"--checkpoint={workdir}", "--which=last")
    assert message.startswith(f"{workdir}/checkpoints/6: cannot be restored (")
    assert message.endswith("); expected a checkpoint of this run's settings")
    assert not (tmp_path / "found.json").exists()


def _segments(detections):
    rows = sorted((entry["label"], *entry["segment"]) for entry in detections)
    return np.array([row[1:] for row in rows])


def _write_features(folder, **shapes):
    for stream in ("rgb", "flow"):
        (folder / stream).mkdir(parents=True)
        if stream in shapes:
            np.save(folder / stream / "v.npy", np.zeros(shapes[stream], np.float32))
