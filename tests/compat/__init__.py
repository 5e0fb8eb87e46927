"""Do Redis's clients and lock libraries work with resplock? Their own tests and programs of ours say.

    make compat                              fetches, runs everything, writes docs/compatibility.md
    python -m tests.compat --list            what there is to run
    python -m tests.compat --only ioredis    only that; prints what came out, and keeps it
    python -m tests.compat --only ioredis --page     and writes the page with all that is kept

    catalogue.py   what is run: one Suite for each library and way to use it
    suite.py       what a Suite is, and what comes out of one
    fetching.py    brings the libraries into .tools/compat, with pip, npm and git
    servers.py     what they run against: one node, three nodes, and Redis to compare with
    running.py     runs one suite against one server
    parsing.py     reads what a suite says about its cases
    results.py     keeps what came out, so that a run can be made in parts
    page.py        docs/compatibility.md
    programs/      what runs inside: our programs, and what lets a suite find the server

Nothing of the libraries is kept in this repository.
"""
