"""Encoder and decoder: frames to packets and back; the only owner of the group of pictures.

vcodec/files.py codes whole files with them.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .bitstream import Damage, Packet
from .entropy.coders import SymbolDecoder, SymbolEncoder
from .entropy.context_mixing import Statistics
from .errors import VcodecError
from .flow import Motion
from .layers.rate import QUALITY_MAX, frame_quality
from .models import ImageModel, VideoModel, lambda_of_quality
from .models.model import SKIP_FLOW, SKIP_RESIDUAL, Reference
from .video import Frame, VideoFormat, from_rgb, to_rgb

SKIP_ALL = SKIP_FLOW | SKIP_RESIDUAL


class Encoder:
    """Frames in, packets out: every gop_size-th frame an I-frame, the others P-frames.

    Args: model, trained; format of the frames; quality 0 .. 63, higher is better; gop_size, 1 for I-frames only,
    -1 for a single I-frame at the start; device; arithmetic of the pictures, "fp32" or "bf16"; cascade, whether the
    frames of a GOP are coded at qualities around the one that is asked for (see `frame_quality`); statistics, what
    coding starts with in place of the model's: no stream to decode, but what `vcodec.training.teach` needs.
    Raises VcodecError for a quality, gop_size or model that can't be used.
    """

    def __init__(self, model: ImageModel, format: VideoFormat, quality: int = 32, gop_size: int = 12, *,
                 device: str | torch.device = "cpu", arithmetic: str = "fp32", cascade: bool = True,
                 statistics: Statistics | None = None):  # fmt: skip
        check_quality(model, quality)
        self.cascade = cascade and cascades(model, gop_size)
        self.quality, self.gop_size = quality, check_gop_size(model, gop_size)
        self.format, self.arithmetic = format, arithmetic
        self.model = coding_model(model, device)
        self._chroma = _picture_chroma(self.model, format)
        self._device = torch.device(device)
        self._since_iframe = 0
        self._reference: Reference | None = None
        self._start = self.model.starting_statistics() if statistics is None else statistics
        self._statistics = self._start

    @property
    def statistics(self) -> Statistics:
        """What coding has taught in this group of pictures."""
        return self._statistics

    @property
    def reconstruction(self) -> Frame:
        """The last frame as a decoder will show it."""
        assert self._reference is not None, "no frame was encoded yet"
        return from_rgb(_to_picture(self._reference.picture), self.format, self._pts)

    def encode(self, frame: Frame, *, force_iframe: bool = False) -> Packet:
        """The packet of the next frame."""
        if frame.format != self.format:
            raise VcodecError(f"a frame is {frame.format}, the stream is {self.format}: one stream holds one format")
        x = _to_tensor(frame, self._device)
        with coding_context(self._device, self.arithmetic):
            if self._reference is None or force_iframe or self._since_iframe == self.gop_size:
                packet = self._encode_iframe(x, frame.pts)
            else:
                packet = self._encode_pframe(x, frame.pts)
        self._since_iframe += 1
        self._pts = frame.pts
        return packet

    def _encode_iframe(self, x: Tensor, pts: int) -> Packet:
        self._since_iframe = 0
        coder, quality = SymbolEncoder(statistics=self._start), self._frame_quality()
        picture = self.model.code_iframe(coder, x, (1, *x.shape[-2:]), self._tensor(quality))
        coded = Reference(picture, quality=self._tensor(quality))
        self._reference, payload = coded.shown(self._chroma), coder.finish()
        self._statistics = coder.statistics
        return Packet("I", quality, pts, payload)

    def _encode_pframe(self, x: Tensor, pts: int) -> Packet:
        """Codes the frame in full, then drops the residual, or everything, where that is the better bargain."""
        assert isinstance(self.model, VideoModel)
        assert self._reference is not None
        model, reference, quality = self.model, self._reference, self._frame_quality()
        weight = lambda_of_quality(float(quality)) * 255**2 * x[0, 0].numel()

        def candidate(
            coded: Reference, skip: int, payload: bytes = b"", statistics: Statistics = self._statistics
        ) -> _Candidate:
            coded = coded.shown(self._chroma)
            cost = weight * float((coded.picture - x).square().mean()) + 8 * len(payload)
            return _Candidate(cost, coded, payload, skip, statistics)

        def encoded(skip: int, fields: Tensor | None = None) -> tuple[_Candidate, Motion]:
            coder = SymbolEncoder(statistics=self._statistics)
            coded, motion = model.code_pframe(coder, x, reference, self._tensor(quality), skip, fields)
            return candidate(coded, skip, coder.finish(), coder.statistics), motion

        in_full, motion = encoded(0)
        candidates = [in_full, candidate(reference.repeated(), SKIP_ALL)]
        unpaid = candidate(Reference(motion.prediction.clamp(0, 1)), SKIP_RESIDUAL)
        if unpaid.cost < in_full.cost:
            candidates.append(encoded(SKIP_RESIDUAL, motion.fields)[0])
        best = min(candidates, key=lambda candidate: candidate.cost)
        self._reference, self._statistics = best.reference, best.statistics
        return Packet("P", quality, pts, best.payload, best.skip)

    def _frame_quality(self) -> int:
        return frame_quality(self.quality, self._since_iframe) if self.cascade else self.quality

    def _tensor(self, quality: int) -> Tensor:
        return torch.tensor([float(quality)], device=self._device)


class _Candidate(NamedTuple):
    """One way to code a frame; cost: of its distortion and its bits."""

    cost: float
    reference: Reference
    payload: bytes
    skip: int
    statistics: Statistics


class Decoder:
    """Packets in, frames out. Begin with an I-frame; a lost packet is bridged by `conceal`.

    Args: model, the one that the stream names; format of the frames; device; arithmetic as in the stream's header.
    """

    def __init__(self, model: ImageModel, format: VideoFormat, *, device: str | torch.device = "cpu",
                 arithmetic: str = "fp32"):  # fmt: skip
        self.model, self.format, self.arithmetic = coding_model(model, device), format, arithmetic
        self._device = torch.device(device)
        self._reference: Reference | None = None
        self._start = self.model.starting_statistics()
        self._statistics = self._start
        self._chroma = _picture_chroma(self.model, format)

    def decode(self, packet: Packet) -> Frame:
        """The frame of the next packet. Raises VcodecError when the payload is damaged or an I-frame is missing."""
        quality = torch.tensor([float(packet.quality)], device=self._device)
        coder = SymbolDecoder(packet.payload, self._start if packet.frame_type == "I" else self._statistics)
        with coding_context(self._device, self.arithmetic):
            if packet.frame_type == "I":
                shape = (1, self.format.height, self.format.width)
                reference = Reference(self.model.code_iframe(coder, None, shape, quality), quality=quality)
            elif self._reference is None:
                raise VcodecError("a P-frame comes before any I-frame: decoding can start at an I-frame only")
            elif packet.skip == SKIP_ALL:
                reference = self._reference.repeated()
            elif isinstance(self.model, VideoModel):
                reference, _ = self.model.code_pframe(coder, None, self._reference, quality, packet.skip)
            else:
                raise VcodecError(f"the stream has P-frames, but '{self.model.name}' is an image codec")
        coder.finish()
        self._reference, self._statistics = reference.shown(self._chroma), coder.statistics
        return self.conceal(packet.pts)

    def conceal(self, pts: int) -> Frame:
        """The last good picture once more (grey if there is none), for a frame that is lost."""
        if self._reference is None:
            return _grey(self.format, pts)
        return from_rgb(_to_picture(self._reference.picture), self.format, pts)

    def forget(self) -> None:
        """Drops the reference: the next packet has to be an I-frame."""
        self._reference = None


class CodedFrame(NamedTuple):
    """A packet, and the RGB PSNR of what it decodes to in dB, if that was measured."""

    packet: Packet
    psnr_rgb: float | None


class Lost(NamedTuple):
    """A frame that can't be decoded; the picture before it is shown once more."""

    pts: int


