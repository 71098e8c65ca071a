"""The sections of an analysis: each `render_*` makes a section of a frozen result, with its text,
its tables, its charts and its caveat."""
