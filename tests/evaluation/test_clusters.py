import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from case_jax.evaluation.clusters import summarise_clusters


@settings(max_examples=50, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), count=st.integers(1, 40), num_clusters=st.integers(1, 5))
def test_it_agrees_with_loops_over_snippets(seed, count, num_clusters):
    rng = np.random.default_rng(seed)
    assignment = rng.dirichlet(np.full(num_clusters, 0.3), count)
    inside = rng.random(count) < 0.3
    found = summarise_clusters(assignment, inside)
    members = [[n for n in range(count) if assignment[n].argmax() == k] for k in range(num_clusters)]
    for k, of_cluster in enumerate(members):
        mass = sum(assignment[n, k] for n in range(count))
        acting = sum(assignment[n, k] for n in range(count) if inside[n])
        assert found.soft_share[k] == pytest.approx(mass / count)
        assert found.soft_in_action[k] == pytest.approx(acting / mass)
        assert found.members[k] == len(of_cluster)
        assert found.members_in_action[k] == sum(inside[n] for n in of_cluster)
        assert found.hard_share[k] == pytest.approx(len(of_cluster) / count)
        share = np.mean([inside[n] for n in of_cluster]) if of_cluster else np.nan
        assert found.hard_in_action[k] == pytest.approx(share, nan_ok=True)
    assert found.soft_share.sum() == pytest.approx(1)
    assert found.hard_share.sum() == pytest.approx(1)
    right = sum(max(sum(inside[m]), len(m) - sum(inside[m])) for m in members)
    assert found.purity == pytest.approx(right / count)
    assert found.num_foreground == sum(2 * sum(inside[m]) > len(m) for m in members)


def test_soft_and_hard_shares_differ_where_assignments_are_unsure():
    found = summarise_clusters(np.full((2, 3, 2), [0.6, 0.4]), np.zeros((2, 3)))
    np.testing.assert_allclose(found.soft_share, [0.6, 0.4])
    assert found.hard_share.tolist() == [1.0, 0.0]


def test_an_empty_cluster_has_no_part_in_actions():
    found = summarise_clusters([[1.0, 0.0]], [True])
    assert found.soft_in_action[0] == found.hard_in_action[0] == 1
    assert np.isnan(found.soft_in_action[1])
    assert np.isnan(found.hard_in_action[1])


def test_single_precision_is_summed_in_double_precision():
    assignment = np.random.default_rng(0).dirichlet(np.ones(4), (5, 100)).astype(np.float32)
    found = summarise_clusters(assignment, np.zeros((5, 100), bool))
    assert found.soft_share.dtype == np.float64
    assert (
        found.soft_share.tobytes()
        == (lambda mass: mass / mass.sum())(assignment.astype(np.float64).sum(axis=(0, 1))).tobytes()
    )
