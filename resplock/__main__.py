"""`python -m resplock` is the `resplock` command."""

from resplock.cli import main

if __name__ == "__main__":
    main()
