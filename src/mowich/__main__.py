"""`python -m mowich` is the command line."""

from mowich.cli import main

if __name__ == "__main__":
    main()
