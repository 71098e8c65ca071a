"""The sections of the experiments: each `render_*` makes a section of their results."""
