"""Several seeds of one training: the healthiest of them, and the healthy ones as one model."""

from collections.abc import Sequence

from case_jax.evaluation.mean_average_precision import DetectionMap
from case_jax.evaluator import Evaluator, health_of_scores
from case_jax.method.scores import VideoScores, mean_with_seed
from case_jax.runs.outcome import Outcome
from case_jax.training.state import TrainState
from case_jax.words import listed

__all__ = ["SeveralSeeds"]


class SeveralSeeds:
    """Takes the outcomes of seeds one by one, so memory holds few scores, however many seeds there are."""

    def __init__(self) -> None:
        self._last = ""  # title of the last checkpoint, the same for all seeds, which have trained as long
        self._state: TrainState | None = None
        self._healthy: list[int] = []
        self._collapsed: list[int] = []
        # Of the collapsed and of the healthy, without second stages.
        self._means: dict[bool, VideoScores | None] = {True: None, False: None}
        self._healthiest: tuple[float, int, str, DetectionMap] | None = None

    def add(self, outcome: Outcome) -> None:
        """Takes one seed more; all have the same settings and test videos.

        Args:
            outcome: of the seed, with its scores.
        """
        assert outcome.scores is not None
        assert outcome.last_scores is not None
        seed = outcome.settings.seed
        self._last, *_ = outcome.results
        self._state = outcome.state
        last = health_of_scores(outcome.last_scores)
        collapsed = last is not None and last.collapsed
        seeds = self._collapsed if collapsed else self._healthy
        seeds.append(seed)
        if outcome.state.scorer is None:
            self._means[collapsed] = mean_with_seed(self._means[collapsed], outcome.last_scores, len(seeds))
        kept = health_of_scores(outcome.scores)
        if outcome.settings.keep == "healthiest" and kept is not None:
            title, result = list(outcome.results.items())[-1]
            if self._healthiest is None or kept.agreement > self._healthiest[0]:
                self._healthiest = kept.agreement, seed, title, result

    def deciding(self) -> tuple[str, list[int]]:
        """A title for the seeds that decide together, and these: the healthy ones, or all if none is."""
        who = "all seeds"
        if self._healthy and self._collapsed:
            who = f"seeds but {listed([*map(str, self._collapsed)], 'and')}, collapsed,"
        return f"{who} together, {self._last}", self._healthy or self._collapsed

    def results(self, evaluator: Evaluator, tiou: Sequence[float]) -> dict[str, DetectionMap]:
        """Title -> mAP of the healthiest seed, where the runs keep that, and of the healthy seeds together.

        Args:
            evaluator: of the test videos.
            tiou: thresholds of mAP, in (0, 1].

        Returns:
            Without the row of seeds together where they have second stages, which need the features again.
        """
        results = {}
        if self._healthiest is not None:
            _, seed, title, result = self._healthiest
            results[f"healthiest seed ({seed}), {title}"] = result
        mean = self._means[not self._healthy]
        if mean is not None and self._state is not None:
            detections = evaluator.localize(mean, self._state).detections()
            results[self.deciding()[0]] = evaluator.map_of(detections, tiou)
        return results
