"""The attestation: what a de-identification run did, signed, for whoever answers for it."""
