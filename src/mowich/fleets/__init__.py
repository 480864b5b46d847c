"""Plans of a fleet by period: which systems to buy, rent and assign to which work, the limits, and how robust the plan
is."""
