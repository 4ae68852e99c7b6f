"""The training loop: batches -> objective -> optimizer, with what a long run needs around it."""

import contextlib
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from ..errors import VcodecError
from ..layers.chroma import subsampled
from ..layers.rate import cascaded, lambda_of_quality
from ..models import save_model
from .checkpoint import load_checkpoint, save_checkpoint
from .config import TrainingConfig
from .data import load_data
from .distributed import Group, join_group
from .ema import ExponentialMovingAverage
from .initial import compile_transforms, fitting_schedule, initial_model, load_initial_weights
from .log import TrainingLog
from .objective import RateDistortion, rate_distortion
from .optimizers import create_optimizer, set_learning_rate
from .samples import Batch, StageSamples, stage_batches
from .schedule import Stage
from .validation import validate

METERS = (
    "loss", "bpp", "psnr", "bpp_iframe", "bpp_pframe", "psnr_iframe", "psnr_pframe", "gradient_norm", "data_wait",
)  # fmt: skip


@dataclass(frozen=True)
class TrainingReport:
    """How a run ended: at `step` of `steps`, with `skipped` non-finite batches."""

    step: int
    steps: int
    skipped: int
    best_cost: float


def train(config: TrainingConfig) -> TrainingReport:
    """Train a model as `config` says. In the folder `config.output` stand then

    best.safetensors (averaged weights, the best in validation), stage-N.safetensors (the same at the end of
    each stage), last.pt (everything, for resuming), train.csv, validation.csv, config.json, and TensorBoard's
    files. SIGTERM or SIGINT ends the run after the current step, with a checkpoint.
    """
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    with join_group(config.device) as group, _stop_request() as stop:
        return Trainer(config, group, stop).run()


