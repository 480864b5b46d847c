"""What every number of every result is: one line each, as data (`rule.Rule`), one file for each kind of result; those
of a room stand in its study. `every` has them all."""
