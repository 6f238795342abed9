"""Updates of the on-policy algorithms in NumPy, derived from the written formulas alone.

The policy is a linear Gaussian, mean = W^T o + b with a free log deviation s, and values are linear. Gradients,
divergences and the Fisher matrix then have short closed forms, and conjugate gradients are exact: 10 parameters, 15
iterations. Every constant below (rates, gains, tolerances) is the published one and is written out again here.
"""

from collections import deque
from typing import NamedTuple

import numpy as np

from algorithms.on_policy.catalogue import CATALOGUE

SAMPLES, OBS, ACTIONS = 60, 3, 2
PARAMETERS = OBS * ACTIONS + 2 * ACTIONS
LIMITS = (25.0, 10.0)
LENGTH, PROGRESS = 200.0, 0.25
DAMPING, RADIUS = 0.1, 0.01

# Mean costs of episodes, one row for each iteration; NaN while no episode has ended.
EPISODES = np.array(
    [[np.nan, np.nan], [20.0, 14.0], [31.0, 17.0], [np.nan, np.nan], [60.0, 9.0], [45.0, 21.0], [22.0, 3.0]]
    + [[28.0 + 7.0 * np.sin(2.0 * i), 12.0 + 4.0 * np.cos(3.0 * i)] for i in range(12)]
)
BARRIER_EPISODES = np.array([[np.nan, np.nan], [26.0, 10.0], [24.995, 2.0], [np.nan, np.nan], [24.96, 9.97]])
SWITCH_EPISODES = np.array([[26.9, 11.9], [27.5, 11.9], [np.nan, np.nan], [27.5, 13.0], [27.0, 12.0], [27.5, 9.0]])
EPISODE_COST = {1: [25.4], 2: [25.4, 9.9]}


# --- the policy and its data in NumPy --------------------------------------------------------------------------------


class Data(NamedTuple):
    """Experience of a policy with parameters `acting` (W by rows, b, s)."""

    obs: np.ndarray
    action: np.ndarray
    acting: np.ndarray
    reward: np.ndarray  # [N], standardised advantages
    costs: np.ndarray  # [N, C], centred advantages
    targets: np.ndarray  # [1 + C, N]


def draw(acting, count, seed=0):
    rng = np.random.default_rng(seed)
    obs, noise = rng.normal(size=(SAMPLES, OBS)), rng.normal(size=(SAMPLES, ACTIONS))
    mean, log_std = moments(acting, obs)
    # Advantages that depend on the action: with mere noise, steps would be as small as their rounding errors.
    reward = noise @ [0.7, -0.4] + rng.normal(size=SAMPLES)
    costs = 1.7 * (noise @ [[0.5, -0.2], [0.3, 0.6]] + 0.6 * rng.normal(size=(SAMPLES, 2)))[:, :count]
    targets = 2.0 * rng.normal(size=(3, SAMPLES))[: 1 + count]
    reward = (reward - reward.mean()) / reward.std()
    return Data(obs, mean + np.exp(log_std) * noise, acting, reward, costs - costs.mean(0), targets)


def moments(theta, obs):
    weight, bias, log_std = np.split(theta, [OBS * ACTIONS, OBS * ACTIONS + ACTIONS])
    return obs @ weight.reshape(OBS, ACTIONS) + bias, log_std


def log_prob(theta, data):
    mean, log_std = moments(theta, data.obs)
    z = (data.action - mean) / np.exp(log_std)
    return np.sum(-0.5 * z**2 - log_std - 0.5 * np.log(2.0 * np.pi), axis=1)


def ratio(theta, data):
    return np.exp(log_prob(theta, data) - log_prob(data.acting, data))


def through_outputs(by_mean, by_log_std, obs):
    """Chain rule per sample, [N, 10]: dmean_a/dW_ka = o_k, dmean_a/db_a = 1, ds_a/ds_a = 1."""
    by_weight = np.einsum("nk,na->nka", obs, by_mean).reshape(len(obs), -1)
    return np.hstack([by_weight, by_mean, np.broadcast_to(by_log_std, by_mean.shape)])


