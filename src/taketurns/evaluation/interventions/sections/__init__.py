"""What the experiments found, as sections of the analysis report."""