def encode_frames(encoder: Encoder, frames: Iterable[Frame], measure_psnr: bool = False) -> Iterator[CodedFrame]:
    """Codes frames one after another; the first becomes an I-frame."""
    for index, frame in enumerate(frames):
        packet = encoder.encode(frame, force_iframe=index == 0)
        yield CodedFrame(packet, _psnr_rgb(frame, encoder.reconstruction) if measure_psnr else None)


def decode_packets(decoder: Decoder, items: Iterable[Packet | Damage], number: int, pts_step: int, strict: bool,
                   damage: list[Damage]) -> Iterator[Frame | Lost]:  # fmt: skip
    """Decodes what a StreamReader gives, from frame `number` on; after damage all is lost up to the next I-frame.

    pts_step: time between two lost frames. damage: what is lost is appended here; with strict=True it raises.
    """
    broken = False
    for item in items:
        if isinstance(item, Damage):
            damage.append(item)
            broken = True
            yield from (Lost(item.pts + k * pts_step) for k in range(item.count))
            number += item.count
            continue
        broken = broken and item.frame_type != "I"
        decoded: Frame | Lost = Lost(item.pts)
        if broken:  # a P-frame after one that couldn't be decoded
            damage[-1] = replace(damage[-1], count=damage[-1].count + 1)
        else:
            try:
                decoded = decoder.decode(item)
            except VcodecError as error:
                if strict:
                    raise VcodecError(f"frame {number} can't be decoded: {error}") from error
                damage.append(Damage(number, 1, str(error), item.pts))
                broken = True
        yield decoded
        number += 1


