"""A kernel while it runs: stopped at a line, its tiles shown, its first wrong instruction found."""
