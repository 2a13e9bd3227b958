"""What is started from a terminal: the command line, the notebook's runner, the page, the exports."""
