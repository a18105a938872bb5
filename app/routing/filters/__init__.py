"""Hard filters: never relaxed. One file each, with `reject(request, view) -> reason | None`."""