class Trainer:
    """The state of a run and its loop."""

    def __init__(self, config: TrainingConfig, group: Group, stop: "StopRequest") -> None:
        self.config, self.group, self.stop = config, group, stop
        self.checkpoint = config.output / "last.pt"
        _check_output(config, self.checkpoint)
        for stage in config.schedule.stages:
            if stage.batch_size % group.size:
                raise VcodecError(
                    f"stage {stage.name!r}: {stage.batch_size} samples don't divide by {group.size} processes"
                )
        self.data = load_data(config, group)
        torch.manual_seed(config.seed)
        self.model = initial_model(config)
        self.schedule = fitting_schedule(config.schedule, self.model)
        self.samples = [  # of all stages, so that data which is too small for a late one is refused at the start
            StageSamples(stage, index, config.seed, self.data.clips, self.data.stills)
            for index, stage in enumerate(self.schedule.stages)
        ]
        if config.init is not None and not config.resume:
            self._say(load_initial_weights(self.model, config.init))
        self.model.to(group.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if config.compile:
            compile_transforms(self.model)
        self.ema = ExponentialMovingAverage(self.model, config.ema_decay)
        self.optimizer = create_optimizer(
            config.optimizer,
            self.model,
            betas=config.betas,
            weight_decay=config.weight_decay,
            dtype=torch.bfloat16 if config.precision == "bf16" else torch.float32,
        )
        self.step = self.skipped = self.skipped_in_a_row = 0
        self.best_cost = float("inf")
        # sums, and over how many steps
        self.meters = torch.zeros(len(METERS) + 1, dtype=torch.float64, device=group.device)
        if config.resume:
            self._restore(load_checkpoint(self.checkpoint, group.device))
        self.log = TrainingLog(config, self.step, active=group.is_main)
        self.clock = (self.step, time.perf_counter())

    def run(self) -> TrainingReport:
        """Train to the end of the schedule, or until a signal."""
        hidden = not (self.config.progress and self.group.is_main)
        with tqdm(total=self.schedule.steps, initial=self.step, unit="step", disable=hidden) as progress:
            while self.step < self.schedule.steps and not self.stop.requested:
                index, first_step = self.schedule.locate(self.step)
                self._train_stage(index, first_step, progress)
        self.log.close()
        return TrainingReport(self.step, self.schedule.steps, self.skipped, self.best_cost)

    def _train_stage(self, index: int, first_step: int, progress: "tqdm[Any]") -> None:
        config, stage = self.config, self.schedule.stages[index]
        if first_step == 0 and index and stage.kind != self.schedule.stages[index - 1].kind:
            self.best_cost = float("inf")  # costs of I-frames alone and of whole GOPs don't compare
        network = self._network(stage)
        waited = time.perf_counter()
        for stage_step, batch in enumerate(self._batches(stage, index, first_step), first_step):
            started = time.perf_counter()
            self._optimise(network, batch, stage, stage_step, data_wait=started - waited)
            self.step += 1
            progress.update()
            last = stage_step + 1 == stage.steps
            if last or self.step % config.log_every == 0:
                progress.set_postfix_str(self._report(stage, stage_step))
            if last or self.step % config.validate_every == 0:
                self._validate(stage)
            stopping = self.group.any(self.stop.requested)
            if last or stopping or self.step % config.checkpoint_every == 0:
                self._save()
            if last:
                self._save_model(f"stage-{index + 1}.safetensors")
            if stopping:
                break
            waited = time.perf_counter()

    def _network(self, stage: Stage) -> nn.Module:
        """The model as this stage trains it: the rest frozen, wrapped for a group."""
        self.model.train().requires_grad_(False)
        image, video = self.model.image_parameters(), self.model.video_parameters()
        motion, residual = self.model.motion_parameters(), self.model.residual_parameters()
        synthesis = self.model.synthesis_parameters(stage.kind)
        parts = {"image": image, "video": video, "motion": motion, "residual": residual, "synthesis": synthesis}
        parts["all"] = [*image, *video]
        for parameter in parts[stage.train]:
            parameter.requires_grad_(True)
        self.optimizer.zero_grad(set_to_none=True)
        network: nn.Module = self.model
        if self.group.size > 1:
            devices = [self.group.device] if self.group.device.type == "cuda" else None
            network = DistributedDataParallel(network, devices, gradient_as_bucket_view=True)
        return network

    def _batches(self, stage: Stage, index: int, first_step: int) -> Iterator[Batch]:
        samples = self.samples[index]
        if samples.left_out:
            self._say(f"stage {stage.name!r}: {samples.left_out} clips or pictures are too small or too short")
        return stage_batches(
            samples,
            first_step,
            rank=self.group.rank,
            world_size=self.group.size,
            workers=0 if self.config.cache == "device" else self.config.workers,
            pin_memory=self.group.device.type == "cuda" and self.config.cache != "device",
        )

    def _optimise(self, network: nn.Module, batch: Batch, stage: Stage, stage_step: int, data_wait: float) -> None:
        """One optimisation step: every sequence in each order, forward and backward; then the update."""
        device = self.group.device
        torch.manual_seed(self.config.seed + self.step * self.group.size + self.group.rank)  # dropout, if there is any
        frames = batch.frames.to(device, non_blocking=True).permute(0, 1, 4, 2, 3).float().div(255)
        quality = batch.quality.to(device, non_blocking=True)
        generators = [torch.Generator(device).manual_seed(int(seed)) for seed in batch.seeds]
        parts = list(_parts(len(frames), self.config.micro_batch, stage.reverse))
        measured = torch.zeros(len(METERS) - 2, device=device)
        for number, (samples, reverse) in enumerate(parts):
            weight = (samples.stop - samples.start) / len(frames) / (2 if stage.reverse else 1)
            part = frames[samples].flip(1) if reverse else frames[samples]
            last = number + 1 == len(parts)
            with contextlib.nullcontext() if last or self.group.size == 1 else network.no_sync():  # type: ignore
                result = self._forward(network, part, quality[samples], generators[samples], stage)
                (result.loss * weight).backward()
            measured += weight * _measure(result)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_norm)
        if torch.isfinite(norm):
            self._update(stage.learning_rate_at(stage_step))
            rest = measured.new_tensor([data_wait, 1.0])
            self.meters += torch.cat([measured, norm.detach().view(1), rest])
        else:
            self._skip()
        self.optimizer.zero_grad(set_to_none=True)

    def _forward(
        self,
        network: nn.Module,
        frames: Tensor,
        quality: Tensor,
        generators: list[torch.Generator],
        stage: Stage,
    ) -> RateDistortion:
        bf16 = self.config.precision == "bf16"
        options: dict[str, Any] = {"detach_reference": True} if stage.detach_reference else {}
        if stage.train == "motion":
            options = {"motion_only": True}
        if stage.chroma == "420":
            frames = subsampled(frames.flatten(0, 1)).view_as(frames)
            options["chroma"] = "420"
        if stage.cascade:
            quality = cascaded(quality, frames.shape[1])
        with torch.autocast(frames.device.type, torch.bfloat16, enabled=bf16):
            output = network(frames, quality, generators=generators, **options)
        lmbda = lambda_of_quality(quality) if stage.lmbda is None else torch.full_like(quality, stage.lmbda)
        return rate_distortion(output.x_hat, output.bits, frames, lmbda, stage)

    def _update(self, learning_rate: float) -> None:
        set_learning_rate(self.optimizer, learning_rate)
        self.optimizer.step()
        self.ema.update(self.model)
        self.skipped_in_a_row = 0

    def _skip(self) -> None:
        """Leave out a batch whose gradient is not finite."""
        self.skipped += 1
        self.skipped_in_a_row += 1
        if self.skipped_in_a_row >= self.config.max_skipped:
            raise VcodecError(
                f"{self.skipped_in_a_row} batches in a row gave no finite gradient at step {self.step}; the "
                f"last good state is in {self.checkpoint}: go on with --resume and a lower learning rate"
            )

    def _report(self, stage: Stage, stage_step: int) -> str:
        """Write a row of the log; its gist for the progress bar."""
        now = time.perf_counter()
        sums = self.group.mean(self.meters).cpu()
        values = dict(zip(METERS, (sums[:-1] / sums[-1].clamp(min=1)).tolist(), strict=True))
        row = {"step": self.step, "stage": stage.name, **values}
        row["learning_rate"] = stage.learning_rate_at(stage_step)
        row["skipped"] = self.skipped
        row["steps_per_second"] = (self.step - self.clock[0]) / max(now - self.clock[1], 1e-9)
        self.log.training(row)
        self.meters.zero_()
        self.clock = (self.step, now)
        return f"loss {row['loss']:.4f}, {row['bpp']:.3f} bpp, {row['psnr']:.2f} dB"

    @torch.no_grad()
    def _validate(self, stage: Stage) -> None:
        """Validate the averaged weights in the main process; keep them if they are the best so far."""
        clips = [*self.data.held_out_clips, *(self.data.held_out_stills if stage.kind == "image" else [])]
        if clips and self.group.is_main:
            began = time.perf_counter()
            try:
                with self.ema.averaged(self.model) as averaged:
                    qualities, frames = self.config.validation_qualities, self.config.validation_frames
                    report = validate(averaged, clips, stage, qualities, frames)
            except VcodecError as error:
                self._say(f"no validation at step {self.step}: {error}")
            else:
                self.log.validated(report, self.step, stage.name)
                self._say(f"step {self.step}: {report}")
                if report.cost < self.best_cost:
                    self.best_cost = report.cost
                    self._save_model("best.safetensors")
            self.clock = (self.clock[0], self.clock[1] + time.perf_counter() - began)
        self.group.barrier()

    def _save(self) -> None:
        """Write last.pt; a disk that refuses is reported and does not end the run."""
        if self.group.is_main:
            state = {
                "model_name": self.config.model,
                "optimizer_name": self.config.optimizer,
                "model": self.model.state_dict(),
                "ema": self.ema.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "step": self.step,
                "skipped": self.skipped,
                "best_cost": self.best_cost,
                "meters": self.meters,
            }
            try:
                save_checkpoint(state, self.checkpoint)
            except OSError as error:
                self._say(f"no checkpoint at step {self.step}: {error}")
        self.group.barrier()

    def _restore(self, state: dict[str, Any]) -> None:
        for name, wanted in (("model_name", self.config.model), ("optimizer_name", self.config.optimizer)):
            if state.get(name) != wanted:
                raise VcodecError(f"{self.checkpoint}: made with {state.get(name)!r}, not with {wanted!r}")
        try:
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.ema.load_state_dict(state["ema"])
        except (RuntimeError, ValueError, KeyError) as error:
            raise VcodecError(
                f"{self.checkpoint}: its tensors don't fit {self.config.model!r} with these options; resume "
                "with the options it was started with"
            ) from error
        self.step, self.skipped, self.best_cost = state["step"], state["skipped"], state["best_cost"]
        self.meters = state["meters"]
        self._say(f"going on at step {self.step} of {self.schedule.steps}")

    def _save_model(self, name: str) -> None:
        """Write the averaged weights as a model file."""
        if self.group.is_main:
            try:
                with self.ema.averaged(self.model) as averaged:
                    averaged.update()
                    save_model(averaged, self.config.output / name)
            except (OSError, VcodecError) as error:
                self._say(str(error))

    def _say(self, text: str) -> None:
        if self.group.is_main:
            tqdm.write(text, file=sys.stderr)


