"""Training steps per second against CompressAI's ssf2020, trained the same way in the same run; where the time goes.

    python benchmarks/training.py [--model NAME ...] [--precision fp32 bf16] [--threads 2] [--json]
    python benchmarks/training.py --schedule default [--model NAME] [--precision bf16] [--threads 1]

Every model gets the same batch (4 sequences of 3 frames of 128x128 unless told otherwise), the same loss, channels
last, gradient clipping and the same optimizer. Steps are taken in turn, one of each model per round, and the median
ratio of the rounds counts; the peer's precision is always the same as ours.

With --schedule, what each stage of a schedule costs instead: a few steps of one sequence are measured and multiplied.
On the CPU that is processor time, which other programs on the machine disturb less than the clock.
"""

import argparse
import dataclasses
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from tqdm import tqdm

from vcodec.evaluation.compressai_import import import_compressai
from vcodec.models import ImageModel, create_model, lambda_of_quality
from vcodec.training import Stage, load_schedule
from vcodec.training.cache import MemoryClip
from vcodec.training.ema import ExponentialMovingAverage
from vcodec.training.objective import rate_distortion
from vcodec.training.optimizers import create_optimizer
from vcodec.training.samples import Batch, StageSamples, stage_batches
from vcodec.training.sources import Clip

PEER = "ssf2020 (CompressAI)"
QUALITY = 32.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--model", nargs="+", default=["default", "convvc-ssf-small", "swinvc-ssf-small"])
    parser.add_argument("--precision", nargs="+", choices=("fp32", "bf16"), default=["fp32", "bf16"])
    parser.add_argument("--optimizer", choices=("adamw", "muon", "soap"), default="adamw")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--frames", type=int, default=3)
    parser.add_argument("--crop", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--schedule", help="a preset or a JSON file: what its stages cost with the first model")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.schedule:
        rows = [cost(options, stage) for stage in load_schedule(options.schedule).stages]
        print(json.dumps(rows) if options.json else cost_table(rows))
        return
    stage = Stage(
        "benchmark", "video", options.rounds + 1, options.batch_size, (options.crop,) * 2, options.frames
    )  # fmt: skip
    results = {
        "threads": options.threads,
        "device": options.device,
        "batch": [options.batch_size, options.frames, options.crop, options.crop],
        "optimizer": options.optimizer,
        "milliseconds_per_batch_of_crops": crop_milliseconds(stage),
        "runs": [measure(options, stage, precision) for precision in options.precision],
    }
    print(json.dumps(results) if options.json else table(results))


def measure(options: argparse.Namespace, stage: Stage, precision: str) -> dict[str, Any]:
    """Steps per second of every model, in turn, and the phases of a step."""
    device = torch.device(options.device)
    steppers = {name: Stepper(name, options.optimizer, precision, device, stage) for name in [*options.model, PEER]}
    batches = list(make_batches(stage))
    seconds: dict[str, list[float]] = {name: [] for name in steppers}
    phases: dict[str, list[dict[str, float]]] = {name: [] for name in steppers}
    for number, batch in enumerate(tqdm(batches, f"rounds, {precision}", file=sys.stderr)):
        for name, stepper in steppers.items():
            times = stepper.step(batch)
            if number:  # the first round warms up
                seconds[name].append(sum(times.values()))
                phases[name].append(times)
    result = {}
    for name, stepper in steppers.items():
        ratios = [peer / ours for peer, ours in zip(seconds[PEER], seconds[name], strict=True)]
        result[name] = {
            "parameters": sum(p.numel() for p in stepper.model.parameters()),
            "steps_per_second": 1 / statistics.median(seconds[name]),
            "times_the_peers_speed": statistics.median(ratios),
            "seconds": {phase: statistics.median(times[phase] for times in phases[name]) for phase in phases[name][0]},
        }
    first = options.model[0]
    return {"precision": precision, "models": result, "operators": {first: operators(steppers[first], batches[0])}}


def cost(options: argparse.Namespace, stage: Stage) -> dict[str, Any]:
    """Seconds of a step of `stage`, measured on one sequence, and hours of the whole stage."""
    device = torch.device(options.device)
    single = dataclasses.replace(stage, steps=options.rounds + 1, batch_size=1)
    stepper = Stepper(options.model[0], options.optimizer, options.precision[0], device, single)
    stepper.train_only(stage.train)
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    seconds = []
    for batch in tqdm(make_batches(single), stage.name, file=sys.stderr):
        start = clock()
        phases = stepper.step(batch)
        seconds.append((clock() - start, phases["update"] / sum(phases.values())))
    per_sequence = statistics.median(total * (1 - update) for total, update in seconds[1:])
    update = statistics.median(total * update for total, update in seconds[1:])
    step = per_sequence * stage.batch_size * (2 if stage.reverse else 1) + update
    return {"stage": stage.name, "seconds_per_step": step, "steps": stage.steps, "hours": step * stage.steps / 3600}


def cost_table(rows: Sequence[dict[str, Any]]) -> str:
    lines = [f"{'stage':24}  seconds a step     steps      hours"]
    for row in rows:
        lines.append(f"{row['stage']:24}  {row['seconds_per_step']:14.3f}  {row['steps']:8d}  {row['hours']:9.1f}")
    return "\n".join([*lines, f"{'all':24}  {'':14}  {'':8}  {sum(row['hours'] for row in rows):9.1f}"])


class Stepper:
    """A model with its optimizer, average and loss; `step` takes one optimisation step and times its phases."""

    def __init__(self, name: str, optimizer: str, precision: str, device: torch.device, stage: Stage) -> None:
        torch.manual_seed(0)
        self.model = create_peer() if name == PEER else create_model(name, pretrained=False)
        self.model.to(device).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        self.optimizer = create_optimizer(
            optimizer,
            self.model,
            betas=(0.9, 0.999),
            weight_decay=0.0,
            dtype=torch.bfloat16 if precision == "bf16" else torch.float32,
        )
        self.average = ExponentialMovingAverage(self.model, 0.999)
        self.precision, self.device, self.stage = precision, device, stage

    def train_only(self, part: str) -> None:
        """Freeze what a stage that trains `part` ("image", "video" or "all") leaves alone."""
        image, video = self.model.image_parameters(), self.model.video_parameters()
        self.model.requires_grad_(False)
        for parameter in {"image": image, "video": video, "all": [*image, *video]}[part]:
            parameter.requires_grad_(True)

    def step(self, batch: Batch) -> dict[str, float]:
        """Seconds of forward, backward and update."""
        marks = [self._now()]
        x = batch.frames.to(self.device).permute(0, 1, 4, 2, 3).float().div(255)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            x_hat, bits = self._forward(x, batch)
        lmbda = torch.full((len(x),), lambda_of_quality(QUALITY), device=self.device)
        loss = rate_distortion(x_hat, bits, x, lmbda, self.stage).loss
        marks.append(self._now())
        loss.backward()
        marks.append(self._now())
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.average.update(self.model)
        marks.append(self._now())
        return dict(zip(("forward", "backward", "update"), np.diff(marks).tolist(), strict=True))

    def _forward(self, x: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        if isinstance(self.model, ImageModel):
            generators = [torch.Generator(self.device).manual_seed(int(seed)) for seed in batch.seeds]
            output = self.model(x, torch.full((len(x),), QUALITY, device=self.device), generators=generators)
            return output.x_hat, output.bits
        output = self.model([frame.contiguous(memory_format=torch.channels_last) for frame in x.unbind(1)])
        bits = [bits_of(likelihoods) for likelihoods in output["likelihoods"]]
        return torch.stack(output["x_hat"], 1), torch.stack(bits, 1)

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


def create_peer() -> nn.Module:
    import_compressai()
    return import_compressai("compressai.models.video").ScaleSpaceFlow()


def bits_of(likelihoods: Any) -> Tensor:
    """Bits of each sample from the peer's nested likelihoods of one frame."""
    if isinstance(likelihoods, Tensor):
        return -likelihoods.float().log2().flatten(1).sum(1)
    return torch.stack([bits_of(part) for part in likelihoods.values()]).sum(0)


def make_batches(stage: Stage) -> Sequence[Batch]:
    """Batches of smooth moving noise."""
    generator = np.random.default_rng(0)
    noise = generator.integers(0, 256, (24, stage.crop[0] // 4 + 16, stage.crop[1] // 4 + 16, 3), dtype=np.uint8)
    clip = torch.from_numpy(noise.repeat(4, axis=1).repeat(4, axis=2))
    stage = dataclasses.replace(stage, stills=0.0)
    samples = StageSamples(stage, 0, 0, [MemoryClip(Clip("noise", "noise", ()), clip)], [])
    return list(stage_batches(samples, 0, rank=0, world_size=1, workers=0, pin_memory=False))


def crop_milliseconds(stage: Stage) -> float:
    """What one worker needs to make a batch; training waits for it only if it is longer than a step."""
    make_batches(stage)
    start = time.perf_counter()
    made = make_batches(stage)
    return 1000 * (time.perf_counter() - start) / len(made)


def operators(stepper: Stepper, batch: Batch, count: int = 12) -> dict[str, float]:
    """The share of a step's time that the costliest operators take by themselves."""
    cuda = stepper.device.type == "cuda"
    with profile(activities=[ProfilerActivity.CUDA if cuda else ProfilerActivity.CPU]) as profiler:
        stepper.step(batch)
    time_of: Callable[[Any], float] = lambda e: e.self_device_time_total if cuda else e.self_cpu_time_total  # noqa: E731
    events = sorted(profiler.key_averages(), key=time_of, reverse=True)
    total = sum(time_of(event) for event in events)
    return {event.key: time_of(event) / total for event in events[:count]}


def table(results: dict[str, Any]) -> str:
    batch, frames, height, width = results["batch"]
    lines = [
        f"{batch} x {frames} frames of {width}x{height}, {results['optimizer']}, {results['device']}, "
        f"{results['threads']} threads; a batch of crops takes "
        f"{results['milliseconds_per_batch_of_crops']:.1f} ms in one worker"
    ]
    for run in results["runs"]:
        lines += ["", f"{run['precision']:24}  M params  steps/s  x peer  forward  backward  update (s)"]
        for name, row in run["models"].items():
            phases = "  ".join(f"{row['seconds'][phase]:7.3f}" for phase in ("forward", "backward", "update"))
            lines.append(
                f"{name:24}  {row['parameters'] / 1e6:8.2f}  {row['steps_per_second']:7.2f}  "
                f"{row['times_the_peers_speed']:6.2f}  {phases}"
            )
        for name, shares in run["operators"].items():
            lines.append(f"{name}: " + ", ".join(f"{key} {100 * share:.0f} %" for key, share in shares.items()))
    return "\n".join(lines)


if __name__ == "__main__":
    main()
