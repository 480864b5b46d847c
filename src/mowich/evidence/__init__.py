"""Published measurements: rows read into cases, validation against them, and the errors that widen every interval.

Every row takes these steps in order, and each step knows only the earlier ones:

    measured_tables   a file -> cells, by the columns of its kind (`columns.yaml`): every mistake of the file at once
    row_checks        a cell -> a word or a number, or the reason why the row is refused; words of rows: `words.yaml`
    *_rows            cells -> a case, the question that the row answers: `rows` of training (its words: `row_words`,
                      its notes: `row_rules`, what it leaves open: `row_plan`), `serving_rows` (ranks: `serving_ranks`,
                      notes: `serving_notes`), `rl_rows`, `sync_rows`, `forward_rows`, `collective_rows`, `energy_rows`
    serving_cases     cases as columns, which a forecast takes together
    serving_checks    what is asked of all rows of a table at once: whether they fit, whether they contradict themselves
    validate          a case -> a forecast; of serving `serving_validate`
    scores            a forecast beside its row (`RowResult.scored`), and the rows of a table in order (`scored_rows`)
"""
