"""The wire to real services: a transport, an SSE decoder, a dialect per API, and the backend made of them."""
