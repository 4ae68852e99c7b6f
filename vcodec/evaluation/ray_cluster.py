"""Jobs over a Ray cluster (extra `cluster`)."""

from collections.abc import Iterator, Sequence

from vcodec.errors import VcodecError
from vcodec.evaluation.jobs import Job, JobResult


def results_over_ray(jobs: Sequence[Job], address: str) -> Iterator[tuple[Job, JobResult | VcodecError]]:
    """Each job with what came of it, as they finish; one CPU and one torch thread each.

    Args:
        address: of the cluster's head ("auto", "HOST:6379", "ray://HOST:10001"), or "local" for one of its own.

    Raises:
        VcodecError: Ray is not installed, or there is no cluster at the address.
    """
    try:
        import ray
    except ImportError as error:
        raise VcodecError("--ray-address needs Ray: pip install 'vcodec[cluster]'.") from error
    started_here = not ray.is_initialized()
    if started_here:
        try:
            ray.init(address=address, log_to_driver=False, configure_logging=False)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise VcodecError(f"There is no Ray cluster at {address} ({error}).") from error
    try:
        remote = ray.remote(num_cpus=1)(_run_on_node)
        pending = {remote.remote(job): job for job in jobs}
        while pending:
            done, _ = ray.wait(list(pending), num_returns=1)
            yield pending.pop(done[0]), ray.get(done[0])
    finally:
        if started_here:
            ray.shutdown()


def _run_on_node(job: Job) -> JobResult | VcodecError:
    from vcodec.evaluation.runner import attempt, begin_worker

    begin_worker(1)
    return attempt(job)
