"""A stream that was written under any setting decodes under any other, to the same symbols, for every model.

Here on one CPU; benchmarks/exact_scales.py does it with the models in full size, and between CPU and GPU.
"""

import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from recording import perturbed, record
from synthetic import moving_frames, small_model

from vcodec.bitstream import Packet
from vcodec.codec import Decoder, Encoder
from vcodec.entropy.hyperprior import EntropyModel
from vcodec.kernels import available_backends, use_backend
from vcodec.models import ImageModel, VideoModel, list_models
from vcodec.video import Frame, VideoFormat, to_rgb

FORMAT = VideoFormat(46, 38)


@dataclass(frozen=True)
class Setting:
    """How a machine computes. fp32 and bf16 is of the pictures; reference is the scan in plain PyTorch."""

    threads: int = 1
    onednn: bool = True
    channels_last: bool = True
    arithmetic: str = "fp32"
    scan: str | None = None

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            with torch.backends.mkldnn.flags(enabled=self.onednn), use_backend(self.scan):
                yield
        finally:
            torch.set_num_threads(before)

    def prepare(self, coder: Encoder | Decoder) -> None:
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        coder.model = coder.model.to(memory_format=layout)


# every pair of values of two options occurs (an orthogonal array of eight runs)
SETTINGS = [
    Setting(),
    Setting(channels_last=False, arithmetic="bf16"),
    Setting(onednn=False, arithmetic="bf16", scan="reference"),
    Setting(onednn=False, channels_last=False, scan="reference"),
    Setting(threads=2, arithmetic="bf16", scan="reference"),
    Setting(threads=2, channels_last=False, scan="reference"),
    Setting(threads=2, onednn=False),
    Setting(threads=2, onednn=False, channels_last=False, arithmetic="bf16"),
]


def write(model: ImageModel, frames: list[Frame], setting: Setting) -> list[Packet]:
    quality = 45 if model.variable_rate else model.config.fixed_quality
    with setting.applied():
        encoder = Encoder(model, FORMAT, quality, arithmetic=setting.arithmetic)
        setting.prepare(encoder)
        return [encoder.encode(frame) for frame in frames]


def read(model: ImageModel, packets: list[Packet], setting: Setting) -> list[np.ndarray]:
    """All symbols and levels; raises VcodecError when the bytes do not come out even."""
    with setting.applied():
        decoder = Decoder(model, FORMAT, arithmetic=setting.arithmetic)
        setting.prepare(decoder)
        seen = [record(decoder, packet) for packet in packets]
    return [array for s in seen for array in (*s.symbols, *s.levels)]


def assert_same(found: list[np.ndarray], expected: list[np.ndarray]) -> None:
    assert len(found) == len(expected)
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.fixture
def everything_coded(monkeypatch) -> None:
    """P-frames carry motion and residual, however little they help a model that was never trained."""
    monkeypatch.setattr("vcodec.codec.lambda_of_quality", lambda quality: 1e9)


def model_and_frames(name: str) -> tuple[ImageModel, list[Frame]]:
    model = small_model(name)
    count = 1 if not isinstance(model, VideoModel) else 3 if model.config.residual.entropy.temporal else 2
    return model, moving_frames(FORMAT, count, (3.0, 2.0))


@pytest.mark.parametrize("name", list_models())
def test_every_setting_reads_the_same_symbols(name, everything_coded):
    model, frames = model_and_frames(name)
    packets = write(model, frames, SETTINGS[0])
    expected = read(model, packets, SETTINGS[0])
    assert len(np.unique(np.concatenate([level.reshape(-1) for level in expected]))) > 3
    for setting in SETTINGS[1:]:
        assert_same(read(model, packets, setting), expected)
    packets = write(model, frames, SETTINGS[-1])
    assert_same(read(model, packets, SETTINGS[0]), read(model, packets, SETTINGS[-1]))


@pytest.mark.slow
@pytest.mark.parametrize("name", list_models())
def test_every_setting_reads_what_every_other_wrote(name, everything_coded):
    model, frames = model_and_frames(name)
    for writer in SETTINGS[1:]:
        packets = write(model, frames, writer)
        expected = read(model, packets, writer)
        for reader in SETTINGS:
            assert_same(read(model, packets, reader), expected)


