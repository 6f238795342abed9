"""The table of algorithms: each row is a product of parts with its published hyper-parameters.

Presets:

- `paper` (the default): the method as its paper writes it, with the sizes and rates the benchmarks published for it.
  Episodes run on across iterations.
- `omnisafe`: as OmniSafe runs it. Every iteration starts from fresh resets, and the divergence of a trust region is
  averaged over action dimensions.
- `safepo`: as SafePO runs it, for those it has. Ten environments, one bound on the gradient of all networks together,
  and a mean over 50 episodes.

Where a library departs from a paper, its preset sets a documented switch of the part concerned.

A preset replaces defaults of the options class; what the user passes replaces both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from algorithms.constraints import BARRIER, LAGRANGE, LAGRANGE_APART, LIMITS, PID_CONTROL, SWITCH
from algorithms.on_policy.interfaces import ConstraintPart, TransformPart, UpdatePart
from algorithms.on_policy.updates import cpo, cup, focops, natural_gradient, p3o, pcpo, policy_gradient, ppo, trpo
from algorithms.transforms import early_termination, saute, simmer


class Row(NamedTuple):
    """One on-policy algorithm.

    Attributes:
        aliases: other names, compared without case.
        summary: one sentence.
        paper: where the method comes from.
        update: how the policy is updated.
        constraint: how costs weigh on it, None for a method that does not look at them.
        transform: how the decision process is rewritten first, None if it is not.
        presets: name to replaced defaults.
    """

    aliases: tuple[str, ...]
    summary: str
    paper: str
    update: UpdatePart
    constraint: ConstraintPart | None = None
    transform: TransformPart | None = None
    presets: Mapping[str, Mapping[str, Any]] = {}


_OMNISAFE = {"reset_at_iteration_start": True}
_SAFEPO = {
    "num_envs": 10,
    "joint_grad_norm": True,
    "episode_window": 50,
    "observation_clip": 1e6,
    "raw_final_observation": True,
}
_SAFEPO_LIMITED = {**_SAFEPO, "smooth_costs_twice": True}
_SCALED = {"normalize_rewards": True, "normalize_costs": True}


def _presets(
    omnisafe: Mapping[str, Any] | None = None,
    safepo: Mapping[str, Any] | None = None,
    paper: Mapping[str, Any] | None = None,
    *,
    in_safepo: bool = True,
    limited: bool = True,
) -> dict[str, Mapping[str, Any]]:
    """Presets of a row: what an algorithm changes beyond what each library changes for all of them.

    Args:
        omnisafe: changes of that preset.
        safepo: changes of that preset.
        paper: changes of that preset.
        in_safepo: whether SafePO has the algorithm.
        limited: whether the algorithm has limits on costs.
    """
    found: dict[str, Mapping[str, Any]] = {"paper": paper or {}, "omnisafe": {**_OMNISAFE, **(omnisafe or {})}}
    for_all = _SAFEPO_LIMITED if limited else _SAFEPO
    return {**found, "safepo": {**for_all, **(safepo or {})}} if in_safepo else found


def _first_order(
    omnisafe: Mapping[str, Any] | None = None, *others: Mapping[str, Any], in_safepo: bool = True, limited: bool = True
) -> dict[str, Mapping[str, Any]]:
    """Presets of a row whose policy takes gradient steps."""
    omnisafe = {"entropy_per_dimension": True, **(omnisafe or {})}
    return _presets(omnisafe, *others, in_safepo=in_safepo, limited=limited)


_PER_DIMENSION = {"kl_per_dimension": True}
_SECOND_ORDER = _presets(_PER_DIMENSION, _PER_DIMENSION)
_CAP_2 = {"multiplier_max": 2.0}
_PLAIN_ASCENT = {"multiplier_optimizer": "sgd", "multiplier_learning_rate": 0.01, "multiplier_init": 0.0}
_FOCOPS_LIBRARY = {**_CAP_2, "focops_mask": "share", "focops_scaled": True}
_CPO_LIBRARY = {**_PER_DIMENSION, "dual": "library", "cost_units": "episode"}
_PCPO_LIBRARY = {**_PER_DIMENSION, "projection": "library", "cost_units": "episode"}
_RAY = "Ray, Achiam and Amodei 2019, Benchmarking safe exploration in deep reinforcement learning"
_STOOKE = "Stooke, Achiam and Abbeel 2020, arXiv:2007.03964"
# OmniSafe runs early termination in one environment, where fresh starts cut one episode in an iteration. Side by side
# they would cut one in each environment, the long ones more often, and leave a mean over short episodes.
_EARLY_TERMINATION_LIBRARY = {"observe_budget": False, "keep_counting": True, "reset_at_iteration_start": False}
_SAUTE_LIBRARY = {"final_budget_is_reset": True}
_SIMMER_LIBRARY = {
    **_SAUTE_LIBRARY,
    "initial_budget": 1.0,
    "budget_kp": 5e-4,
    "budget_ki": 1e-5,
    "budget_kaw": 0.0,
    "budget_smoothing": 0.995,
    "budget_window": 10,
    "reference_is_last_budget": True,
    "divide_by_current": True,
    "start_full": True,
}

TABLE: dict[str, Row] = {
    "policy_gradient": Row(
        aliases=("PolicyGradient", "pg"),
        summary="Policy gradient that does not look at costs.",
        paper="Sutton et al. 1999, Policy gradient methods for reinforcement learning with function approximation",
        update=policy_gradient.PART,
        presets=_first_order({"passes": 10, "episode_window": 50}, limited=False),
    ),
    "natural_pg": Row(
        aliases=("NaturalPG",),
        summary="Natural policy gradient that does not look at costs.",
        paper="Kakade 2001, A natural policy gradient",
        update=natural_gradient.PART,
        presets=_presets(_PER_DIMENSION, _PER_DIMENSION, limited=False),
    ),
    "trpo": Row(
        aliases=("TRPO",),
        summary="Trust-region policy optimisation that does not look at costs.",
        paper="Schulman et al. 2015, arXiv:1502.05477",
        update=trpo.PART,
        presets=_presets(_PER_DIMENSION, _PER_DIMENSION, limited=False),
    ),
    "ppo": Row(
        aliases=("PPO",),
        summary="Clipped policy gradient that does not look at costs.",
        paper="Schulman et al. 2017, arXiv:1707.06347",
        update=ppo.PART,
        presets=_first_order(limited=False),
    ),
    "ppo_lag": Row(
        aliases=("PPOLag", "PPO-Lag"),
        summary="PPO with a Lagrange multiplier that follows the cost by gradient steps.",
        paper=_RAY,
        update=ppo.PART,
        constraint=LAGRANGE,
        presets=_first_order(),
    ),
    "trpo_lag": Row(
        aliases=("TRPOLag", "TRPO-Lag"),
        summary="Trust-region policy optimisation with a Lagrange multiplier.",
        paper=_RAY,
        update=trpo.PART,
        constraint=LAGRANGE,
        presets=_SECOND_ORDER,
    ),
    "pdo": Row(
        aliases=("PDO",),
        summary="Primal-dual optimisation: policy gradient with a Lagrange multiplier.",
        paper="Chow et al. 2018, arXiv:1512.01629",
        update=policy_gradient.PART,
        constraint=LAGRANGE,
        presets=_first_order(_SCALED, in_safepo=False),
    ),
    "rcpo": Row(
        aliases=("RCPO",),
        summary="Reward-constrained policy optimisation: natural policy gradient with a Lagrange multiplier.",
        paper="Tessler, Mankowitz and Mannor 2019, arXiv:1805.11074",
        update=natural_gradient.PART,
        constraint=LAGRANGE,
        presets=_SECOND_ORDER,
    ),
    "cppo_pid": Row(
        aliases=("CPPOPID", "CPPO-PID", "ppo_pid"),
        summary="PPO with a multiplier set by a PID controller of the cost.",
        paper=_STOOKE,
        update=ppo.PART,
        constraint=PID_CONTROL,
        presets=_first_order(),
    ),
    "trpo_pid": Row(
        aliases=("TRPOPID", "TRPO-PID"),
        summary="Trust-region policy optimisation with a multiplier set by a PID controller of the cost.",
        paper=_STOOKE,
        update=trpo.PART,
        constraint=PID_CONTROL,
        presets=_presets(_PER_DIMENSION, in_safepo=False),
    ),
    "cpo": Row(
        aliases=("CPO",),
        summary="Constrained policy optimisation: the best step within a trust region and the linearised constraint.",
        paper="Achiam et al. 2017, arXiv:1705.10528",
        update=cpo.PART,
        constraint=LIMITS,
        presets=_presets(_CPO_LIBRARY, {**_CPO_LIBRARY, "line_search_tries": 15}),
    ),
    "pcpo": Row(
        aliases=("PCPO",),
        summary="Projection-based CPO: a step for the reward, projected onto the linearised constraint.",
        paper="Yang et al. 2020, arXiv:2010.03152",
        update=pcpo.PART,
        constraint=LIMITS,
        presets=_presets(_PCPO_LIBRARY, _PCPO_LIBRARY),
    ),
    "focops": Row(
        aliases=("FOCOPS",),
        summary="First-order constrained optimisation in policy space: towards the best nearby policy by gradients.",
        paper="Zhang, Vuong and Ross 2020, arXiv:2002.06506",
        update=focops.PART,
        constraint=LAGRANGE,
        presets=_first_order(
            _FOCOPS_LIBRARY,
            _FOCOPS_LIBRARY,
            {**_CAP_2, **_PLAIN_ASCENT},
        ),
    ),
    "cup": Row(
        aliases=("CUP",),
        summary="Constrained update projection: PPO on rewards, then a projection that lowers costs.",
        paper="Yang et al. 2022, arXiv:2209.07089",
        update=cup.PART,
        constraint=LAGRANGE_APART,
        presets=_first_order(_CAP_2, {"multiplier_max": 0.2, "target_kl": 0.02}, {**_CAP_2, **_PLAIN_ASCENT}),
    ),
    "ipo": Row(
        aliases=("IPO",),
        summary="Interior-point policy optimisation: PPO with a logarithmic barrier at the limit.",
        paper="Liu, Ding and Liu 2020, arXiv:1910.09615",
        update=ppo.PART,
        constraint=BARRIER,
        presets=_first_order({**_SCALED, "passes": 10}, in_safepo=False),
    ),
    "p3o": Row(
        aliases=("P3O",),
        summary="Penalized PPO: an exact penalty on the violation of the limit.",
        paper="Zhang et al. 2022, arXiv:2205.11814",
        update=p3o.PART,
        constraint=LIMITS,
        presets=_first_order({"penalty_clipped": False, "cost_units": "episode"}, in_safepo=False),
    ),
    "crpo": Row(
        aliases=("OnCRPO", "CRPO"),
        summary="Constraint-rectified policy optimisation: a trust-region step for the reward or for a violated cost.",
        paper="Xu, Liang and Lan 2021, arXiv:2011.05869",
        update=trpo.PART,
        constraint=SWITCH,
        presets=_presets(_PER_DIMENSION, in_safepo=False),
    ),
    "ppo_early_terminated": Row(
        aliases=("PPOEarlyTerminated", "PPO-ET"),
        summary="PPO on a process whose episodes end when their cost exceeds the limit.",
        paper="Sun et al. 2021, arXiv:2107.04200",
        update=ppo.PART,
        transform=early_termination.PART,
        presets=_first_order(_EARLY_TERMINATION_LIBRARY, in_safepo=False),
    ),
    "ppo_saute": Row(
        aliases=("PPOSaute",),
        summary="PPO with a budget of costs in the observation and no reward beyond it.",
        paper="Sootla et al. 2022, arXiv:2202.06558",
        update=ppo.PART,
        transform=saute.PART,
        presets=_first_order(_SAUTE_LIBRARY, in_safepo=False),
    ),
    "ppo_simmer_pid": Row(
        aliases=("PPOSimmerPID",),
        summary="PPO Saute whose budget a controller raises over the run.",
        paper="Sootla et al. 2022, arXiv:2206.02675",
        update=ppo.PART,
        transform=simmer.PART,
        presets=_first_order(_SIMMER_LIBRARY, in_safepo=False),
    ),
    "trpo_early_terminated": Row(
        aliases=("TRPOEarlyTerminated", "TRPO-ET"),
        summary="TRPO on a process whose episodes end when their cost exceeds the limit.",
        paper="Sun et al. 2021, arXiv:2107.04200",
        update=trpo.PART,
        transform=early_termination.PART,
        presets=_presets({**_PER_DIMENSION, **_EARLY_TERMINATION_LIBRARY}, in_safepo=False),
    ),
    "trpo_saute": Row(
        aliases=("TRPOSaute",),
        summary="TRPO with a budget of costs in the observation and no reward beyond it.",
        paper="Sootla et al. 2022, arXiv:2202.06558",
        update=trpo.PART,
        transform=saute.PART,
        presets=_presets({**_PER_DIMENSION, **_SAUTE_LIBRARY}, in_safepo=False),
    ),
    "trpo_simmer_pid": Row(
        aliases=("TRPOSimmerPID",),
        summary="TRPO Saute whose budget a controller raises over the run.",
        paper="Sootla et al. 2022, arXiv:2206.02675",
        update=trpo.PART,
        transform=simmer.PART,
        presets=_presets({**_PER_DIMENSION, **_SIMMER_LIBRARY}, in_safepo=False),
    ),
}
