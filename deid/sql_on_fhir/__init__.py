"""SQL on FHIR v2: views as data, compiled to DuckDB or evaluated one resource at a time."""
