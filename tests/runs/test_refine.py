import contextlib
import dataclasses
import json
import signal

import jax
import numpy as np
import pytest

from case_jax.evaluator import Evaluator
from case_jax.localizer import Localizer
from case_jax.refinement.settings import RefinementConfig
from case_jax.runs import refine as refining
from case_jax.runs.outcome import evaluate_run
from case_jax.runs.refine import refine, refined_run
from case_jax.runs.signals import Interrupted, Interruption
from case_jax.runs.workdir import Workdir
from tests.helpers.refusals import assert_parts, refusal
from tests.helpers.runs import Listener

QUICK = RefinementConfig(num_steps=25, hidden_dim=8, num_proposals=10)


def begun(first, folder, dataset, **options):
    return refined_run(first, folder, dataset, refinement=QUICK, **options)


@pytest.fixture(scope="module")
def refined(uninterrupted, dataset, tmp_path_factory):
    """A run's second stage, trained; read only."""
    run = begun(uninterrupted, tmp_path_factory.mktemp("refined") / "R", dataset)
    with jax.numpy_dtype_promotion("standard"):
        refine(run, uninterrupted.load("last")[1])
    return run


def contents(workdir):
    names = ("metrics.jsonl", "history.jsonl", "predictions.json", "config.json", "training_features.json")
    return {name: (workdir.path / name).read_bytes() for name in names}


