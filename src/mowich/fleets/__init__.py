"""Which systems for which work, per period: what to buy, rent and assign, what binds, and how robust that is."""
