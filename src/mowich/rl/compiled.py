"""A run played by code compiled from C. The source is in `c/`; how it is compiled, found and called: `mowich.compiled`.

The Python code of `run` is the rule. MOWICH_RL=python asks for it, MOWICH_RL=compiled refuses to run without the
compiled code.
"""

from __future__ import annotations

import ctypes
from pathlib import Path

import numpy as np

from mowich.compiled import CompiledLibrary, CompiledStruct, by_reference, c_struct, done
from mowich.rl.run import RlRun
from mowich.rl.setup import STEP, RunRecord, RunSetup

RUN_LIBRARY = CompiledLibrary(
    what="play of reinforcement learning",
    path=Path(__file__).parent / "_run.so",
    prefix="run",
    variable="MOWICH_RL",
    functions={ctypes.c_int: "play 1"},
    worth_saying=200_000,  # samples
)


class RunStruct(CompiledStruct):
    """A struct of a run."""


_FLOATS = (
    "room_tokens prompt prompt_s gain call_s reward_s judge_s passes_s update_s other_s trainer_s rollouts_s whole_s"
    " switch_s"
)
SETUP = c_struct(
    RunStruct,
    "run.c:Setup",
    "n_samples n_groups n_ends samples steps workers prompts staleness takes_turns waits_started is_partial"
    f" hides_passes most places n_context {_FLOATS} context step_s slope spent turn_steps turns kept ends step_of"
    " worker version_of trained start_s end_s made rows",
    _FLOATS,
)


def played(setup: RunSetup) -> RunRecord:
    """A run, by the compiled code where it is there. Raises UserError where the environment asks for what is not there,
    MemoryError."""
    draws, table = setup.draws, setup.table
    n = len(draws.tokens)
    library = RUN_LIBRARY.library(n)
    if library is None:
        return RlRun(setup).play()
    out = RunRecord(
        worker=np.full(n, -1, np.int64),
        version=np.full(n, -1, np.int64),
        start_s=np.full(n, -1.0),
        end_s=np.full(n, -1.0),
        made=np.zeros(n),
        trained=np.full(len(draws.kept), -1, np.int64),
        steps=np.zeros((setup.steps + 1, len(STEP))),
    )
    given = SETUP.of(
        setup,
        n_samples=n,
        n_groups=len(draws.kept),
        n_ends=len(draws.ends),
        samples=draws.samples,
        n_context=len(table.context),
        context=table.context,
        step_s=table.step_s,
        slope=table.slope,
        spent=table.spent,
        turn_steps=setup.turn_steps,
        turns=draws.turns,
        kept=draws.kept,
        ends=draws.ends,
        step_of=draws.step_of.astype(np.int64),
        worker=out.worker,
        version_of=out.version,
        trained=out.trained,
        start_s=out.start_s,
        end_s=out.end_s,
        made=out.made,
        rows=out.steps,
    )
    assert done(library.run_play(by_reference(given)))
    return out
