"""The catalogue of on-policy algorithms: each entry is a product of parts.

Published hyper-parameters are data of their own (`algorithms.on_policy.presets`).
"""

from __future__ import annotations

import dataclasses

from algorithms.constraints import BARRIER, LAGRANGE, LAGRANGE_SEPARATE, LIMITS, PID_CONTROL, RECTIFIED
from algorithms.on_policy.interfaces import UpdatePart
from algorithms.on_policy.presets import presets_of
from algorithms.on_policy.updates import cpo, cup, focops, natural_gradient, p3o, pcpo, policy_gradient, ppo, trpo
from algorithms.spec import AlgorithmSpec, ConstraintPart
from algorithms.transforms import early_termination, saute, simmer


@dataclasses.dataclass(frozen=True, kw_only=True)
class OnPolicySpec(AlgorithmSpec):
    """One on-policy algorithm.

    Attributes:
        update: update of the policy.
        constraint: treatment of costs, None for a method that ignores costs.
    """

    update: UpdatePart
    constraint: ConstraintPart | None = None

    @property
    def parts(self) -> dict[str, str | None]:
        """Names of the update, the constraint and the transform."""
        axes = {"update": self.update, "constraint": self.constraint, "transform": self.transform}
        return {axis: part.name if part else None for axis, part in axes.items()}


_RAY = "Ray, Achiam and Amodei 2019, Benchmarking safe exploration in deep reinforcement learning"
_STOOKE = "Stooke, Achiam and Abbeel 2020, arXiv:2007.03964"

