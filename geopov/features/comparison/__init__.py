"""Which network to take: several trained alike on the same tiles, their scores side by side with intervals."""
