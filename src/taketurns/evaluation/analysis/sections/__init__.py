"""The sections of an analysis: each `render_*` turns a frozen result into a section with text,
tables, charts and a caveat."""