def score(theta, data):
    """d log pi(action) / d theta. With z = (a - mean) / std: z / std by the mean, z^2 - 1 by the log deviation."""
    mean, log_std = moments(theta, data.obs)
    z = (data.action - mean) / np.exp(log_std)
    return through_outputs(z / np.exp(log_std), z**2 - 1.0, data.obs)


def ratio_gradient(theta, data, factors):
    """Gradient of mean(factors * ratio): d ratio = ratio * d log pi."""
    return np.mean((factors * ratio(theta, data))[:, None] * score(theta, data), axis=0)


def kl(first, second, obs):
    """KL(first || second) per sample, summed over action dimensions:
    s2 - s1 + (std1^2 + (mean1 - mean2)^2) / (2 std2^2) - 1/2."""
    (mean1, s1), (mean2, s2) = moments(first, obs), moments(second, obs)
    return np.sum(s2 - s1 + (np.exp(2 * s1) + (mean1 - mean2) ** 2) / (2 * np.exp(2 * s2)) - 0.5, axis=1)


def kl_gradient(theta, other, obs):
    """Gradient of KL(theta || other) by theta, per sample: (mean - mean2) / std2^2 and -1 + std^2 / std2^2."""
    (mean, s), (mean2, s2) = moments(theta, obs), moments(other, obs)
    return through_outputs((mean - mean2) / np.exp(2 * s2), -1.0 + np.exp(2 * (s - s2)), obs)


def fisher(theta, obs, per_dimension):
    """Hessian of mean KL(theta || new) at new = theta, damped: 1 / std_a^2 in mean_a, 2 in s_a, nothing mixed."""
    _, log_std = moments(theta, obs)
    hessian = np.zeros((PARAMETERS, PARAMETERS))
    for a in range(ACTIONS):
        own = np.zeros((len(obs), PARAMETERS))  # d mean_a / d theta
        own[:, a : OBS * ACTIONS : ACTIONS] = obs
        own[:, OBS * ACTIONS + a] = 1.0
        hessian += own.T @ own / len(obs) * np.exp(-2.0 * log_std[a])
    hessian += np.diag([0.0] * (PARAMETERS - ACTIONS) + [2.0] * ACTIONS)
    return hessian / (ACTIONS if per_dimension else 1) + DAMPING * np.eye(PARAMETERS)


START = np.random.default_rng(1).normal(size=PARAMETERS) * ([0.4] * 8 + [0.2] * 2)
# For first-order updates the acting policy is another one: ratios then leave the clipping range from the first step.
ELSEWHERE = START + np.random.default_rng(2).normal(size=PARAMETERS) * ([0.075] * 8 + [0.03] * 2)
VALUES = np.random.default_rng(3).normal(size=(3, OBS + 1))


# --- Adam, by Kingma and Ba, and the steps of value functions --------------------------------------------------------


def adam(gradient, state):
    count, m, v = state
    count, m, v = count + 1, 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
    return (m / (1 - 0.9**count)) / (np.sqrt(v / (1 - 0.999**count)) + 1e-8), (count, m, v)


def warm(size, seed, scale):
    """Moments of an optimiser that has taken three steps. From zero moments Adam would show only signs."""
    rng = np.random.default_rng(seed)
    return 3, scale * rng.normal(size=size), 0.003 * (scale * rng.uniform(0.5, 1.5, size)) ** 2


def warm_states(count):
    return [warm(PARAMETERS, 5, 0.3), *(warm(OBS + 1, 6 + i, 2.0) for i in range(1 + count))]


def bounded(gradient, largest):
    return gradient * min(1.0, largest / np.linalg.norm(gradient))


def value_gradient(w, obs, target, l2):
    """Of mean (w . (o, 1) - target)^2 + l2 * |w|^2."""
    inputs = np.hstack([obs, np.ones((len(obs), 1))])
    return 2.0 * inputs.T @ (inputs @ w - target) / len(obs) + 2.0 * l2 * w


