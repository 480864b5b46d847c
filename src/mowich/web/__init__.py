"""`mowich web`: the studies behind HTTP, and a page that asks them while a slider moves.

`asks` says what a request may hold; `reading` reads it; `verbs` and `library` answer it with the functions that the
command line calls; `workers` runs them in processes that can be stopped; `guard` bounds what comes in and heads what
goes out; `server` joins them. `static/` is the page: HTML, CSS and ES modules, no build step. No number is made here.
"""
