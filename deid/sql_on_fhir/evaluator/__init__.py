"""Views of SQL on FHIR v2 on one resource at a time: all of the specification, at Python's speed.

The compiler (`deid.sql_on_fhir.compiler`) answers the part of it that research views need, at
DuckDB's.
"""
