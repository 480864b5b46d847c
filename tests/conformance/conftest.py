"""The suites here run outside pytest (run.py); only test_*.py files are collected."""

collect_ignore_glob = ["[!t]*.py", "shims/*"]
