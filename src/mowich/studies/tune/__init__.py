"""`kernel tune`: a kernel with other constants, timed by the clock."""
