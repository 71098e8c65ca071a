"""What everything above may use: whole-file writes, locks, seeds, checks of numbers. No models
here."""
