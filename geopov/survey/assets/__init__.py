"""Welfare from what households own and how they live: indices, and the quality of floors, water and toilets."""
