"""`mowich web`: the studies behind HTTP, and a page that asks them while a slider moves.

`asks` says what a request may hold; `reading` reads it; `verbs` and `library` answer it with the functions that the
command line calls; `workers` runs them in processes, `turns` says whose turn it is, `cache` keeps answers.
`connections` and `guard` bound what comes in, by the addresses of `clients`, and head what goes out; `watch` and
`metrics` count it; `server` joins them, `run` listens. `static/` is the page: HTML, CSS and ES modules, no build step.
No number is made here.
"""
