"""Find an ffmpeg program that has what is needed."""

import shutil
import subprocess


def find_ffmpeg(feature: str, kind: str, given: str | None = None) -> str | None:
    """An ffmpeg with an encoder or filter (`kind` is "encoder" or "filter"): the one given, on the path, or packaged.

    The last is the one that the Python package imageio-ffmpeg carries.
    """
    candidates = [given] if given else [shutil.which("ffmpeg"), _packaged_ffmpeg()]
    return next((program for program in candidates if program and _has(program, feature, kind)), None)


def _packaged_ffmpeg() -> str | None:
    try:
        import imageio_ffmpeg
    except ImportError:
        return None
    return str(imageio_ffmpeg.get_ffmpeg_exe())


def _has(program: str, feature: str, kind: str) -> bool:
    try:
        listing = subprocess.run(
            [program, "-hide_banner", f"-{kind}s"], capture_output=True, text=True, check=False, timeout=60
        )
    except OSError:
        return False
    return any(feature in line.split() for line in listing.stdout.splitlines())
