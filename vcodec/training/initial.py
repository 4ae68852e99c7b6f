"""The model that a run starts with: fresh, or with what fits of another model's weights."""

import torch
from torch import nn

from ..errors import VcodecError
from ..files import find_model
from ..layers.transform import Analysis, Synthesis
from ..models import ImageModel, create_model, lambda_of_quality, model_config
from .config import TrainingConfig
from .objective import quality_of_lambda
from .schedule import Schedule


def initial_model(config: TrainingConfig) -> ImageModel:
    """The model that `config` names, freshly initialised.

    A model of one rate that is trained for one lambda gets the quality that belongs to it, unless another is
    given.
    """
    options = dict(config.model_options)
    one_rate = model_config(config.model, **options).levels == 0
    lmbdas = {stage.lmbda for stage in config.schedule.stages}
    if one_rate and len(lmbdas) == 1 and None not in lmbdas:
        options.setdefault("fixed_quality", round(quality_of_lambda(lmbdas.pop())))  # type: ignore[arg-type]
    return create_model(config.model, pretrained=False, **options)


def fitting_schedule(schedule: Schedule, model: ImageModel) -> Schedule:
    """The schedule as `model` can be trained: with its one lambda, if it has one rate and none is given.

    Raises VcodecError for a video stage and an image codec, and for a motion stage where motion has no parameters.
    """
    if not model.video_parameters():
        video_stages = [stage.name for stage in schedule.stages if stage.kind == "video"]
        if video_stages:
            raise VcodecError(
                f"stage {video_stages[0]!r} of the schedule {schedule.name!r} trains on video, but the "
                "model is an image codec: choose another model, or --stage image"
            )
    motion_stages = [stage.name for stage in schedule.stages if stage.train == "motion"]
    if motion_stages and not model.motion_parameters():
        raise VcodecError(
            f"stage {motion_stages[0]!r} of the schedule {schedule.name!r} trains motion alone, but the model has its "
            "motion in blocks, without parameters: leave the stage out"
        )
    if model.variable_rate or any(stage.lmbda is not None for stage in schedule.stages):
        return schedule
    return schedule.replace(lmbda=lambda_of_quality(float(model.config.fixed_quality)))


def compile_transforms(model: nn.Module) -> None:
    """Compile the analysis and synthesis transforms, which hold nearly all of the work, in place.

    The rest (entropy estimation with a generator per sample, motion search, warp) would break the graph.
    """
    for module in model.modules():
        if isinstance(module, Analysis | Synthesis):
            module.compile()


def load_initial_weights(model: nn.Module, name_or_path: str) -> str:
    """Load matching weights from a model's file or by its name; returns what was taken, in a sentence."""
    weights = find_model(name_or_path).state_dict()
    taken, missing = load_matching(model, weights)
    if not taken:
        raise VcodecError(f"{name_or_path}: none of its {len(weights)} tensors fits this model")
    parts = sorted({name.split(".")[0] for name in missing})
    left = f"; not found there, and new: {len(missing)} tensors (in {', '.join(parts)})" if missing else ""
    return f"{name_or_path}: took {len(taken)} tensors of its {len(weights)}{left}"


def load_matching(model: nn.Module, weights: dict[str, torch.Tensor]) -> tuple[list[str], list[str]]:
    """Load the entries of `weights` that fit `model` by name and shape: (taken, names of `model` not found).

    A part fits as well as the whole: an I-frame codec's weights find their place inside a video model, and a
    video model's I-frame codec its place in an image model, by the prefix under which most entries agree.
    """
    own = model.state_dict()
    prefixes = ["", *(f"{name}." for name, _ in model.named_modules() if name)]
    parents = {".".join(key.split(".")[:n]) + "." for key in weights for n in range(1, key.count(".") + 1)}
    foreign = ["", *sorted(parents)]

    def matches(ours: str, theirs: str) -> dict[str, torch.Tensor]:
        renamed = {ours + k[len(theirs) :]: v for k, v in weights.items() if k.startswith(theirs)}
        return {k: v for k, v in renamed.items() if k in own and own[k].shape == v.shape}

    candidates = [matches(ours, "") for ours in prefixes] + [matches("", theirs) for theirs in foreign]
    best = max(candidates, key=len)
    model.load_state_dict({**own, **best})
    return sorted(best), sorted(set(own) - set(best))