@pytest.mark.slow
def test_every_combination_reads_what_every_other_wrote(tiny_model, everything_coded):
    """The pairs above leave out most combinations of three and more; here is each, with the quickest model."""
    frames = moving_frames(FORMAT, 2, (3.0, 2.0))
    options = itertools.product((1, 2), (True, False), (True, False), ("fp32", "bf16"), (None, "reference"))
    every = [Setting(*values) for values in options]
    for writer in every:
        packets = write(tiny_model, frames, writer)
        expected = read(tiny_model, packets, writer)
        for reader in every:
            assert_same(read(tiny_model, packets, reader), expected)


@pytest.mark.parametrize("name", list_models(kind="video"))
def test_scales_do_not_depend_on_the_reference_picture(name, everything_coded):
    """Another machine's pictures differ a little; its levels and symbols must not, in any model."""
    model, frames = model_and_frames(name)
    packets = write(model, frames, SETTINGS[0])
    seen = []
    for size in (0.0, 1e-3):
        decoder = Decoder(model, FORMAT)
        decoder.decode(packets[0])
        assert decoder._reference is not None
        decoder._reference = perturbed(decoder._reference, size)
        recorded = record(decoder, packets[1])
        seen.append([*recorded.symbols, *recorded.levels])
    assert_same(seen[1], seen[0])


def test_the_settings_do_differ(tiny_model):
    """Else the test above would be worth nothing: pictures change in their last digits, and scales do in float32."""
    packets = write(tiny_model, moving_frames(FORMAT, 2, (3.0, 2.0)), SETTINGS[0])
    pictures = []
    for setting in SETTINGS:
        with setting.applied():
            decoder = Decoder(tiny_model, FORMAT, arithmetic=setting.arithmetic)
            setting.prepare(decoder)
            for packet in packets:
                decoder.decode(packet)
            pictures.append(decoder._reference.picture.clone())
    assert sum(not torch.equal(pictures[0], other) for other in pictures[1:]) >= 4


def test_every_way_to_the_scales_is_exact(tiny_model):
    """No float32 parameter is left on it: a coder refuses log-scales of less than float64."""
    for module in Decoder(tiny_model, FORMAT).model.modules():
        if isinstance(module, EntropyModel):
            exact = [p for m in module.exact_modules() for p in m.parameters()]
            assert exact
            assert all(p.dtype == torch.float64 for p in exact)
            assert module.log_scale_table.dtype == torch.float64


@pytest.mark.skipif(available_backends()["cpu"] is not None, reason="the C kernels are not built")
def test_the_scan_itself_is_exact_in_float64():
    from vcodec.layers.vss import VSSBlock

    torch.manual_seed(0)
    block, x = VSSBlock(24, 4).double(), torch.randn(1, 24, 9, 11, dtype=torch.float64)
    results = []
    with torch.inference_mode():
        for backend in ("cpu", "reference"):
            for threads in (1, 2):
                with Setting(threads=threads, scan=backend).applied():
                    results.append(block(x))
    for other in results[1:]:
        assert float((other - results[0]).abs().max()) < 1e-12


def test_pictures_of_other_settings_drift_by_little(tiny_model):
    """Within one arithmetic, decoders on this machine differ by far less than a hundredth of a decibel."""
    gop = moving_frames(FORMAT, 12)
    encoder = Encoder(tiny_model, FORMAT, 45)
    packets = [encoder.encode(frame) for frame in gop]
    quality = []
    for setting in (s for s in SETTINGS if s.arithmetic == "fp32"):
        with setting.applied():
            decoder = Decoder(tiny_model, FORMAT)
            setting.prepare(decoder)
            pictures = [to_rgb(decoder.decode(packet)) for packet in packets]
        errors = [np.square(a - to_rgb(b)).mean() for a, b in zip(pictures, gop, strict=True)]
        quality.append(-10 * np.log10(np.mean(errors)))
    assert max(quality) - min(quality) < 0.01


def compile_scales(coder: Encoder | Decoder) -> None:
    for module in coder.model.modules():
        if isinstance(module, EntropyModel):
            for exact in module.exact_modules():
                exact.compile()


@pytest.mark.slow
def test_compiled_and_eager_models_read_each_other(tiny_model, everything_coded):
    frames = moving_frames(FORMAT, 3, (3.0, 2.0))
    eager, compiled = Encoder(tiny_model, FORMAT, 45), Encoder(tiny_model, FORMAT, 45)
    compile_scales(compiled)
    reading = Decoder(tiny_model, FORMAT)
    compile_scales(reading)
    for encoder in (eager, compiled):
        packets = [encoder.encode(frame) for frame in frames]
        reading.forget()
        seen = [record(reading, packet) for packet in packets]
        assert_same([array for s in seen for array in (*s.symbols, *s.levels)], read(tiny_model, packets, SETTINGS[0]))