def _parts(batch: int, micro_batch: int | None, reverse: bool) -> Iterator[tuple[slice, bool]]:
    """The pieces of a batch that pass at once: (samples, in reversed order)."""
    size = micro_batch or batch
    for order in (False, True) if reverse else (False,):
        for start in range(0, batch, size):
            yield slice(start, min(batch, start + size)), order


def _measure(result: RateDistortion) -> Tensor:
    """loss, bpp and PSNR of all frames, then bpp of I- and P-frames, then PSNR of I- and P-frames."""
    psnr = -10 * result.mse.clamp(min=1e-10).log10()

    def split(values: Tensor) -> list[Tensor]:
        return [values[:, 0].mean(), values[:, 1:].mean() if values.shape[1] > 1 else values.new_zeros(())]

    values = [result.loss.detach(), result.bpp.mean(), psnr.mean(), *split(result.bpp), *split(psnr)]
    return torch.stack(values)


def _check_output(config: TrainingConfig, checkpoint: Path) -> None:
    try:
        config.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise VcodecError(f"{config.output}: can't be made a folder ({error.strerror})") from error
    if checkpoint.is_file() and not config.resume:
        raise VcodecError(f"{config.output} holds a run already: go on with --resume, or choose another --output")


class StopRequest:
    """Set by SIGTERM or SIGINT; the loop looks at it after every step."""

    def __init__(self) -> None:
        self.requested = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = True


@contextlib.contextmanager
def _stop_request() -> Iterator[StopRequest]:
    stop = StopRequest()
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
