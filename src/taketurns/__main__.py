"""`python -m taketurns` is the command `taketurns`."""

from taketurns.cli import main

main()
