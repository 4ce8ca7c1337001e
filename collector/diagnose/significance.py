"""How surprising a finding is, in one currency: decades, the negative decimal logarithm of its chance.

3 decades: what was seen would come about once in a thousand healthy windows. Every signal is measured
against the baseline's own variation, and both tails are kept heavy on purpose: a baseline is short, and
what it has not seen yet is not impossible.
"""

from __future__ import annotations

import math
from typing import Final

# Healthy windows differ among themselves by more than chance: users do other things, caches are cold.
# A correlation of two percent within a window makes a thousand visits worth about fifty.
WITHIN_WINDOW_CORRELATION: Final = 0.02
# A baseline of a few blocks of time does not support a thinner tail than this.
FREEDOM_MAX: Final = 8.0
JEFFREYS: Final = 0.5  # prior weight of a step that was never seen, and of one that was always seen
# What goes wrong is rare even in an operation that was never seen: as if four healthy runs more without it.
RARE_VISITS: Final = 4.0
# What no healthy run ever did is as likely as not something that healthy runs never do.
NEVER_SHARE: Final = 0.5
# Beyond what counting proves, the length of a delay is believed only so much: a short baseline has not met
# the machine's own stalls, which are rare and long.
LENGTH_WEIGHT: Final = 0.2
DECADES_MAX: Final = 30.0
_LN10: Final = math.log(10)


def shift_decades(t: float, freedom: float = FREEDOM_MAX) -> float:
    """Surprise of a shift of `t` standard errors upwards; 0 for none or downwards.

    Args:
        freedom: degrees of freedom of Student's t: how well the standard error itself is known.
    Source: the tail as an incomplete beta function, by its series; Abramowitz and Stegun, 26.5.4, 26.5.27.
    """
    if t <= 0.25:
        return 0.0  # where the series is slow, there is nothing to see
    a = min(max(freedom, 1.0), FREEDOM_MAX) / 2
    x = 2 * a / (2 * a + t * t)
    term = total = 1.0
    step = 0
    while term > 1e-12 * total:
        term *= (a + 0.5 + step) / (a + 1 + step) * x
        total += term
        step += 1
    log_beta = math.lgamma(a) + math.lgamma(0.5) - math.lgamma(a + 0.5)
    both_tails = a * math.log(x) + 0.5 * math.log1p(-x) - math.log(a) - log_beta + math.log(total)
    return min(DECADES_MAX, max(0.0, -both_tails / _LN10))


def share_decades(
    hits: int,
    visits: int,
    healthy_hits: int,
    healthy_visits: int,
    *,
    rare: bool = False,
    by_rule: bool = False,
) -> float:
    """Surprise of seeing a thing in so many of the visits, given how often healthy visits have it.

    The chance, by a beta-binomial distribution, of at least `hits` in `visits`; 0 where no more were
    seen than expected.

    Args:
        rare: it is something that goes wrong, and therefore not expected where nothing is known.
        by_rule: what no healthy visit has may be what they never have (`NEVER_SHARE`). Of the many visits
            of a stretch of time some few always do what nobody did before; of one request that is news.

    Source: posterior prediction with Jeffreys' prior; Gelman et al., "Bayesian Data Analysis", 2.4. With a
    rule it is a mixture of that prior and of a share of exactly 0, ibid. 7.4.
    """
    visits_worth, hits_worth = _worth(visits, hits)
    healthy_worth, healthy_hits_worth = _worth(healthy_visits, healthy_hits)
    a = healthy_hits_worth + JEFFREYS
    b = healthy_worth - healthy_hits_worth + JEFFREYS
    if rare and not healthy_hits:
        b += RARE_VISITS
    if visits_worth <= 0 or hits_worth / visits_worth <= a / (a + b):
        return 0.0
    whole = max(1, round(visits_worth))
    first = min(whole, max(1, round(hits_worth)))
    decades = -_log10_tail(first, whole, a, b)
    if by_rule and not healthy_hits:
        decades += _rule_decades(healthy_worth)
    return min(DECADES_MAX, decades)


def longest_decades(count: int, healthy: int) -> float:
    """Surprise of so many delays being longer than all healthy ones, whatever lengths of time are like.

    Each order of the two together is as likely as any other.
    """
    return (math.lgamma(count + healthy + 1) - math.lgamma(count + 1) - math.lgamma(healthy + 1)) / _LN10


def believed(decades: float, proven: float) -> float:
    """What the surprise of a delay is worth when counting proves only so much of it."""
    return decades if decades <= proven else proven + LENGTH_WEIGHT * (decades - proven)


def corrected(decades: float, looked_at: int) -> float:
    """The surprise that is left when so many things were looked at (Bonferroni); never below 0."""
    return max(0.0, decades - math.log10(max(1, looked_at)))


def _rule_decades(worth: float) -> float:
    """How surprising it is that there is no rule, after so many visits that kept to it."""
    kept = math.lgamma(JEFFREYS + worth) + math.lgamma(2 * JEFFREYS)
    kept -= math.lgamma(2 * JEFFREYS + worth) + math.lgamma(JEFFREYS)
    by_chance = (1 - NEVER_SHARE) * math.exp(kept)
    return -math.log10(by_chance / (by_chance + NEVER_SHARE))


def _worth(visits: int, hits: int) -> tuple[float, float]:
    """How many independent visits these are worth, and how many hits among them."""
    if visits <= 0:
        return 0.0, 0.0
    worth = visits / (1 + (visits - 1) * WITHIN_WINDOW_CORRELATION)
    return worth, hits * worth / visits


def _log10_tail(first: int, whole: int, a: float, b: float) -> float:
    """Decimal logarithm of P(K >= first) for K ~ beta-binomial(whole, a, b)."""
    total = 0.0
    largest = None
    for k in range(first, whole + 1):
        term = (
            math.lgamma(whole + 1)
            - math.lgamma(k + 1)
            - math.lgamma(whole - k + 1)
            + math.lgamma(k + a)
            + math.lgamma(whole - k + b)
            - math.lgamma(whole + a + b)
            - math.lgamma(a)
            - math.lgamma(b)
            + math.lgamma(a + b)
        )
        if largest is None:
            largest = term
        total += math.exp(term - largest)
    assert largest is not None  # the range is never empty
    return min(0.0, (largest + math.log(total)) / _LN10)
