"""Teaching the adaptive coder: a model comes out that codes in fewer bytes and decodes what it codes."""

import numpy as np
import pytest
from PIL import Image
from synthetic import assert_same_picture, moving_frames, small_model

from vcodec.codec import Decoder, Encoder
from vcodec.errors import VcodecError
from vcodec.models import load_model, save_model
from vcodec.training.teach import main, teach
from vcodec.video import VideoFormat, create_video, to_rgb

FORMAT = VideoFormat(64, 48, "420")


@pytest.fixture
def clip_folder(tmp_path):
    folder = tmp_path / "clips"
    folder.mkdir()
    for number in range(4):
        with create_video(folder / f"clip{chr(97 + number)}.y4m", FORMAT, 25) as writer:
            for frame in moving_frames(FORMAT, 4, (1.0 + number, 2.0)):
                writer.write(frame)
    return folder


def coded_size(model) -> int:
    encoder, decoder = Encoder(model, FORMAT, 40), Decoder(model, FORMAT)
    size = 0
    for frame in moving_frames(FORMAT, 4, (2.5, 1.0)):
        packet = encoder.encode(frame)
        size += len(packet.payload)
        assert_same_picture(decoder.decode(packet), encoder.reconstruction)
    return size


def test_the_command_writes_a_model_that_takes_fewer_bytes(tmp_path, clip_folder, capsys):
    model = small_model("mambavc-ssf-small")
    save_model(model, tmp_path / "plain.safetensors")
    arguments = [str(tmp_path / "plain.safetensors"), "--videos", str(clip_folder), "--output"]
    assert main([*arguments, str(tmp_path / "taught.safetensors"), "--validation-fraction", "0"]) == 0
    learned = load_model(tmp_path / "taught.safetensors")
    assert learned.config.experience
    assert coded_size(learned) < coded_size(model)


def test_missing_folders_and_models_without_room_are_refused_in_a_sentence(tmp_path, capsys):
    save_model(small_model("convvc-small"), tmp_path / "image.safetensors")
    assert main([str(tmp_path / "image.safetensors"), "--videos", str(tmp_path / "none"), "--output", "x"]) == 1
    assert "none" in capsys.readouterr().err
    assert main([str(tmp_path / "image.safetensors"), "--output", "x"]) == 1
    assert "--videos or --images" in capsys.readouterr().err
    with pytest.raises(VcodecError, match="no room for experience"):
        teach(small_model("mambavc-ssf-small"), [])


def test_an_image_codec_is_taught_by_pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(4):
        frame = next(iter(moving_frames(FORMAT, 1, (number, 2.0))))
        Image.fromarray((to_rgb(frame) * 255).round().astype(np.uint8)).save(folder / f"{number}.png")
    model = small_model("mambavc-small")
    save_model(model, tmp_path / "plain.safetensors")
    arguments = [str(tmp_path / "plain.safetensors"), "--images", str(folder), "--validation-fraction", "0"]
    assert main([*arguments, "--output", str(tmp_path / "taught.safetensors")]) == 0
    learned = load_model(tmp_path / "taught.safetensors")
    assert learned.config.experience
    assert coded_size(learned) < coded_size(model)
