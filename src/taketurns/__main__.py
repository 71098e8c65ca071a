"""`python -m taketurns` is the command `taketurns`."""

from taketurns.cli.app import main

main()
