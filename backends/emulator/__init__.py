"""One engine for all emulated silicon; what makes a substrate different is declared in its own file.

traits.py     what a substrate may declare
roofline.py   pure: how long a step takes, how much memory is left for KV
batching.py   pure: which tokens the next step serves
engine.py     pure state machine: submit, cancel, advance; integer nanoseconds
text.py       deterministic words
power.py      watts, estimated from TDP and how busy the engine is
profile.py    what a router may assume of it: the same physics, linearised
backend.py    the thin asyncio shell that plays the engine in real (or virtual) time
"""
