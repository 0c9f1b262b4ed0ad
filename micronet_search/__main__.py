"""`python -m micronet_search`."""

from micronet_search.cli import main

main()
