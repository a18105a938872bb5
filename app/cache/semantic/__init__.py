"""The pure core of the semantic cache: when two prompts that differ in words may share an answer.

An embedding (`embedding`) finds what is near (`index`), guards (`guards`) refuse what is near but means something else,
a learned threshold (`verified`) decides from which similarity on an entry is trusted, and a judge (`judge`) compares
answers where both are there. No clock, no tasks and no storage: whoever uses these brings them.
"""
