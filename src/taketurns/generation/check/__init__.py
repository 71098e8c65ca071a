"""Will a team work here? The report of `taketurns check`."""
