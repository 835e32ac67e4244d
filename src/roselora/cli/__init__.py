"""The command line: one file per verb, each importing what is heavy only when its verb is called."""
