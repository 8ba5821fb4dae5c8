"""Live streams of series: what the fold takes into them, told as it comes, from any place in the log on."""
