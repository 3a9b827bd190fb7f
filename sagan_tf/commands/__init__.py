"""What each verb does once its arguments are parsed; one module per verb."""
