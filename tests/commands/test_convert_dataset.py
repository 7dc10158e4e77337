"""The command that converts the W-TALC line's files."""

import pytest

from tests.helpers.commands import refuse_here, succeed_here
from tests.helpers.refusals import assert_parts
from tests.helpers.runs import contents
from tests.helpers.workdirs import BASELINE
from tests.helpers.wtalc import write_wtalc


def test_says_what_it_wrote_and_what_the_files_contradict(tmp_path):
    folder = write_wtalc(tmp_path / "shared", protocol="python 2")
    ambiguous = folder / "Thumos14reduced-Annotations" / "Ambiguous_test.txt"
    ambiguous.write_text("video_test_0000004 1.0 2.0\n")
    output = tmp_path / "D"
    assert succeed_here("convert_dataset", f"--input={folder}", f"--output={output}").splitlines() == [
        "train: 2 videos with 3 segments",
        "test: 2 videos with 3 segments",
        "labels_all differs from the labels of segments in 1 of 4 videos, such as video_validation_0000160 "
        "(labels_all: none; segments: HammerThrow); training videos have those of segments (--labels_from)",
        "video_test_0000270: often left out of THUMOS14 for wrong or ambiguous annotations; "
        "--exclude=video_test_0000270 does so",
        f"ambiguous intervals, for scoring: --ambiguous={ambiguous}",
        f"3 classes, streams rgb and flow, one snippet every 16 frames at 25 frames/s: {output}",
        f"next: case-jax check --data_dir={output}",
    ]
    again = [
        f"--features={folder}/Thumos14reduced-I3D-JOINTFeatures.npy",
        f"--annotations={folder}/Thumos14reduced-Annotations",
        f"--output={tmp_path / 'again'}",
    ]
    succeed_here("convert_dataset", *again)
    assert contents(tmp_path / "again") == contents(output)

    said = succeed_here("convert_dataset", *again, "--labels_from=labels_all", "--exclude=video_test_0000270")
    assert said.startswith(
        "train: 1 videos with 2 segments (left out: 1 without any label)\n"
        "test: 1 videos with 2 segments (left out: 1 excluded)\n"
    )


@pytest.mark.parametrize(
    "flags, named, wrong, expected",
    [
        (["--input="], "--input", "missing", "folder"),
        (["--output="], "--output", "missing", "folder"),
        (["--labels_from=x"], "--labels_from", "'x'", "segments, labels_all"),
        (["--frames_per_second=0"], "--frames_per_second", "0", "1e-6"),
        (["--frames_per_snippet=nan"], "--frames_per_snippet", "nan", "1e-6"),
        (["--exclude=a, b"], "{}/shared/Thumos14reduced-Annotations", "'a'", "--exclude"),
        (["--rgb_channels=0"], "--rgb_channels", "'0'", "positive"),
    ],
)
def test_bad_flags(flags, named, wrong, expected, tmp_path):
    folder = write_wtalc(tmp_path / "shared")
    message = refuse_here("convert_dataset", f"--input={folder}", f"--output={tmp_path / 'D'}", *flags)
    assert_parts(message, named.replace("{}", str(tmp_path)), wrong, expected)
    assert not (tmp_path / "D").exists()


@pytest.mark.slow
def test_what_was_converted_can_be_checked_and_trained(tmp_path):
    folder, output = write_wtalc(tmp_path / "shared"), tmp_path / "D"
    succeed_here("convert_dataset", f"--input={folder}", f"--output={output}")
    assert "can be trained on" in succeed_here("check", f"--data_dir={output}")
    sizes = [
        "--num_snippets=8",
        "--hidden_dim=8",
        "--num_clusters=4",
        "--batch_size=2",
        "--num_steps=1",
        *BASELINE,
    ]
    trained = succeed_here(
        "train", f"--data_dir={output}", f"--workdir={tmp_path / 'W'}", *sizes, "--noreport"
    )
    assert "mAP" in trained
