"""`python -m tests.sim`: see the package."""

from tests.sim.campaign import main

if __name__ == "__main__":
    main()
