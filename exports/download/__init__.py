"""The files of an export, fetched in parallel, resumed, and judged on the way."""
