"""The options of eval_video.py and what they start."""

import argparse
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from vcodec.errors import VcodecError
from vcodec.evaluation.codecs import STANDARD_LABELS, Codec, CodecOptions, create_codecs
from vcodec.evaluation.document import check_document, insert_results
from vcodec.evaluation.extra_metrics import EXTRA_METRICS, create_extra_metric
from vcodec.evaluation.html_report import write_html
from vcodec.evaluation.jobs import Job
from vcodec.evaluation.plots import write_plots
from vcodec.evaluation.presets import PRESETS, Preset, find_preset
from vcodec.evaluation.report import speed_markdown, write_markdown
from vcodec.evaluation.results import Results, bd_table, write_results
from vcodec.evaluation.runner import RunOutcome, run_jobs
from vcodec.evaluation.sequences import Dataset, Source, load_dataset, standard_datasets


def main(arguments: Sequence[str] | None = None) -> int:
    """Run eval_video.py; the exit code."""
    options = build_parser().parse_args(arguments)
    try:
        return _evaluate(options)
    except VcodecError as error:
        print(f"eval_video.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("eval_video.py: stopped; the same command goes on from here.", file=sys.stderr)
        return 130


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="eval_video.py",
        description="Compare video codecs by real files: rate-distortion curves, BD-rates, speed, and a report.",
        epilog=f"Codecs: {', '.join(STANDARD_LABELS)}, and every vcodec model by name, weight file, or folder of "
        "weight files of one rate each. A run that was stopped goes on where it was.",
    )
    add = parser.add_argument
    add("--data", required=True, help=f"manifest, folder, or one of {', '.join(standard_datasets())}")
    add("--data-root", type=Path, help="folder with the files of a standard set (default: data/NAME)")
    add("--sequences", type=_list, default=[], help="patterns of names to keep, !PATTERN to leave out")
    add("--codecs", type=_list, required=True, help="labels with commas between, e.g. x264,x265,hm")
    add("--preset", default="paper", choices=list(PRESETS), help="the protocol (default: paper)")
    add("--intra-period", type=int, help="instead of the preset's; -1: only the first frame is an I-frame")
    add("--frames", type=_count, help="at most so many of each sequence (default: the preset's 96)")
    add("--qualities", type=_qualities, help="quality levels of the models (default: 0,16,32,48,63)")
    add("--output", type=Path, required=True, help="folder for results and report")
    add("--metrics", type=_list, default=[], help=f"also measure: {', '.join(EXTRA_METRICS)}")
    add("--jobs", type=_count, default=1, help="processes at a time (default: 1, which speed figures need)")
    add("--ray-address", help="run on a Ray cluster: its address, or `local`")
    add("--device", type=_device, default="auto", help="of the models: auto, cpu, cuda (default: auto)")
    add("--hm-encoder", type=Path, help="TAppEncoder of HM (or VCODEC_HM_ENCODER)")
    add("--hm-decoder", type=Path, help="TAppDecoder of HM; else FFmpeg's libraries (or VCODEC_HM_DECODER)")
    add("--hm-config", type=Path, help="instead of the low-delay P arrangement here (or VCODEC_HM_CONFIG)")
    add("--hm-streams", type=Path, help="folder of NAME_qpQP.hevc (default: hm beside the data)")
    add("--ffmpeg", help="an ffmpeg with libvvenc (vvenc) or libvmaf (vmaf)")
    add("--ssf2020-checkpoint", type=Path, action="append", default=[], help="of ssf2020; once per rate, rising")
    add("--insert-into", type=Path, metavar="FILE.md", help="also put the tables between two lines of this document")
    add("--json", action="store_true", help="print the BD-rates as JSON instead of a table")
    add("--quiet", action="store_true", help="no progress bar")
    return parser


