"""Schedule of checkpoints: updates after which the requested numbers of tokens have been seen."""

import pytest

from rlhf.training.checkpoint_schedule import ScheduleConfig, checkpoint_updates


def test_a_checkpoint_follows_the_update_that_reaches_its_tokens():
    assert checkpoint_updates((500, 1000), None, 512, 5) == [1, 2, 5]
    assert checkpoint_updates((512,), None, 512, 5) == [1, 5]
    assert checkpoint_updates((), 1024, 512, 5) == [2, 4, 5]
    assert checkpoint_updates(None, None, 512, 5) == [5]


def test_tokens_beyond_the_run_are_refused():
    with pytest.raises(ValueError, match="save_at must be at most the 2,560 tokens of the run, got 2,561"):
        checkpoint_updates((2561,), None, 512, 5)


def test_a_schedule_is_active_with_checkpoints_or_an_evaluation(tmp_path):
    assert not ScheduleConfig().active
    assert ScheduleConfig(save_every=10).active and ScheduleConfig(multiple_choice=tmp_path).active
