"""Server-Sent Events with structured concurrency."""
