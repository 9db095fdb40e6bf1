"""The wall: identified FHIR on one side, Safe Harbor tables on the other, and the proofs."""
