"""From de-identified tables to feature matrices: specs, tasks, scores and the one kernel."""