def learn_values(data, states, passes, rate, largest=40.0, l2=1e-3):
    new, states = list(VALUES[: len(data.targets)]), list(states)
    for _ in range(passes):
        for i, target in enumerate(data.targets):
            direction, states[i] = adam(bounded(value_gradient(new[i], data.obs, target, l2), largest), states[i])
            new[i] = new[i] - rate * direction
    return new, states


def descend(theta, data, gradient, state, origin, *, rate, target_kl, passes=2, largest=40.0):
    """Passes of one step each; stop once mean KL(origin || new) exceeds the target. Returns also each KL."""
    distances = []
    while len(distances) < passes and not (distances and distances[-1] > target_kl):
        direction, state = adam(bounded(gradient(theta, data), largest), state)
        theta = theta - rate * direction
        distances.append(np.mean(kl(origin, theta, data.obs)))
    return theta, state, distances


# --- losses of the first-order methods, as gradients -----------------------------------------------------------------


def plain_gradient(advantage):
    """L = -E[rho A]."""
    return lambda theta, data: -ratio_gradient(theta, data, advantage)


def clipped_gradient(advantage, epsilon=0.2):
    """L = -E[min(rho A, clip(rho, 1 - e, 1 + e) A)]: constant in rho where A > 0, rho > 1 + e or A < 0, rho < 1 - e."""

    def gradient(theta, data):
        rho = ratio(theta, data)
        constant = (advantage > 0) & (rho > 1 + epsilon) | (advantage < 0) & (rho < 1 - epsilon)
        return -ratio_gradient(theta, data, np.where(constant, 0.0, advantage))

    return gradient


def p3o_gradient(slack, clipped, kappa=20.0, epsilon=0.2):
    """L = L_clip(A_reward) + kappa sum_j max(0, E[rho A_j] + slack_j); for the paper, with
    max(rho A_j, clip(rho) A_j), constant where A_j > 0, rho < 1 - e or A_j < 0, rho > 1 + e."""

    def gradient(theta, data):
        total, rho = clipped_gradient(data.reward)(theta, data), ratio(theta, data)
        for cost, excess in zip(data.costs.T, slack, strict=True):
            surrogate, factors = rho * cost, cost
            if clipped:
                surrogate = np.maximum(surrogate, np.clip(rho, 1 - epsilon, 1 + epsilon) * cost)
                constant = (cost > 0) & (rho < 1 - epsilon) | (cost < 0) & (rho > 1 + epsilon)
                factors = np.where(constant, 0.0, cost)
            if surrogate.mean() + excess > 0:
                total = total + kappa * ratio_gradient(theta, data, factors)
        return total

    return gradient


def focops_gradient(advantage, per_sample, temperature=1.5, eta=0.02):
    """L = E[1(kl_i <= eta) (kl_i - rho_i A_i / temperature)], kl_i = KL(new || acting); in the libraries, where a mask
    [B, 1] meets ratios [B], E[1 kl] - E[1] E[rho A] / temperature."""

    def gradient(theta, data):
        mask = (kl(theta, data.acting, data.obs) <= eta).astype(float)
        assert 0.1 < mask.mean() < 0.9  # or this would be a test of something else
        near = np.mean(mask[:, None] * kl_gradient(theta, data.acting, data.obs), axis=0)
        return near - ratio_gradient(theta, data, (mask if per_sample else mask.mean()) * advantage / temperature)

    return gradient


def projection_gradient(halfway, cost, coefficient):
    """CUP, second half: L = E[coefficient * w rho A_cost + KL(new || halfway)], rho to the acting policy."""

    def gradient(theta, data):
        return ratio_gradient(theta, data, coefficient * cost) + kl_gradient(theta, halfway, data.obs).mean(0)

    return gradient


# --- multipliers, and what they make of advantages -------------------------------------------------------------------


def known(episodes):
    """Pairs of whether a row of costs is known and the row."""
    return [(not np.isnan(row).any(), row) for row in episodes]


