"""Published measurements: rows read into cases, validation against them, and the errors that widen every interval."""
