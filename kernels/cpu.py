"""Not built yet."""


def unavailable() -> str | None:
    return "it is not built"
