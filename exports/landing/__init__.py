"""What was delivered: every line accounted for, screened, reconciled and sealed."""
