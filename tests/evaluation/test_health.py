import numpy as np
import pytest

from case_jax.evaluation.health import MIN_CERTAINTY, MIN_SEPARATION, Health, measure_health


def test_the_health_of_worked_videos():
    """Evidence of three snippets, and what the attention makes of it, by numpy's own covariance."""
    attention = np.array([[1.0, 0.25, 0.25], [0.5, 0.75, 0.25]])
    evidence = np.array([[0.9, 0.3, 0.6], [0.4, 0.8, 0.3]])
    separation = [
        np.average(e, weights=a) - np.average(e, weights=1 - a) for a, e in zip(attention, evidence)
    ]
    covariance = [np.cov(a, e, bias=True)[0, 1] for a, e in zip(attention, evidence)]
    health = measure_health(separation, attention, [[0.75, 0.25], [0.5, 0.5]])
    assert health is not None
    assert health.separation == pytest.approx(np.mean(separation), abs=1e-6)
    assert health.agreement == pytest.approx(np.mean(covariance), abs=1e-6)
    assert health.foreground == pytest.approx(2 / 6, abs=1e-6)
    assert health.certainty == 0.625


def test_a_video_without_action_counts_by_the_share_of_it_that_shows_one():
    video = np.array([[0.5, 0.5], [0.0, 0.0], [0.25, 0.0]])
    health = measure_health(np.array([0.5, 0.0, 0.125]), np.full((3, 4), 0.5), video)
    assert health == Health(0.5, 0.125, 0.0, 0.25)
    nothing = measure_health(np.zeros(2), np.zeros((2, 4)), np.zeros((2, 3)))
    assert nothing == Health(0.0, 0.0, 0.0, 0.0)


def test_nothing_is_measured_without_classes_to_compare():
    assert measure_health(None, np.zeros((2, 4)), np.ones((2, 1))) is None


@pytest.mark.parametrize("separation", [MIN_SEPARATION - 1e-6, 0.0, -0.5])
def test_a_collapsed_run_is_told_with_what_was_seen_and_what_to_try(separation):
    health = Health(separation, 0.0, 0.25, 0.5)
    assert health.collapsed
    words = health.in_words()
    for part in (f"separation {separation:.2f}", "25 %", "0.50", "case_plus.flags", "--keep=healthiest"):
        assert part in words
    assert "\n" not in words


@pytest.mark.parametrize("separation, certainty", [(MIN_SEPARATION, 0.3), (0.0, MIN_CERTAINTY), (0.3, 0.9)])
def test_a_run_that_works_is_not_collapsed(separation, certainty):
    assert not Health(separation, 0.0, 0.25, certainty).collapsed
