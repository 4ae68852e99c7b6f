"""The group of processes that train together: one by itself, or those that torchrun started."""

import contextlib
import datetime
import os
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Group:
    """This process's place among those that train together."""

    rank: int
    size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def mean(self, values: Tensor) -> Tensor:
        """The mean over the processes."""
        if self.size > 1:
            values = values.clone()
            dist.all_reduce(values)
            values /= self.size
        return values

    def any(self, flag: bool) -> bool:
        """True in every process as soon as it is true in one."""
        if self.size == 1:
            return flag
        value = torch.tensor(float(flag), device=self.device)
        dist.all_reduce(value, op=dist.ReduceOp.MAX)
        return bool(value)

    def barrier(self) -> None:
        if self.size > 1:
            dist.barrier()


@contextlib.contextmanager
def join_group(device: str) -> Iterator[Group]:
    """Join the group that torchrun's environment variables describe (gloo on the CPU, nccl on GPUs).

    `device` is "auto", "cpu", "cuda" or "cuda:N"; in a group, "cuda" means one GPU for each local rank.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    rank = int(os.environ.get("RANK", "0"))
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    chosen = torch.device(device)
    if chosen.type == "cuda":
        if chosen.index is None:
            chosen = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(chosen)
    if size == 1:
        yield Group(0, 1, chosen)
        return
    backend = "nccl" if chosen.type == "cuda" else "gloo"
    # the main process may decode for hours while the others wait
    dist.init_process_group(backend, timeout=datetime.timedelta(hours=24))
    try:
        yield Group(rank, size, chosen)
    finally:
        dist.destroy_process_group()
