"""One file a command: parse, one library call, print."""