_ROWS: dict[str, OnPolicySpec] = {
    "policy_gradient": OnPolicySpec(
        aliases=("PolicyGradient", "pg"),
        summary="Policy gradient that ignores costs.",
        paper="Sutton et al. 1999, Policy gradient methods for reinforcement learning with function approximation",
        update=policy_gradient.PART,
    ),
    "natural_pg": OnPolicySpec(
        aliases=("NaturalPG",),
        summary="Natural policy gradient that ignores costs.",
        paper="Kakade 2001, A natural policy gradient",
        update=natural_gradient.PART,
    ),
    "trpo": OnPolicySpec(
        aliases=("TRPO",),
        summary="Trust-region policy optimisation that ignores costs.",
        paper="Schulman et al. 2015, arXiv:1502.05477",
        update=trpo.PART,
    ),
    "ppo": OnPolicySpec(
        aliases=("PPO",),
        summary="Clipped policy gradient that ignores costs.",
        paper="Schulman et al. 2017, arXiv:1707.06347",
        update=ppo.PART,
    ),
    "ppo_lag": OnPolicySpec(
        aliases=("PPOLag", "PPO-Lag"),
        summary="PPO with a Lagrange multiplier that follows the cost by gradient steps.",
        paper=_RAY,
        update=ppo.PART,
        constraint=LAGRANGE,
    ),
    "trpo_lag": OnPolicySpec(
        aliases=("TRPOLag", "TRPO-Lag"),
        summary="Trust-region policy optimisation with a Lagrange multiplier.",
        paper=_RAY,
        update=trpo.PART,
        constraint=LAGRANGE,
    ),
    "pdo": OnPolicySpec(
        aliases=("PDO",),
        summary="Primal-dual optimisation: policy gradient with a Lagrange multiplier.",
        paper="Chow et al. 2018, arXiv:1512.01629",
        update=policy_gradient.PART,
        constraint=LAGRANGE,
    ),
    "rcpo": OnPolicySpec(
        aliases=("RCPO",),
        summary="Reward-constrained policy optimisation: natural policy gradient with a Lagrange multiplier.",
        paper="Tessler, Mankowitz and Mannor 2019, arXiv:1805.11074",
        update=natural_gradient.PART,
        constraint=LAGRANGE,
    ),
    "cppo_pid": OnPolicySpec(
        aliases=("CPPOPID", "CPPO-PID", "ppo_pid"),
        summary="PPO with a multiplier set by a PID controller of the cost.",
        paper=_STOOKE,
        update=ppo.PART,
        constraint=PID_CONTROL,
    ),
    "trpo_pid": OnPolicySpec(
        aliases=("TRPOPID", "TRPO-PID"),
        summary="Trust-region policy optimisation with a multiplier set by a PID controller of the cost.",
        paper=_STOOKE,
        update=trpo.PART,
        constraint=PID_CONTROL,
    ),
    "cpo": OnPolicySpec(
        aliases=("CPO",),
        summary="Constrained policy optimisation: the best step within a trust region and the linearised constraint.",
        paper="Achiam et al. 2017, arXiv:1705.10528",
        update=cpo.PART,
        constraint=LIMITS,
    ),
    "pcpo": OnPolicySpec(
        aliases=("PCPO",),
        summary="Projection-based CPO: a step for the reward, projected onto the linearised constraint.",
        paper="Yang et al. 2020, arXiv:2010.03152",
        update=pcpo.PART,
        constraint=LIMITS,
    ),
    "focops": OnPolicySpec(
        aliases=("FOCOPS",),
        summary="First-order constrained optimisation in policy space: towards the best nearby policy by gradients.",
        paper="Zhang, Vuong and Ross 2020, arXiv:2002.06506",
        update=focops.PART,
        constraint=LAGRANGE,
    ),
    "cup": OnPolicySpec(
        aliases=("CUP",),
        summary="Constrained update projection: PPO on rewards, then a projection that lowers costs.",
        paper="Yang et al. 2022, arXiv:2209.07089",
        update=cup.PART,
        constraint=LAGRANGE_SEPARATE,
    ),
    "ipo": OnPolicySpec(
        aliases=("IPO",),
        summary="Interior-point policy optimisation: PPO with a logarithmic barrier at the limit.",
        paper="Liu, Ding and Liu 2020, arXiv:1910.09615",
        update=ppo.PART,
        constraint=BARRIER,
    ),
    "p3o": OnPolicySpec(
        aliases=("P3O",),
        summary="Penalized PPO: an exact penalty on the violation of the limit.",
        paper="Zhang et al. 2022, arXiv:2205.11814",
        update=p3o.PART,
        constraint=LIMITS,
    ),
    "crpo": OnPolicySpec(
        aliases=("OnCRPO", "CRPO"),
        summary="Constraint-rectified policy optimisation: a trust-region step for the reward or for a violated cost.",
        paper="Xu, Liang and Lan 2021, arXiv:2011.05869",
        update=trpo.PART,
        constraint=RECTIFIED,
    ),
    "ppo_early_terminated": OnPolicySpec(
        aliases=("PPOEarlyTerminated", "PPO-ET"),
        summary="PPO on a process whose episodes end when their cost exceeds the limit.",
        paper="Sun et al. 2021, arXiv:2107.04200",
        update=ppo.PART,
        transform=early_termination.PART,
    ),
    "ppo_saute": OnPolicySpec(
        aliases=("PPOSaute",),
        summary="PPO with a budget of costs in the observation and no reward beyond it.",
        paper="Sootla et al. 2022, arXiv:2202.06558",
        update=ppo.PART,
        transform=saute.PART,
    ),
    "ppo_simmer_pid": OnPolicySpec(
        aliases=("PPOSimmerPID",),
        summary="PPO Saute whose budget a controller raises over the run.",
        paper="Sootla et al. 2022, arXiv:2206.02675",
        update=ppo.PART,
        transform=simmer.PART,
    ),
    "trpo_early_terminated": OnPolicySpec(
        aliases=("TRPOEarlyTerminated", "TRPO-ET"),
        summary="TRPO on a process whose episodes end when their cost exceeds the limit.",
        paper="Sun et al. 2021, arXiv:2107.04200",
        update=trpo.PART,
        transform=early_termination.PART,
    ),
    "trpo_saute": OnPolicySpec(
        aliases=("TRPOSaute",),
        summary="TRPO with a budget of costs in the observation and no reward beyond it.",
        paper="Sootla et al. 2022, arXiv:2202.06558",
        update=trpo.PART,
        transform=saute.PART,
    ),
    "trpo_simmer_pid": OnPolicySpec(
        aliases=("TRPOSimmerPID",),
        summary="TRPO Saute whose budget a controller raises over the run.",
        paper="Sootla et al. 2022, arXiv:2206.02675",
        update=trpo.PART,
        transform=simmer.PART,
    ),
}

CATALOGUE = {name: dataclasses.replace(row, presets=presets_of(name)) for name, row in _ROWS.items()}
