"""Answers given before: one protocol, in this process or in Redis. A cache fault is a miss, never an error."""
