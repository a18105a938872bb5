"""Wire formats in and out. FastAPI serves what is not hot; the hot endpoints are plain ASGI (`hot.py`)."""