def test_the_result_is_a_workdir_like_any_other(refined, uninterrupted):
    (row,) = refined.workdir.metrics()
    assert row["step"] == 25
    assert [step["step"] for step in refined.workdir.history()] == [10, 20, 25]
    settings, state = refined.workdir.load("last")
    assert settings == refined.settings
    assert settings.refinement == QUICK
    first = uninterrupted.load("last")[1]
    for ours, theirs in zip(jax.tree.leaves(state.params), jax.tree.leaves(first.params), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert float(np.abs(state.scorer["kernel"]).max()) > 0
    with Evaluator(refined.dataset.test, settings.info, settings.config) as evaluator:
        outcome = evaluate_run(refined, evaluator, tiou=settings.tiou)
        assert [result.average for result in outcome.results.values()] == [row["average"]] * 2
        unrefined = evaluator.localize(evaluator.score(first), first).detections()
    for name, found in outcome.detections.items():
        assert len(found.score) == len(unrefined[name].score)
    assert any((found.score != unrefined[name].score).any() for name, found in outcome.detections.items())


def test_the_localizer_finds_what_evaluation_found(refined):
    localizer = Localizer.load(refined.workdir.path)
    predictions = json.loads(refined.workdir.predictions.read_text())["results"]
    for video in refined.dataset.test.videos:
        ours = localizer.localize({name: np.asarray(video.features[name]) for name in localizer.streams})
        theirs = sorted((e["score"] for e in predictions[video.name]), reverse=True)
        np.testing.assert_allclose([o.score for o in ours], theirs, atol=1e-5)


def test_without_weight_the_second_stage_says_nothing(refined, uninterrupted):
    """Negative scores aside, which become almost 0."""
    first = uninterrupted.load("last")[1]
    config = dataclasses.replace(refined.settings.config, refined_weight=0.0)
    state = refined.workdir.load("last")[1].replace(config=config)
    with Evaluator(refined.dataset.test, refined.settings.info, config) as evaluator:
        ours, theirs = evaluator.detect(state), evaluator.detect(first)
    for name, found in ours.items():
        scores, expected = (np.sort(one.score)[::-1] for one in (found, theirs[name]))
        positive = expected > 1e-3
        np.testing.assert_allclose(scores[positive], expected[positive], rtol=1e-6)


def test_several_workers_find_the_same(refined):
    state = refined.workdir.load("last")[1]
    found = []
    for num_workers in (0, 2):
        with Evaluator(
            refined.dataset.test, refined.settings.info, state.config, num_workers=num_workers
        ) as evaluator:
            found.append(evaluator.detect(state))
    for name, ours in found[0].items():
        np.testing.assert_array_equal(np.stack(ours), np.stack(found[1][name]))


def test_a_finished_second_stage_is_left_as_it_is(refined, uninterrupted, monkeypatch):
    before, first = contents(refined.workdir), uninterrupted.load("last")[1]
    monkeypatch.setattr(refining, "examples_of", None)  # nothing is computed
    refine(refined, first)
    assert contents(refined.workdir) == before
    other = first.replace(params=jax.tree.map(lambda leaf: leaf + 1, first.params))
    message = refusal(refine, refined, other)
    assert_parts(message, refined.workdir.path, "another first stage", "--workdir … --output")


def test_examples_that_cannot_fit_are_told_before_anything_is_done(uninterrupted, dataset, tmp_path):
    many = dataclasses.replace(QUICK, num_proposals=10**12)
    run = refined_run(uninterrupted, tmp_path / "R", dataset, refinement=many)
    message = refusal(refine, run, uninterrupted.load("last")[1])
    assert_parts(message, "--num_proposals", f"{10**12} … 8 videos", "memory here")


@pytest.mark.parametrize("at", ["proposals", "steps"])
def test_an_interrupted_second_stage_begins_anew_with_the_same_result(
    at, refined, uninterrupted, dataset, tmp_path, monkeypatch
):
    first = uninterrupted.load("last")[1]
    run = begun(uninterrupted, tmp_path / "R", dataset)

    interruption = Interruption()

    examples_of = refining.examples_of

    def end_after(*arguments, **options):
        interruption.note(signal.SIGTERM)
        return examples_of(*arguments, **options)

    def end_at(step):
        if step == 10 and at == "steps":
            interruption.note(signal.SIGTERM)

    listener = Listener(end_at)
    with monkeypatch.context() as patch:
        patch.setattr(refining, "noting_signals", lambda **_: contextlib.nullcontext(interruption))
        if at == "proposals":
            patch.setattr(refining, "examples_of", end_after)
        step = 0 if at == "proposals" else 10
        with pytest.raises(Interrupted, match=f"at step {step} of 25.*begins anew"):
            refine(run, first, listener)
    assert not run.workdir.predictions.exists()
    assert run.workdir.metrics() == []
    refine(run, first)
    assert contents(run.workdir) == contents(refined.workdir)


def test_features_that_are_too_large_are_told(uninterrupted, dataset, tmp_path, monkeypatch):
    run = begun(uninterrupted, tmp_path / "R", dataset)
    monkeypatch.setattr(refining, "refine_steps", lambda learning, *_, **__: (learning, np.array([np.inf])))
    message = refusal(refine, run, uninterrupted.load("last")[1])
    assert_parts(message, run.workdir.path, "inf at step 10", "finite")
    assert not run.workdir.predictions.exists()


def test_what_cannot_be_refined_is_told(refined, uninterrupted, dataset, tmp_path):
    message = refusal(refined_run, refined.workdir, tmp_path, dataset)
    assert_parts(message, refined.workdir.path, "second stage already", "first stage")
    message = refusal(refined_run, uninterrupted, uninterrupted.path, dataset)
    assert_parts(message, uninterrupted.path, "first stage's own", "another folder")
    other = dataclasses.replace(dataset, info=dataclasses.replace(dataset.info, classes=("Jump", "Run")))
    message = refusal(refined_run, uninterrupted, tmp_path, other)
    assert_parts(message, uninterrupted.path, "other classes", "the data set given")
    fewer = dataclasses.replace(dataset, train=dataset.test)
    assert "training videos" in refusal(refined_run, uninterrupted, tmp_path, fewer)
    message = refusal(refined_run, Workdir(tmp_path / "none"), tmp_path, dataset)
    assert_parts(message, tmp_path / "none" / "config.json", "no such file", "JSON")


def test_a_channel_that_is_constant_in_training_is_not_seen(uninterrupted, dataset, tmp_path):
    """Whatever it is in a test video; its deviation in training would make it huge."""

    def with_channel(split, values):
        videos = [
            video._replace(
                features={
                    name: np.concatenate([array[:, :-1], np.full_like(array[:, :1], value)], axis=1)
                    for name, array in video.features.items()
                }
            )
            for video, value in zip(split.videos, values, strict=True)
        ]
        return dataclasses.replace(split, videos=tuple(videos), packed=None)

    train = with_channel(dataset.train, [5.0] * 8)
    changed = dataclasses.replace(dataset, train=train, test=with_channel(dataset.test, [5.0, 5.1, 0, 9]))
    first = Workdir(tmp_path / "W")
    settings = uninterrupted.settings()
    first.begin(settings)
    run = begun(first, tmp_path / "R", changed)
    refine(run, uninterrupted.load("last")[1])
    kernel = np.asarray(run.workdir.load("last")[1].scorer["kernel"])
    width = len(kernel) // 2  # of one stream
    assert (kernel[[width - 1, -1]] == 0).all()
    assert (np.abs(np.delete(kernel, [width - 1, 2 * width - 1], axis=0)).max(axis=(1, 2)) > 0).all()


def test_the_first_stage_may_not_change_afterwards(refined, uninterrupted, dataset):
    """Neither by more steps, of which settings tell, nor otherwise; nothing is written then."""
    before = contents(refined.workdir)
    longer = dataclasses.replace(refined.settings.config, num_steps=60)
    run = dataclasses.replace(refined, settings=refined.settings._replace(config=longer))
    message = refusal(refine, run, uninterrupted.load("last")[1])
    assert_parts(message, refined.workdir.path, "num_steps = 30, not 60", "--output")
    assert contents(refined.workdir) == before


def test_training_does_not_go_on_in_a_second_stages_workdir(refined, uninterrupted):
    assert "refinement" in refusal(refined.workdir.begin, uninterrupted.settings())


def test_seeds_with_second_stages_decide_together(refined):
    """Two seeds that are the same decide as one does; one more that knows nothing changes that."""
    settings, state = refined.workdir.load("last")
    video = refined.dataset.test.videos[0]
    features = {name: np.asarray(video.features[name]) for name in settings.info.streams}
    ignorant = state.replace(scorer=jax.tree.map(lambda leaf: 0 * leaf, state.scorer))
    alone, twice, doubted = (
        Localizer(settings, states).localize(features) for states in (state, [state] * 2, [state, ignorant])
    )
    assert [d.score for d in twice] == pytest.approx([d.score for d in alone], abs=1e-6)
    assert len(doubted) == len(alone)
    assert [d.score for d in doubted] != pytest.approx([d.score for d in alone], abs=1e-3)
