"""Rewritten decision processes against plain loops, and what is learned in them against exact optima."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import algorithms
import jsafe
from algorithms.on_policy import loop
from algorithms.on_policy.transforms import simmer
from algorithms.on_policy.transforms.early_termination import EarlyTerminated
from algorithms.on_policy.transforms.saute import Sauted
from algorithms.on_policy.transforms.simmer import Simmered
from algorithms.registry import TABLE, options_of
from envs_mjx.analytic import STRESS, early_termination_optimum, saute_optimum
from experiments.evaluate import run_episodes
from experiments.policies import Policies
from jsafe import Env, rollout
from tests.toys import Counter, Lever, PointMass

NAMES = [name for name, row in TABLE.items() if row.transform]
TINY = {"num_envs": 4, "steps_per_iteration": 80, "minibatch_size": 20, "passes": 2, "hidden_sizes": (8, 8)}


@dataclasses.dataclass(frozen=True)
class Remembering(PointMass):
    """A point mass that counts its episodes in `info`."""

    def reset(self, key):
        return super().reset(key).replace(info={"episode": jnp.zeros(())})

    def step(self, state, action):
        assert set(state.info) == {"episode"} and state.obs.shape == (5,)
        return super().step(state, action).replace(info=state.info)

    def carry_over(self, done, after, fresh):
        assert set(after.info) == {"episode"} and fresh.obs.shape == (5,)
        return fresh.replace(info={"episode": after.info["episode"] + done})


def kinds(env):
    return [
        EarlyTerminated(env, 2.0),
        EarlyTerminated(env, 2.0, observe_budget=False, keep_counting=True),
        Sauted(env, 2.5),
        Sauted(env, 2.5, saute_discount=0.9, final_budget_is_reset=True),
        Simmered(env, 2.5),
        Simmered(env, 2.5, divide_by_current=True, start_full=True),
    ]


def record(env, num_steps, num_envs=3, write=None):
    """Random actions in `num_envs` environments; every leaf is `[T, N, ...]`."""
    spec = env.spec

    def act(obs, key):
        if spec.num_actions:
            return jax.random.randint(key, obs.shape[:1], 0, spec.num_actions), obs
        return jax.random.uniform(key, (obs.shape[0], spec.action_size), minval=-1.0, maxval=1.0), obs

    @jax.jit
    def run():
        state = rollout.init(env, jax.random.key(0), num_envs)
        if write:
            state = dataclasses.replace(state, env=write(state.env))
        return rollout.unroll(env, act, state, jax.random.key(1), num_steps)

    state, transitions = run()
    return state, jax.tree.map(np.asarray, transitions)


# --- contract ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inner", [PointMass(), PointMass(terminates=True), Lever(), Remembering(), STRESS])
@pytest.mark.parametrize("kind", range(len(kinds(PointMass()))))
def test_rewritten_environments_keep_the_contract(inner, kind):
    env, same = kinds(inner)[kind], kinds(inner)[kind]
    assert isinstance(env, Env) and env == same and hash(env) == hash(same) and len({env, same}) == 1
    start = env.reset(jax.random.key(0))
    action = jnp.int32(1) if inner.spec.num_actions else jnp.zeros(2)
    after = jax.eval_shape(env.step, start, action)
    handed = jax.eval_shape(env.carry_over, jnp.array(True), after, start)
    for other in (after, handed):
        assert jax.tree.structure(other) == jax.tree.structure(start)
        for new, old in zip(jax.tree.leaves(other), jax.tree.leaves(start), strict=True):
            weak = [getattr(x, "weak_type", False) for x in (new, old)]  # keys have none
            assert (new.shape, new.dtype, weak[0]) == (old.shape, old.dtype, weak[1])
    assert start.obs.shape == (env.spec.observation_size,)
    assert sum(size for _, size in env.spec.observation_layout) == env.spec.observation_size
    seen = int(env.observes)
    assert env.spec.observation_size == inner.spec.observation_size + seen
    assert env.spec.fixed_scale == inner.spec.fixed_scale + seen
    assert (env.spec.observation_layout[-1] == ("budget", 1)) == bool(seen)
    np.testing.assert_array_equal(start.obs[: inner.spec.observation_size], inner.reset(jax.random.key(0)).obs)
    starts = jax.eval_shape(jax.vmap(env.reset), jax.random.split(jax.random.key(0), 3))
    batch = jax.eval_shape(jax.vmap(env.step), starts, jnp.stack([action] * 3))
    assert batch.obs.shape == (3, env.spec.observation_size)


def test_an_environment_without_costs_is_refused():
    class Free(PointMass):
        @property
        def spec(self):
            return dataclasses.replace(super().spec, cost_names=())

    for name in NAMES:
        with pytest.raises(ValueError, match="at least one cost, and ToyPointMass-v0 has none"):
            algorithms.make(name, Free())


def test_what_the_wrapped_environment_carries_over_still_is():
    for env in kinds(Remembering(episode_length=4))[1::3]:
        state, _ = record(env, 9)
        np.testing.assert_array_equal(state.env.info["episode"] >= 2, True)


def test_tools_reach_the_wrapped_environment():
    assert Sauted(PointMass()).hazard_radius == 0.5
    with pytest.raises(AttributeError, match="nothing_like_it"):
        _ = Sauted(PointMass()).nothing_like_it


def test_presets_hold_what_omnisafe_publishes():
    published = {"passes": 40, "minibatch_size": 64, "learning_rate": 3e-4, "discount": 0.99, "target_kl": 0.02}
    budget = {"safety_budget": 25.0, "saute_discount": 0.999, "unsafe_reward": -1.0}
    gains = {"budget_kp": 5e-4, "budget_ki": 1e-5, "budget_kaw": 0.0, "budget_smoothing": 0.995, "budget_window": 10}
    for name, own in [
        ("PPOEarlyTerminated", {"cost_limit": 25.0, "observe_budget": False, "keep_counting": True}),
        ("PPOSaute", {**budget, "final_budget_is_reset": True}),
        ("PPOSimmerPID", {**budget, **gains, "initial_budget": 1.0, "divide_by_current": True, "start_full": True}),
    ]:
        expected = {**published, **own, "reset_at_iteration_start": True}
        config = algorithms.make(name, PointMass(), "omnisafe").info.config
        assert {k: config[k] for k in expected} == expected


def test_other_algorithms_are_not_rewritten():
    env = PointMass()
    assert algorithms.rewrite("ppo_lag", env, {"cost_limit": 3.0}) is env
    config = algorithms.make("PPOSaute", env, "omnisafe", safety_budget=7.0).info.config
    assert algorithms.rewrite("PPOSaute", env, config) == Sauted(env, 7.0, final_budget_is_reset=True)


# --- early termination ------------------------------------------------------------------------------------------


def plain_early_termination(t, limit, keep_counting):
    """What a plain loop over recorded costs says: spent after each step, ends, and spent at each observation."""
    spent, over, before = np.zeros_like(t.cost), np.zeros(t.cost.shape, bool), np.zeros_like(t.cost)
    for n in range(t.cost.shape[1]):
        total = 0.0
        for i in range(len(t.cost)):
            before[i, n] = total
            total += t.cost[i, n]
            spent[i, n], over[i, n] = total, total > limit
            if over[i, n] or (t.done[i, n] and not keep_counting):
                total = 0.0
    return spent, over, before


@pytest.mark.parametrize(("limit", "keep_counting"), [(0.0, False), (2.0, True), (3.5, False)])
def test_episode_ends_exactly_when_its_cost_exceeds_the_limit(limit, keep_counting):
    env = EarlyTerminated(PointMass(episode_length=7, hazard_radius=0.8), limit, keep_counting=keep_counting)
    _, t = record(env, 60)
    spent, over, before = plain_early_termination(t, limit, keep_counting)
    assert over.any() and t.truncated.any()
    np.testing.assert_array_equal(t.terminated, over)
    np.testing.assert_array_equal(t.truncated, (t.episode_length == 7) & ~over)
    assert (t.reward[over] == 0).all() and (t.reward[~over] != 0).all()
    np.testing.assert_allclose(t.obs[..., -1], np.maximum(0, 1 - before / max(limit, 1e-6)), atol=1e-6)
    np.testing.assert_allclose(t.next_obs[..., -1], np.maximum(0, 1 - spent / max(limit, 1e-6)), atol=1e-6)
    # Costs carried over end episodes that have themselves cost less.
    assert (t.episode_cost[over] <= limit).any() == (keep_counting and limit > 0)


def test_a_cost_equal_to_the_limit_is_allowed():
    _, t = record(EarlyTerminated(Counter(episode_length=9), 4.0), 9)  # one unit per step
    assert t.terminated[:, 0].tolist() == [False] * 4 + [True] + [False] * 4
    assert t.reward[:, 0].tolist() == [1, 1, 1, 1, 0, 1, 1, 1, 1]


def test_an_end_of_the_task_itself_is_still_one():
    _, t = record(EarlyTerminated(Counter(episode_length=9, end=3), 100.0), 9)
    assert t.terminated[:, 0].tolist() == [False, False, True] * 3 and (t.reward == 1).all()


# --- Saute ------------------------------------------------------------------------------------------------------


def plain_saute(t, budget, discount, steps, start=1.0):
    """The recursion of the paper over recorded costs: z before and after each step."""
    unit = budget if discount == 1 else budget * (1 - discount**steps) / (1 - discount) / steps
    before, after = np.zeros_like(t.cost, float), np.zeros_like(t.cost, float)
    for n in range(t.cost.shape[1]):
        z = start
        for i in range(len(t.cost)):
            before[i, n] = z
            z = (z - t.cost[i, n] / unit) / discount
            after[i, n] = z
            if t.done[i, n]:
                z = start
    return before, after


@pytest.mark.parametrize(("discount", "terminates"), [(1.0, False), (0.999, True), (0.9, True)])
def test_budget_and_reward_follow_the_recursion_of_the_paper(discount, terminates):
    inner = PointMass(episode_length=8, hazard_radius=0.7, terminates=terminates)
    _, t = record(Sauted(inner, 2.5, -3.0, discount), 60)
    before, after = plain_saute(t, 2.5, discount, 8)
    np.testing.assert_allclose(t.obs[..., -1], before, atol=1e-5)
    np.testing.assert_allclose(t.next_obs[..., -1], after, atol=1e-5)
    np.testing.assert_array_equal(t.reward == -3.0, after <= 0)
    assert (after <= 0).any() and (after > 0).any() and t.truncated.any() and t.terminated.any() == terminates
    np.testing.assert_array_equal(t.obs[1:, :, -1][t.done[:-1]], 1.0)  # nothing leaks into the next episode


def test_spending_evenly_uses_up_a_discounted_budget_at_the_time_limit():
    _, t = record(Sauted(Counter(episode_length=10), 10.0, saute_discount=0.9), 10)
    assert (t.next_obs[:-1, 0, -1] > 0).all()
    np.testing.assert_allclose(t.next_obs[-1, 0, -1], 0.0, atol=1e-5)


def test_a_whole_budget_is_used_up_by_exactly_its_amount():
    _, t = record(Sauted(Counter(episode_length=30), 25.0, -1.0, 1.0), 30)
    assert t.reward[:, 0].tolist() == [1.0] * 24 + [-1.0] * 6


def test_the_original_return_is_reported_and_the_rewritten_reward_is_learned_from():
    _, t = record(Sauted(Counter(episode_length=6), 2.5, -1.0, 1.0), 6)
    assert t.reward[:, 0].tolist() == [1.0, 1.0, -1.0, -1.0, -1.0, -1.0]
    assert t.episode_return[:, 0].tolist() == [1, 2, 3, 4, 5, 6]
    assert t.episode_cost[:, 0].tolist() == [1, 2, 3, 4, 5, 6]
    trainer = algorithms.make(
        "ppo_saute", Counter(episode_length=5), safety_budget=2.5, unsafe_reward=-40.0, total_steps=80, **TINY
    )
    _, metrics = jax.jit(lambda k: jsafe.run(trainer, k, 1))(jax.random.key(0))
    assert metrics["return"].tolist() == [5.0] and metrics["cost"].tolist() == [5.0]
    assert metrics["multiplier"].tolist() == [0.0]
    assert float(metrics["reward_value_loss"][0]) > 1000.0  # the targets are near -100


def test_a_reset_final_budget_is_seen_at_the_time_limit_and_nowhere_else():
    inner = PointMass(episode_length=8, hazard_radius=0.7, terminates=True)
    _, paper = record(Sauted(inner, 2.5, -3.0), 60)
    _, quirk = record(Sauted(inner, 2.5, -3.0, final_budget_is_reset=True), 60)
    np.testing.assert_array_equal(quirk.reward, paper.reward)
    np.testing.assert_array_equal(quirk.obs, paper.obs)
    cut = paper.episode_length == 8
    np.testing.assert_array_equal(quirk.next_obs[~cut], paper.next_obs[~cut])
    np.testing.assert_array_equal(quirk.next_obs[..., :-1], paper.next_obs[..., :-1])
    assert (quirk.next_obs[cut][:, -1] == 1.0).all() and (paper.next_obs[cut][:, -1] != 1.0).all()
    assert cut.any() and paper.terminated.any()


def test_evaluation_reports_the_original_return_of_the_rewritten_process():
    policies = Policies((), lambda params, obs, key, explore: jnp.zeros((*obs.shape[:-1], 1)), [0])
    params = jnp.zeros(1)
    for env, length in [(Sauted(Counter(episode_length=6), 2.5, -1.0), 6), (EarlyTerminated(Counter(), 2.0), 3)]:
        found, _ = run_episodes(env, policies._replace(params=params), jax.random.key(0), 2, ["deterministic"])
        assert found.lengths.tolist() == found.returns.tolist() == found.costs.tolist() == [[[length, length]]]


# --- Simmer -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("divide_by_current", "start_full"), [(False, False), (True, False), (False, True)])
def test_simmer_starts_with_its_part_of_the_largest_budget(divide_by_current, start_full):
    inner = PointMass(episode_length=8, hazard_radius=0.7)
    env = Simmered(inner, divide_by_current=divide_by_current, start_full=start_full, saute_discount=0.95)
    _, t = record(env, 40, write=lambda states: env.remember(states, budget=1.5, largest_budget=6.0))
    unit = 1.5 if divide_by_current else 6.0
    before, after = plain_saute(t, unit, 0.95, 8, start=1.0 if start_full else 0.25)
    np.testing.assert_allclose(t.obs[..., -1], before, atol=1e-5)
    np.testing.assert_allclose(t.next_obs[..., -1], after, atol=1e-5)
    np.testing.assert_array_equal(t.reward == -1.0, after <= 0)
    assert (after <= 0).any()


def plain_controller(costs, hyper, window, levels, iterations, last_budget):
    """The sequence of budgets, by hand; unknown costs change nothing."""
    largest, first = hyper["safety_budget"], hyper["initial_budget"]
    budget, errors, cut, count, found = first * largest, [], 0.0, 0, []
    for cost in costs:
        if np.isfinite(cost):
            count += 1
            level = min(count * levels // iterations, levels - 1)
            reference = budget if last_budget else np.linspace(first * largest, largest, levels)[level]
            old = errors[-1] if errors else 0.0
            w = hyper["budget_smoothing"]
            errors = [*errors, (1 - w) * (reference - cost) + w * old][-window:]
            raw = hyper["budget_kp"] * errors[-1] + hyper["budget_ki"] * sum(errors) + hyper["budget_kaw"] * cut
            output = min(max(raw, -hyper["budget_step"]), hyper["budget_step"])
            budget = min(max(reference + output, simmer.SMALLEST), largest)
            cut = budget - reference - raw
        found.append(budget)
    return found


@pytest.mark.parametrize("last_budget", [False, True])
def test_the_controller_moves_the_budget_as_by_hand(last_budget):
    hyper = {
        "safety_budget": 25.0, "initial_budget": 0.6, "budget_kp": 0.2, "budget_ki": 0.05, "budget_kaw": 0.3,
        "budget_smoothing": 0.4, "budget_step": 2.0,
    }  # fmt: skip
    costs = [np.nan, 30.0, 60.0, 5.0, 12.0, 0.0, 0.0, np.nan, 14.0, 90.0, 90.0, 90.0, 90.0, 2.0, 2.0, 2.0]
    init, update = simmer.controller(4, 6, 12, last_budget)
    state, found = init(hyper), []
    for cost in costs:
        state = jax.jit(update)(state, jnp.float32(cost), hyper)
        found.append(float(state.budget))
    expected = plain_controller(costs, hyper, 4, 6, 12, last_budget)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert found[0] == pytest.approx(15.0) and found[1] < 15.0  # unknown, then a cost above the reference
    assert found[7] == found[6] and 0 < min(found) and max(found) <= 25.0


def test_the_first_budgets_of_the_paper_by_hand():
    """Two updates with round numbers: reference 15 of 25, gains 0.1 and 0.01, no smoothing."""
    hyper = {
        "safety_budget": 25.0, "initial_budget": 0.6, "budget_kp": 0.1, "budget_ki": 0.01, "budget_kaw": 0.5,
        "budget_smoothing": 0.0, "budget_step": 1.0,
    }  # fmt: skip
    init, update = simmer.controller(10, 6, 600, False)
    state = update(init(hyper), jnp.float32(10.0), hyper)
    np.testing.assert_allclose(state.budget, 15.0 + 0.1 * 5 + 0.01 * 5, rtol=1e-6)
    state = update(state, jnp.float32(35.0), hyper)  # raw output -2 - 0.15, bounded by 1
    np.testing.assert_allclose(state.budget, 14.0, rtol=1e-6)
    np.testing.assert_allclose(state.cut, 1.15, rtol=1e-5)
    state = update(state, jnp.float32(15.0), hyper)  # no error, but windup and what was cut off
    np.testing.assert_allclose(state.budget, 15.0 - 0.15 + 0.5 * 1.15, rtol=1e-6)


def test_the_budget_of_a_run_reaches_environments_and_metrics():
    trainer = algorithms.make(
        "ppo_simmer_pid", Counter(episode_length=5), safety_budget=6.0, initial_budget=0.5, total_steps=240, **TINY
    )
    state, metrics = jax.jit(lambda k: jsafe.run(trainer, k, 3))(jax.random.key(0))
    config = trainer.info.config
    expected = plain_controller([5.0] * 3, config, config["budget_window"], 6, 3, False)
    np.testing.assert_allclose(metrics["budget"], expected, rtol=1e-5)
    env = state.rollout.env
    np.testing.assert_allclose(env.info["budget"], expected[-1], rtol=1e-5)
    # 20 steps in each environment: all are at the start of an episode, and see what it will have.
    np.testing.assert_allclose(env.obs[:, -1], expected[-1] / 6.0, rtol=1e-5)
    first = trainer.init(jax.random.key(0)).rollout.env
    np.testing.assert_allclose(first.obs[:, -1], 0.5)


# --- limits that differ across a population ---------------------------------------------------------------------


def test_limits_differ_across_a_population_and_outlive_episodes():
    trainer = algorithms.make("ppo_early_terminated", Counter(episode_length=10), total_steps=240, **TINY)

    def run(limit):
        state, metrics = jsafe.run(trainer, jax.random.key(0), 3, {"cost_limit": limit})
        return state.rollout.env.info["cost_limit"], metrics["length"]

    limits, lengths = jax.jit(jax.vmap(run))(jnp.array([2.0, 4.0, 100.0]))
    np.testing.assert_array_equal(lengths[:, -1], [3.0, 5.0, 10.0])
    np.testing.assert_array_equal(limits, np.array([2.0, 4.0, 100.0])[:, None] * np.ones(4))


@pytest.mark.parametrize(("name", "history"), [("ppo_saute", 1), ("ppo_simmer_pid", 3)])
def test_budgets_differ_across_a_population(name, history):
    torso = {"history": history} if history > 1 else {}
    trainer = algorithms.make(name, PointMass(hazard_radius=5.0), total_steps=240, **TINY, **torso)
    budgets = jnp.array([3.0, 50.0])
    run = jax.jit(jax.vmap(lambda b: jsafe.run(trainer, jax.random.key(0), 1, {"safety_budget": b})[0]))
    env = run(budgets).rollout.env
    inner = env.data if history > 1 else env
    largest = inner.info["budget" if name == "ppo_saute" else "largest_budget"]
    np.testing.assert_array_equal(largest, budgets[:, None] * np.ones(4))
    full = np.ones(2) if name == "ppo_saute" else np.asarray(inner.info["budget"] / largest)[:, 0]
    np.testing.assert_allclose(inner.obs[..., -1], full[:, None] * np.ones(4), rtol=1e-6)
    if history > 1:  # the window shows the same as the environment inside it
        shown = np.asarray(env.obs)[..., 3 * 5 : 3 * 6]
        np.testing.assert_array_equal(shown[..., -1], inner.obs[..., -1])


# --- learning ---------------------------------------------------------------------------------------------------

LEARN = {
    "num_envs": 100, "steps_per_iteration": 1600, "minibatch_size": 400, "passes": 8, "learning_rate": 5e-3,
    "value_learning_rate": 5e-3, "discount": 1.0, "hidden_sizes": (32, 32), "entropy_coefficient": 0.02,
    "kl_stop": False, "value_l2": 0.0,
}  # fmt: skip


def learned(name, iterations, **options):
    """Means per episode of the best actions of two trained policies: learned reward, original return and cost."""
    trainer = algorithms.make(name, STRESS, total_steps=1600 * iterations, **{**LEARN, **options})
    config = trainer.info.config
    env = algorithms.rewrite(name, STRESS, config)
    policy = loop.default_networks(env, options_of(name)(**config)).policy

    @jax.jit
    @jax.vmap
    def run(key):
        params = jsafe.run(trainer, key, iterations)[0].params["policy"]
        start = rollout.init(env, jax.random.key(1), 5000)
        act = lambda obs, key: (policy.apply(params, obs).mode(), ())  # noqa: E731
        _, t = rollout.unroll(env, act, start, jax.random.key(2), STRESS.horizon)
        first = jnp.cumsum(t.done, axis=0) - t.done == 0
        return [
            jnp.mean(jnp.sum(jnp.where(first, x, 0.0), axis=0))
            for x in (t.reward, jnp.where(t.done, t.episode_return, 0.0), t.cost)
        ]

    return [np.asarray(x) for x in run(jax.random.split(jax.random.key(0), 2))]


def assert_near(found, best, gap):
    objective, return_, cost = found
    print("objective", objective, "return", return_, "cost", cost, "exact", best[:4], best.cost_range)
    assert (objective > best.objective - gap).all() and (objective < best.objective + 0.1).all()  # errors of 0.03


@pytest.mark.slow
def test_early_termination_learns_the_best_policy_of_the_process_that_ends():
    best = early_termination_optimum(STRESS, 2.5)
    found = learned("ppo_early_terminated", 50, cost_limit=2.5)
    assert_near(found, best, 0.15)
    np.testing.assert_allclose(found[2], best.costs[0], atol=0.25)


@pytest.mark.slow
def test_saute_learns_the_best_policy_of_the_process_with_a_budget():
    best = saute_optimum(STRESS, 2.5, -1.0)
    found = learned("ppo_saute", 50, safety_budget=2.5, saute_discount=1.0)
    assert_near(found, best, 0.15)
    assert (found[1] < best.return_range[1] + 0.1).all() and (found[2] < best.cost_range[1] + 0.1).all()


@pytest.mark.slow
def test_simmer_ends_near_the_best_policy_of_the_largest_budget():
    best = saute_optimum(STRESS, 2.5, -1.0)
    schedule = {"initial_budget": 0.8, "budget_levels": 2, "budget_kp": 0.3}
    found = learned(
        "ppo_simmer_pid", 60, safety_budget=2.5, saute_discount=1.0, **{**schedule, "entropy_coefficient": 0.05}
    )
    assert_near(found, best, 0.2)
