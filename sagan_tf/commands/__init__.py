"""What each command does once its arguments are parsed; one module per command."""