def bridge(decoded: Iterable[Frame | Lost], format: VideoFormat) -> Iterator[Frame]:
    """Shows the picture before in place of each lost frame, grey at the start."""
    shown = _grey(format, 0)
    for item in decoded:
        shown = Frame(shown.planes, item.pts, format) if isinstance(item, Lost) else item
        yield shown


def _picture_chroma(model: ImageModel, format: VideoFormat) -> str:
    """What pictures are brought to: 4:2:0, or the video's chroma, where the model was made for that."""
    if not isinstance(model, VideoModel):
        return "444"
    if model.config.subsampled_pictures:
        return "420"
    return format.chroma if model.config.subsampled_references else "444"


def coding_model(model: ImageModel, device: str | torch.device = "cpu") -> ImageModel:
    """A frozen copy for coding: evaluation mode, channels last, the way to the scales in float64.

    Raises VcodecError for a model without weights.
    """
    if not model.has_tables:
        raise VcodecError(
            f"model '{model.name}' has no trained weights, so it can't code: give the path of a trained model file"
        )
    model = copy.deepcopy(model).eval().requires_grad_(False).to(device)
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    model.make_exact()
    return model


def check_quality(model: ImageModel, quality: int) -> None:
    """Raises VcodecError unless the model can code at this quality."""
    if not 0 <= quality <= QUALITY_MAX:
        raise VcodecError(f"quality {quality} is out of range: it runs from 0 (smallest) to {QUALITY_MAX} (best)")
    if not model.variable_rate and quality != model.config.fixed_quality:
        raise VcodecError(
            f"model '{model.name}' was made for quality {model.config.fixed_quality} alone: "
            "choose that one, or a model of variable rate"
        )


def cascades(model: ImageModel, gop_size: int) -> bool:
    """Whether frames of different quality make sense: not for I-frames alone, nor for a model of one rate."""
    return model.variable_rate and isinstance(model, VideoModel) and gop_size != 1


def check_gop_size(model: ImageModel, gop_size: int) -> int:
    """The GOP size to use: an image codec makes I-frames only. Raises VcodecError for 0 and under -1."""
    if gop_size == 0 or gop_size < -1:
        raise VcodecError(f"a GOP of {gop_size} frames makes no sense: give 1 or more, or -1 for one I-frame only")
    return gop_size if isinstance(model, VideoModel) else 1


@contextlib.contextmanager
def coding_context(device: torch.device, arithmetic: str) -> Iterator[None]:
    """No gradients, and the arithmetic of the pictures."""
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=arithmetic == "bf16"):
        yield


def _to_tensor(frame: Frame, device: torch.device) -> Tensor:
    return torch.from_numpy(to_rgb(frame)).to(device).permute(2, 0, 1)[None]


def _to_picture(x_hat: Tensor) -> np.ndarray:
    return x_hat[0].permute(1, 2, 0).contiguous().cpu().numpy()


def _grey(format: VideoFormat, pts: int) -> Frame:
    return from_rgb(np.full((format.height, format.width, 3), 0.5, np.float32), format, pts)


def _psnr_rgb(frame: Frame, reconstruction: Frame) -> float:
    error = float(np.square(to_rgb(frame) - to_rgb(reconstruction)).mean())
    return float(min(100.0, -10 * np.log10(max(error, 1e-10))))
