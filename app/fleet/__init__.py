"""Live backends and what the router has learned of them."""
