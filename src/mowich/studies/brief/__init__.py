"""`mowich brief`: the question of the project on one page."""
