"""Who teaches a student: where it is, how it is made, what is kept of its answers."""