def _evaluate(options: argparse.Namespace) -> int:
    if options.output.exists() and not options.output.is_dir():
        raise VcodecError(f"{options.output}: is no folder; name another with --output.")
    dataset = load_dataset(options.data, options.data_root)
    if options.sequences:
        dataset = dataset.select(options.sequences)
    preset = _preset(options)
    if options.insert_into:
        check_document(options.insert_into, preset)
    codecs = create_codecs(options.codecs, preset, _codec_options(options, dataset))
    metrics = tuple(create_extra_metric(name, options.ffmpeg) for name in options.metrics)
    sources = [Source(sequence, preset.frames, preset.bit_depth) for sequence in dataset.sequences]
    jobs = [
        Job(codec, source, quality, preset, metrics)
        for source in sources
        for codec in codecs
        for quality in codec.qualities(source)
    ]
    outcome = run_jobs(jobs, options.output, options.jobs, options.ray_address, progress=not options.quiet)
    results = _results(outcome, codecs, sources, preset)
    if results.records:
        _write_report(results, preset, dataset, sources, codecs, options)
        _print_summary(results, outcome, options)
    for failure in outcome.failures:
        print(f"eval_video.py: {failure}", file=sys.stderr)
    if outcome.failures:
        print(f"eval_video.py: {len(outcome.failures)} of {len(jobs)} points failed.", file=sys.stderr)
    return 1 if outcome.failures else 0


def _results(outcome: RunOutcome, codecs: list[Codec], sources: list[Source], preset: Preset) -> Results:
    labels = [c.label for c in codecs if any(r["codec"] == c.label for r in outcome.records)]
    complexity = {}
    for codec in codecs:
        counts = codec.complexity(sources[0]) if codec.label in labels else None
        if counts:
            complexity[codec.label] = counts
    names = [source.name for source in sources]
    return Results(outcome.records, labels, names, preset.headline, complexity)


def _write_report(
    results: Results,
    preset: Preset,
    dataset: Dataset,
    sources: list[Source],
    codecs: list[Codec],
    options: argparse.Namespace,
) -> None:
    title = f"{', '.join(results.codecs)} on {dataset.name}"
    command = shlex.join(["python", "eval_video.py", *sys.argv[1:]])
    write_results(results, options.output)
    write_plots(results, options.output)
    write_markdown(results, preset, title, command, options.output)
    write_html(results, preset, title, command, sources, codecs, options.output)
    if options.insert_into:
        insert_results(options.insert_into, results, preset, command, options.output)


def _print_summary(results: Results, outcome: RunOutcome, options: argparse.Namespace) -> None:
    if options.json:
        print((options.output / "bd_rate.json").read_text(), end="")
        return
    for row in bd_table(results):
        if row["sequence"] == "mean" and row["metric"] == results.headline and row["bd_rate"] is not None:
            print(
                f"{row['codec']:24} against {row['anchor']}: BD-rate {row['bd_rate']:+6.1f} % ({row['metric']}, "
                f"mean over {row['sequences']} sequence{'' if row['sequences'] == 1 else 's'})"
            )
    print(speed_markdown(results))
    computed = len(outcome.records) - outcome.reused
    print(f"{computed} points computed, {outcome.reused} taken over; report: {options.output / 'report.html'}")


def _preset(options: argparse.Namespace) -> Preset:
    preset = find_preset(options.preset)
    if options.intra_period is not None:
        if options.intra_period == 0 or options.intra_period < -1:
            raise VcodecError("--intra-period is a number of frames, or -1.")
        preset = replace(preset, intra_period=options.intra_period)
    return replace(preset, frames=options.frames or preset.frames)


def _codec_options(options: argparse.Namespace, dataset: Dataset) -> CodecOptions:
    return CodecOptions(
        device=options.device,
        hm_encoder=options.hm_encoder,
        hm_decoder=options.hm_decoder,
        hm_config=options.hm_config,
        hm_streams=options.hm_streams or dataset.directory / "hm",
        ffmpeg=options.ffmpeg,
        ssf2020_checkpoints=tuple(options.ssf2020_checkpoint),
        model_qualities=options.qualities,
    )


def _list(text: str) -> list[str]:
    items = [item.strip() for item in text.split(",") if item.strip()]
    if not items:
        raise argparse.ArgumentTypeError("an empty list")
    return items


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of 1 or more")
    return int(text)


def _qualities(text: str) -> tuple[int, ...]:
    levels = _list(text)
    if not all(level.isdecimal() and int(level) <= 63 for level in levels):
        raise argparse.ArgumentTypeError(f"{text!r} is no list of quality levels from 0 to 63")
    return tuple(sorted({int(level) for level in levels}))


def _device(text: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is none of auto, cpu, cuda, cuda:N")
    return text
