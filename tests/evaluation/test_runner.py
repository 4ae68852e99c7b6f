"""Jobs: what a record holds, resuming, several processes, failures that do not stop the others."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from vcodec.errors import VcodecError
from vcodec.evaluation import runner
from vcodec.evaluation.codecs import Codec
from vcodec.evaluation.jobs import Job, run_job
from vcodec.evaluation.presets import PAPER
from vcodec.evaluation.results import without_costs
from vcodec.evaluation.runner import run_jobs, stream_path
from vcodec.evaluation.standard_codecs import StandardCodec
from vcodec.video import Frame

X264 = StandardCodec("x264", ".264", PAPER)


@dataclass(frozen=True)
class ForgetfulCodec(Codec):
    """Keeps the planes as they are, and loses frames or fails if told to."""

    label: str = "forgetful"
    extension: str = ".raw"
    lost: int = 0
    failing_quality: int | None = None

    def qualities(self, source: Any) -> tuple[int, ...]:
        return (1, 2)

    def settings(self, source: Any, quality: int) -> dict[str, Any]:
        return {"lost": self.lost}

    def encode(self, source: Any, quality: int, path: Path, meter: Any) -> list[int]:
        if quality == self.failing_quality:
            raise VcodecError("it does not want to.")
        frames = [b"".join(plane.tobytes() for plane in frame.planes) for frame in source]
        path.write_bytes(b"".join(frames))
        return [len(frame) for frame in frames]

    def decode(self, source: Any, quality: int, path: Path, meter: Any) -> Iterator[Frame]:
        frames = list(source)
        yield from frames[: len(frames) - self.lost] if self.lost >= 0 else [*frames, frames[-1]]


def jobs_of(codec: Codec, source: Any, qualities: tuple[int, ...] = (24, 30)) -> list[Job]:
    return [Job(codec, source, quality, PAPER) for quality in qualities]


def test_a_record_counts_real_bytes_and_real_frames(small_source, tmp_path):
    outcome = run_jobs(jobs_of(X264, small_source, (30,)), tmp_path, progress=False)
    record = outcome.records[0]
    stream = stream_path(tmp_path, "x264", "small", 30)
    assert stream is not None
    assert record["bytes"] == stream.stat().st_size == sum(record["per_frame"]["bits"]) / 8
    assert record["bpp"] == pytest.approx(8 * record["bytes"] / (14 * 64 * 48))
    assert record["frames"] == len(record["per_frame"]["psnr_rgb"]) == 14
    assert record["psnr_rgb"] == pytest.approx(sum(record["per_frame"]["psnr_rgb"]) / 14)
    assert record["encode_seconds"] > 0
    assert record["decode_seconds"] > 0
    assert record["ms_ssim"] is None
    stored = json.loads((tmp_path / "points" / "x264" / "small" / "30.json").read_text())
    assert stored == json.loads(json.dumps(record))


def test_a_lossless_codec_measures_as_lossless(small_source):
    record = run_job(Job(ForgetfulCodec(), small_source, 1, PAPER)).record
    assert record["psnr_rgb"] == 100
    assert record["bpp"] == 12


def test_a_run_goes_on_where_it_was(small_source, tmp_path, monkeypatch):
    first = run_jobs(jobs_of(X264, small_source, (24,)), tmp_path, progress=False)
    computed = []
    monkeypatch.setattr(runner, "run_job", lambda job: computed.append(job.quality) or run_job(job))
    second = run_jobs(jobs_of(X264, small_source, (24, 30)), tmp_path, progress=False)
    assert computed == [30]
    assert second.reused == 1
    assert second.records[0] == json.loads(json.dumps(first.records[0]))


@pytest.mark.parametrize("damage", ["{", "[]", '{"settings": 3}'])
def test_a_damaged_point_is_computed_again(damage, small_source, tmp_path):
    jobs = jobs_of(X264, small_source, (30,))
    first = run_jobs(jobs, tmp_path, progress=False)
    (tmp_path / "points" / "x264" / "small" / "30.json").write_text(damage)
    second = run_jobs(jobs, tmp_path, progress=False)
    assert second.reused == 0
    assert without_costs(second.records[0]) == without_costs(first.records[0])


def test_a_point_of_other_settings_is_computed_again(small_source, tmp_path):
    run_jobs(jobs_of(X264, small_source, (30,)), tmp_path, progress=False)
    preset = replace(PAPER, intra_period=4)
    other = [Job(replace(X264, preset=preset), small_source, 30, preset)]
    shorter = [Job(X264, replace(small_source, frames=3), 30, PAPER)]
    assert run_jobs(other, tmp_path, progress=False).reused == 0
    outcome = run_jobs(shorter, tmp_path, progress=False)
    assert outcome.reused == 0
    assert outcome.records[0]["frames"] == 3


def test_several_processes_give_what_one_gives(small_source, tmp_path):
    jobs = jobs_of(X264, small_source)
    serial = run_jobs(jobs, tmp_path / "serial", progress=False)
    parallel = run_jobs(jobs, tmp_path / "parallel", processes=2, progress=False)
    assert [without_costs(r) for r in parallel.records] == [without_costs(r) for r in serial.records]
    for quality in (24, 30):
        streams = [stream_path(tmp_path / kind, "x264", "small", quality) for kind in ("serial", "parallel")]
        assert streams[0].read_bytes() == streams[1].read_bytes()


def test_a_failing_point_is_named_and_the_others_go_on(small_source, tmp_path):
    codec = ForgetfulCodec(failing_quality=1)
    outcome = run_jobs(jobs_of(codec, small_source, (1, 2)), tmp_path, progress=False)
    assert outcome.failures == ["forgetful small 1: it does not want to."]
    assert [record["quality"] for record in outcome.records] == [2]
    assert not (tmp_path / "points" / "forgetful" / "small" / "1.json").exists()


@pytest.mark.parametrize(("lost", "reason"), [(2, "decodes to 12 frames only"), (-1, "more than the 14 frames")])
def test_a_file_with_another_number_of_frames_is_refused(lost, reason, small_source):
    with pytest.raises(VcodecError, match=reason):
        run_job(Job(ForgetfulCodec(lost=lost), small_source, 1, PAPER))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_named(small_source, tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(VcodecError, match="can't be written"):
        run_jobs(jobs_of(X264, small_source, (30,)), tmp_path / "out", progress=False)


def test_nothing_half_written_is_left(small_source, tmp_path):
    run_jobs(jobs_of(X264, small_source, (30,)), tmp_path, progress=False)
    assert not list(tmp_path.rglob("*.part"))
