import pytest
from PIL import Image

from case_jax.errors import InputError
from experiments.ablations.frames import Frames


def pictures(folder, names):
    folder.mkdir(parents=True)
    for i, name in enumerate(names):
        Image.new("RGB", (400, 200), (10 * i, 0, 0)).save(folder / name)


def test_frames_are_found_by_number_and_time(tmp_path):
    pictures(tmp_path / "v[1]", ["img_2.png", "img_10.png", "img_1.png", "cover.png"])
    (tmp_path / "v[1]" / "notes_3.txt").write_text("")
    (tmp_path / "v[1]" / "._img_0.png").write_bytes(b"\0\5\026\7")
    frames = Frames(tmp_path, ["v[1]"], frames_per_second=2.0)
    shades = [frames.at("v[1]", second)[0, 0, 0] for second in (0.0, 0.49, 0.5, 1.0, 9.0)]
    assert shades == [20, 20, 0, 10, 10]
    assert frames.at("v[1]", 0.0).shape == (80, 160, 3)


def test_frames_that_are_missing(tmp_path):
    with pytest.raises(InputError, match=r"^--frames_dir: .*none: no such folder; expected "):
        Frames(tmp_path / "none", ["v"], frames_per_second=25)
    pictures(tmp_path / "v", ["cover.png"])
    with pytest.raises(InputError, match=r"^--frames_dir: .*v: holds no frames; expected .*numbers"):
        Frames(tmp_path, ["v"], frames_per_second=25)


def test_a_frame_that_cannot_be_decoded_is_named(tmp_path):
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / "1.jpg").write_text("not a picture")
    frames = Frames(tmp_path, ["v"], frames_per_second=25)
    with pytest.raises(InputError) as raised:
        frames.at("v", 0.0)
    assert str(raised.value).startswith(f"{tmp_path / 'v' / '1.jpg'}: cannot be read (")
    assert str(raised.value).endswith("); expected a picture")
