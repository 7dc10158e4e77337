"""One training run in a workdir: train, evaluate now and then, keep the best, resume where it stopped."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from case_jax.checkpoints import CheckpointStore
from case_jax.data.dataset import Dataset
from case_jax.evaluation import evaluate_predictions, predict
from case_jax.localization.detections import write_predictions
from case_jax.model import count_macs, count_parameters
from case_jax.training import Report, TrainState, fit
from case_jax.workdir import RunSettings, Workdir

__all__ = ["describe", "train"]


def train(settings: RunSettings, dataset: Dataset, workdir: Workdir, console: Console) -> None:
    """Trains to ``settings.config.num_steps``; a run that was interrupted goes on from its last checkpoint.

    An evaluation writes `predictions.json` if it is the best one, then its line in `metrics.jsonl`, then
    the checkpoint. A run interrupted in between goes back to the checkpoint before, drops the lines after
    it, and comes to the same result again.

    Args:
        settings: what to run.
        dataset: on what.
        workdir: where; must have begun with the same settings.
        console: for progress.
    """
    config, info = settings.config, settings.info
    state = settings.fresh_state()
    describe(settings, state, dataset, console)
    with (
        CheckpointStore(workdir.checkpoints) as store,
        _event_writer(workdir, console) as write_events,
        _progress(console, config.num_steps) as show,
    ):
        if store.latest_step is not None:
            state = store.restore(state, store.latest_step)
            console.print(f"going on from step {int(state.step)}")
        rows = [row for row in workdir.metrics() if row["step"] <= int(state.step)]
        reports = fit(
            state,
            [video.features for video in dataset.train.videos],
            dataset.train.video_labels(info.classes),
            report_every=_report_every(settings.eval_every),
        )
        losses = _RunningMeans()
        for report in reports:
            losses.add(report)
            best = max((row["average"] for row in rows), default=None)
            show(report.step, report.metrics["loss"], best)
            if report.step % settings.eval_every and report.step != config.num_steps:
                continue

            predictions = predict(report.state, dataset.test.videos, info)
            result = evaluate_predictions(predictions, dataset.test, settings.tiou)
            rows.append(
                {
                    "step": report.step,
                    "losses": losses.take(),
                    "tiou": result.tiou.tolist(),
                    "map": result.per_tiou.tolist(),
                    "average": result.average,
                }
            )
            if best is None or result.average > best:
                write_predictions(workdir.predictions, predictions)
            workdir.write_metrics(rows)
            store.save(report.state, average=result.average)
            write_events(rows[-1])
            console.print(
                f"step {report.step:>6}  loss {rows[-1]['losses']['loss']:.4f}  "
                f"average mAP {100 * result.average:.2f} %"
                + ("  best so far" if best is None or result.average > best else ""),
                highlight=False,
            )


def describe(settings: RunSettings, state: TrainState, dataset: Dataset, console: Console) -> None:
    """Says what is about to run: populations, model size and cost."""
    network, widths = state.network, settings.stream_widths
    num_snippets = settings.config.num_snippets
    lines = [
        f"{title}: {len(split.videos):,} videos with {split.num_instances:,} instances"
        for title, split in (("training", dataset.train), ("test", dataset.test))
    ]
    streams = ", ".join(f"{name} ({width})" for name, width in widths.items())
    macs = count_macs(network, widths, num_snippets)
    lines += [
        f"{len(settings.info.classes)} classes; streams {streams}; one snippet every "
        f"{settings.info.seconds_per_snippet:g} s",
        f"model: {count_parameters(state.params) / 1e6:.3f} M parameters, "
        f"{macs / 1e9:.3f} GMACs for {num_snippets} snippets",
    ]
    for line in lines:
        console.print(line, highlight=False)


def _report_every(eval_every: int) -> int:
    """Steps between progress reports: about 10, and a divisor of ``eval_every``."""
    return max(d for d in range(1, 11) if eval_every % d == 0)


class _RunningMeans:
    """Means of the losses since they were last taken."""

    def __init__(self):
        self._reports: list[Report] = []

    def add(self, report: Report) -> None:
        self._reports.append(report)

    def take(self) -> dict[str, float]:
        reports, self._reports = self._reports, []
        steps = sum(report.num_steps for report in reports)
        return {
            name: sum(report.num_steps * report.metrics[name] for report in reports) / steps
            for name in reports[0].metrics
        }


@contextlib.contextmanager
def _progress(console: Console, num_steps: int) -> Iterator[Any]:
    columns = (
        TextColumn("training"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[status]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("training", total=num_steps, status="compiling")

        def show(step: int, loss: float, best: float | None) -> None:
            status = f"loss {loss:.3f}" + ("" if best is None else f"  best mAP {100 * best:.1f} %")
            progress.update(task, completed=step, status=status)

        yield show


@contextlib.contextmanager
def _event_writer(workdir: Workdir, console: Console) -> Iterator[Any]:
    """Writes TensorBoard events, or says once that the package for it is not installed."""
    try:
        import tensorboardX  # optional
    except ImportError:
        console.print("no TensorBoard events: tensorboardX is not installed (extra 'plots')")
        yield lambda row: None
        return
    with tensorboardX.SummaryWriter(str(workdir.path / "events")) as writer:

        def write(row: Mapping[str, Any]) -> None:
            for name, value in row["losses"].items():
                writer.add_scalar(f"train/{name}", value, row["step"])
            for tiou, value in zip(row["tiou"], row["map"]):
                writer.add_scalar(f"test/mAP_{tiou:g}", value, row["step"])
            writer.add_scalar("test/average", row["average"], row["step"])
            writer.flush()

        yield write
