"""Weight files: what is saved comes back, and what is no model is refused before it can do harm."""

import io
import json
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from synthetic import TEST_DATA, shrunk

from vcodec.errors import VcodecError
from vcodec.models import ImageModel, create_model, list_models, load_model, model_config, save_model
from vcodec.models.config import config_changes, config_from_dict, config_to_dict
from vcodec.models.registry import build_model
from vcodec.models.weights import weights_hash

Change = Callable[[dict[str, torch.Tensor], dict[str, str]], None]


def changed(path: Path, change: Change) -> Path:
    """A copy of the tiny model's file with something changed."""
    with safe_open(TEST_DATA / "tiny.safetensors", framework="pt") as file:
        metadata = dict(file.metadata())
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    change(tensors, metadata)
    save_file(tensors, path, metadata)
    return path


def with_config(change: Callable[[dict], None]) -> Change:
    def apply(_: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
        config = json.loads(metadata["config"])
        change(config)
        metadata["config"] = json.dumps(config)

    return apply


@pytest.mark.parametrize("name", list_models())
def test_configurations_come_back_from_json(name):
    config = model_config(name)
    assert config_from_dict(type(config), json.loads(json.dumps(config_to_dict(config)))) == config


def test_a_model_comes_back_with_name_weights_and_tables(tmp_path):
    torch.manual_seed(0)
    model = build_model(shrunk(model_config("swinvc-ssf-small")))
    model.name = "mine"
    save_model(model, tmp_path / "a.safetensors")
    loaded = load_model(tmp_path / "a.safetensors")
    assert loaded.name == "mine"
    assert loaded.config == model.config
    assert loaded.has_tables
    assert not loaded.training
    assert weights_hash(loaded) == weights_hash(model)
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def test_half_precision_halves_the_file_and_is_stable(tmp_path, tiny_model):
    save_model(tiny_model, tmp_path / "half.safetensors", half=True, name="tiny.r1")
    again = load_model(tmp_path / "half.safetensors")
    save_model(tiny_model, tmp_path / "full.safetensors")
    full, half = ((tmp_path / f"{name}.safetensors").stat().st_size for name in ("full", "half"))
    parameters = sum(parameter.numel() for parameter in tiny_model.parameters())
    assert full - half == pytest.approx(2 * parameters, abs=256)  # a header's length may differ
    assert weights_hash(again) == weights_hash(tiny_model)


def test_a_loaded_model_keeps_its_tables_until_it_is_trained(tmp_path):
    model = load_model(TEST_DATA / "tiny.safetensors")
    before = weights_hash(model)
    save_model(model, tmp_path / "same.safetensors")
    assert weights_hash(model) == weights_hash(load_model(tmp_path / "same.safetensors")) == before
    with torch.no_grad():
        for matrix in model.iframe.latent_codec.model.prior.matrices:
            matrix += 0.5
    save_model(model.train(), tmp_path / "trained.safetensors")
    key = "iframe.latent_codec.model.prior.tables"
    trained, same = (load_model(tmp_path / f"{name}.safetensors").state_dict()[key] for name in ("trained", "same"))
    assert not torch.equal(trained, same)


def test_every_weight_and_every_setting_counts_in_the_hash(tiny_model):
    before = weights_hash(tiny_model)
    other = load_model(TEST_DATA / "tiny.safetensors")
    with torch.no_grad():
        next(other.parameters()).flatten()[0] += 1e-3
    assert weights_hash(other) != before
    other = load_model(TEST_DATA / "tiny.safetensors")
    other.config = config_from_dict(type(other.config), {**config_to_dict(other.config), "fixed_quality": 33})
    assert weights_hash(other) != before


def test_settings_at_their_defaults_do_not_count_in_the_hash():
    """So that an option which a later version adds leaves the hash of older models as it is."""
    changes = config_changes(model_config("mambavc-ssf"))
    assert "levels" not in changes
    assert "shortcut" not in changes.get("iframe", {}).get("transform", {})
    assert config_changes(model_config("swinvc-ssf"))["flow"]["transform"]["window"] == 4


def cut_short(path: Path) -> None:
    path.write_bytes((TEST_DATA / "tiny.safetensors").read_bytes()[:-100])


def pickled(path: Path) -> None:
    buffer = io.BytesIO()
    torch.save({"weight": torch.zeros(3)}, buffer)
    path.write_bytes(buffer.getvalue())


class Bomb:
    """Unpickling this leaves a trace."""

    def __init__(self, trace: str):
        self.trace = trace

    def __reduce__(self) -> tuple:
        return (Path.touch, (Path(self.trace),))


@pytest.mark.parametrize("write", [cut_short, pickled, lambda path: path.write_bytes(b""), Path.mkdir],
                         ids=["cut short", "pickled", "empty", "folder"])  # fmt: skip
def test_what_is_no_model_file_is_refused_by_name(tmp_path, write):
    path = tmp_path / "model.safetensors"
    write(path)
    with pytest.raises(VcodecError, match=r"model\.safetensors: "):
        load_model(path)


def test_nothing_is_unpickled(tmp_path):
    path, trace = tmp_path / "model.safetensors", tmp_path / "trace"
    path.write_bytes(pickle.dumps(Bomb(str(trace))))
    with pytest.raises(VcodecError, match="not a safetensors file"):
        load_model(path)
    assert not trace.exists()
    pickle.loads(path.read_bytes())  # the trace would have been left
    assert trace.exists()


def no_metadata(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    metadata.clear()


def wrong_shape(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    tensors["iframe.latent_codec.model.log_scale_table"] = torch.zeros(3, 17)


def wrong_type(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    key = "iframe.latent_codec.model.prior.tables"
    tensors[key] = tensors[key].float()


def one_missing(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    del tensors["iframe.latent_codec.model.log_scale_table"]


def one_too_many(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    tensors["backdoor"] = torch.zeros(1)


def not_a_number(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    tensors["iframe.latent_codec.model.log_scale_table"][0, 0] = float("nan")


def falling_table(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    tensors["flow.latent_codec.model.prior.tables"][2, 40:42] = torch.tensor([9, 8], dtype=torch.int32)


def no_json(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    metadata["config"] = "{"


def nested_json(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    metadata["config"] = "[" * 100_000


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (no_metadata, "holds no vcodec model"),
        (wrong_shape, r"log_scale_table' is torch.float32 \(3, 17\) in place of"),
        (wrong_type, "tables' is torch.float32"),
        (one_missing, "log_scale_table' are missing"),
        (one_too_many, "'backdoor' belong to no part"),
        (not_a_number, "log_scale_table' holds values that are no numbers"),
        (falling_table, "tables of the entropy coder are damaged"),
        (no_json, "configuration inside can't be read"),
        (nested_json, "configuration inside can't be read"),
        (with_config(lambda c: c.update(depth=3)), "no field 'depth'"),
        (with_config(lambda c: c.update(levels="many")), "'levels' is 'many', not of type int"),
        (with_config(lambda c: c["iframe"]["transform"].update(widths=[1 << 40, 16])), "outside the limits"),
        (with_config(lambda c: c["iframe"]["transform"].update(depths=[1 << 20])), "outside the limits"),
        (with_config(lambda c: c["iframe"]["transform"].update(strides=[4] * 1000)), "1000 entries"),
        (with_config(lambda c: c["iframe"]["transform"].update(kind="pickle")), "unknown kind of transform"),
        (with_config(lambda c: c["iframe"]["transform"].update(widths=[4000, 4000])), "do not fit"),
        (with_config(lambda c: c["iframe"]["transform"].update(strides=[0, 2])), "configuration inside"),
        (with_config(lambda c: c["iframe"]["transform"].update(expand=float("nan"))), "outside the limits"),
        (with_config(lambda c: c["residual"]["transform"].update(head_width=0)), "configuration inside"),
        (with_config(lambda c: c.update(residual=[])), "not a table of fields"),
    ],
)
def test_a_model_file_that_does_not_fit_is_refused(tmp_path, change, sentence):
    path = changed(tmp_path / "model.safetensors", change)
    with pytest.raises(VcodecError, match=sentence) as caught:
        load_model(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert len(str(caught.value)) < 600


def test_a_model_without_weights_says_so():
    with torch.device("meta"):
        model = create_model("mambavc-ssf", pretrained=False)
    assert isinstance(model, ImageModel)
    with pytest.raises(VcodecError, match="no weights ship for 'mambavc-ssf'"):
        create_model("mambavc-ssf", pretrained=True)


def test_saving_where_it_is_not_possible_is_one_sentence(tmp_path, tiny_model):
    with pytest.raises(VcodecError, match="can't be written"):
        save_model(tiny_model, tmp_path / "missing" / "a.safetensors")
