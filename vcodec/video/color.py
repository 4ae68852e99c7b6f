"""Planes of samples to RGB and back (ITU-R BT.601-7, BT.709-6, BT.2020-2; ranges as in H.273, section 8.3).

Chroma goes up by replication and comes down by the average of the pixels it covers, so that planes -> RGB ->
planes gives the same planes wherever RGB needs no clipping.
"""

from __future__ import annotations

import numpy as np

from vcodec.video.format import Frame, VideoFormat

LUMA_WEIGHTS = {
    "bt601": (0.299, 0.587, 0.114),
    "bt709": (0.2126, 0.7152, 0.0722),
    "bt2020": (0.2627, 0.678, 0.0593),
}


def to_rgb(frame: Frame) -> np.ndarray:
    """A frame as float32 RGB (height, width, 3) in [0, 1].

    In memory the three planes lie one after another, so `.transpose(2, 0, 1)` of the result is contiguous.
    """
    video = frame.format
    rgb = np.empty((3, video.height, video.width), np.float32)
    if video.chroma == "rgb":
        for channel, plane in zip(rgb, frame.planes, strict=True):
            np.multiply(plane, np.float32(1 / video.max_value), out=channel, dtype=np.float32)
        return _clipped(rgb)

    luma_scale, luma_offset, chroma_scale, chroma_offset = sample_range(video)
    if video.chroma == "gray":
        np.multiply(frame.planes[0], np.float32(1 / luma_scale), out=rgb[0], dtype=np.float32)
        rgb[0] -= np.float32(luma_offset / luma_scale)
        rgb[1:] = rgb[0]
        return _clipped(rgb)

    red, green, blue = LUMA_WEIGHTS[video.matrix]
    cb, cr = (plane.astype(np.float32) for plane in frame.planes[1:])
    from_cb, from_cr = 2 * (1 - blue) / chroma_scale, 2 * (1 - red) / chroma_scale
    # The offsets of luma and chroma ride on the small chroma planes; luma waits in green's place.
    shift = -luma_offset / luma_scale
    luma = np.multiply(frame.planes[0], np.float32(1 / luma_scale), out=rgb[1], dtype=np.float32)
    for channel, cb_weight, cr_weight in (
        (0, 0, from_cr),
        (2, from_cb, 0),
        (1, -from_cb * blue / green, -from_cr * red / green),
    ):
        difference = cb * np.float32(cb_weight)
        difference += cr * np.float32(cr_weight)
        difference += np.float32(shift - (cb_weight + cr_weight) * chroma_offset)
        _add_upsampled(luma, difference, video, out=rgb[channel])
    return _clipped(rgb)


def from_rgb(rgb: np.ndarray, format: VideoFormat, pts: int = 0) -> Frame:
    """RGB (height, width, 3) in [0, 1], any strides, as a frame of `format`, rounded to its bit depth."""
    if rgb.shape != (format.height, format.width, 3):
        raise ValueError(f"RGB of shape {rgb.shape} is not a {format.width}x{format.height} picture")
    r, g, b = (rgb[..., channel].astype(np.float32, copy=False) for channel in range(3))
    if format.chroma == "rgb":
        return Frame(tuple(_quantize(c, format.max_value, 0, format) for c in (r, g, b)), pts, format)

    red, green, blue = (np.float32(weight) for weight in LUMA_WEIGHTS[format.matrix])
    luma_scale, luma_offset, chroma_scale, chroma_offset = sample_range(format)
    luma = r * red
    luma += g * green
    luma += b * blue
    y = _quantize(luma, luma_scale, luma_offset, format)
    if format.chroma == "gray":
        return Frame((y,), pts, format)
    cb = _downsampled(b - luma, format)
    cr = _downsampled(r - luma, format)
    cb = _quantize(cb, chroma_scale / (2 * (1 - float(blue))), chroma_offset, format)
    cr = _quantize(cr, chroma_scale / (2 * (1 - float(red))), chroma_offset, format)
    return Frame((y, cb, cr), pts, format)


def sample_range(format: VideoFormat) -> tuple[float, float, float, float]:
    """Scale and offset of luma, scale and offset of chroma: sample = value * scale + offset."""
    unit = 1 << (format.bit_depth - 8)
    if format.full_range:
        return format.max_value, 0, format.max_value, 128 * unit
    return 219 * unit, 16 * unit, 224 * unit, 128 * unit


def _quantize(values: np.ndarray, scale: float, offset: float, format: VideoFormat) -> np.ndarray:
    values = values * np.float32(scale)
    values += np.float32(offset + 0.5)
    np.clip(values, 0, format.max_value + 0.5, out=values)
    return values.astype(format.dtype)


def _add_upsampled(luma: np.ndarray, chroma: np.ndarray, format: VideoFormat, out: np.ndarray) -> None:
    """out = luma + chroma, each chroma sample standing for all pixels that it covers."""
    height, width = luma.shape
    if format.chroma in ("420", "422"):
        wide = np.empty((chroma.shape[0], width), np.float32)
        wide[:, 0::2] = chroma
        wide[:, 1::2] = chroma[:, : width // 2]
        chroma = wide
    if format.chroma == "420":
        np.add(luma[0::2], chroma, out=out[0::2])
        np.add(luma[1::2], chroma[: height // 2], out=out[1::2])
    else:
        np.add(luma, chroma, out=out)


def _downsampled(plane: np.ndarray, format: VideoFormat) -> np.ndarray:
    """The average of the pixels under each chroma sample; at an odd edge of those that exist."""
    if format.chroma == "420":
        plane = _paired_mean(plane.T).T
    if format.chroma in ("420", "422"):
        plane = _paired_mean(plane)
    return plane


def _paired_mean(plane: np.ndarray) -> np.ndarray:
    """Means of columns 0 and 1, 2 and 3, ...; a last odd column stays as it is."""
    width = plane.shape[1]
    mean = plane[:, 0::2].copy(order="K")
    mean[:, : width // 2] += plane[:, 1::2]
    mean[:, : width // 2] *= np.float32(0.5)
    return mean


def _clipped(rgb: np.ndarray) -> np.ndarray:
    """Planes (3, height, width), clipped in place, as (height, width, 3)."""
    np.maximum(rgb, np.float32(0), out=rgb)
    np.minimum(rgb, np.float32(1), out=rgb)
    return rgb.transpose(1, 2, 0)
