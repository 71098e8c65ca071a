"""The sections of the experiments: each `render_*` turns a result into a section."""
