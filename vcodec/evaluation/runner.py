"""Run jobs: here, over local processes, or over a Ray cluster; store each point, and go on where a run was stopped.

    OUT/points/CODEC/SEQUENCE/QUALITY.json     the record of a point
    OUT/streams/CODEC/SEQUENCE/QUALITY.ext     its coded file

Workers only compute; the process that was started writes all files, each beside its place first and then renamed, so
that a run can be stopped at any moment.
"""

import json
import multiprocessing
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from vcodec.errors import VcodecError
from vcodec.evaluation.jobs import Job, JobResult, run_job
from vcodec.memory import keep_freed_memory


@dataclass
class RunOutcome:
    """The records of all points, in the order of the jobs, and a sentence for each that failed."""

    records: list[dict[str, Any]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    reused: int = 0


def run_jobs(
    jobs: Sequence[Job], output: Path, processes: int = 1, ray_address: str | None = None, progress: bool = True
) -> RunOutcome:
    """Compute every point that is not stored in `output` yet.

    Args:
        processes: how many at a time on this machine; torch's threads are divided among them.
        ray_address: run on this Ray cluster instead ("local" starts one here); every node must see the videos,
            programs and models under the same paths.
    """
    stored = {job: _stored_record(job, output) for job in jobs}
    missing = [job for job in jobs if stored[job] is None]
    outcome = RunOutcome(reused=len(jobs) - len(missing))
    finished: dict[Job, dict[str, Any]] = {job: record for job, record in stored.items() if record is not None}
    with tqdm(total=_work(missing), unit="Mpx", file=sys.stderr, disable=not progress or not missing) as bar:
        bar.bar_format = "{l_bar}{bar}| {elapsed} gone, {remaining} left{postfix}"
        for job, result in _results(missing, processes, ray_address):
            bar.set_postfix_str(job.name)
            bar.update(_work([job]))
            if isinstance(result, VcodecError):
                outcome.failures.append(str(result))
                continue
            _store(job, result, output)
            finished[job] = result.record
    outcome.records = [finished[job] for job in jobs if job in finished]
    return outcome


def stream_path(output: Path, codec: str, sequence: str, quality: int) -> Path | None:
    """The coded file of a stored point; None if it is gone."""
    return next((output / "streams" / codec / sequence).glob(f"{quality}.*"), None)


def _results(
    jobs: Sequence[Job], processes: int, ray_address: str | None
) -> Iterator[tuple[Job, JobResult | VcodecError]]:
    """Each job with what came of it, as they finish."""
    if not jobs:
        return
    if ray_address is not None:
        from vcodec.evaluation.ray_cluster import results_over_ray

        yield from results_over_ray(jobs, ray_address)
    elif processes == 1:
        for job in jobs:
            yield job, attempt(job)
    else:
        yield from _results_over_processes(jobs, processes)


def _results_over_processes(jobs: Sequence[Job], processes: int) -> Iterator[tuple[Job, JobResult | VcodecError]]:
    threads = max(1, torch.get_num_threads() // processes)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # workers share the cores and must not spin on them
    context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    with ProcessPoolExecutor(processes, context, initializer=begin_worker, initargs=(threads,)) as pool:
        futures = {pool.submit(attempt, job): job for job in jobs}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def attempt(job: Job) -> JobResult | VcodecError:
    """Run a job; a failure that is the user's to mend is a result too, so that the others go on."""
    try:
        return run_job(job)
    except VcodecError as error:
        return error


def begin_worker(threads: int) -> None:
    """What a worker process does first."""
    keep_freed_memory()
    torch.set_num_threads(threads)


def _work(jobs: Sequence[Job]) -> float:
    """How much there is to do, in million pixels, for the time left."""
    formats = [(job.source.frames_at_most or 1, job.source.format) for job in jobs]
    return sum(frames * format.width * format.height / 1e6 for frames, format in formats)


def _point_path(job: Job, output: Path) -> Path:
    return output / "points" / job.codec.label / job.source.name / f"{job.quality}.json"


def _stored_record(job: Job, output: Path) -> dict[str, Any] | None:
    """The record of a point that was computed before with the same settings."""
    try:
        record = json.loads(_point_path(job, output).read_text())
    except (OSError, ValueError):
        return None
    settings = json.loads(json.dumps(job.settings()))  # as JSON has them: tuples have become lists
    return record if isinstance(record, dict) and record.get("settings") == settings else None


def _store(job: Job, result: JobResult, output: Path) -> None:
    point = _point_path(job, output)
    stream = output / "streams" / job.codec.label / job.source.name / f"{job.quality}{job.codec.extension}"
    write_whole(stream, result.stream)
    write_whole(point, json.dumps(result.record, indent=1, allow_nan=False).encode())


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that is there in full or not at all."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + ".part")
        part.write_bytes(content)
        os.replace(part, path)
    except OSError as error:
        raise VcodecError(f"{path}: can't be written ({error.strerror}).") from error
