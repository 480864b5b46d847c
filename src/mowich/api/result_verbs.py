"""Questions about answers and measurements: where a number comes from, how far to trust it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mowich.api.keyword_verb import keyword_verb
from mowich.api.keywords import keywords_asked
from mowich.evidence.scores import Validation
from mowich.facts import Facts
from mowich.models import Model
from mowich.requests import calibrate as measurements
from mowich.requests import forecasting, known, next_measure, results
from mowich.requests import verify as runs
from mowich.shown import Told
from mowich.studies import validate as _validate
from mowich.studies.explain import Explanation, metric_explained
from mowich.studies.heard import note_heard

if TYPE_CHECKING:
    from mowich.studies.calibrate import Calibration
    from mowich.studies.forecasts import Forecasts
    from mowich.studies.next_measure import NextMeasurements
    from mowich.studies.staleness import Staleness
    from mowich.studies.verify import Verification


def explain(
    result: Told | Mapping[str, object], metric: str, *, model: str | Model | None = None, facts: Facts | None = None
) -> Explanation:
    """Where a number of a result comes from: formula, inputs, facts, and what would move it most.

    Args:
        result: what a verb gave, or its JSON object.
        metric: name of the number: "trn3.step_s.ep", "1.mfu", "ttft_s.p99".
        model: the model that made it, where it is not one that ships.
        facts: the facts that made it, where they are not the shipped ones.

    Returns: an `Explanation`: `.formula`, `.inputs` with `.units`, `.facts`, `.moves`. Units: SI.

    Example:
        >>> import mowich
        >>> answer = mowich.goodput("trn3:64", samples=20)
        >>> mowich.explain(answer, "sync.goodput").estimate.unit
        '1'
    """
    with keywords_asked(results.EXPLAIN, facts, result=result, metric=metric, model=model) as asked:
        return metric_explained(asked)


@keyword_verb(results.VALIDATE, "path")
def validate(asked: results.ValidateRequest) -> Validation:
    """Predicted against measured for a table of measurements: training, serving, reinforcement learning.

    Args:
        path: a CSV file; None takes the published rows that ship.
        facts: other facts than the shipped ones.

    Returns: a `Validation`: `.rows`, one for each measured row, errors by chip and source. Units: those of each row's
    own metric; errors are ratios.

    Example:
        >>> import mowich
        >>> len(mowich.validate().rows) > 1000  # doctest: +SKIP
        True
    """
    return note_heard(_validate.validate(asked.path, asked.facts), asked.facts, question=asked)


@keyword_verb(measurements.CALIBRATE, "files")
def calibrate(asked: measurements.CalibrateRequest) -> Calibration:
    """The constants that your own measurements identify, with narrower ranges.

    Args:
        files: one file of measurements or several.
        out: the overlay of facts to write, for `load_facts`.
        on: the machine, where the files do not state it: "trn3:64".
        model: the model, where they do not state it.
        software: the stack or engine, where they do not state it.
        plan: the plan, where they do not state it: {"tp": "8"}.
        format: of the files, where it is not plain.
        scenario: a traffic scenario with which a log of requests is replayed; half of them are held out.
        widen: whether ranges may grow too.
        facts: other facts than the shipped ones.

    Returns: a `Calibration`: constants before and after, errors before and after. Units: SI.

    Example:
        >>> import mowich
        >>> mowich.calibrate("steps.csv", on="trn3:64", out="mine.yaml")  # doctest: +SKIP
    """
    from mowich.studies.calibrate_log import calibrated

    return calibrated(asked)


def verify(
    result: Told | Mapping[str, object],
    files: str | Path | Sequence[str | Path],
    *,
    pick: str | int | None = None,
    format: str | None = None,
    model: str | Model | None = None,
    facts: Facts | None = None,
) -> Verification:
    """Logs of a run beside the forecast of it.

    Args:
        result: what `plan` or `compare` gave, or its JSON object.
        files: one log or several: of a benchmark of serving, or of training.
        pick: which row was run: its number from 1, or its system.
        format: of the logs, where their content does not tell it.
        model: the model that made the result, where it is not one that ships.
        facts: the facts that made it, where they are not the shipped ones.

    Returns: a `Verification`: `.verdict`, `.rows` with measured and predicted, `.setup`, `.causes`, `.calibration`.
    Units: SI; ratios are predicted over measured time.

    Example:
        >>> import mowich
        >>> answer = mowich.plan("llama-3.1-8b", "h100:8", serve={"isl": "1k", "osl": "200"}, top=1)
        >>> mowich.verify(answer, "result.json").verdict  # doctest: +SKIP
        'inside'
    """
    from mowich.studies import verify as study

    given = {"pick": None if pick is None else str(pick), "format": format, "model": model}
    with keywords_asked(runs.VERIFY_RUN, facts, result=result, files=files, **given) as asked:
        return study.verify(asked)


@keyword_verb(forecasting.FORECAST_LIST, "ledger", has_facts=False)
def forecasts(asked: forecasting.ForecastsRequest) -> Forecasts:
    """Forecasts that were frozen before anybody measured, and what came of them.

    Args:
        ledger: the file of forecasts; None: forecasts/forecasts.jsonl here, where it is, else the one that ships.

    Returns: a `Forecasts`: `.rows`, each with question, range, status and what was measured; `.scored`.
    Units: of each forecast, SI; ratios are predicted over measured.
    Raises UserError for a ledger of which a line was changed or taken out.

    Example:
        >>> import mowich
        >>> len(mowich.forecasts().rows) >= 20
        True
    """
    from mowich.studies.forecasts import ledger_file, read_forecasts

    return read_forecasts(ledger_file(asked.ledger))


@keyword_verb(next_measure.NEXT_MEASURE, "question", has_facts=False)
def next_measurements(asked: next_measure.NextRequest) -> NextMeasurements:
    """Which measurements would narrow the range of an answer most, if each came out as is predicted today.

    Args:
        question: the command of `compare` or `plan` whose answer is too wide, as it is typed.
        on: where you can measure, "trn3:4".
        number: of the answer, as `explain` names it; None: the one that ranks.
        budget: measurements, at most.

    Returns: a `NextMeasurements`: `.rows`, each with `.offer` (what, where, commands, reads), `.alone`, `.left` and
        `.after`; `.remains`.
    Units: of the number; `.alone` and `.left` are half-widths of the range in ln, over that of today.
    Raises UserError for a question that is not answered, or has no number with a range on that chip.

    Example:
        >>> import mowich
        >>> asked = "plan llama-3.1-8b --serve --isl 2k --osl 500 --tpot 20ms --on h200:1"
        >>> mowich.next_measurements(asked, on="h200:1", budget=1).rows[0].left < 1.0
        True
    """
    from mowich.studies.next_measure import next_measurements as chosen

    return chosen(asked)


def stale_facts(older_than: str, *, as_of: str | None = None, facts: Facts | None = None) -> Staleness:
    """Facts that nobody has looked at for long, the oldest first.

    Args:
        older_than: age of a fact that is told, "90d".
        as_of: a day such as "2027-03-01"; None: today.
        facts: other facts than the shipped ones.

    Returns: a `Staleness`: `.stale`, each with its age and what to search for. Units: days.

    Example:
        >>> import mowich
        >>> mowich.stale_facts("90d", as_of="2026-12-01").stale
        ()
    """
    from mowich.studies.staleness import find_stale

    with keywords_asked(known.FACTS_CHECK, facts, older_than=older_than, as_of=as_of) as asked:
        return find_stale(asked, facts)
