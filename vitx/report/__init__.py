"""Pictures of what runs came to; they know numbers and names, not runs."""
