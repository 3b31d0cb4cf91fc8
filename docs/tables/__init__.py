"""Tables of RESULTS.md from the files in results/."""
