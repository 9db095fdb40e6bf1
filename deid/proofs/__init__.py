"""The proofs: what is checked of the tables before they are released."""
