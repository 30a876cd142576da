"""Intervals and tests against scikit-learn, scipy's own tests, formulas, and numbers that others published."""

import numpy as np
import pytest
from scipy.stats import binomtest, chi2, norm
from sklearn.metrics import accuracy_score, balanced_accuracy_score

from flea_fairseq.evaluation.statistics import (
    Part,
    bootstrap,
    holm,
    mcnemar,
    mean_scores,
    over_seeds,
    verdict,
)


def draw(seed: int, n: int, seeds: int = 1, rate: float = 0.6) -> tuple[np.ndarray, np.ndarray]:
    """Truth (n,) and predictions (seeds, n) of three classes."""
    random = np.random.default_rng(seed)
    truth = random.choice(3, n, p=[0.6, 0.3, 0.1])
    return truth, np.where(random.random((seeds, n)) < rate, truth, random.integers(0, 3, (seeds, n)))


def part_of(truth: np.ndarray, *predicted: np.ndarray, weight: float = 1.0) -> Part:
    """predicted: (seeds, n) of each system."""
    return Part(truth, np.stack([(each == truth).mean(0) for each in predicted], axis=1), weight)


def once(*parts: Part) -> list[np.ndarray]:
    return [np.ones((1, len(part.truth))) for part in parts]


def test_scores_of_several_seeds_are_the_means_of_scikit_learns():
    truth, predicted = draw(0, 90, seeds=3)
    other_truth, other = draw(1, 50, seeds=3)
    parts = [part_of(truth, predicted, predicted[:1], weight=0.5), part_of(other_truth, other, other[:1], weight=0.5)]
    made = mean_scores(parts, once(*parts))
    for measure, score in enumerate((balanced_accuracy_score, accuracy_score)):
        by_seed = [(score(truth, one) + score(other_truth, two)) / 2 for one, two in zip(predicted, other)]
        assert made[measure, :, 0] == pytest.approx([np.mean(by_seed), by_seed[0]])


def test_an_utterance_drawn_twice_counts_twice_and_a_class_not_drawn_not_at_all():
    truth, predicted = np.array([0, 0, 1, 2]), np.array([[0, 1, 1, 0]])
    times = np.array([[2.0, 1, 1, 0]])
    ua, wa = mean_scores([part_of(truth, predicted)], [times])[:, 0, 0]
    drawn = [0, 0, 1, 2]  # the indices that `times` counts
    assert wa == pytest.approx(accuracy_score(truth[drawn], predicted[0, drawn])) == 3 / 4
    assert ua == pytest.approx(balanced_accuracy_score(truth[drawn], predicted[0, drawn])) == (2 / 3 + 1) / 2


def test_intervals_agree_with_drawing_utterances_one_by_one():
    data = [draw(seed, n) for seed, n in ((1, 60), (2, 90))]
    made, _ = bootstrap([part_of(*fold, weight=0.5) for fold in data])
    random, drawn = np.random.default_rng(9), []
    for _ in range(1500):
        means = []
        for truth, predicted in data:
            chosen = random.integers(0, len(truth), len(truth))
            recalls = [(predicted[0, chosen] == c)[truth[chosen] == c] for c in np.unique(truth[chosen])]
            means.append([np.mean([recall.mean() for recall in recalls]), np.mean((predicted[0] == truth)[chosen])])
        drawn.append(np.mean(means, axis=0))
    expected = np.quantile(drawn, [0.025, 0.975], axis=0).T
    assert np.abs(made[:, 0] - expected).max() < 0.012  # an interval is about 0.2 wide


def test_the_interval_of_wa_is_that_of_a_binomial_share():
    right = np.arange(400) < 260
    (_, made), _ = bootstrap([Part(np.zeros(400, dtype=int), right[:, None].astype(float), 1.0)])
    half = norm.ppf(0.975) * np.sqrt(0.65 * 0.35 / 400)
    assert made[0] == pytest.approx([0.65 - half, 0.65 + half], abs=0.004)


def test_intervals_hold_the_true_rate_about_as_often_as_they_say():
    random, inside = np.random.default_rng(3), 0
    for _ in range(60):
        right = random.random((100, 1)) < 0.7
        (_, made), _ = bootstrap([Part(np.zeros(100, dtype=int), right.astype(float), 1.0)])
        inside += made[0, 0] <= 0.7 <= made[0, 1]
    assert 51 <= inside <= 60  # of 60 at 95 %: fewer than 51 happens once in a thousand