def lagrange_by_adam(episodes, limits, cap=np.inf):
    """Descends on -w (cost - limit), that is, the gradient is limit - cost."""
    value, state, result = np.full(len(limits), 0.001), (0, 0.0, 0.0), []
    for there, cost in known(episodes):
        if there:
            direction, state = adam(limits - cost, state)
            value = np.clip(value - 0.035 * direction, 0.0, cap)
        result.append(value)
    return np.array(result)


def lagrange_by_gradient(episodes, limits, cap=2.0):
    value, result = np.zeros(len(limits)), []
    for there, cost in known(episodes):
        value = np.clip(value + 0.01 * (cost - limits), 0.0, cap) if there else value
        result.append(value)
    return np.array(result)


def pid(episodes, limits):
    value, past = np.full(len(limits), 0.001), deque([np.zeros(len(limits))], maxlen=10)
    integral, smooth, slow, result = value, 0.0, 0.0, []
    for there, cost in known(episodes):
        if there:
            integral = np.maximum(0.0, integral + 0.01 * (cost - limits))
            smooth = 0.95 * smooth + 0.05 * (cost - limits)
            slow = 0.95 * slow + 0.05 * cost
            value = np.maximum(0.0, 0.1 * smooth + integral + 0.01 * np.maximum(0.0, slow - past[0]))
            past.append(slow)
        result.append(value)
    return np.array(result)


def barrier(episodes, limits):
    value, result = np.zeros(len(limits)), []
    for there, cost in known(episodes):
        if there:
            weight = 0.01 / (limits - cost + 1e-8)
            value = np.where((weight < 0) | (weight > 1), 1.0, weight)
        result.append(value)
    return np.array(result)


def switch(episodes, limits):
    """The reward counts while each cost <= limit + 2, else the cost that exceeds its limit most."""
    value, result = np.zeros(len(limits)), []
    for there, cost in known(episodes):
        if there:
            excess = cost - limits
            value = np.zeros(len(limits))
            if excess.max() > 2.0:
                value[excess.argmax()] = 1.0
        result.append(value)
    return np.array(result)


def capped(episodes, limits):
    return lagrange_by_adam(episodes, limits, cap=2.0)


def shared(reward, costs, weights):
    """(A_r - sum w A_c) / (1 + sum w)."""
    return (reward - costs @ weights) / (1.0 + weights.sum())


def of_switch(reward, costs, weights):
    return -(costs @ weights) if weights.any() else reward


def of_reward(reward, costs, weights):
    return reward


MULTIPLIERS = {
    ("ppo_lag", "omnisafe"): (lagrange_by_adam, shared, EPISODES),
    ("trpo_lag", "omnisafe"): (lagrange_by_adam, shared, EPISODES),
    ("pdo", "omnisafe"): (lagrange_by_adam, shared, EPISODES),
    ("rcpo", "omnisafe"): (lagrange_by_adam, shared, EPISODES),
    ("cppo_pid", "omnisafe"): (pid, shared, EPISODES),
    ("trpo_pid", "omnisafe"): (pid, shared, EPISODES),
    ("focops", "omnisafe"): (capped, shared, EPISODES),
    ("focops", "paper"): (lagrange_by_gradient, lambda reward, costs, weights: reward - costs @ weights, EPISODES),
    ("cup", "omnisafe"): (capped, of_reward, EPISODES),
    ("cup", "paper"): (lagrange_by_gradient, of_reward, EPISODES),
    ("ipo", "omnisafe"): (barrier, shared, BARRIER_EPISODES),
    ("crpo", "omnisafe"): (switch, of_switch, SWITCH_EPISODES),
}


def multiplier_of(name, preset):
    if (
        CATALOGUE[name].constraint is None or CATALOGUE[name].constraint.name == "limits"
    ):  # whose margin is 0 by default
        return None, of_reward, EPISODES
    return MULTIPLIERS.get((name, preset)) or MULTIPLIERS[name, "omnisafe"]
