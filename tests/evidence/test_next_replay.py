"""Rows that the rule of `mowich next` chooses on chips that were measured."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mowich.serving.anchors import anchors_for

TOOLS = str(Path(__file__).resolve().parents[2] / "tools")


@pytest.fixture(scope="module")
def next_replay():
    sys.path.insert(0, TOOLS)
    import next_replay

    yield next_replay
    sys.path.remove(TOOLS)


def of_chip(next_replay, chip, metric="tpot", asked=10):
    known = anchors_for()
    others = np.array([i for i, name in enumerate(known.words["chip"]) if name != chip])
    return next_replay.replayed(known.take(others), metric, next_replay.rows_that_ship()[chip], chip, asked)


@pytest.mark.parametrize("chip", ["a100_sxm_80g", "trainium1"])
def test_three_chosen_rows_teach_more_than_eight_at_random(next_replay, chip):
    found = of_chip(next_replay, chip)
    assert found.wins
    assert found.chosen < found.before
    assert found.narrowed < 1.0


def test_a_chip_with_few_rows_is_not_played(next_replay):
    assert of_chip(next_replay, "tpu_v7_ironwood") is None


def test_runs_of_the_same_setting_are_one_setting_whatever_the_release(next_replay):
    one = next_replay.rows_that_ship()["h100_sxm"][0].one
    assert next_replay.setting(one) == next_replay.setting(replace(one, version="9.9"))
    assert next_replay.setting(one) != next_replay.setting(replace(one, users=one.users * 2.0))


@pytest.mark.slow
def test_three_chosen_win_on_eight_of_ten_chips(next_replay):
    found = [*next_replay.shipped(), *next_replay.kept()]
    played = [one for one in found if one.metric == "tpot"]
    assert len(played) == 10
    assert sum(one.wins for one in played) >= 8
