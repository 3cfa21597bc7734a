"""What the fuzzer is made of: good runs, mutations of them, commands, and a watched process for each case."""
