import jax
import numpy as np
import pytest

from case_jax.evaluator import Evaluator
from case_jax.runs.outcome import evaluate_run
from case_jax.runs.run import Run
from case_jax.runs.several_seeds import SeveralSeeds

TIOU = (0.1, 0.3)


@pytest.fixture(scope="module")
def evaluator(together, dataset):
    settings = together[0].settings()
    with Evaluator(dataset.test, dataset.info, settings.config) as evaluator:
        yield evaluator


@pytest.fixture(scope="module")
def outcomes(together, dataset, evaluator):
    """The outcomes of two seeds."""
    with jax.numpy_dtype_promotion("standard"):
        return [evaluate_run(Run(seed.settings(), seed, dataset), evaluator, tiou=TIOU) for seed in together]


def with_separation(outcome, last, kept=0.3, keep="best"):
    """The outcome with other separations, and video scores of which none is sure."""
    fill = np.full(len(outcome.scores.video), 1.0, np.float32)
    unsure = np.full(outcome.scores.video.shape, 0.5, np.float32)
    return outcome._replace(
        settings=outcome.settings._replace(keep=keep),
        last_scores=outcome.last_scores._replace(separation=last * fill, video=unsure),
        scores=outcome.scores._replace(separation=kept * fill),
    )


def results_of(evaluator, *outcomes):
    seeds = SeveralSeeds()
    for outcome in outcomes:
        seeds.add(outcome)
    return seeds.results(evaluator, TIOU)


def map_of(evaluator, scores, state):
    return evaluator.map_of(evaluator.localize(scores, state).detections(), TIOU).per_tiou.tolist()


@pytest.mark.parametrize("separation", [0.3, 0.0], ids=["healthy", "collapsed"])
def test_the_scores_of_all_seeds_are_averaged(outcomes, evaluator, separation):
    first, second = (with_separation(outcome, separation) for outcome in outcomes)
    ((title, result),) = results_of(evaluator, first, second).items()
    assert title == "all seeds together, last (step 30)"
    mean = jax.tree.map(
        lambda a, b: (np.asarray(a) + np.asarray(b)) / 2, first.last_scores, second.last_scores
    )
    assert result.per_tiou.tolist() == pytest.approx(map_of(evaluator, mean, first.state))


def test_a_collapsed_seed_is_left_out(outcomes, evaluator):
    first, second = with_separation(outcomes[0], 0.3), with_separation(outcomes[1], 0.05)
    ((title, result),) = results_of(evaluator, second, first).items()
    seed = outcomes[1].settings.seed
    assert title == f"seeds but {seed}, collapsed, together, last (step 30)"
    seeds = SeveralSeeds()
    seeds.add(second)
    seeds.add(first)
    assert seeds.deciding() == (title, [first.settings.seed])
    assert result.per_tiou.tolist() == map_of(evaluator, first.last_scores, first.state)


@pytest.mark.parametrize("healthiest", [0, 1])
def test_the_healthiest_seed_is_told_where_runs_keep_it(outcomes, evaluator, healthiest):
    seeds = [
        with_separation(outcome, 0.3, 0.4 if i == healthiest else 0.0, "healthiest")
        for i, outcome in enumerate(outcomes)
    ]
    first, *_ = results_of(evaluator, *seeds).items()
    chosen = seeds[healthiest]
    title, result = list(chosen.results.items())[-1]
    assert first == (f"healthiest seed ({chosen.settings.seed}), {title}", result)
