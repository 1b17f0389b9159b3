"""Training a network on tiles: by default on nightlights, from where its features transfer to welfare."""
