"""What everything above uses: whole-file writes, locks, seeds, checks of numbers; no models."""
