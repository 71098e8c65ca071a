"""A team behind the OpenAI API, and a page to watch it write. docs/serving.md is for its users."""
