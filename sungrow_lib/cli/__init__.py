"""The `sungrow` command: `__main__` starts it, `command` reads its command line, a module per subcommand."""
