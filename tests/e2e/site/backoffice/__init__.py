"""What the shop does without a request: a command, a script, work in other processes."""
