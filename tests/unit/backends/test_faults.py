"""A fault plan: the same seed hits the same requests, shares are kept, the first rule that applies decides."""

from __future__ import annotations

from backends.emulator.faults import KINDS, NO_FAULTS, Fault, FaultPlan, Rule


def kinds(plan: FaultPlan, requests: int = 2000, elapsed_s: float = 0.0) -> list[str | None]:
    picked = (plan.pick(number, elapsed_s) for number in range(1, requests + 1))
    return [None if fault is None else fault.kind for fault in picked]


def test_no_rules_no_faults() -> None:
    assert set(kinds(NO_FAULTS)) == {None}


def test_same_seed_same_requests_another_seed_others() -> None:
    rules = (Rule(Fault("cut"), share=0.3),)
    assert kinds(FaultPlan(rules, 7)) == kinds(FaultPlan(rules, 7))
    assert kinds(FaultPlan(rules, 7)) != kinds(FaultPlan(rules, 8))


def test_shares_are_kept_and_rules_draw_apart() -> None:
    plan = FaultPlan((Rule(Fault("cut"), share=0.2), Rule(Fault("hang"), share=0.5)), 1)
    seen = kinds(plan)
    assert abs(seen.count("cut") / 2000 - 0.2) < 0.03
    assert abs(seen.count("hang") / 2000 - 0.8 * 0.5) < 0.04


def test_the_first_rule_that_applies_decides() -> None:
    assert set(kinds(FaultPlan(tuple(Rule(Fault(kind)) for kind in KINDS)))) == {KINDS[0]}


def test_a_window_opens_and_closes() -> None:
    plan = FaultPlan((Rule(Fault("slow"), from_s=2.0, until_s=3.0),))
    assert [kinds(plan, 1, at)[0] for at in (0.0, 2.0, 2.9, 3.0)] == [None, "slow", "slow", None]
