"""`mowich forecast`: numbers frozen before anybody measured them, and what came of them."""

from __future__ import annotations

from datetime import date

import typer

from mowich.cli.app import app
from mowich.cli.options import CONTEXT, CommandGroup, verb
from mowich.cli.output import emit, progress
from mowich.cli.verbs import ALL_VERBS
from mowich.errors import unknown
from mowich.requests import forecasting
from mowich.shown import Result

forecast_app = typer.Typer(
    cls=CommandGroup,
    help="Forecasts frozen before anybody measured, and what came of them.",
    epilog="Example: mowich forecast list",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings=CONTEXT,
)
app.add_typer(forecast_app, name="forecast")


@verb(forecast_app, forecasting.FORECAST_LIST, "list")
def forecast_list(asked: forecasting.ForecastsRequest) -> None:
    """What is frozen, and what came of it."""
    from mowich.studies.forecasts import ledger_file, read_forecasts

    emit(read_forecasts(ledger_file(asked.ledger)).to_dict(), asked.form)


@verb(forecast_app, forecasting.FORECAST_ADD, "add")
def forecast_add(asked: forecasting.FreezeRequest) -> None:
    """Freeze a number of an answer."""
    from mowich.studies.forecasts import OWN_LEDGER, freeze, read_forecasts

    file = asked.ledger or OWN_LEDGER
    if file.exists():
        read_forecasts(file)  # a broken ledger is told before a long question is asked
    with progress(asked.form.quiet) as line:
        line("asking")
        result = _answer_of(asked.question)
    freeze(
        file,
        result,
        name=asked.name,
        question=asked.question,
        number=asked.number,
        settles=asked.settles,
        day=asked.day or date.today(),
    )
    emit(read_forecasts(file).of(asked.name).to_dict(), asked.form)


@verb(forecast_app, forecasting.FORECAST_SCORE, "score")
def forecast_score(asked: forecasting.ScoreRequest) -> None:
    """What was measured of a forecast."""
    from mowich.studies.forecasts import OWN_LEDGER, read_forecasts, score

    file = asked.ledger or OWN_LEDGER
    score(
        file,
        asked.forecast,
        asked.measured,
        source=asked.source,
        published=asked.published,
        note=asked.note,
    )
    emit(read_forecasts(file).of(asked.forecast).to_dict(), asked.form)


def _answer_of(question: str) -> Result:
    """The JSON of the answer to a question. Raises UserError for text that is not a question, and where it is
    refused."""
    from mowich.studies.asked import ask_question

    return ask_question(verb_words(question))


def verb_words(question: str) -> list[str]:
    """The words of a question that begins with a verb. Raises UserError for another."""
    from mowich.studies.asked import question_words

    words = question_words(question)
    if not words or words[0] not in ALL_VERBS:
        raise unknown("verb", words[0] if words else "", sorted(ALL_VERBS))
    return words
