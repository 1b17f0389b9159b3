"""The random displacement of published positions: its rules, draws of the true place, and what it costs a model."""
