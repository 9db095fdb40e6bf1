"""Free text, its identifiers replaced: always to be reviewed, never Safe Harbor."""
