"""The stand-alone emulated server: OpenAI's wire and vLLM's metrics over one emulated backend."""
