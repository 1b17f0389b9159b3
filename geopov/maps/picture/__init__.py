"""Pictures and printed sheets of maps."""
