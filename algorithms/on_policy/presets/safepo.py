"""The algorithms as SafePO runs them, those it has."""

_ALL = {
    "num_envs": 10,
    "joint_grad_norm": True,
    "episode_window": 50,
    "observation_clip": 1e6,
    "raw_final_observation": True,
}
_LIMITED = {**_ALL, "smooth_costs_twice": True}
_TRUST_REGION = {"kl_per_dimension": True}

PRESETS = {
    "policy_gradient": _ALL,
    "natural_pg": {**_ALL, **_TRUST_REGION},
    "trpo": {**_ALL, **_TRUST_REGION},
    "ppo": _ALL,
    "ppo_lag": _LIMITED,
    "trpo_lag": {**_LIMITED, **_TRUST_REGION},
    "rcpo": {**_LIMITED, **_TRUST_REGION},
    "cppo_pid": _LIMITED,
    "cpo": {**_LIMITED, **_TRUST_REGION, "dual": "library", "cost_units": "episode", "line_search_tries": 15},
    "pcpo": {**_LIMITED, **_TRUST_REGION, "projection": "library", "cost_units": "episode"},
    "focops": {**_LIMITED, "multiplier_max": 2.0, "focops_mask": "share", "focops_scaled": True},
    "cup": {**_LIMITED, "multiplier_max": 0.2, "target_kl": 0.02},
}
