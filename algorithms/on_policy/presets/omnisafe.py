"""The algorithms as OmniSafe runs them."""

_FIRST_ORDER = {"reset_at_iteration_start": True, "entropy_per_dimension": True}
_TRUST_REGION = {"reset_at_iteration_start": True, "kl_per_dimension": True}
_SCALED = {"normalize_rewards": True, "normalize_costs": True}
# OmniSafe runs early termination in one environment, where fresh starts cut one episode in an iteration. Side by side
# they would cut one in each environment, the long ones more often, and leave a mean over short episodes.
_EARLY_TERMINATION = {"observe_budget": False, "keep_counting": True, "reset_at_iteration_start": False}
_SAUTE = {"final_budget_is_reset": True}
_SIMMER = {
    **_SAUTE,
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

PRESETS = {
    "policy_gradient": {**_FIRST_ORDER, "passes": 10, "episode_window": 50},
    "natural_pg": _TRUST_REGION,
    "trpo": _TRUST_REGION,
    "ppo": _FIRST_ORDER,
    "ppo_lag": _FIRST_ORDER,
    "trpo_lag": _TRUST_REGION,
    "pdo": {**_FIRST_ORDER, **_SCALED},
    "rcpo": _TRUST_REGION,
    "cppo_pid": _FIRST_ORDER,
    "trpo_pid": _TRUST_REGION,
    "cpo": {**_TRUST_REGION, "dual": "library", "cost_units": "episode"},
    "pcpo": {**_TRUST_REGION, "projection": "library", "cost_units": "episode"},
    "focops": {**_FIRST_ORDER, "multiplier_max": 2.0, "focops_mask": "share", "focops_scaled": True},
    "cup": {**_FIRST_ORDER, "multiplier_max": 2.0},
    "ipo": {**_FIRST_ORDER, **_SCALED, "passes": 10},
    "p3o": {**_FIRST_ORDER, "penalty_clipped": False, "cost_units": "episode"},
    "crpo": _TRUST_REGION,
    "ppo_early_terminated": {**_FIRST_ORDER, **_EARLY_TERMINATION},
    "ppo_saute": {**_FIRST_ORDER, **_SAUTE},
    "ppo_simmer_pid": {**_FIRST_ORDER, **_SIMMER},
    "trpo_early_terminated": {**_TRUST_REGION, **_EARLY_TERMINATION},
    "trpo_saute": {**_TRUST_REGION, **_SAUTE},
    "trpo_simmer_pid": {**_TRUST_REGION, **_SIMMER},
}
