"""Files and displays that any command may use."""
