"""What a user sees of a study: tables, the live display, and errors."""


def explain(error: Exception) -> str:
    """Returns the message of an error, with the file if the operating system names one."""
    if isinstance(error, OSError) and error.strerror:
        place = f": {error.filename}" if error.filename else ""
        return f"{error.strerror.lower()}{place}"
    return str(error)
