"""Getting an answer out of a backend: attempts, failover, and what happens when it goes wrong."""