def test_the_interval_of_a_difference_is_the_paired_one():
    truth, first = draw(4, 500)
    _, noise = draw(5, 500)
    second = np.where(np.random.default_rng(6).random((1, 500)) < 0.9, first, noise)  # much like the first
    scores, differences = bootstrap([part_of(truth, first, second)], reference=1)
    assert np.array_equal(differences[:, 1], np.zeros((2, 2)))
    each = (first == truth).astype(int) - (second == truth)
    half = norm.ppf(0.975) * each.std() / np.sqrt(500)
    assert differences[1, 0] == pytest.approx([each.mean() - half, each.mean() + half], abs=0.006)
    assert np.ptp(differences[1, 0]) < 0.6 * np.ptp(scores[1, 0])  # unpaired it would be wider than one system's


def test_the_same_seed_draws_the_same_utterances_another_does_not():
    parts = [part_of(*draw(7, 80))]
    first, again, other = (bootstrap(parts, seed=seed)[0] for seed in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert np.abs(first - other).max() < 0.01


def test_a_part_of_one_utterance_stays_what_it_is():
    alone = Part(np.array([2]), np.array([[1.0]]), 0.5)
    truth, predicted = draw(8, 60)
    (ua, wa), _ = bootstrap([part_of(truth, predicted, weight=0.5), alone])
    (_, wa_before), _ = bootstrap([part_of(truth, predicted, weight=0.5)])
    assert wa[0] == pytest.approx(wa_before[0] + 0.5, abs=0.005) and ua[0, 1] <= 1


def pair(both: int, only_first: int, only_second: int, neither: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Whether each of two systems was right, on so many utterances of each kind."""
    counts = [both, only_first, only_second, neither]
    return np.repeat([True, True, False, False], counts), np.repeat([True, False, True, False], counts)


def test_mcnemar_gives_the_published_numbers():
    # Drug against placebo, 101, 59, 121, 33: chi-square 20.672222 with Yates' correction, p = 0.000005
    # (Cardillo 2007, the example of MATLAB File Exchange 15472)
    made = mcnemar(*pair(101, 59, 121, 33))
    assert (made.only_first, made.only_second, made.exact) == (59, 121, False)
    assert made.p == pytest.approx(chi2.sf(20.672222, 1), rel=1e-5) and round(made.p, 6) == 0.000005
    # 5 against 12: exact p = 0.143463 (readycalculator.com)
    assert mcnemar(*pair(40, 5, 12, 32)).p == pytest.approx(0.143463, abs=1e-6)


@pytest.mark.parametrize(("only_first", "only_second"), [(6, 16), (0, 5), (12, 12), (24, 0), (1, 0)])
def test_mcnemar_of_few_discordant_pairs_is_the_binomial_test(only_first, only_second):
    made = mcnemar(*pair(40, only_first, only_second))
    assert made.exact and made.p == pytest.approx(binomtest(only_first, only_first + only_second).pvalue)


def test_mcnemar_is_exact_below_25_discordant_pairs_and_says_nothing_of_none():
    for count, exact in ((24, True), (25, False)):
        assert mcnemar(*pair(10, count, 0)).exact is exact
    assert mcnemar(*pair(9, 0, 0)).p == 1


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.2]) == [0.2] and holm([]) == []


def test_p_over_seeds_by_hand():
    assert over_seeds([0.04]) == 0.04
    assert over_seeds([0.01, 0.3]) == 0.3  # of two both must show it
    assert over_seeds([0.9, 0.01, 0.02]) == pytest.approx(0.02 * 3 / 2)
    assert over_seeds([0.01, 0.01, 0.02, 0.9, 0.9]) == pytest.approx(0.02 * 5 / 3)
    assert over_seeds([0.8, 0.9, 0.9]) == 1


@pytest.mark.parametrize("alike", [0.0, 0.5, 0.95])
def test_p_over_seeds_errs_no_more_often_than_it_says_however_the_seeds_depend(alike):
    random = np.random.default_rng(0)
    common, own = random.standard_normal((4000, 1)), random.standard_normal((4000, 5))
    p_values = 2 * norm.sf(np.abs(np.sqrt(alike) * common + np.sqrt(1 - alike) * own))
    assert np.mean([over_seeds(row) < 0.05 for row in p_values]) < 0.06


def test_a_verdict_needs_both_intervals_and_the_test():
    assert verdict([0.01, 0.05], [0.02, 0.03], 0.01) == "better"
    assert verdict([-0.05, -0.01], [-0.03, -0.02], 0.01) == "worse"
    for ua, wa, p in (
        ([0.01, 0.05], [0.02, 0.03], 0.05),
        ([-0.01, 0.05], [0.02, 0.03], 0.01),
        ([0.01, 0.05], [0.0, 0.03], 0.01),
        ([0.01, 0.05], [-0.03, -0.02], 0.01),
    ):
        assert verdict(ua, wa, p) == "within noise"
