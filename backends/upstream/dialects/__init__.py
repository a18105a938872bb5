"""One module per API that a real service speaks. Pure: requests to bytes, bytes to events and errors."""
